"""Chooses tokens from logits: numpy, exact, without sorting the vocabulary.

Order, as in vLLM: logit bias, repetition penalty (prompt and output), frequency and presence
penalties (output only); here log probabilities are taken; then the grammar's mask and min_tokens;
then temperature, top_k, typical_p, top_p, min_p, and one draw. Each filter sees what the one
before it left, renormalized; min_p, a ratio to the best, is the same anywhere after temperature.
Tokens of equal probability at the edge of a filter are kept together.

libllama's samplers are not used: they build and sort an array of candidates per row, and their
penalties mix prompt and output, which the OpenAI API keeps apart. CPU milliseconds per row, 151,936
tokens, flat distribution, libllama against this module: temperature with top_p 0.95 15 to 0.55,
temperature alone 2.5 to 0.36, top_k 40 0.45 to 0.22, greedy 0.52 to 0.03; 20 logprobs add 0.5.

Without top_k a token is drawn from the whole softmax and kept if it lies in the nucleus, that is,
if the mass of all strictly better tokens is below top_p. Only where it does not, the nucleus is
computed, with a histogram instead of a sort, and the second draw is made inside it: exact, and
never more than 2.4 ms, also for typical_p.

A gap is filled (`infill`) from few candidates, those of top_k, after all other filters.

The random stream of a row depends on its seed and on how many tokens it has drawn, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from trunkline.core.types import SamplingParams
from trunkline.engine.executors import infill_sampling
from trunkline.engine.seam import OpenRow, RowKey, Sampled

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ids = npt.NDArray[np.intp]

# Temperatures below this are greedy, as in vLLM.
MIN_TEMPERATURE = 1e-5
# Elements per block of the two-level sums and maxima.
BLOCK = 512
# Bins of the histogram that finds the edge of a filter.
_BINS = 4096
# Weights below this have no logarithm worth the name.
_TINY = np.float32(1e-30)

_MASK = (1 << 64) - 1


class PlainDraw(NamedTuple):
    """A draw from the softmax of logits as they are, within top_p and min_p."""

    # 0: the most probable token.
    temperature: float
    top_p: float
    min_p: float
    # Two random numbers in [0, 1): for a draw from everything, and for one inside the filters.
    first: float
    second: float
    # Of how many tokens log probabilities are wanted beside the drawn one's; None: not even that.
    logprobs: int | None


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

    def __init__(
        self,
        vocab_size: int,
        eog: frozenset[int],
        piece: Callable[[int], bytes] | None = None,
    ) -> None:
        """`piece`: the text of a token, b"" for a special one; wanted to fill gaps alone."""
        self._vocab_size = vocab_size
        self._eog = eog
        self._piece = piece
        self._rows: dict[RowKey, _Row] = {}
        # Scratch: changed logits; weights with a tail of zeros up to whole blocks; mass of a part.
        self._logits = np.empty(vocab_size, dtype=np.float32)
        padded = -(-vocab_size // BLOCK) * BLOCK
        self._weights = np.zeros(padded, dtype=np.float32)
        self._part = np.empty(padded, dtype=np.float32)
        self._above = np.empty(padded, dtype=np.bool_)
        self._bins = np.empty(vocab_size, dtype=np.intp)
        self._doubles = np.empty(vocab_size, dtype=np.float64)

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

    def plain_draw(self, key: RowKey) -> PlainDraw | None:
        """What its next draw is, where nothing changes the logits.

        Whoever makes that draw says so with `accept`; with a mask, `sample` does it all.
        """
        row = self._rows[key]
        params = row.params
        if (
            row.changes_logits
            or params.infill
            or row.drawn < params.min_tokens
            or (params.logprobs or 0) > self._vocab_size
        ):
            return None
        if params.temperature < MIN_TEMPERATURE:
            return PlainDraw(0.0, 1.0, 0.0, 0.0, 0.0, params.logprobs)
        if 0 < params.top_k < self._vocab_size or params.typical_p < 1.0 or params.top_p <= 0.0:
            return None
        first = uniform(row.seed, row.drawn, 0)
        second = uniform(row.seed, row.drawn, 1)
        return PlainDraw(
            params.temperature, params.top_p, params.min_p, first, second, params.logprobs
        )

    def accept(
        self,
        key: RowKey,
        token: int,
        logprob: float | None = None,
        top: tuple[tuple[int, float], ...] = (),
    ) -> Sampled:
        """`token` was drawn as `plain_draw` said; its log probability, and those of the best."""
        self._rows[key].accept(token)
        return Sampled(key, token, logprob, top)

    def score(
        self, logits: Floats, target: int, top: int
    ) -> tuple[float, int, tuple[tuple[int, float], ...]]:
        """A token that is known: its log probability, its rank (1 = none is as probable), and the
        `top` best with theirs, falling.

        `logits`: shape (vocab_size,), not changed. Where they are no numbers, all is NaN.
        """
        normalizer = self._normalizer(logits)
        value = logits[target]
        rank = max(1, int(np.count_nonzero(logits >= value)))
        return float(value) - normalizer, rank, self._top(logits, top, normalizer)

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
        if params.infill:
            return self._fill(row, x)
        if 0 < params.top_k < self._vocab_size:
            ids = best_ids(x, params.top_k)
            return _choose_among(ids, x[ids].astype(np.float64), row)
        return self._choose_from_all(row, x, best)

    def _fill(self, row: _Row, x: Floats) -> int:
        params = row.params
        count = params.top_k if params.top_k > 0 else infill_sampling.CANDIDATES
        ids = best_ids(x, min(count, self._vocab_size))
        ids = ids[np.argsort(-x[ids], kind="stable")]
        ids, p = _filtered(ids, x[ids].astype(np.float64), params)
        kept = infill_sampling.keep(ids.tolist(), p / p.sum(), self._eog, self._piece)
        if kept.any():
            return _draw(ids[kept], p[kept], row)
        # The text ends, where it may.
        end = max(self._eog, key=lambda token: float(x[token]), default=-1)
        return end if end >= 0 and x[end] > -np.inf else int(ids[0])

    def _choose_from_all(self, row: _Row, x: Floats, best: float) -> int:
        """Draw from the softmax; where the token lies outside top_p or min_p, draw from inside."""
        params = row.params
        weights = self._weights[: self._vocab_size]
        np.subtract(x, np.float32(best), out=weights)
        if params.temperature != 1.0:
            np.multiply(weights, np.float32(1.0 / params.temperature), out=weights)
        np.exp(weights, out=weights)
        if params.typical_p < 1.0:
            self._keep_typical(weights, params.typical_p)
        sums = self._sums()
        token = locate(self._weights, sums, uniform(row.seed, row.drawn, 0))
        weight = weights[token]
        # The best token has weight 1 and passes both filters.
        if weight >= 1.0:
            return token
        limit = params.top_p * float(sums[-1]) if params.top_p < 1.0 else np.inf
        inside = limit == np.inf or self._mass_above(weight) < limit
        if inside and weight >= params.min_p:
            return token
        if not inside:
            rank = np.log(np.maximum(weights, _TINY))
            self._keep_mass(weights, np.negative(rank, out=rank), limit)
        if params.min_p > 0.0:
            weights[weights < params.min_p] = 0.0
        return locate(self._weights, self._sums(), uniform(row.seed, row.drawn, 1))

    def _sums(self) -> Doubles:
        """Running sums of the weights at the end of each block."""
        blocks = self._weights.reshape(-1, BLOCK).sum(axis=1)
        return np.cumsum(blocks, dtype=np.float64)

    def _mass_above(self, weight: np.float32) -> float:
        np.greater(self._weights, weight, out=self._above)
        # Two steps: multiplying by the booleans at once is slower than casting them.
        np.copyto(self._part, self._above, casting="unsafe")
        np.multiply(self._part, self._weights, out=self._part)
        return float(self._part.sum())

    def _keep_typical(self, weights: Floats, mass: float) -> None:
        """Strike out tokens whose surprise is far from the entropy (arXiv:2202.00666)."""
        rank = np.log(np.maximum(weights, _TINY))
        total = weights.sum()
        mean = np.multiply(weights, rank, out=self._part[: len(weights)]).sum() / total
        np.abs(np.subtract(rank, mean, out=rank), out=rank)
        self._keep_mass(weights, rank, mass * float(total))
        # The best token that is left has weight 1 again.
        np.divide(weights, weights.max(), out=weights)

    def _keep_mass(self, weights: Floats, rank: Floats, limit: float) -> None:
        """Zero the weights that have `limit` or more of weight at strictly lower `rank` (>= 0).

        A histogram over ranks finds the bin in which the limit falls; only that one is sorted.
        """
        scale = (_BINS - 1) / max(float(rank.max()), 1e-6)
        bins, doubles = self._bins, self._doubles
        scaled = np.multiply(rank, np.float32(scale), out=self._part[: len(rank)])
        # bincount is three times as fast on the types that it works with.
        np.copyto(bins, scaled, casting="unsafe")
        np.copyto(doubles, weights)
        sums = np.cumsum(np.bincount(bins, weights=doubles, minlength=_BINS))
        edge = min(int(np.searchsorted(sums, limit)), _BINS - 1)
        np.multiply(weights, bins <= edge, out=weights)
        ids = np.flatnonzero(bins == edge)
        before = sums[edge - 1] if edge else 0.0
        before = before + _before(weights[ids].astype(np.float64), rank[ids].astype(np.float64))
        weights[ids[before >= limit]] = 0.0


def locate(weights: Floats, sums: Doubles, u: float) -> int:
    """The index at which the running sum of `weights` passes `u` of the whole."""
    # Strictly below the whole, so that the block found has some weight.
    target = min(u * sums[-1], np.nextafter(sums[-1], 0.0))
    block = int(np.searchsorted(sums, target, side="right"))
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
    return _draw(*_filtered(ids, logits, row.params), row)


def _filtered(ids: Ids, logits: Doubles, params: SamplingParams) -> tuple[Ids, Doubles]:
    """The candidates that temperature, typical_p, top_p and min_p leave, and their weights."""
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
    return ids, p


def _draw(ids: Ids, p: Doubles, row: _Row) -> int:
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
