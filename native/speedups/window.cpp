#include "speedups/window.h"

#include <cmath>

#include "speedups/types.h"

namespace speedups {

namespace {

constexpr Py_ssize_t kMostSlots = 1 << 16;

Window& window_of(PyObject* self) { return *reinterpret_cast<Window*>(self); }

PyObject* create(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  static const char* const words[] = {"seconds", "slots", nullptr};
  double seconds;
  Py_ssize_t slots = 30;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "d|n", const_cast<char**>(words), &seconds,
                                   &slots))
    return nullptr;
  if (!(seconds > 0) || slots < 1 || slots > kMostSlots)
    return PyErr_Format(PyExc_ValueError, "a window has seconds, and 1 to %zd slots", kMostSlots);
  PyObject* const self = allocate(type);
  if (!self) return nullptr;
  Window& window = window_of(self);
  window.size = slots + 1;
  window.width = seconds / static_cast<double>(slots);
  window.until = window.width;
  window.counts = static_cast<uint64_t*>(
      PyMem_Calloc(static_cast<size_t>(window.size), sizeof *window.counts));
  if (!window.counts) {
    Py_DECREF(self);
    return PyErr_NoMemory();
  }
  return self;
}

void destroy(PyObject* self) {
  PyMem_Free(window_of(self).counts);
  release(self);
}

// The remainder that is not negative.
int64_t place(int64_t number, int64_t size) {
  const int64_t rest = number % size;
  return rest < 0 ? rest + size : rest;
}

// Forget what is too old at `now`. False: an error is set.
bool roll(Window& window, double now) {
  const double slots = now / window.width;
  if (!(std::fabs(slots) < 4e18)) {
    PyErr_SetString(PyExc_OverflowError, "the time is no number of seconds");
    return false;
  }
  const int64_t at = static_cast<int64_t>(slots), passed = at - window.at;
  for (int64_t step = 1; step <= passed && step <= window.size; ++step) {
    uint64_t& count = window.counts[place(window.at + step, window.size)];
    window.total -= count;
    count = 0;
  }
  window.at = at;
  window.slot = place(at, window.size);
  window.until = static_cast<double>(at + 1) * window.width;
  return true;
}

// As of the time in `object`, which is given back. False: an error is set.
bool turn(Window& window, PyObject* object, double* now) {
  return number(object, now) && window.turn(*now);
}

PyObject* total_of(const Window& window) {
  return PyLong_FromLongLong(static_cast<int64_t>(window.total));
}

PyObject* add(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  Window& window = window_of(self);
  if (count != 1 && count != 2) return PyErr_Format(PyExc_TypeError, "add(now, amount=1)");
  const long long amount = count == 2 ? PyLong_AsLongLong(args[1]) : 1;
  double now;
  if ((amount == -1 && PyErr_Occurred()) || !number(args[0], &now) || !window.add(now, amount))
    return nullptr;
  Py_RETURN_NONE;
}

PyObject* sum(PyObject* self, PyObject* at) {
  double now;
  return turn(window_of(self), at, &now) ? total_of(window_of(self)) : nullptr;
}

PyObject* free_in(PyObject* self, PyObject* time) {
  Window& window = window_of(self);
  double now;
  if (!turn(window, time, &now)) return nullptr;
  for (int64_t age = window.size - 1; age >= 0; --age)
    if (window.counts[place(window.at - age, window.size)])
      return PyFloat_FromDouble(
          static_cast<double>(window.at - age + window.size) * window.width - now);
  return PyFloat_FromDouble(0.0);
}

PyObject* get_total(PyObject* self, void*) { return total_of(window_of(self)); }

PyMethodDef methods[] = {
    {"add", method(add), METH_FASTCALL,
     "Count `amount`; a negative one corrects what was added too much."},
    {"sum", sum, METH_O, "The sum as of `now`."},
    {"free_in", free_in, METH_O,
     "Seconds until the oldest slot that holds anything is forgotten; 0 = all are empty."},
    {nullptr, nullptr, 0, nullptr},
};

PyGetSetDef properties[] = {
    {"total", get_total, nullptr, "The sum when it was last asked for or added to.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_new, slot(create)},
    {Py_tp_dealloc, slot(destroy)},
    {Py_tp_methods, methods},
    {Py_tp_getset, properties},
    {0, nullptr},
};

}  // namespace

bool Window::turn(double now) { return !(now >= until) || roll(*this, now); }

bool Window::add(double now, long long amount) {
  if (!turn(now)) return false;
  counts[slot] += static_cast<uint64_t>(amount);
  total += static_cast<uint64_t>(amount);
  return true;
}

PyType_Spec window_spec = {
    "trunkline.core._speedups.Window",
    sizeof(Window),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    slots,
};

}  // namespace speedups
