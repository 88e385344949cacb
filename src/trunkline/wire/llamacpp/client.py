"""llama.cpp's `/completion`, spoken to a server. Prompts of text or tokens, no conversations.

Shapes: tools/server/server-task.cpp of llama.cpp b11549. Sampling is always said in full, so that
the server's own defaults (temperature 0.8, top_k 40, top_p 0.95, min_p 0.05) do not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from trunkline.core.errors import ContextOverflow, TrunklineError, Unsupported, UpstreamFailed
from trunkline.core.types import (
    Event,
    Json,
    MixedInput,
    RawRequest,
    Request,
    TextInput,
    Timing,
    TokenLogprob,
    TokensInput,
    Usage,
)
from trunkline.wire.asked import Asked, prompt_text, schema_of
from trunkline.wire.client import Head, Outgoing, Reader, Relay, Terms
from trunkline.wire.failures import failure, shown
from trunkline.wire.passing import WholePassing
from trunkline.wire.reading import Row, StreamReader, WholeReader, decoded, is_whole
from trunkline.wire.relays import EventRelay, Renamer, patched
from trunkline.wire.sse import EventReader, ServerEvent

_PENALTIES = ("repetition_penalty", "presence_penalty", "frequency_penalty")
# Tokens that penalties look at where the length of the context is not known.
_LAST = 8192
# Field of a request -> field there, and its neutral value.
_SAMPLING: dict[str, tuple[str, float]] = {
    "temperature": ("temperature", 1.0),
    "top_k": ("top_k", 0),
    "top_p": ("top_p", 1.0),
    "min_p": ("min_p", 0.0),
    "typical_p": ("typical_p", 1.0),
    "repetition_penalty": ("repeat_penalty", 1.0),
    "presence_penalty": ("presence_penalty", 0.0),
    "frequency_penalty": ("frequency_penalty", 0.0),
    "max_tokens": ("n_predict", -1),
    "seed": ("seed", -1),
}


class _Top(msgspec.Struct):
    id: int
    token: str
    logprob: float
    bytes: list[int] | None = None


class _Probability(_Top):
    top_logprobs: list[_Top] | None = None


class _Timings(msgspec.Struct):
    cache_n: int = 0
    prompt_ms: float = 0.0
    predicted_ms: float = 0.0


class _Error(msgspec.Struct):
    message: str = ""
    type: str = ""


class _Answer(msgspec.Struct):
    """One event of a stream, or a whole answer."""

    content: str = ""
    tokens: list[int] | None = None
    stop: bool = False
    stop_type: str = "none"
    stopping_word: str = ""
    tokens_evaluated: int = 0
    tokens_predicted: int = 0
    timings: _Timings | None = None
    completion_probabilities: list[_Probability] | None = None
    error: _Error | None = None

    def usage(self) -> Usage:
        """Of the last one."""
        cached = self.timings.cache_n if self.timings is not None else 0
        return Usage(self.tokens_evaluated, self.tokens_predicted, cached)


_answer = msgspec.json.Decoder(_Answer)
_answers = msgspec.json.Decoder(_Answer | list[_Answer])


class _Body:
    def __init__(self, request: Request) -> None:
        self._row = Row(request)

    def piece(self, piece: ServerEvent) -> Iterable[Event]:
        """Events of one event."""
        # b11549 and before named an error's event and left its data bare.
        return self.whole(piece.data)

    def whole(self, body: bytes) -> Iterable[Event]:
        """Events of one object: a whole answer has the same fields as a stream's last."""
        answer = _checked(decoded(_answer, body))
        events = self._row.delta(
            answer.content,
            token_ids=tuple(answer.tokens or ()),
            logprobs=tuple(_logprob(one) for one in answer.completion_probabilities or ()),
        )
        if answer.stop:
            self._row.usage = answer.usage()
            if answer.timings is not None:
                took = answer.timings
                self._row.timing = Timing(0.0, took.prompt_ms / 1e3, took.predicted_ms / 1e3)
            reason = "length" if answer.stop_type == "limit" else "stop"
            word = answer.stopping_word if answer.stop_type == "word" else None
            events += self._row.finish("length" if reason == "length" else "stop", word)
        return events

    def end(self) -> Sequence[Event]:
        """The last event."""
        return self._row.completed()


class CompletionSpeaker:
    """`POST /completion`."""

    operation = "llamacpp.completion"

    def encode(self, request: Request, terms: Terms) -> Outgoing:
        """See `Speaker`."""
        asked = Asked(request, terms)
        body: Json = {
            "prompt": _prompt(request, terms),
            "stream": asked.has("stream"),
            "return_tokens": True,
        }
        if any(asked.peek(name) is not None for name in _PENALTIES):
            # They look at everything; the server takes no -1, and room for as many tokens.
            body["repeat_last_n"] = terms.context_length or _LAST
        for name, (field, neutral) in _SAMPLING.items():
            body[field] = neutral
            asked.put(body, name, field)
        asked.place(body, "stop", "stop")
        asked.take("include_stop")
        asked.put(body, "ignore_eos", "ignore_eos")
        biases = asked.take("logit_bias", "logit_bias")
        if biases:
            body["logit_bias"] = [[token, bias] for token, bias in biases]
        logprobs = asked.take("logprobs", "logprobs")
        if logprobs is not None:
            body["n_probs"] = max(1, logprobs)
        _place_grammar(asked, body)
        return asked.outgoing("/completion", body)

    def reader(self, request: Request, terms: Terms, head: Head) -> Reader:
        """Events for a stream, else one object."""
        body = _Body(request)
        return WholeReader(body) if is_whole(head) else StreamReader(EventReader(), body)

    def patch(self, raw: RawRequest, terms: Terms) -> Outgoing:
        """The same body with the server's name of the model, where it names one."""
        return patched("/completion", raw, terms, named="model" in raw.fields)

    def relay(self, raw: RawRequest, terms: Terms, head: Head) -> Relay:
        """Passes everything on but the model's name."""
        renamer = Renamer(terms.model, raw.asked_model)
        tally = _Tally()
        if is_whole(head):
            return WholePassing(raw.id, renamer.rename, tally.whole)
        return EventRelay(raw.id, tally.event, renamer)

    def error(self, head: Head, body: bytes) -> TrunklineError:
        """{"error": {"code", "message", "type"}}."""
        try:
            error = _answer.decode(body).error or _Error()
        except msgspec.DecodeError:
            error = _Error(body[:600].decode(errors="replace"))
        if error.type == "exceed_context_size_error":
            return ContextOverflow(shown(error.message))
        return failure(head, error.message)


class _Tally:
    """Sums the usage of all answers: there may be several prompts in one request."""

    def __init__(self) -> None:
        self._usage: Usage | None = None

    def event(self, data: bytes) -> Usage | None:
        """One event of a stream."""
        if b'"stop":false' in data:
            return None
        return self._add(_checked(decoded(_answer, data)))

    def whole(self, body: bytes) -> Usage | None:
        """An object, or a list of them. `response_fields` may have left out all we look at."""
        answers = decoded(_answers, body)
        for answer in answers if isinstance(answers, list) else [answers]:
            self._add(_checked(answer))
        return self._usage

    def _add(self, answer: _Answer) -> Usage:
        one, so_far = answer.usage(), self._usage or Usage(0, 0)
        self._usage = Usage(
            so_far.prompt_tokens + one.prompt_tokens,
            so_far.completion_tokens + one.completion_tokens,
            so_far.cached_tokens + one.cached_tokens,
        )
        return self._usage


def _prompt(request: Request, terms: Terms) -> str | list[int | str]:
    source = request.input
    if isinstance(source, TokensInput):
        return list(source.token_ids)
    if isinstance(source, MixedInput):
        mixed: list[int | str] = []
        for part in source.parts:
            mixed += [part] if isinstance(part, str) else part
        return mixed
    if isinstance(source, TextInput) and not source.add_special_tokens:
        problem = "llama.cpp's completion always adds the special tokens of a text."
        raise Unsupported(problem, param="add_special_tokens")
    return prompt_text(request, terms, "llama.cpp's completion")


def _place_grammar(asked: Asked, body: Json) -> None:
    grammar = asked.peek("grammar")
    if grammar is None:
        return
    if grammar.kind == "gbnf" and asked.has("grammar"):
        body["grammar"] = asked.take("grammar").value
    elif grammar.kind == "json_schema" and asked.has("json_schema"):
        body["json_schema"] = schema_of(asked.take("grammar"))
    elif grammar.kind == "json_object" and asked.has("json_object"):
        asked.take("grammar")
        body["json_schema"] = {"type": "object"}


def _checked(answer: _Answer) -> _Answer:
    error = answer.error
    if error is not None:
        if error.type == "exceed_context_size_error":
            raise ContextOverflow(shown(error.message))
        raise UpstreamFailed(f"The backend failed: {shown(error.message)}")
    return answer


def _logprob(one: _Probability) -> TokenLogprob:
    top = tuple((top.token, _bytes(top), top.id, top.logprob) for top in one.top_logprobs or ())
    return TokenLogprob(one.token, _bytes(one), one.id, one.logprob, top)


def _bytes(one: _Top) -> bytes:
    return one.token.encode() if one.bytes is None else bytes(one.bytes)


COMPLETION = CompletionSpeaker()
