# Subshells, pipelines, programs started in loops, background jobs, long strings and arrays.
set -eu

total=0
for i in {1..150}; do
  n=$(echo $((i * i % 97)))
  total=$((total + n))
done
echo "subshells $total"

for i in {1..40}; do
  /bin/true
  line=$(printf '%s\n' {1..50} | sort -rn | head -n "$i" | tail -n 1)
  printf '%s ' "$line"
done
echo

declare -A seen
text=
for i in {1..4000}; do
  word=w$((i * 7919 % 1009))
  seen[$word]=$((${seen[$word]:-0} + 1))
  text+="$word "
done
echo "words ${#seen[@]} length ${#text} ${seen[w1]} ${seen[w500]}"
changed=${text//w1/<one>}
echo "changed ${#changed}"
parts=($changed)
unset 'parts[10]' 'parts[20]'
echo "parts ${#parts[@]} ${parts[*]: -3}"

# Background jobs write to files of their own; what they wrote is read in order.
for i in {1..20}; do
  (
    sum=0
    for j in {1..500}; do
      sum=$((sum + i * j))
    done
    echo "job $i $sum" > "job.$i"
  ) &
done
wait
for i in {1..20}; do
  cat "job.$i"
done

# A process substitution, a here-document and a coprocess-like pipe.
while read -r a b; do
  echo "$b $a"
done < <(paste <(printf '%s\n' {1..30}) <(printf '%s\n' {30..1}))
cat << END | tr a-z A-Z
${text:0:60}
END
(echo nested; (echo deeper; (echo deepest; exit 3) || echo "status $?"))
