// Tally: counters and moving averages of one target (gateway/tally.py says what they mean).
#pragma once

#include "speedups/python.h"

namespace speedups {

struct Tally {
  PyObject_HEAD
  long long in_flight, requests, successes, cancelled, prompt_tokens, completion_tokens;
  double measured_at, ttft, per_token, duration, parallel, size, ttft_seconds, answer_seconds;

  // A request is under way.
  void sent();
  // As of `PureTally.answered`, with numbers of tokens that `tokens` gave.
  long long answered(double now, double began, double first, long long prompt, long long made);
};

// `object` as a number of tokens, within what one request can have. False: an error is set.
bool tokens(PyObject* object, long long* count);

}  // namespace speedups
