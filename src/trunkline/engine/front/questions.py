"""Questions about text, answered at the front: how a prompt is tokenized, what tokens say."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from trunkline.core.errors import ErrorInfo, InternalError, TrunklineError
from trunkline.core.types import Request, Tokenization
from trunkline.engine.frames import (
    CountTokens,
    DetokenizeIds,
    TokenCount,
    Tokenized,
    TokenizePrompt,
)
from trunkline.engine.front.prepare import Preparer

log = logging.getLogger("trunkline.front")

Question = CountTokens | TokenizePrompt | DetokenizeIds

_NOTHING = Tokenization("", ())


class Questions:
    """Answers them; `loaded` waits a bounded time for the model's text."""

    def __init__(self, loaded: Callable[[], Awaitable[Preparer]]) -> None:
        self._loaded = loaded

    async def answer(self, question: Question) -> TokenCount | Tokenized:
        """One message, whatever goes wrong."""
        match question:
            case CountTokens(request):
                found, error = await _outcome(request.id, self._prompt(request, pieces=False))
                return TokenCount(request.id, len(found.token_ids), error)
            case TokenizePrompt(request):
                found, error = await _outcome(request.id, self._prompt(request, pieces=True))
                return Tokenized(request.id, found, error)
            case DetokenizeIds(request_id, token_ids):
                found, error = await _outcome(request_id, self._text(token_ids))
                return Tokenized(request_id, found, error)

    async def _prompt(self, request: Request, *, pieces: bool) -> Tokenization:
        preparer = await self._loaded()
        prompt = await preparer.prompt(request)
        every = tuple(map(preparer.tokenizer.piece, prompt.token_ids)) if pieces else ()
        return Tokenization(prompt.text, tuple(prompt.token_ids), every)

    async def _text(self, token_ids: tuple[int, ...]) -> Tokenization:
        preparer = await self._loaded()
        preparer.check_ids(token_ids, "tokens")
        pieces = tuple(map(preparer.tokenizer.piece, token_ids))
        return Tokenization(b"".join(pieces).decode(errors="replace"), token_ids, pieces)


async def _outcome(
    request_id: str, work: Coroutine[Any, Any, Tokenization]
) -> tuple[Tokenization, ErrorInfo | None]:
    """What `work` gives, or nothing and why."""
    try:
        return await work, None
    except TrunklineError as error:
        return _NOTHING, error.info()
    except Exception as problem:
        log.exception("question %s", request_id)
        return _NOTHING, InternalError(f"the question cannot be answered: {problem}").info()
