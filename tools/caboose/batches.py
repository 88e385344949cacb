"""From examples to training batches, deterministically.

A window of examples is sorted by length and cut into micro-batches of equal lengths, so little is
padded and no two examples share a row. A step takes several micro-batches of different lengths.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import torch
from tokenizers import Tokenizer
from torch import Tensor

from caboose.corpus.base import Example
from caboose.corpus.mix import STREAMS, examples
from caboose.template import render


@dataclass(frozen=True)
class Row:
    """One tokenized example."""

    ids: list[int]
    # Weight of predicting ids[i] from what stands before it.
    weights: list[float]


@dataclass(frozen=True)
class MicroBatch:
    """Rows of similar length, padded with zeros that weigh nothing."""

    ids: Tensor  # int64 [rows, length]
    weights: Tensor  # float32 [rows, length]


@dataclass(frozen=True)
class Plan:
    """How much text a step sees. A token is one position of a padded micro-batch."""

    micro_tokens: int = 560
    # Even, so that two workers have as much to do each.
    micros_per_step: int = 4
    # Steps whose examples are sorted by length together.
    window_steps: int = 10
    context: int = 4096


# How much more the result of a sum weighs than the tokens around it, which only copy; and how many
# tokens after an equals sign are its result: a space, digits one by one, the end.
_RESULT_WEIGHT = 3.0
_RESULT_TOKENS = 4


def tokenize(tokenizer: Tokenizer, example: Example, context: int, each: bool = False) -> Row:
    """Ids with weights; a short answer counts more per token than a long one.

    All answers together, or with `each` every answer for itself: n tokens weigh the square root of
    n, and no more than five; what follows an equals sign weighs three times what its neighbours do.
    """
    pieces = [
        (tokenizer.encode(text, add_special_tokens=False).ids, learn)
        for text, learn in render(example)
    ]
    ids = [token for piece, _ in pieces for token in piece]
    count = max(1, sum(len(piece) for piece, learn in pieces if learn))
    weights: list[float] = []
    for piece, learn in pieces:
        size = max(1, len(piece)) if each else count
        weights += [min(size**0.5, 5.0) / size if learn else 0.0] * len(piece)
    ids, weights = ids[:context], weights[:context]
    equals = tokenizer.token_to_id("Ġ=")
    for i, token in enumerate(ids):
        if token == equals and weights[i]:
            for j in range(i + 1, min(i + 1 + _RESULT_TOKENS, len(ids))):
                weights[j] = _RESULT_WEIGHT * weights[i] if weights[j] else 0.0
    return Row(ids, weights)


def _pad(rows: list[Row]) -> MicroBatch:
    length = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.int64)
    weights = torch.zeros(len(rows), length)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = torch.tensor(row.ids)
        weights[i, : len(row.ids)] = torch.tensor(row.weights)
    return MicroBatch(ids, weights)


def _cut(rows: list[Row], budget: int) -> Iterator[MicroBatch]:
    rows = sorted(rows, key=lambda row: len(row.ids))
    batch: list[Row] = []
    for row in rows:
        if batch and len(row.ids) * (len(batch) + 1) > budget:
            yield _pad(batch)
            batch = []
        batch.append(row)
    yield _pad(batch)


class Feeder:
    """Gives the micro-batches of one step after the other."""

    def __init__(self, tokenizer: Tokenizer, seed: int, plan: Plan, turn: int = 1) -> None:
        self._tokenizer = tokenizer
        self._plan = plan
        # The second round's chats ask several things, each as weighty as one alone.
        self._each = turn == 2
        self._rng = Random(f"batches {seed}" if turn == 1 else f"batches {seed} {turn}")
        self._streams = {name: examples(seed, stream=name) for name in STREAMS}
        self._ready: list[MicroBatch] = []
        self._long_ready: list[MicroBatch] = []
        # Examples drawn so far by stream, and tokens of real text handed out.
        self.drawn = dict.fromkeys(STREAMS, 0)
        self.tokens = 0

    def _rows(self, shares: dict[str, float], budget: int) -> list[Row]:
        rows: list[Row] = []
        size = 0
        while size < budget:
            (stream,) = self._rng.choices(list(shares), list(shares.values()))
            self.drawn[stream] += 1
            row = tokenize(
                self._tokenizer, next(self._streams[stream]), self._plan.context, self._each
            )
            rows.append(row)
            size += len(row.ids)
        return rows

    def _refill(self, shares: dict[str, float]) -> None:
        plan = self._plan
        budget = plan.micro_tokens * plan.micros_per_step * plan.window_steps
        rows = self._rows(shares, budget)
        self._ready = list(_cut(rows, plan.micro_tokens))
        self._rng.shuffle(self._ready)

    def _next_long(self) -> MicroBatch:
        if not self._long_ready:
            rows = self._rows({"long": 1.0}, self._plan.context * 4)
            self._long_ready = list(_cut(rows, self._plan.context))
            self._rng.shuffle(self._long_ready)
        return self._long_ready.pop()

    def step(self, shares: dict[str, float], *, long: bool) -> list[MicroBatch]:
        """One step's micro-batches, examples drawn from the streams by their shares.

        `long` adds one micro-batch of up to a whole context.
        """
        batches: list[MicroBatch] = []
        for _ in range(self._plan.micros_per_step):
            if not self._ready:
                self._refill(shares)
            batches.append(self._ready.pop())
        if long:
            batches.append(self._next_long())
        self.tokens += sum(int((b.ids != 0).sum()) for b in batches)
        return batches
