#include "speedups/metrics.h"

#include <cstddef>

#include "speedups/types.h"

namespace speedups {

namespace {

PyObject* inc(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  double amount = 1.0;
  if (count > 1) return PyErr_Format(PyExc_TypeError, "inc(amount=1.0)");
  if (count == 1 && !number(args[0], &amount)) return nullptr;
  reinterpret_cast<Counter*>(self)->value += amount;
  Py_RETURN_NONE;
}

PyMethodDef counter_methods[] = {
    {"inc", method(inc), METH_FASTCALL, "Add `amount`, which is not negative."},
    {nullptr, nullptr, 0, nullptr},
};

PyMemberDef counter_members[] = {
    {"value", T_DOUBLE, offsetof(Counter, value), 0, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};

PyType_Slot counter_slots[] = {
    {Py_tp_methods, counter_methods},
    {Py_tp_members, counter_members},
    {0, nullptr},
};

Histogram& histogram_of(PyObject* self) { return *reinterpret_cast<Histogram*>(self); }

PyObject* create(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  static const char* const words[] = {"bounds", nullptr};
  PyObject* bounds;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!", const_cast<char**>(words), &PyTuple_Type,
                                   &bounds))
    return nullptr;
  PyObject* const self = allocate(type);
  if (!self) return nullptr;
  Histogram& histogram = histogram_of(self);
  const size_t size = static_cast<size_t>(PyTuple_Size(bounds));
  histogram.size = static_cast<Py_ssize_t>(size);
  histogram.bounds = static_cast<double*>(PyMem_Calloc(size + 1, sizeof(double)));
  histogram.counts = static_cast<uint64_t*>(PyMem_Calloc(size + 1, sizeof(uint64_t)));
  bool good = histogram.bounds && histogram.counts;
  if (!good) PyErr_NoMemory();
  for (Py_ssize_t i = 0; good && i < histogram.size; ++i)
    good = number(PyTuple_GetItem(bounds, i), &histogram.bounds[i]);
  if (good) return self;
  Py_DECREF(self);
  return nullptr;
}

void destroy(PyObject* self) {
  PyMem_Free(histogram_of(self).bounds);
  PyMem_Free(histogram_of(self).counts);
  release(self);
}

PyObject* observe(PyObject* self, PyObject* observed) {
  double value;
  if (!number(observed, &value)) return nullptr;
  histogram_of(self).observe(value);
  Py_RETURN_NONE;
}

// A tuple of `size` objects that `make` makes.
template <class Make>
PyObject* tuple(Py_ssize_t size, Make make) {
  PyObject* const all = PyTuple_New(size);
  for (Py_ssize_t i = 0; all && i < size; ++i) {
    PyObject* const one = make(i);
    if (!one || PyTuple_SetItem(all, i, one) < 0) {
      Py_DECREF(all);
      return nullptr;
    }
  }
  return all;
}

PyObject* bounds(PyObject* self, void*) {
  const Histogram& histogram = histogram_of(self);
  return tuple(histogram.size,
               [&](Py_ssize_t i) { return PyFloat_FromDouble(histogram.bounds[i]); });
}

PyObject* counts(PyObject* self, void*) {
  const Histogram& histogram = histogram_of(self);
  return tuple(histogram.size + 1,
               [&](Py_ssize_t i) { return PyLong_FromUnsignedLongLong(histogram.counts[i]); });
}

PyMethodDef histogram_methods[] = {
    {"observe", observe, METH_O, "Count one observation."},
    {nullptr, nullptr, 0, nullptr},
};

PyMemberDef histogram_members[] = {
    {"sum", T_DOUBLE, offsetof(Histogram, sum), READONLY, "Of all observations."},
    {nullptr, 0, 0, 0, nullptr},
};

PyGetSetDef histogram_properties[] = {
    {"bounds", bounds, nullptr, "Inclusive upper ends of the buckets but the last.", nullptr},
    {"counts", counts, nullptr, "Observations in each bucket.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyType_Slot histogram_slots[] = {
    {Py_tp_new, slot(create)},
    {Py_tp_dealloc, slot(destroy)},
    {Py_tp_methods, histogram_methods},
    {Py_tp_members, histogram_members},
    {Py_tp_getset, histogram_properties},
    {0, nullptr},
};

}  // namespace

void Histogram::observe(double value) {
  // As bisect.bisect_left does it.
  Py_ssize_t low = 0, high = size;
  while (low < high) {
    const Py_ssize_t middle = (low + high) / 2;
    if (bounds[middle] < value)
      low = middle + 1;
    else
      high = middle;
  }
  ++counts[low];
  sum += value;
}

PyType_Spec counter_spec = {
    "trunkline.core._speedups.Counter",
    sizeof(Counter),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    counter_slots,
};

PyType_Spec histogram_spec = {
    "trunkline.core._speedups.Histogram",
    sizeof(Histogram),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    histogram_slots,
};

}  // namespace speedups
