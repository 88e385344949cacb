"""Tells a request about its own prompt: each token once, in order, before the answer begins."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from trunkline.core.errors import InternalError
from trunkline.core.types import Event, PromptToken, PromptTokens, Request
from trunkline.engine.frames import PromptScores
from trunkline.text.tokenizer import Tokenizer


class PromptReport:
    """Of one request. Invariant: tokens [0, _told) of the prompt have been told."""

    def __init__(self, request: Request, tokenizer: Tokenizer, prompt_ids: Sequence[int]) -> None:
        self._request = request
        self._tokenizer = tokenizer
        self._ids = prompt_ids
        self._told = 0

    def started(self) -> list[Event]:
        """The group has a place: tell what waits for no log probability."""
        request = self._request
        if request.prompt_logprobs is not None:
            return self._plain(min(request.prompt_logprobs_start + 1, len(self._ids)))
        return self._plain(len(self._ids)) if request.show_prompt else []

    def scored(self, scores: PromptScores) -> list[Event]:
        """Tell the tokens that `scores` is about. Raises `InternalError` when some were lost."""
        if scores.start != self._told:
            raise InternalError("log probabilities of the prompt were lost in the engine")
        logprobs = np.frombuffer(scores.logprobs, "<f4").tolist()
        ranks = np.frombuffer(scores.ranks, "<i4").tolist()
        top_ids = np.frombuffer(scores.top_ids, "<i4").reshape(len(ranks), -1).tolist()
        top_logprobs = np.frombuffer(scores.top_logprobs, "<f4").reshape(len(ranks), -1).tolist()
        ids = self._ids[self._told : self._told + len(ranks)]
        self._told += len(ranks)
        tokens = tuple(
            self._token(token, logprob, rank, top)
            for token, logprob, rank, *top in zip(
                ids, logprobs, ranks, top_ids, top_logprobs, strict=True
            )
        )
        return [PromptTokens(self._request.id, tokens)]

    def _plain(self, end: int) -> list[Event]:
        ids, self._told = self._ids[self._told : end], end
        return [PromptTokens(self._request.id, tuple(map(self._token, ids)))]

    def _token(
        self,
        token: int,
        logprob: float | None = None,
        rank: int = 0,
        top: Sequence[Sequence[float]] = ((), ()),
    ) -> PromptToken:
        data = self._tokenizer.piece(token)
        # Where there are fewer alternatives than were asked for, -inf fills up.
        best = [self._best(int(one), value) for one, value in zip(*top, strict=True) if _is(value)]
        return PromptToken(data.decode(errors="replace"), data, token, logprob, rank, tuple(best))

    def _best(self, token: int, logprob: float) -> tuple[str, bytes, int, float]:
        data = self._tokenizer.piece(token)
        return data.decode(errors="replace"), data, token, logprob


def _is(value: float) -> bool:
    return math.isfinite(value)
