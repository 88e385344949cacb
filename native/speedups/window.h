// Window: how much happened lately (gateway/window.py says how).
#pragma once

#include <cstdint>

#include "speedups/python.h"

namespace speedups {

struct Window {
  PyObject_HEAD
  double width;
  // When the next slot begins.
  double until;
  // Number of the slot that is being filled, counted from the clock's zero; its place.
  int64_t at;
  int64_t slot;
  int64_t size;
  // Without a sign, as what is added is taken away again: sums may wrap in between.
  uint64_t total;
  uint64_t* counts;

  // Count `amount`. False: an error is set.
  bool add(double now, long long amount);
  // Forget what is too old at `now`. False: an error is set.
  bool turn(double now);
};

}  // namespace speedups
