// Tally: counters and moving averages of one target (gateway/tally.py says what they mean).
#include <cstddef>

#include "speedups/types.h"

namespace speedups {

namespace {

// Weight of the newest sample in the moving averages.
constexpr double kNewest = 0.15;
// Tokens that one request is taken to have at most, so that no sum of them ends.
constexpr long long kMostTokens = 1LL << 40;

struct Tally {
  PyObject_HEAD
  long long in_flight, requests, successes, cancelled, prompt_tokens, completion_tokens;
  double measured_at, ttft, per_token, duration, parallel, size, ttft_seconds, answer_seconds;
};

Tally& tally_of(PyObject* self) { return *reinterpret_cast<Tally*>(self); }

// Sums without overflow: what is told by another server may be anything.
void add(long long& sum, long long amount) {
  sum = static_cast<long long>(static_cast<unsigned long long>(sum) +
                               static_cast<unsigned long long>(amount));
}

// `object` as a number of tokens, within what one request can have. False: an error is set.
bool tokens(PyObject* object, long long* count) {
  int overflow;
  *count = PyLong_AsLongLongAndOverflow(object, &overflow);
  if (*count == -1 && !overflow && PyErr_Occurred()) return false;
  if (overflow > 0 || *count > kMostTokens) *count = kMostTokens;
  if (overflow < 0 || *count < 0) *count = 0;
  return true;
}

PyObject* sent(PyObject* self, PyObject*) {
  add(tally_of(self).in_flight, 1);
  add(tally_of(self).requests, 1);
  Py_RETURN_NONE;
}

PyObject* answered(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  double now, began, first;
  long long prompt, made;
  if (count != 5) return PyErr_Format(PyExc_TypeError, "answered(now, began, first, prompt, made)");
  if (!number(args[0], &now) || !number(args[1], &began) || !number(args[2], &first) ||
      !tokens(args[3], &prompt) || !tokens(args[4], &made))
    return nullptr;
  Tally& tally = tally_of(self);
  const long long total = prompt + made;
  const double ttft = first - began, duration = now - began;
  const double newest = tally.measured_at != 0 ? kNewest : 1.0;
  tally.measured_at = now;
  tally.ttft += newest * (ttft - tally.ttft);
  tally.duration += newest * (duration - tally.duration);
  tally.parallel += newest * (static_cast<double>(tally.in_flight) - tally.parallel);
  tally.size += newest * (static_cast<double>(total) - tally.size);
  if (made > 1) {
    const double per_token = (now - first) / static_cast<double>(made - 1);
    tally.per_token += (tally.per_token != 0 ? newest : 1.0) * (per_token - tally.per_token);
  }
  add(tally.in_flight, -1);
  add(tally.successes, 1);
  tally.ttft_seconds += ttft;
  tally.answer_seconds += duration;
  add(tally.prompt_tokens, prompt);
  add(tally.completion_tokens, made);
  return PyLong_FromLongLong(total);
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

PyType_Spec tally_spec = {
    "trunkline.core._speedups.Tally",
    sizeof(Tally),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    slots,
};

}  // namespace speedups
