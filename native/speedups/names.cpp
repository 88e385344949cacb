#include "speedups/names.h"

namespace speedups {

bool Names::add(PyObject* name) {
  Py_ssize_t told;
  const char* const text = PyUnicode_AsUTF8AndSize(name, &told);
  if (!text) return false;
  const size_t length = static_cast<size_t>(told);
  for (size_t i = 0; i < length; ++i) {
    const Byte c = static_cast<Byte>(text[i]);
    if (c < 0x20 || c >= 0x7f || c == '"' || c == '\\') {
      PyErr_Format(PyExc_ValueError, "a name is plain ASCII, not %R", name);
      return false;
    }
  }
  Byte* const grown =
      static_cast<Byte*>(PyMem_Realloc(bytes, size + sizeof length + length));
  if (!grown) {
    PyErr_NoMemory();
    return false;
  }
  bytes = grown;
  std::memcpy(bytes + size, &length, sizeof length);
  std::memcpy(bytes + size + sizeof length, text, length);
  size += sizeof length + length;
  lengths |= uint64_t{1} << bit(length);
  return true;
}

bool Names::take(PyObject* names) {
  PyObject* const each = PyObject_GetIter(names);
  if (!each) return false;
  bool good = true;
  while (good) {
    PyObject* const name = PyIter_Next(each);
    if (!name) break;
    good = add(name);
    Py_DECREF(name);
  }
  Py_DECREF(each);
  return good && !PyErr_Occurred();
}

}  // namespace speedups
