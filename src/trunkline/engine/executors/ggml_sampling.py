"""Chooses tokens from logits: numpy, exact, without sorting the vocabulary.

Order, as in vLLM: logit bias, repetition penalty (prompt and output), frequency and presence
penalties (output only); here log probabilities are taken; then the grammar's mask and min_tokens;
then temperature, top_k, typical_p, top_p, min_p, and one draw. Each filter sees what the one
before it left, renormalized; min_p, a ratio to the best, is the same anywhere after temperature.
Tokens of equal probability at the edge of a filter are kept together.

libllama's samplers are not used: they build and sort an array of candidates per row (@@FIGURES@@),
and their penalties mix prompt and output, which the OpenAI API keeps apart.

Without top_k and typical_p a token is drawn from the whole softmax and kept if it lies in the
nucleus, that is, if the mass of all strictly better tokens is below top_p. A rejected token and
all that are no better are struck out before the next try, which is exact and ends soon: each
rejection halves the mass outside the nucleus on average.

The random stream of a row depends on its seed and on how many tokens it has drawn, nothing else.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trunkline.core.types import SamplingParams
from trunkline.engine.seam import OpenRow, RowKey, Sampled

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ids = npt.NDArray[np.intp]

# Temperatures below this are greedy, as in vLLM.
MIN_TEMPERATURE = 1e-5
# Elements per block of the two-level sums and maxima.
BLOCK = 512

_MASK = (1 << 64) - 1


class Unsampleable(Exception):
    """No token can be chosen from these logits; concerns one row."""


def uniform(seed: int, draw: int, attempt: int) -> float:
    """A number in [0, 1): splitmix64's finalizer over (seed, draw, attempt), 53 bits."""
    z = ((seed << 32 | draw & 0xFFFFFFFF) + (attempt + 1) * 0x9E3779B97F4A7C15) & _MASK
    for _ in range(2):
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        z = (z ^ z >> 27) * 0x94D049BB133111EB & _MASK
        z ^= z >> 31
    return (z >> 11) * 2.0**-53


class _Row:
    """What one row's sampling remembers."""

    def __init__(self, row: OpenRow, eog: frozenset[int], vocab_size: int) -> None:
        params = self.params = row.params
        self.seed = row.seed & 0xFFFFFFFF
        self.drawn = 0
        self.counts: dict[int, int] = {}
        self.penalized = bool(params.presence_penalty or params.frequency_penalty)
        # Tokens that the repetition penalty concerns.
        self.repeated: set[int] = set()
        if params.repetition_penalty != 1.0:
            self.repeated.update(np.unique(row.prompt).tolist())
        bias = {token: value for token, value in params.logit_bias if 0 <= token < vocab_size}
        self.bias_ids = np.array(list(bias), dtype=np.intp)
        self.bias = np.array(list(bias.values()), dtype=np.float32)
        held = eog | set(params.stop_token_ids) if params.min_tokens > 0 else ()
        self.held = np.array([t for t in held if 0 <= t < vocab_size], dtype=np.intp)

    def accept(self, token: int) -> None:
        """Take note of the token that was chosen."""
        self.drawn += 1
        if self.penalized:
            self.counts[token] = self.counts.get(token, 0) + 1
        if self.params.repetition_penalty != 1.0:
            self.repeated.add(token)

    @property
    def changes_logits(self) -> bool:
        """True where bias or penalties will alter logits."""
        return bool(len(self.bias_ids) or self.counts or self.repeated)

    def change_logits(self, x: Floats) -> None:
        """Bias and penalties, in place."""
        params = self.params
        x[self.bias_ids] += self.bias
        if self.repeated:
            ids = np.fromiter(self.repeated, np.intp, len(self.repeated))
            seen = x[ids]
            rate = np.float32(params.repetition_penalty)
            x[ids] = np.where(seen > 0, seen / rate, seen * rate)
        if self.counts:
            ids = np.fromiter(self.counts.keys(), np.intp, len(self.counts))
            times = np.fromiter(self.counts.values(), np.float32, len(self.counts))
            x[ids] -= times * np.float32(params.frequency_penalty) + np.float32(
                params.presence_penalty
            )


class Sampler:
    """The samplers of all open rows. Used from one thread."""

    def __init__(self, vocab_size: int, eog: frozenset[int]) -> None:
        self._vocab_size = vocab_size
        self._eog = eog
        self._rows: dict[RowKey, _Row] = {}
        # Scratch: changed logits; weights with a tail of zeros up to whole blocks; mass of a part.
        self._logits = np.empty(vocab_size, dtype=np.float32)
        padded = -(-vocab_size // BLOCK) * BLOCK
        self._weights = np.zeros(padded, dtype=np.float32)
        self._part = np.empty(padded, dtype=np.float32)
        self._above = np.empty(padded, dtype=np.bool_)

    def open(self, row: OpenRow) -> None:
        """Begin the life of a row's sampler."""
        self._rows[row.key] = _Row(row, self._eog, self._vocab_size)

    def close(self, key: RowKey) -> None:
        """End it."""
        del self._rows[key]

    def sample(self, key: RowKey, logits: Floats, mask: npt.NDArray[np.uint32] | None) -> Sampled:
        """Choose the next token of row `key`.

        `logits`: shape (vocab_size,), not changed; several rows may sample from the same.
        `mask`: packed bits of allowed tokens, shape (ceil(vocab_size / 32),), or None.
        Raises `Unsampleable`.
        """
        row = self._rows[key]
        x = logits
        if row.changes_logits:
            x = self._writable(x)
            row.change_logits(x)
        wanted = row.params.logprobs
        normalizer: float = 0.0
        top: tuple[tuple[int, float], ...] = ()
        if wanted is not None:
            normalizer = self._normalizer(x)
            top = self._top(x, wanted, normalizer)
        x, best = self._mask(row, x, mask)
        token = self._choose(row, x, best)
        row.accept(token)
        return Sampled(key, token, None if wanted is None else float(x[token]) - normalizer, top)

    def _writable(self, x: Floats) -> Floats:
        if x is not self._logits:
            np.copyto(self._logits, x)
        return self._logits

    def _mask(
        self, row: _Row, x: Floats, mask: npt.NDArray[np.uint32] | None
    ) -> tuple[Floats, float]:
        """Logits with -inf where no token may come, and their maximum."""
        if mask is not None:
            x = self._writable(x)
            bits = np.unpackbits(mask.view(np.uint8), count=self._vocab_size, bitorder="little")
            x[np.flatnonzero(bits == 0)] = -np.inf
        best = float(x.max())
        if row.drawn < row.params.min_tokens and len(row.held):
            x = self._writable(x)
            saved = x[row.held]
            x[row.held] = -np.inf
            if x.max() == -np.inf:
                # The grammar is at its end: it outranks min_tokens.
                x[row.held] = saved
            else:
                best = float(x.max())
        if not np.isfinite(best):
            raise Unsampleable(
                "No token is allowed here: grammar and bias exclude all of them."
                if best == -np.inf
                else "The model computed logits that are not numbers."
            )
        return x, best

    def _normalizer(self, x: Floats) -> float:
        """log(sum(exp(x)))."""
        best = x.max()
        if not np.isfinite(best):
            return 0.0
        part = self._part[: self._vocab_size]
        np.subtract(x, best, out=part)
        np.exp(part, out=part)
        return float(best) + float(np.log(part.sum()))

    @staticmethod
    def _top(x: Floats, count: int, normalizer: float) -> tuple[tuple[int, float], ...]:
        """The `count` best tokens with their log probabilities, falling."""
        if count < 1:
            return ()
        ids = best_ids(x, count)
        order = np.argsort(-x[ids], kind="stable")[:count]
        return tuple(
            (int(token), float(x[token]) - normalizer) for token in ids[order] if x[token] > -np.inf
        )

    def _choose(self, row: _Row, x: Floats, best: float) -> int:
        params = row.params
        if params.temperature < MIN_TEMPERATURE:
            return int(x.argmax())
        limited = 0 < params.top_k < self._vocab_size
        if limited or params.typical_p < 1.0:
            ids = best_ids(x, params.top_k) if limited else np.arange(self._vocab_size)
            return _choose_among(ids, x[ids].astype(np.float64), row)
        return self._choose_from_all(row, x, best)

    def _choose_from_all(self, row: _Row, x: Floats, best: float) -> int:
        """Draw from the softmax and reject what lies outside top_p or min_p."""
        params = row.params
        weights = self._weights
        head = weights[: self._vocab_size]
        np.subtract(x, np.float32(best), out=head)
        if params.temperature != 1.0:
            np.multiply(head, np.float32(1.0 / params.temperature), out=head)
        np.exp(head, out=head)
        limit = None
        for attempt in range(self._vocab_size):
            sums = np.cumsum(weights.reshape(-1, BLOCK).sum(axis=1), dtype=np.float64)
            if limit is None:
                limit = params.top_p * sums[-1] if params.top_p < 1.0 else np.inf
            token = _locate(weights, sums, uniform(row.seed, row.drawn, attempt))
            weight = weights[token]
            # The best token has weight 1 and is always in.
            if weight >= 1.0:
                return token
            if weight >= params.min_p and (limit == np.inf or self._mass_above(weight) < limit):
                return token
            np.greater(weights, weight, out=self._above)
            np.multiply(weights, self._above, out=weights)
        raise Unsampleable("No token is left to draw from.")

    def _mass_above(self, weight: np.float32) -> float:
        np.greater(self._weights, weight, out=self._above)
        # Two steps: multiplying by the booleans at once is slower than casting them.
        np.copyto(self._part, self._above, casting="unsafe")
        np.multiply(self._part, self._weights, out=self._part)
        return float(self._part.sum())


def _locate(weights: Floats, sums: Doubles, u: float) -> int:
    """The index at which the running sum of `weights` passes `u` of the whole."""
    target = u * sums[-1]
    block = min(int(np.searchsorted(sums, target, side="right")), len(sums) - 1)
    start = block * BLOCK
    inside = np.cumsum(weights[start : start + BLOCK], dtype=np.float64)
    below = sums[block - 1] if block else 0.0
    at = int(np.searchsorted(inside, target - below, side="right"))
    if at == BLOCK or weights[start + at] == 0.0:
        # Rounding between the two levels: the last token of the block that has any weight.
        at = int(np.flatnonzero(weights[start : start + BLOCK])[-1])
    return start + at


def best_ids(x: Floats, count: int) -> Ids:
    """Indices of the `count` largest of `x`, in rising order of index; more where the last ties.

    With 151,936 elements: the maxima of blocks bound the count-th largest from below in 0.06 ms,
    after which few candidates are left; np.argpartition over all takes 0.33 ms.
    """
    whole = len(x) // BLOCK
    if whole > count:
        maxima = x[: whole * BLOCK].reshape(-1, BLOCK).max(axis=1)
        bound = np.partition(maxima, whole - count)[whole - count]
        ids = np.flatnonzero(x >= bound if bound > -np.inf else x > bound)
    else:
        ids = np.arange(len(x))
    values = x[ids]
    if len(ids) > count:
        bound = np.partition(values, len(ids) - count)[len(ids) - count]
        ids = ids[values >= bound]
    return ids


def _choose_among(ids: Ids, logits: Doubles, row: _Row) -> int:
    """Temperature, typical_p, top_p, min_p and a draw over few candidates."""
    params: SamplingParams = row.params
    scaled = (logits - logits.max()) / params.temperature
    p = np.exp(scaled)
    if params.typical_p < 1.0:
        keep = _typical(p, params.typical_p)
        ids, p = ids[keep], p[keep]
    if params.top_p < 1.0:
        keep = _before(p, -p) < params.top_p * p.sum()
        ids, p = ids[keep], p[keep]
    if params.min_p > 0.0:
        keep = p >= params.min_p * p.max()
        ids, p = ids[keep], p[keep]
    sums = np.cumsum(p)
    at = int(np.searchsorted(sums, uniform(row.seed, row.drawn, 0) * sums[-1], side="right"))
    return int(ids[min(at, len(ids) - 1)])


def _typical(p: Doubles, mass: float) -> npt.NDArray[np.bool_]:
    """Tokens whose surprise is nearest to the entropy (arXiv:2202.00666)."""
    p = p / p.sum()
    surprise = -np.log(np.maximum(p, np.finfo(np.float64).tiny))
    distance = np.abs(surprise - float((p * surprise).sum()))
    return (_before(p, distance) < mass) & (p > 0.0)


def _before(p: Doubles, rank: Doubles) -> Doubles:
    """For each element the sum of `p` over elements of strictly lower `rank`."""
    order = np.argsort(rank, kind="stable")
    sums = np.concatenate(([0.0], np.cumsum(p[order])))
    ranked = rank[order]
    found: Doubles = sums[np.searchsorted(ranked, rank, side="left")]
    return found
