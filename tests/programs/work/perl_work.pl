# Hashes, strings, sorting and regular expressions; forks; and, where perl has them, threads, each of
# which copies the whole interpreter.
use strict;
use warnings;

my $state = 1;

sub random {
    my ($limit) = @_;
    $state = ($state * 1103515245 + 12345) & 0x7fffffff;
    return int($state / 0x80000000 * $limit);
}

sub work {
    my ($seed, $rounds) = @_;
    $state = $seed;
    my $output = '';
    for my $round (1 .. $rounds) {
        my %count;
        my @lines;
        for my $i (1 .. 2000) {
            my $line = join ' ', map { ('alpha', 'beta', 'gamma')[random(3)] . random(5000) } 0 .. random(8);
            push @lines, $line;
            $count{$_}++ for split / /, $line;
        }
        my @sorted = sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count;
        delete @count{@sorted[0 .. 99]};
        my $text = join "\n", sort @lines;
        my $changed = $text;
        $changed =~ s/(alpha|beta)(\d+)/<$2:\u$1>/g;
        my @pairs = $changed =~ /<(\d{2,}):(\w+)>/g;
        my %nested;
        push @{ $nested{ length $_ }{ substr $_, 0, 1 } }, $_ for @pairs;
        my $grown = '';
        $grown .= $_ x 3 for @sorted;
        $output .= join "\n", $changed, "@pairs", substr(reverse($grown), 0, 2000), "@sorted",
            map { my $shelf = $nested{$_}; "$_=" . join ',', map { "$_:@{ $shelf->{$_} }" } sort keys %$shelf }
            sort { $a <=> $b } keys %nested;
    }
    return $output;
}

print work(7, 24), "\n";

for my $turn (1 .. 40) {
    my $child = fork() // die "fork: $!";
    if ($child == 0) {
        my @blocks = map { 'x' x $_ } 1 .. 300;
        splice @blocks, 50, 100;
        exit(length(join '', @blocks) % 200);
    }
    waitpid $child, 0;
    print "child $turn: ", $? >> 8, "\n";
}

if (eval { require threads; 1 }) {
    my @threads = map { my $seed = $_; threads->create(sub { work($seed, 4) }) } 11 .. 14;
    print $_->join(), "\n" for @threads;
}
