"""`POST /v1/completions`, spoken to a server.

Shapes: the official client's `types/completion_create_params.py`, `completion.py` and
`completion_choice.py` (openai 3.52); vLLM's further fields. Read 2026-11-21.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from trunkline.core.errors import TrunklineError, Unsupported
from trunkline.core.types import (
    ChatInput,
    Event,
    Json,
    RawRequest,
    Request,
    TextInput,
    TokenLogprob,
    TokensInput,
)
from trunkline.wire.asked import Asked
from trunkline.wire.client import Head, Outgoing, Reader, Relay, Terms
from trunkline.wire.openai.client_answer import ChoicesAnswer, Chunk
from trunkline.wire.openai.client_fields import (
    finished,
    longest,
    open_body,
    place_grammar,
    place_notes,
    place_sampling,
)
from trunkline.wire.openai.client_relay import counts, look, passes, patched, relay
from trunkline.wire.reading import StreamReader, WholeReader, is_whole
from trunkline.wire.sse import EventReader
from trunkline.wire.told import refusal

_PATH = "/v1/completions"
# Tokens that a server may put before and behind a prompt.
_MARKS = 8


class _Logprobs(msgspec.Struct):
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[Mapping[str, float | None] | None] | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    text: str | None = None
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None
    # What matched: vLLM's name, and SGLang's.
    stop_reason: str | int | None = None
    matched_stop: str | int | None = None


_chunk = msgspec.json.Decoder(Chunk[_Choice])


class CompletionsSpeaker:
    """See `Speaker`."""

    operation = "openai.completions"
    path = _PATH
    counts = staticmethod(counts)
    look = staticmethod(look)
    passes = staticmethod(passes)

    def encode(self, request: Request, terms: Terms) -> Outgoing:
        """A prompt of text or token ids. Raises `Unsupported` for any other, too."""
        asked = Asked(request, terms)
        body = open_body(asked)
        _place_prompt(asked, request, body)
        most = longest(asked, request)
        # Without it servers stop after 16 tokens; null is vLLM's word for what the context leaves.
        body["max_tokens"] = _room(request, terms) if most is None else most
        place_sampling(asked, request, body)
        asked.place(body, "logprobs", "logprobs", "logprobs")
        place_grammar(asked, body)
        place_notes(asked, body)
        return finished(asked, _PATH, body)

    def reader(self, request: Request, terms: Terms, head: Head) -> Reader:
        """Of chunks, or of one object: they are alike."""
        answer = _Answer(request, _chunk)
        return WholeReader(answer) if is_whole(head) else StreamReader(EventReader(), answer)

    def patch(self, raw: RawRequest, terms: Terms) -> Outgoing:
        """See `Speaker`."""
        return patched(_PATH, raw, terms)

    def relay(self, raw: RawRequest, terms: Terms, head: Head) -> Relay:
        """See `Speaker`."""
        return relay(raw, terms, head)

    def error(self, head: Head, body: bytes) -> TrunklineError:
        """See `Speaker`."""
        return refusal(head, body)


def _room(request: Request, terms: Terms) -> int | None:
    """Tokens that the context leaves at least: none is shorter than a byte. None = not known."""
    prompt = request.input
    taken = 0
    if isinstance(prompt, TokensInput):
        taken = len(prompt.token_ids)
    elif isinstance(prompt, TextInput):
        taken = len(prompt.text.encode()) + _MARKS
    room = terms.context_length - taken
    return room if room > 0 else None


def _place_prompt(asked: Asked, request: Request, body: Json) -> None:
    prompt = request.input
    if isinstance(prompt, TokensInput) and asked.has("token_ids"):
        body["prompt"] = list(prompt.token_ids)
    elif isinstance(prompt, TextInput):
        body["prompt"] = prompt.text
        if not prompt.add_special_tokens:
            asked.leave("add_special_tokens", False)
            asked.place(body, "add_special_tokens", "add_special_tokens", "special_tokens")
        if not prompt.parse_special_tokens:
            asked.leave("parse_special_tokens", False)
    elif isinstance(prompt, ChatInput):
        raise Unsupported(
            "The server's completions API takes prompts, not conversations: the chat template of "
            f"{asked.terms.model!r} is not known here.",
            param="messages",
        )
    else:
        problem = "The server's completions API takes no prompt of this form; send plain text."
        raise Unsupported(problem, param="prompt")


class _Answer(ChoicesAnswer[_Choice]):
    """See `ChoicesAnswer`."""

    def _choice(self, choice: _Choice, into: list[Event]) -> None:
        row = self._rows.row(choice.index)
        logprobs = _tokens(choice.logprobs) if self._logprobs and choice.logprobs else None
        into += row.delta(choice.text or "", logprobs=logprobs)
        if choice.finish_reason:
            stop = choice.matched_stop if choice.stop_reason is None else choice.stop_reason
            into += row.finish(choice.finish_reason, stop)


def _tokens(logprobs: _Logprobs) -> tuple[TokenLogprob, ...] | None:
    values = logprobs.token_logprobs or ()
    tops = logprobs.top_logprobs or [None] * len(values)
    found: list[TokenLogprob] = []
    for token, value, top in zip(logprobs.tokens or (), values, tops, strict=False):
        if value is None:
            continue
        others = [(text, one) for text, one in (top or {}).items() if one is not None]
        others.sort(key=lambda other: -other[1])
        best = tuple((text, text.encode(), -1, one) for text, one in others)
        found.append(TokenLogprob(token, token.encode(), -1, value, best))
    return tuple(found) or None
