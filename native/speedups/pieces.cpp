// Pieces of streams: chunks of HTTP taken out of their coding, events counted (core/pieces.py).
#include "speedups/pieces.h"

#include <cstring>

#include "speedups/types.h"

namespace speedups {

namespace {

// Digits of a chunk's size: all of them, and those that count.
constexpr int kMostDigits = 15, kMostWeighty = 7;

// The value of a hexadecimal digit, or -1.
int digit_of(char byte) {
  if (byte >= '0' && byte <= '9') return byte - '0';
  const int letter = (byte | 0x20) - 'a';
  return letter >= 0 && letter < 6 ? letter + 10 : -1;
}

bool is_line_end(const char* at, const char* end) {
  return end - at >= 2 && at[0] == '\r' && at[1] == '\n';
}

// What is in the chunk at `at`, which is moved behind it; null: that is none, or the last one.
const char* body_of(const char*& at, const char* end, size_t* size) {
  size_t value = 0;
  int digits = 0, weighty = 0;
  for (; at < end; ++at, ++digits) {
    const int digit = digit_of(*at);
    if (digit < 0) break;
    value = value << 4 | static_cast<size_t>(digit);
    weighty += value != 0;
    if (weighty > kMostWeighty) return nullptr;
  }
  if (!value || digits > kMostDigits || !is_line_end(at, end)) return nullptr;
  const char* const body = at + 2;
  if (static_cast<size_t>(end - body) < value || !is_line_end(body + value, end)) return nullptr;
  *size = value;
  at = body + value + 2;
  return body;
}

struct Piece {
  char* bytes;
  Py_ssize_t size;
};

// An owned copy of `object`, which is bytes and not empty. False: an error is set.
bool copy(PyObject* object, Piece* piece) {
  char* data;
  Py_ssize_t size;
  if (PyBytes_AsStringAndSize(object, &data, &size) < 0) return false;
  if (!size) {
    PyErr_SetString(PyExc_ValueError, "an empty mark is everywhere");
    return false;
  }
  piece->bytes = static_cast<char*>(PyMem_Malloc(static_cast<size_t>(size)));
  if (!piece->bytes) {
    PyErr_NoMemory();
    return false;
  }
  std::memcpy(piece->bytes, data, static_cast<size_t>(size));
  piece->size = size;
  return true;
}

// Where `piece` is first found, or null.
const char* find(const char* at, const char* end, const Piece& piece) {
  return static_cast<const char*>(memmem(at, static_cast<size_t>(end - at), piece.bytes,
                                         static_cast<size_t>(piece.size)));
}

struct Events {
  PyObject_HEAD
  Piece gap, token;
  Piece* marks;
  Py_ssize_t count;
};

Events& events_of(PyObject* self) { return *reinterpret_cast<Events*>(self); }

bool fill(Events& events, PyObject* gap, PyObject* token, PyObject* marks) {
  if (!copy(gap, &events.gap) || !copy(token, &events.token)) return false;
  PyObject* const listed = PySequence_List(marks);
  if (!listed) return false;
  const Py_ssize_t count = PyList_Size(listed);
  events.marks = static_cast<Piece*>(
      PyMem_Calloc(static_cast<size_t>(count ? count : 1), sizeof *events.marks));
  bool good = events.marks != nullptr;
  if (!good) PyErr_NoMemory();
  for (; good && events.count < count; events.count += good)
    good = copy(PyList_GetItem(listed, events.count), &events.marks[events.count]);
  Py_DECREF(listed);
  return good;
}

PyObject* create(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  static const char* const words[] = {"gap", "token", "marks", nullptr};
  PyObject *gap, *token, *marks;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "SSO", const_cast<char**>(words), &gap, &token,
                                   &marks))
    return nullptr;
  PyObject* const self = allocate(type);
  if (self && !fill(events_of(self), gap, token, marks)) {
    Py_DECREF(self);
    return nullptr;
  }
  return self;
}

void destroy(PyObject* self) {
  Events& events = events_of(self);
  PyMem_Free(events.gap.bytes);
  PyMem_Free(events.token.bytes);
  for (Py_ssize_t each = 0; each < events.count; ++each) PyMem_Free(events.marks[each].bytes);
  PyMem_Free(events.marks);
  release(self);
}

PyObject* count(PyObject* self, PyObject* object) {
  const Events& events = events_of(self);
  char* data;
  Py_ssize_t size;
  if (PyBytes_AsStringAndSize(object, &data, &size) < 0) return nullptr;
  const char* const end = data + size;
  bool plain = size >= events.gap.size &&
               !std::memcmp(end - events.gap.size, events.gap.bytes,
                            static_cast<size_t>(events.gap.size));
  for (Py_ssize_t each = 0; plain && each < events.count; ++each)
    plain = !find(data, end, events.marks[each]);
  if (!plain) return PyLong_FromLong(-1);
  Py_ssize_t found = 0;
  for (const char* at = data; (at = find(at, end, events.token)); at += events.token.size) ++found;
  return PyLong_FromSsize_t(found);
}

PyMethodDef methods[] = {
    {"count", count, METH_O, "How many there are; -1: they must be looked at one by one."},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_new, slot(create)},
    {Py_tp_dealloc, slot(destroy)},
    {Py_tp_methods, methods},
    {0, nullptr},
};

}  // namespace

PyObject* unchunked(PyObject*, PyObject* object) {
  char* data;
  Py_ssize_t length;
  if (PyBytes_AsStringAndSize(object, &data, &length) < 0) return nullptr;
  const char* const end = data + length;
  const char* only = nullptr;
  size_t total = 0, chunks = 0, size;
  for (const char* at = data; at < end; total += size, ++chunks)
    if (!(only = body_of(at, end, &size))) Py_RETURN_NONE;
  if (!chunks) Py_RETURN_NONE;
  if (chunks == 1) return PyBytes_FromStringAndSize(only, static_cast<Py_ssize_t>(total));
  PyObject* const bytes = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(total));
  if (!bytes) return nullptr;
  char* out = PyBytes_AsString(bytes);
  for (const char* at = data; at < end; out += size) {
    const char* const body = body_of(at, end, &size);
    std::memcpy(out, body, size);
  }
  return bytes;
}

PyType_Spec events_spec = {
    "trunkline.core._speedups.Events",
    sizeof(Events),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    slots,
};

}  // namespace speedups
