// Account: where calls that pass are counted, in one go (server/account.py says what is).
#include "speedups/metrics.h"
#include "speedups/tally.h"
#include "speedups/types.h"
#include "speedups/window.h"

namespace speedups {

namespace {

// What it counts in, in the order in which it is given, and the types of these.
enum Part { kTally, kRequests, kTries, kTokens, kTtft, kE2e, kPrompt, kMade, kParts };
constexpr const char* kTypes[kParts] = {"Tally",     "Window",    "Window",  "Window",
                                        "Histogram", "Histogram", "Counter", "Counter"};

struct Account {
  PyObject_HEAD
  PyObject* parts[kParts];

  Tally& tally() { return *reinterpret_cast<Tally*>(parts[kTally]); }
  Window& window(Part part) { return *reinterpret_cast<Window*>(parts[part]); }
  Histogram& histogram(Part part) { return *reinterpret_cast<Histogram*>(parts[part]); }
  Counter& counter(Part part) { return *reinterpret_cast<Counter*>(parts[part]); }
};

Account& account_of(PyObject* self) { return *reinterpret_cast<Account*>(self); }

// Whether `object` is of a type of this module, `name`. False: an error is set.
bool check(PyTypeObject* type, PyObject* object, const char* name) {
  PyObject* const module = PyType_GetModule(type);
  PyObject* const wanted = module ? PyObject_GetAttrString(module, name) : nullptr;
  if (!wanted) return false;
  const int is_one = PyObject_IsInstance(object, wanted);
  Py_DECREF(wanted);
  if (!is_one) PyErr_Format(PyExc_TypeError, "an account counts in a %s of its own module", name);
  return is_one > 0;
}

PyObject* create(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  static const char* const words[] = {"tally", "requests", "tries",  "tokens", "ttft",
                                      "e2e",   "prompt",   "made", nullptr};
  PyObject* given[kParts];
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOOOOO", const_cast<char**>(words), &given[0],
                                   &given[1], &given[2], &given[3], &given[4], &given[5],
                                   &given[6], &given[7]))
    return nullptr;
  for (int i = 0; i < kParts; ++i)
    if (!check(type, given[i], kTypes[i])) return nullptr;
  PyObject* const self = allocate(type);
  for (int i = 0; self && i < kParts; ++i) account_of(self).parts[i] = Py_NewRef(given[i]);
  return self;
}

int traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  for (PyObject* part : account_of(self).parts) Py_VISIT(part);
  return 0;
}

// What it counts in refers to no account: there is nothing to clear.
void destroy(PyObject* self) {
  PyObject_GC_UnTrack(self);
  for (PyObject* part : account_of(self).parts) Py_XDECREF(part);
  release(self);
}

PyObject* began(PyObject* self, PyObject* time) {
  Account& account = account_of(self);
  double now;
  if (!number(time, &now) || !account.window(kRequests).add(now, 1)) return nullptr;
  if (account.parts[kTries] != account.parts[kRequests] && !account.window(kTries).add(now, 1))
    return nullptr;
  account.tally().sent();
  Py_RETURN_NONE;
}

PyObject* passed(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  Account& account = account_of(self);
  double now, began, took;
  long long prompt, made;
  if (count != 5) return PyErr_Format(PyExc_TypeError, "passed(now, began, took, prompt, made)");
  if (!number(args[0], &now) || !number(args[1], &began) || !number(args[2], &took) ||
      !tokens(args[3], &prompt) || !tokens(args[4], &made) ||
      !account.window(kTokens).add(now, prompt + made))
    return nullptr;
  account.tally().answered(now, began, now, prompt, made);
  account.histogram(kTtft).observe(took);
  account.histogram(kE2e).observe(took);
  account.counter(kPrompt).value += static_cast<double>(prompt);
  account.counter(kMade).value += static_cast<double>(made);
  return pair(prompt, made);
}

PyMethodDef methods[] = {
    {"began", began, METH_O, "A request is sent."},
    {"passed", method(passed), METH_FASTCALL,
     "A request has its whole answer; gives the tokens that count, of prompt and answer."},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_new, slot(create)},
    {Py_tp_dealloc, slot(destroy)},
    {Py_tp_traverse, slot(traverse)},
    {Py_tp_methods, methods},
    {0, nullptr},
};

}  // namespace

PyType_Spec account_spec = {
    "trunkline.core._speedups.Account",
    sizeof(Account),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    slots,
};

}  // namespace speedups
