// Outline: one field of an object in which none of the fields `marks` says anything.
#include "speedups/names.h"
#include "speedups/types.h"

namespace speedups {

namespace {

struct Outline {
  PyObject_HEAD
  Names name, marks;
};

PyObject* create(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  static const char* const words[] = {"name", "marks", nullptr};
  PyObject *name, *marks;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "UO", const_cast<char**>(words), &name, &marks))
    return nullptr;
  PyObject* const self = allocate(type);
  if (!self) return nullptr;
  Outline* const outline = reinterpret_cast<Outline*>(self);
  if (!outline->name.add(name) || !outline->marks.take(marks)) {
    Py_DECREF(self);
    return nullptr;
  }
  return self;
}

void destroy(PyObject* self) {
  Outline* const outline = reinterpret_cast<Outline*>(self);
  outline->name.clear();
  outline->marks.clear();
  release(self);
}

PyObject* find(PyObject* self, PyObject* body) {
  char* data;
  Py_ssize_t size;
  if (PyBytes_AsStringAndSize(body, &data, &size) < 0) return nullptr;
  const Outline& outline = *reinterpret_cast<Outline*>(self);
  const Byte* const begin = reinterpret_cast<const Byte*>(data);
  Text found{nullptr, nullptr};
  const bool is_object = Json(begin, begin + size).object([&](Text name, Text value) {
    if (outline.marks.holds(name)) return value.is("null", 4) || value.is("false", 5);
    if (!outline.name.holds(name)) return true;
    if (found.begin) return false;
    found = value;
    return true;
  });
  if (!is_object || !found.begin) Py_RETURN_NONE;
  PyObject* const value = PyBytes_FromStringAndSize(reinterpret_cast<const char*>(found.begin),
                                                    static_cast<Py_ssize_t>(found.size()));
  PyObject* const at = PyLong_FromSsize_t(found.begin - begin);
  PyObject* const both = value && at ? PyTuple_Pack(2, value, at) : nullptr;
  Py_XDECREF(value);
  Py_XDECREF(at);
  return both;
}

PyMethodDef methods[] = {
    {"find", find, METH_O,
     "The value of the field as it is spelled, and where in the body it begins; or None."},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_new, slot(create)},
    {Py_tp_dealloc, slot(destroy)},
    {Py_tp_methods, methods},
    {0, nullptr},
};

}  // namespace

PyType_Spec outline_spec = {
    "trunkline.core._speedups.Outline",
    sizeof(Outline),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    slots,
};

}  // namespace speedups
