#pragma once

// Included before each mutated kernel source (tests/mutation/mutants.py): every mutant of a source
// is compiled into it, and one of them is chosen when the program starts.
//
//   SUBPIX_MUTANT=17              mutant 17
//   SUBPIX_MUTANT=-1              none; SUBPIX_MUTANT_REACHED=FILE gets the numbers of all that ran
//
// What a mutant changes is an operand, so that nothing but the text in front of it is inserted:
//   i < Up(17) + n                i <= n, if chosen
//   a + Neg(18) * b               a - b
//   i += Twice(19) * step
// A constant expression never is a mutant's: there all of them are switched off.

#include <cmath>
#include <limits>
#include <type_traits>

namespace subpix::mutation {

/// Out of line, so that the simulator's checks do not see the read of a variable of the host, and
/// constant, so that the compiler may ask once.
[[gnu::const]] int chosen() noexcept;
/// For mutant -1, which is none: a byte for each that ran.
constexpr int kMost = 1 << 16;
extern unsigned char seen[kMost];
void reached(int id) noexcept;

constexpr bool on(int id) {
  if (std::is_constant_evaluated()) return false;
  const int now = chosen();
  if (now < 0) [[unlikely]] {
#ifdef __SANITIZE_THREAD__
    reached(id);
#else
    seen[id] = 1;
#endif
  }
  return now == id;
}

struct Shift {
  int by;
};
constexpr Shift operator+(Shift a, Shift b) { return {a.by + b.by}; }
template <class T>
constexpr auto operator+(Shift shift, T value) {
  if constexpr (std::is_floating_point_v<T>)
    return shift.by == 0 ? value : std::nextafter(value, shift.by * std::numeric_limits<T>::max());
  else if constexpr (std::is_enum_v<T> || std::is_class_v<T>)
    return value;
  else if constexpr (std::is_unsigned_v<T> && sizeof(T) == 4)
    return shift.by < 0 && value == 0 ? value : value + static_cast<T>(shift.by);
  else
    return value + shift.by;
}

struct Factor {
  int by;
};
constexpr Factor operator*(Factor a, Factor b) { return {a.by * b.by}; }
template <class T>
constexpr auto operator*(Factor factor, T value) {
  if constexpr (std::is_floating_point_v<T>)
    return value * static_cast<T>(factor.by);
  else if constexpr (std::is_integral_v<T>)
    return factor.by == 1 ? +value : static_cast<decltype(+value)>(+value * factor.by);
  else
    return value;
}

/// Rounds down if chosen: the last partial tile is dropped.
struct Cdiv {
  int id;
  template <class A, class B>
  constexpr std::common_type_t<A, B> operator()(A a, B b) const {
    return on(id) ? a / b : (a + b - 1) / b;
  }
};

/// A grid, or one of its sizes, without its last block.
struct Fewer {
  int id;
};
template <class Grid>
Grid operator*(Fewer fewer, Grid grid) {
  unsigned* blocks = nullptr;
  if constexpr (requires { grid.x; })
    blocks = &grid.x;
  else
    blocks = &grid;
  if (on(fewer.id) && *blocks > 1) --*blocks;
  return grid;
}

}  // namespace subpix::mutation

#define MUTANT(id) (::subpix::mutation::on(id))
#define MUTANT_UP(id) \
  ::subpix::mutation::Shift { MUTANT(id) ? 1 : 0 }
#define MUTANT_DOWN(id) \
  ::subpix::mutation::Shift { MUTANT(id) ? -1 : 0 }
#define MUTANT_NEG(id) \
  ::subpix::mutation::Factor { MUTANT(id) ? -1 : 1 }
#define MUTANT_TWICE(id) \
  ::subpix::mutation::Factor { MUTANT(id) ? 2 : 1 }
#define MUTANT_CDIV(id) \
  ::subpix::mutation::Cdiv { id }
#define MUTANT_FEWER(id) \
  ::subpix::mutation::Fewer { id }
