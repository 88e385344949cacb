// WholeAnswer: what a complete answer tells of what it took.
#include <initializer_list>

#include "speedups/names.h"
#include "speedups/types.h"

namespace speedups {

namespace {

// Digits of a count that is taken.
constexpr size_t kMostDigits = 15;

struct WholeAnswer {
  PyObject_HEAD
  Names listed, told, faults, prompt, made, besides;
};

PyObject* create(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  static const char* const words[] = {"listed", "told", "faults", "counts", "besides", nullptr};
  PyObject *listed, *told, *faults, *prompt, *made, *besides;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "UUO(UU)O", const_cast<char**>(words), &listed,
                                   &told, &faults, &prompt, &made, &besides))
    return nullptr;
  PyObject* const self = allocate(type);
  if (!self) return nullptr;
  WholeAnswer* const answer = reinterpret_cast<WholeAnswer*>(self);
  if (!answer->listed.add(listed) || !answer->told.add(told) || !answer->faults.take(faults) ||
      !answer->prompt.add(prompt) || !answer->made.add(made) || !answer->besides.take(besides)) {
    Py_DECREF(self);
    return nullptr;
  }
  return self;
}

void destroy(PyObject* self) {
  WholeAnswer* const answer = reinterpret_cast<WholeAnswer*>(self);
  for (Names* names : {&answer->listed, &answer->told, &answer->faults, &answer->prompt,
                       &answer->made, &answer->besides})
    names->clear();
  release(self);
}

// Whether a value of "object" is a string, and not "error", which escapes could spell, or null.
bool is_kind(Text value) {
  if (*value.begin != '"') return value.is("null", 4);
  return !value.is("\"error\"", 7) && !std::memchr(value.begin, '\\', value.size());
}

// A number of JSON without sign, fraction or exponent. False: it is none, or has many digits.
bool count_of(Text value, long long* count) {
  if (value.size() > kMostDigits) return false;
  *count = 0;
  for (const Byte* at = value.begin; at != value.end; ++at) {
    if (*at < '0' || *at > '9') return false;
    *count = *count * 10 + (*at - '0');
  }
  return true;
}

// What `told` has in its fields for counts. False: that is hard to tell.
bool counts_of(const WholeAnswer& answer, Text told, long long* prompt, long long* made) {
  bool has_prompt = false, has_made = false;
  *prompt = *made = 0;
  return Json(told.begin, told.end).object([&](Text name, Text value) {
    const bool is_prompt = answer.prompt.holds(name), is_made = answer.made.holds(name);
    if (is_prompt || is_made) {
      bool& seen = is_prompt ? has_prompt : has_made;
      if (seen) return false;
      seen = true;
    }
    if (value.is("null", 4)) return true;
    long long count;
    if (!count_of(value, &count)) return false;
    if (is_prompt) *prompt = count;
    if (is_made) *made = count;
    return is_prompt || is_made || answer.besides.holds(name);
  });
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
  long long prompt, made;
  if (!is_answer || !listed || !found.begin || !counts_of(answer, found, &prompt, &made))
    Py_RETURN_NONE;
  return pair(prompt, made);
}

PyMethodDef methods[] = {
    {"find", find, METH_O, "The two counts that the answer tells; or None."},
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
