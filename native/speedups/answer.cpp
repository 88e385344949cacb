// WholeAnswer: what a complete answer tells of what it took.
#include "speedups/names.h"
#include "speedups/types.h"

namespace speedups {

namespace {

struct WholeAnswer {
  PyObject_HEAD
  Names listed, told, faults;
};

PyObject* create(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  static const char* const words[] = {"listed", "told", "faults", nullptr};
  PyObject *listed, *told, *faults;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "UUO", const_cast<char**>(words), &listed, &told,
                                   &faults))
    return nullptr;
  PyObject* const self = allocate(type);
  if (!self) return nullptr;
  WholeAnswer* const answer = reinterpret_cast<WholeAnswer*>(self);
  if (!answer->listed.add(listed) || !answer->told.add(told) || !answer->faults.take(faults)) {
    Py_DECREF(self);
    return nullptr;
  }
  return self;
}

void destroy(PyObject* self) {
  WholeAnswer* const answer = reinterpret_cast<WholeAnswer*>(self);
  answer->listed.clear();
  answer->told.clear();
  answer->faults.clear();
  release(self);
}

// Whether a value of "object" is a string, and not "error", which escapes could spell, or null.
bool is_kind(Text value) {
  if (*value.begin != '"') return value.is("null", 4);
  return !value.is("\"error\"", 7) && !std::memchr(value.begin, '\\', value.size());
}

PyObject* find(PyObject* self, PyObject* body) {
  char* data;
  Py_ssize_t size;
  if (PyBytes_AsStringAndSize(body, &data, &size) < 0) return nullptr;
  const WholeAnswer& answer = *reinterpret_cast<WholeAnswer*>(self);
  const Byte* const begin = reinterpret_cast<const Byte*>(data);
  Text found{nullptr, nullptr};
  bool listed = false;
  const bool is_answer = Json(begin, begin + size).object([&](Text name, Text value) {
    if (answer.faults.holds(name) && !value.is("null", 4)) return false;
    if (name.is("object", 6) && !is_kind(value)) return false;
    if (answer.listed.holds(name)) {
      if (listed || *value.begin != '[') return false;
      listed = true;
    }
    if (answer.told.holds(name)) {
      if (found.begin || *value.begin != '{') return false;
      found = value;
    }
    return true;
  });
  if (!is_answer || !listed || !found.begin) Py_RETURN_NONE;
  return PyBytes_FromStringAndSize(reinterpret_cast<const char*>(found.begin),
                                   static_cast<Py_ssize_t>(found.size()));
}

PyMethodDef methods[] = {
    {"find", find, METH_O, "What the answer tells of itself, as it is spelled; or None."},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_new, slot(create)},
    {Py_tp_dealloc, slot(destroy)},
    {Py_tp_methods, methods},
    {0, nullptr},
};

}  // namespace

PyType_Spec whole_answer_spec = {
    "trunkline.core._speedups.WholeAnswer",
    sizeof(WholeAnswer),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    slots,
};

}  // namespace speedups
