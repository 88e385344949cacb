// Python's limited API: what is built against it once serves every CPython from 3.11 on.
//
// Headers of later ones take two things for granted that 3.11 does not know. Formats of arguments and
// values have no "#", which those of 3.13 leave to itself; and None is counted.
#pragma once

#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <structmember.h>

#undef Py_RETURN_NONE
#define Py_RETURN_NONE return Py_NewRef(Py_None)

namespace speedups {

template <class Function>
inline void* slot(Function* function) {
  return reinterpret_cast<void*>(function);
}

template <class Function>
inline PyCFunction method(Function* function) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
}

// A new object of `type`, all of it zero.
inline PyObject* allocate(PyTypeObject* type) {
  return reinterpret_cast<allocfunc>(PyType_GetSlot(type, Py_tp_alloc))(type, 0);
}

// The end of an object whose own references are gone.
inline void release(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  reinterpret_cast<freefunc>(PyType_GetSlot(type, Py_tp_free))(self);
  Py_DECREF(type);
}

// `object` as a float. False: an error is set.
inline bool number(PyObject* object, double* value) {
  *value = PyFloat_AsDouble(object);
  return *value != -1.0 || !PyErr_Occurred();
}

// (first, second), or null with an error.
inline PyObject* pair(long long first, long long second) {
  PyObject *const one = PyLong_FromLongLong(first), *const other = PyLong_FromLongLong(second);
  PyObject* const both = one && other ? PyTuple_Pack(2, one, other) : nullptr;
  Py_XDECREF(one);
  Py_XDECREF(other);
  return both;
}

}  // namespace speedups
