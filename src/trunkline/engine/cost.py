"""What a step costs, learned while running, and the time budget of a step in tokens.

    seconds = a + b * prefill tokens + c * decoding rows + d * attended KV entries

The weights are followed by a Kalman filter (recursive least squares whose weights drift): one that
a run of similar steps says nothing about keeps its value instead of fading. A step far off the
prediction moves the weights no more than one three deviations off does.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.float64]

# Seconds: per step, per prefill token, per decoding row, per attended KV entry. Between a laptop
# CPU and a GPU with a small model; tens of steps replace them.
_PRIOR = (2e-3, 1e-3, 2e-3, 1e-8)
# Relative: how wrong the prior may be, how far a weight drifts in a step, how noisy a step is.
_UNCERTAIN, _DRIFT, _NOISE = 5.0, 0.01, 0.1


class CostModel:
    """Predicts the seconds of a step."""

    def __init__(self) -> None:
        self._weights: _Floats = np.array(_PRIOR)
        self._covariance: _Floats = np.diag((_UNCERTAIN * self._weights) ** 2)
        self._least: _Floats = self._weights * 1e-5
        # How far off the price of a prefill token may be, relative; what was known of it stays so.
        self._doubt = _UNCERTAIN

    def seconds(self, prefill: int, rows: int, attended: int) -> float:
        """Predicted time of a step."""
        a, b, c, d = self._weights.tolist()
        return float(a + b * prefill + c * rows + d * attended)

    def prefill_seconds(self, tokens: int, attended: int) -> float:
        """What `tokens` prefill tokens add to a step, if they cost what they well may."""
        return self._token() * tokens + float(self._weights[3]) * attended

    def prefill_tokens(self, seconds: float, span: int) -> int:
        """Tokens of one prompt that fit in `seconds`, the first of which attends to `span`.

        As `prefill_seconds`: what little is known of is planned with care.
        """
        if seconds <= 0:
            return 0
        b, d = self._token(), float(self._weights[3])
        # d/2 t^2 + (b + d span) t = seconds, in the form that is stable for small d.
        linear = b + d * span
        return int(2 * seconds / (linear + math.sqrt(linear * linear + 2 * d * seconds)))

    def observe(self, prefill: int, rows: int, attended: int, seconds: float) -> None:
        """Learn from one step."""
        x = np.array((1.0, prefill, rows, attended))
        # Drift, but never beyond what the prior admits.
        widest = (_UNCERTAIN * np.maximum(self._weights, self._least)) ** 2
        drift = np.minimum((_DRIFT * self._weights) ** 2, widest - self._covariance.diagonal())
        self._covariance[np.diag_indices(4)] += np.maximum(drift, 0.0)
        gain = self._covariance @ x
        variance = max(float(x @ gain), 0.0) + (_NOISE * seconds + 1e-4) ** 2
        most = 3.0 * math.sqrt(variance)
        error = min(max(seconds - float(x @ self._weights), -most), most)
        self._weights = np.maximum(self._weights + gain * (error / variance), self._least)
        self._covariance -= np.outer(gain, gain) / variance
        deviation = math.sqrt(max(float(self._covariance[1, 1]), 0.0))
        self._doubt = min(self._doubt, deviation / float(self._weights[1]))

    def _token(self) -> float:
        """Seconds of a prefill token, one deviation more than is expected.

        Rows that decode wait for a chunk: that it is too long costs all of them, that it is too
        short one more step. After a few chunks the deviation is a twentieth.
        """
        return float(self._weights[1]) * (1.0 + self._doubt)


class StepBudget:
    """What is left of one step for prefill, in seconds and in tokens."""

    def __init__(
        self, model: CostModel, seconds: float, tokens: int, least: int, grain: int
    ) -> None:
        self._model = model
        self._seconds = seconds
        self._tokens = tokens
        # The first chunk gets this much whatever it costs: prefill never stops.
        self._least = least
        self._grain = grain

    def chunk(self, remaining: int, span: int) -> int:
        """How many of a prompt's `remaining` tokens go into this step; 0 = none."""
        grain = self._grain
        timed = self._model.prefill_tokens(self._seconds, span)
        tokens = max(timed if timed >= remaining else timed // grain * grain, self._least)
        if tokens and remaining - tokens < grain:
            # No crumbs: a last chunk of a few tokens costs a whole step.
            tokens = remaining
        return max(0, min(tokens, remaining, self._tokens))

    def spend(self, tokens: int, span: int) -> None:
        """Take a chunk out of the budget."""
        self._seconds -= self._model.prefill_seconds(tokens, attended(tokens, span))
        self._tokens -= tokens
        self._least = 0


def attended(tokens: int, span: int) -> int:
    """KV entries that `tokens` consecutive tokens attend to, of which the first sees `span`."""
    return tokens * span + tokens * tokens // 2
