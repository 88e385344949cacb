#include "speedups/tally.h"

#include <cstddef>

#include "speedups/types.h"

namespace speedups {

namespace {

// Weight of the newest sample in the moving averages.
constexpr double kNewest = 0.15;
// Tokens that one request is taken to have at most, so that no sum of them ends.
constexpr long long kMostTokens = 1LL << 40;

Tally& tally_of(PyObject* self) { return *reinterpret_cast<Tally*>(self); }

// Sums without overflow: what is told by another server may be anything.
void add(long long& sum, long long amount) {
  sum = static_cast<long long>(static_cast<unsigned long long>(sum) +
                               static_cast<unsigned long long>(amount));
}

PyObject* sent(PyObject* self, PyObject*) {
  tally_of(self).sent();
  Py_RETURN_NONE;
}

PyObject* answered(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  double now, began, first;
  long long prompt, made;
  if (count != 5) return PyErr_Format(PyExc_TypeError, "answered(now, began, first, prompt, made)");
  if (!number(args[0], &now) || !number(args[1], &began) || !number(args[2], &first) ||
      !tokens(args[3], &prompt) || !tokens(args[4], &made))
    return nullptr;
  return PyLong_FromLongLong(tally_of(self).answered(now, began, first, prompt, made));
}

PyMethodDef methods[] = {
    {"sent", sent, METH_NOARGS, "A request is under way."},
    {"answered", method(answered), METH_FASTCALL,
     "A request has its whole answer; gives how many tokens it took."},
    {nullptr, nullptr, 0, nullptr},
};

#define COUNT(name) {#name, T_LONGLONG, offsetof(Tally, name), 0, nullptr}
#define REAL(name) {#name, T_DOUBLE, offsetof(Tally, name), 0, nullptr}

PyMemberDef members[] = {
    COUNT(in_flight),
    COUNT(requests),
    COUNT(successes),
    COUNT(cancelled),
    COUNT(prompt_tokens),
    COUNT(completion_tokens),
    REAL(measured_at),
    REAL(ttft),
    REAL(per_token),
    REAL(duration),
    REAL(parallel),
    REAL(size),
    REAL(ttft_seconds),
    REAL(answer_seconds),
    {nullptr, 0, 0, 0, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {0, nullptr},
};

}  // namespace

bool tokens(PyObject* object, long long* count) {
  int overflow;
  *count = PyLong_AsLongLongAndOverflow(object, &overflow);
  if (*count == -1 && !overflow && PyErr_Occurred()) return false;
  if (overflow > 0 || *count > kMostTokens) *count = kMostTokens;
  if (overflow < 0 || *count < 0) *count = 0;
  return true;
}

void Tally::sent() {
  add(in_flight, 1);
  add(requests, 1);
}

long long Tally::answered(double now, double began, double first, long long prompt,
                          long long made) {
  const long long total = prompt + made;
  const double its_ttft = first - began, its_duration = now - began;
  const double newest = measured_at != 0 ? kNewest : 1.0;
  measured_at = now;
  ttft += newest * (its_ttft - ttft);
  duration += newest * (its_duration - duration);
  parallel += newest * (static_cast<double>(in_flight) - parallel);
  size += newest * (static_cast<double>(total) - size);
  if (made > 1) {
    const double its_per_token = (now - first) / static_cast<double>(made - 1);
    per_token += (per_token != 0 ? newest : 1.0) * (its_per_token - per_token);
  }
  add(in_flight, -1);
  add(successes, 1);
  ttft_seconds += its_ttft;
  answer_seconds += its_duration;
  add(prompt_tokens, prompt);
  add(completion_tokens, made);
  return total;
}

PyType_Spec tally_spec = {
    "trunkline.core._speedups.Tally",
    sizeof(Tally),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    slots,
};

}  // namespace speedups
