// Counter and Histogram: what core/metrics.py counts in; it makes the samples.
#pragma once

#include <cstdint>

#include "speedups/python.h"

namespace speedups {

struct Counter {
  PyObject_HEAD
  double value;
};

struct Histogram {
  PyObject_HEAD
  double sum;
  // Buckets but the last one, which has no bound; their bounds and, one more, their counts.
  Py_ssize_t size;
  double* bounds;
  uint64_t* counts;

  // Count one observation.
  void observe(double value);
};

}  // namespace speedups
