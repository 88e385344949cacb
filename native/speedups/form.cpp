// Form: whole responses that differ in little (server/form.py says in what).
#include <cmath>
#include <cstring>
#include <string_view>

#include "speedups/types.h"

namespace speedups {

namespace {

using std::string_view;

constexpr string_view kLength = "content-length: ";
constexpr string_view kEnd = "\r\n\r\n";
// What is filled in, in this order.
constexpr string_view kHoles[] = {"%b", "%b", "%.1f"};
constexpr size_t kHoleCount = 3;
// Milliseconds from which on, and how close to a tie, Python spells them.
constexpr double kMany = 1e12;
constexpr double kTie = 1e-6;

struct Form {
  PyObject_HEAD
  // The lines without the holes, and where these are.
  char* text;
  size_t size;
  size_t holes[kHoleCount];
};

Form& form_of(PyObject* self) { return *reinterpret_cast<Form*>(self); }

// Take the lines apart, "%%" is "%". False: they have other holes.
bool take(Form& form, string_view lines) {
  size_t found = 0;
  for (size_t at = 0; at < lines.size();) {
    if (lines[at] != '%') {
      form.text[form.size++] = lines[at++];
      continue;
    }
    const string_view rest(lines.data() + at, lines.size() - at);
    if (rest.starts_with("%%")) {
      form.text[form.size++] = '%';
      at += 2;
    } else if (found < kHoleCount && rest.starts_with(kHoles[found])) {
      form.holes[found] = form.size;
      at += kHoles[found++].size();
    } else {
      return false;
    }
  }
  return found == kHoleCount;
}

PyObject* create(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  static const char* const words[] = {"lines", nullptr};
  PyObject* lines;
  char* data;
  Py_ssize_t size;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "S", const_cast<char**>(words), &lines) ||
      PyBytes_AsStringAndSize(lines, &data, &size) < 0)
    return nullptr;
  PyObject* const self = allocate(type);
  if (!self) return nullptr;
  Form& form = form_of(self);
  form.text = static_cast<char*>(PyMem_Malloc(static_cast<size_t>(size) + 1));
  if (form.text && take(form, string_view(data, static_cast<size_t>(size)))) return self;
  if (form.text)
    PyErr_SetString(PyExc_ValueError, "a form has %b, %b and %.1f, in this order");
  else
    PyErr_NoMemory();
  Py_DECREF(self);
  return nullptr;
}

void destroy(PyObject* self) {
  PyMem_Free(form_of(self).text);
  release(self);
}

// Decimal digits, from the last one on.
class Digits {
 public:
  void put(char c) { *--begin_ = c; }
  void put(unsigned long long number) {
    do put(static_cast<char>('0' + number % 10));
    while (number /= 10);
  }
  string_view text() const {
    return string_view(begin_, static_cast<size_t>(room_ + sizeof room_ - begin_));
  }

 private:
  char room_[32];
  char* begin_ = room_ + sizeof room_;
};

// As "%.1f" spells it. False: Python has to.
bool spell(double number, Digits& digits) {
  if (std::signbit(number) || !(number < kMany)) return false;
  const double tenths = number * 10 + 0.5;
  const unsigned long long whole = static_cast<unsigned long long>(tenths);
  const double over = tenths - static_cast<double>(whole);
  if (over < kTie || over > 1 - kTie) return false;
  digits.put(static_cast<char>('0' + whole % 10));
  digits.put('.');
  digits.put(whole / 10);
  return true;
}

char* copy(char* to, string_view text) {
  std::memcpy(to, text.data(), text.size());
  return to + text.size();
}

PyObject* write(const Form& form, string_view top, string_view name, string_view milliseconds,
                string_view body) {
  Digits length;
  length.put(static_cast<unsigned long long>(body.size()));
  const string_view filled[] = {name, name, milliseconds};
  size_t size = top.size() + form.size + kLength.size() + length.text().size() + kEnd.size() +
                body.size();
  for (string_view one : filled) size += one.size();
  PyObject* const all = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(size));
  if (!all) return nullptr;
  char* to = copy(PyBytes_AsString(all), top);
  size_t at = 0;
  for (size_t i = 0; i < kHoleCount; ++i) {
    to = copy(to, string_view(form.text + at, form.holes[i] - at));
    to = copy(to, filled[i]);
    at = form.holes[i];
  }
  to = copy(to, string_view(form.text + at, form.size - at));
  to = copy(to, kLength);
  to = copy(to, length.text());
  copy(copy(to, kEnd), body);
  return all;
}

PyObject* fill(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  if (count != 4) return PyErr_Format(PyExc_TypeError, "fill(top, name, milliseconds, body)");
  char *top, *body;
  Py_ssize_t top_size, name_size, body_size;
  double milliseconds;
  if (PyBytes_AsStringAndSize(args[0], &top, &top_size) < 0 || !number(args[2], &milliseconds) ||
      PyBytes_AsStringAndSize(args[3], &body, &body_size) < 0)
    return nullptr;
  const char* const name = PyUnicode_AsUTF8AndSize(args[1], &name_size);
  if (!name) return nullptr;
  Digits digits;
  char* spelled = nullptr;
  string_view shown;
  if (spell(milliseconds, digits)) {
    shown = digits.text();
  } else {
    spelled = PyOS_double_to_string(milliseconds, 'f', 1, 0, nullptr);
    if (!spelled) return nullptr;
    shown = spelled;
  }
  PyObject* const all = write(form_of(self), string_view(top, static_cast<size_t>(top_size)),
                              string_view(name, static_cast<size_t>(name_size)), shown,
                              string_view(body, static_cast<size_t>(body_size)));
  PyMem_Free(spelled);
  return all;
}

PyMethodDef methods[] = {
    {"fill", method(fill), METH_FASTCALL,
     "A response: what it begins with, the lines, the length of its body, and that."},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_new, slot(create)},
    {Py_tp_dealloc, slot(destroy)},
    {Py_tp_methods, methods},
    {0, nullptr},
};

}  // namespace

PyType_Spec form_spec = {
    "trunkline.core._speedups.Form",
    sizeof(Form),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    slots,
};

}  // namespace speedups
