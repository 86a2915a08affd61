// Work for a C++ compiler: deep template recursion, many instantiations, constexpr evaluation, large overload sets;
// and, once built, for the allocator under C++: new and delete of every form, containers, exceptions, threads.

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <new>
#include <numeric>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

template <std::uint64_t N>
struct Collatz {
  static constexpr std::uint64_t steps = 1 + Collatz<(N % 2 == 0) ? N / 2 : 3 * N + 1>::steps;
};
template <>
struct Collatz<1> {
  static constexpr std::uint64_t steps = 0;
};

template <std::size_t... N>
constexpr std::uint64_t sum_of_steps(std::index_sequence<N...>) {
  return (Collatz<N + 1>::steps + ... + 0);
}

template <typename... Types>
struct List {};

template <typename A, typename B>
struct Joined;
template <typename... A, typename... B>
struct Joined<List<A...>, List<B...>> {
  using type = List<A..., B...>;
};

template <int N>
struct Number {
  static constexpr int value = N;
};

template <int From, int To>
struct Range {
  static constexpr int middle = From + (To - From) / 2;
  using type = typename Joined<typename Range<From, middle>::type, typename Range<middle, To>::type>::type;
};
template <int From>
struct Range<From, From + 1> {
  using type = List<Number<(From * 7919) % 1009>>;
};

template <int Pivot, typename L>
struct Partition;
template <int Pivot>
struct Partition<Pivot, List<>> {
  using less = List<>;
  using rest = List<>;
};
template <int Pivot, typename Head, typename... Tail>
struct Partition<Pivot, List<Head, Tail...>> {
  using next = Partition<Pivot, List<Tail...>>;
  static constexpr bool goes_first = Head::value < Pivot;
  using less = std::conditional_t<goes_first, typename Joined<List<Head>, typename next::less>::type, typename next::less>;
  using rest = std::conditional_t<goes_first, typename next::rest, typename Joined<List<Head>, typename next::rest>::type>;
};

template <typename L>
struct Sorted {
  using type = List<>;
};
template <typename Head, typename... Tail>
struct Sorted<List<Head, Tail...>> {
  using parts = Partition<Head::value, List<Tail...>>;
  using type = typename Joined<typename Sorted<typename parts::less>::type,
                               typename Joined<List<Head>, typename Sorted<typename parts::rest>::type>::type>::type;
};

template <typename... N>
constexpr std::array<int, sizeof...(N)> values(List<N...>) {
  return {N::value...};
}

constexpr auto sorted = values(Sorted<Range<0, 120>::type>::type{});
static_assert(std::is_sorted(sorted.begin(), sorted.end()));

template <int N>
struct Shape {
  std::array<char, 16 + N * 24> bytes{};
  explicit Shape(int seed) { bytes.fill(static_cast<char>(seed + N)); }
  int weight() const { return std::accumulate(bytes.begin(), bytes.end(), N); }
};

template <typename>
struct VariantOf;
template <int... N>
struct VariantOf<std::integer_sequence<int, N...>> {
  using type = std::variant<std::unique_ptr<Shape<N>>...>;
  template <int I>
  static type make(int seed) {
    return std::make_unique<Shape<I>>(seed);
  }
  static type make_any(int index, int seed) {
    using Maker = type (*)(int);
    static constexpr Maker makers[] = {&make<N>...};
    return makers[index](seed);
  }
};
using Shapes = VariantOf<std::make_integer_sequence<int, 20>>;

struct alignas(128) Wide {
  std::array<std::uint64_t, 32> words{};
};

static std::uint64_t work(unsigned seed) {
  std::uint64_t digest = seed;
  auto next = [state = seed * 2654435761u + 1]() mutable { return state = state * 1664525u + 1013904223u; };
  auto mix = [&digest](std::uint64_t value) { digest = (digest ^ value) * 1099511628211ull; };
  std::map<std::string, std::vector<Shapes::type>> named;
  std::unordered_map<std::uint32_t, std::shared_ptr<std::string>> table;
  for (int i = 0; i < 100000; i++) {
    const std::uint32_t number = next();
    auto shape = Shapes::make_any(static_cast<int>(number >> 8) % 20, i);
    std::visit([&](const auto& held) { mix(static_cast<std::uint64_t>(held->weight())); }, shape);
    auto& bucket = named["bucket " + std::to_string(number % 501)];
    bucket.push_back(std::move(shape));
    if (bucket.size() > 12) bucket.erase(bucket.begin(), bucket.begin() + 9);
    table[number % 4096] = std::make_shared<std::string>(number % 300, 'a' + number % 26);
    if (i % 64 == 0) {
      std::unique_ptr<Wide> wide(new Wide);
      if (reinterpret_cast<std::uintptr_t>(wide.get()) % alignof(Wide) != 0) std::abort();
      std::unique_ptr<Wide[]> several(new (std::nothrow) Wide[3]);
      mix(several[2].words[31] + wide->words[0]);
      try {
        throw std::runtime_error(std::string(number % 500, 'x'));
      } catch (const std::exception& error) {
        mix(std::string(error.what()).size());
      }
    }
  }
  for (const auto& [name, bucket] : named) mix(name.size() * bucket.size());
  std::uint64_t total = 0;
  for (const auto& [key, text] : table) total += key * text->size();
  mix(total);
  return digest;
}

int main() {
  std::printf("%llu %d %d\n", static_cast<unsigned long long>(sum_of_steps(std::make_index_sequence<200>{})),
              sorted.front(), sorted.back());
  const std::regex pattern("([a-z]+)-([0-9]{2,})");
  std::ostringstream out;
  for (int i = 0; i < 200; i++) out << "word-" << i << ' ';
  const std::string text = std::regex_replace(out.str(), pattern, "$2:$1");
  std::printf("%zu %zu\n", text.size(), std::hash<std::string>{}(text));
  std::array<std::uint64_t, 4> digests{};
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < digests.size(); i++) threads.emplace_back([&digests, i] { digests[i] = work(i); });
  for (auto& thread : threads) thread.join();
  for (auto digest : digests) std::printf("%016llx\n", static_cast<unsigned long long>(digest));
  try {
    std::vector<char> impossible(static_cast<std::size_t>(-1) / 4);
    std::printf("%zu\n", impossible.size());
  } catch (const std::bad_alloc&) {
    std::puts("bad_alloc");
  }
}
