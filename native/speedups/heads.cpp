// Heads: heads of HTTP messages that came before (core/heads.py says what is meant).
#include <cstring>
#include <string_view>

#include "speedups/types.h"

namespace speedups {

namespace {

using std::string_view;

constexpr string_view kEnd = "\r\n\r\n";
// What the length stands behind, and as much of it as is spelled alike by everybody.
constexpr string_view kName = "\r\ncontent-length: ";
constexpr string_view kTail = "ength: ";
constexpr size_t kMostDigits = 9;
// Heads that are remembered, each of so many bytes at most where `learn` measures it.
constexpr Py_ssize_t kMost = 512;
constexpr size_t kLongest = 4096;

struct Heads {
  PyObject_HEAD
  // dict[bytes, T]: by a head without its digits and the empty line.
  PyObject* made;
  // The key that was found last, how much of it stands before the digits, and its value; or null.
  PyObject* key;
  size_t before;
  PyObject* last;
};

Heads& heads_of(PyObject* self) { return *reinterpret_cast<Heads*>(self); }

// The first bytes of `text`, `count` at most, and those behind `count`, which has no more. As
// `substr`, which may throw.
string_view until(string_view text, size_t count) {
  return string_view(text.data(), count < text.size() ? count : text.size());
}

string_view behind(string_view text, size_t count) {
  return string_view(text.data() + count, text.size() - count);
}

bool view(PyObject* bytes, string_view* text) {
  char* data;
  Py_ssize_t size;
  if (PyBytes_AsStringAndSize(bytes, &data, &size) < 0) return false;
  *text = string_view(data, static_cast<size_t>(size));
  return true;
}

PyObject* as_bytes(string_view text) {
  return PyBytes_FromStringAndSize(text.data(), static_cast<Py_ssize_t>(text.size()));
}

// How many bytes at the start of `text` are decimal digits, of `most` at most, and their number.
size_t digits_of(string_view text, size_t most, size_t* number) {
  size_t count = 0, value = 0;
  while (count < text.size() && count < most && text[count] >= '0' && text[count] <= '9')
    value = value * 10 + static_cast<size_t>(text[count++] - '0');
  *number = value;
  return count;
}

PyObject* create(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  static const char* const words[] = {nullptr};
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "", const_cast<char**>(words))) return nullptr;
  PyObject* const made = PyDict_New();
  if (!made) return nullptr;
  PyObject* const self = allocate(type);
  if (self)
    heads_of(self).made = made;
  else
    Py_DECREF(made);
  return self;
}

int traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(heads_of(self).made);
  Py_VISIT(heads_of(self).last);
  return 0;
}

int clear(PyObject* self) {
  Heads& heads = heads_of(self);
  Py_CLEAR(heads.last);
  Py_CLEAR(heads.key);
  Py_CLEAR(heads.made);
  return 0;
}

void destroy(PyObject* self) {
  PyObject_GC_UnTrack(self);
  clear(self);
  release(self);
}

// (made, body, missing), or None where there is more than one message.
PyObject* result(PyObject* made, size_t number, string_view body) {
  if (number < body.size()) Py_RETURN_NONE;
  // What is allocated may run a collection, and that anything.
  Py_INCREF(made);
  PyObject* const rest = as_bytes(body);
  PyObject* const missing = PyLong_FromSize_t(number - body.size());
  PyObject* const found = rest && missing ? PyTuple_Pack(3, made, rest, missing) : nullptr;
  Py_XDECREF(rest);
  Py_XDECREF(missing);
  Py_DECREF(made);
  return found;
}

// What the head that was found last makes of `data`; null without an error: it is another one.
PyObject* find_again(const Heads& heads, string_view data) {
  string_view key;
  if (!heads.last || !view(heads.key, &key)) return nullptr;
  const string_view before = until(key, heads.before), after = behind(key, heads.before);
  if (!data.starts_with(before)) return nullptr;
  const string_view rest = behind(data, before.size());
  size_t number;
  const size_t count = digits_of(rest, kMostDigits, &number);
  const string_view more = behind(rest, count);
  if (!count || !more.starts_with(after) || !behind(more, after.size()).starts_with(kEnd))
    return nullptr;
  return result(heads.last, number, behind(more, after.size() + kEnd.size()));
}

PyObject* join(string_view before, string_view after) {
  PyObject* const key =
      PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(before.size() + after.size()));
  if (!key) return nullptr;
  char* const bytes = PyBytes_AsString(key);
  std::memcpy(bytes, before.data(), before.size());
  std::memcpy(bytes + before.size(), after.data(), after.size());
  return key;
}

// Where the digits of a length begin in `head`, which ends before the empty line; npos = nowhere.
size_t digits_at(string_view head) {
  const size_t tail = head.find(kTail);
  return tail == string_view::npos ? tail : tail + kTail.size();
}

PyObject* find(PyObject* self, PyObject* bytes) {
  Heads& heads = heads_of(self);
  string_view data;
  if (!view(bytes, &data)) return nullptr;
  PyObject* const again = find_again(heads, data);
  if (again || PyErr_Occurred()) return again;
  const size_t end = data.find(kEnd);
  if (end == string_view::npos) Py_RETURN_NONE;
  const string_view head = until(data, end);
  const size_t at = digits_at(head);
  if (at == string_view::npos) Py_RETURN_NONE;
  size_t number;
  const size_t count = digits_of(behind(head, at), kMostDigits, &number), stop = at + count;
  if (!count || data[stop] != '\r') Py_RETURN_NONE;
  PyObject* const key = join(until(head, at), behind(head, stop));
  if (!key) return nullptr;
  // `made` is null when a collection takes all apart.
  PyObject* const made = heads.made ? PyDict_GetItemWithError(heads.made, key) : nullptr;
  if (!made) {
    Py_DECREF(key);
    if (PyErr_Occurred()) return nullptr;
    Py_RETURN_NONE;
  }
  PyObject *const old_key = heads.key, *const old = heads.last;
  Py_INCREF(made);
  heads.key = key;
  heads.before = at;
  heads.last = made;
  PyObject* const found = result(made, number, behind(data, end + kEnd.size()));
  Py_XDECREF(old_key);
  Py_XDECREF(old);
  return found;
}

bool is_name(string_view text) {
  if (text.size() != kName.size()) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if ((c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c) != kName[i]) return false;
  }
  return true;
}

// Remember `head`, which a body of `size` bytes followed. False: an error is set.
bool remember(Heads& heads, string_view head, size_t size, PyObject* made) {
  if (!heads.made || !head.ends_with(kEnd)) return true;
  head.remove_suffix(kEnd.size());
  const size_t at = digits_at(head);
  if (at == string_view::npos || at < kName.size()) return true;
  size_t number;
  const size_t count = digits_of(behind(head, at), kMostDigits, &number), stop = at + count;
  // The head's end is followed by "\r" as well.
  const bool whole = count && (stop == head.size() || head[stop] == '\r');
  if (!whole || number != size || !is_name(behind(until(head, at), at - kName.size())))
    return true;
  PyObject* const key = join(until(head, at), behind(head, stop));
  if (!key) return false;
  if (PyDict_Size(heads.made) >= kMost) PyDict_Clear(heads.made);
  const int failed = PyDict_SetItem(heads.made, key, made);
  Py_DECREF(key);
  return !failed;
}

PyObject* learn(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  string_view data, body;
  if (count != 3) return PyErr_Format(PyExc_TypeError, "learn(data, body, made)");
  if (!view(args[0], &data) || !view(args[1], &body)) return nullptr;
  const size_t end = until(data, kLongest + kEnd.size()).find(kEnd);
  if (end != string_view::npos && behind(data, end + kEnd.size()) == body &&
      !remember(heads_of(self), until(data, end + kEnd.size()), body.size(), args[2]))
    return nullptr;
  Py_RETURN_NONE;
}

PyObject* learn_head(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  string_view head;
  if (count != 3) return PyErr_Format(PyExc_TypeError, "learn_head(head, size, made)");
  if (!view(args[0], &head)) return nullptr;
  const Py_ssize_t size = PyLong_AsSsize_t(args[1]);
  if (size == -1 && PyErr_Occurred()) return nullptr;
  if (size >= 0 && !remember(heads_of(self), head, static_cast<size_t>(size), args[2]))
    return nullptr;
  Py_RETURN_NONE;
}

PyMethodDef methods[] = {
    {"find", find, METH_O,
     "(what the head means, the body, how many bytes of that are still to come), or None."},
    {"learn", method(learn), METH_FASTCALL, "Remember the head of a message with its body."},
    {"learn_head", method(learn_head), METH_FASTCALL, "Remember a head that had such a length."},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_new, slot(create)},
    {Py_tp_dealloc, slot(destroy)},
    {Py_tp_traverse, slot(traverse)},
    {Py_tp_clear, slot(clear)},
    {Py_tp_methods, methods},
    {0, nullptr},
};

}  // namespace

PyType_Spec heads_spec = {
    "trunkline.core._speedups.Heads",
    sizeof(Heads),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    slots,
};

}  // namespace speedups
