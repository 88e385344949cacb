"""Ollama's `/api/chat` and `/api/generate`, spoken to a server.

Shapes: api/types.go of ollama/ollama fb30760 (2026-08-21). `num_predict` -1 is no limit there, and
`seed` 0 a seed as any other. The server's own defaults (temperature 0.8, top_k 40, top_p 0.9) are
always said otherwise, so that what the client asked for is what counts.

`think` is true, false or one of four words there; each model makes of them what it can, and refuses
true where it does not think. There are no budgets of thinking, no names of messages, and no strict
tools.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Raw

from trunkline.core.errors import RateLimited, TrunklineError, UpstreamFailed
from trunkline.core.types import (
    ChatInput,
    Event,
    FinishReason,
    Json,
    Message,
    RawRequest,
    Request,
    Timing,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from trunkline.wire.asked import (
    Asked,
    Reasoning,
    arguments_of,
    chat_input,
    prompt_text,
    schema_of,
    text_of,
)
from trunkline.wire.client import Head, Outgoing, Reader, Relay, Terms
from trunkline.wire.failures import failure, rejected, retry_after_of, shown
from trunkline.wire.ollama.options import OF_LOADING
from trunkline.wire.passing import WholePassing
from trunkline.wire.reading import Row, StreamReader, WholeReader, decoded, is_whole
from trunkline.wire.relays import LineRelay, Renamer, patched
from trunkline.wire.sse import LineReader

# Field of a request -> option.
_OPTIONS = {
    "top_k": "top_k",
    "repetition_penalty": "repeat_penalty",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "seed": "seed",
    "stop": "stop",
}
_MAX_SEED = 2**31 - 1
# The last one is ours, not Ollama's.
_REASONS: dict[str, FinishReason] = {"length": "length", "content_filter": "content_filter"}
# Words of effort -> `think`; "max" is newer than the others, so what is below it stays so.
_LEVELS: dict[str, str | bool] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "max",
}


class _Function(msgspec.Struct):
    name: str = ""
    arguments: Raw = Raw(b"{}")


class _Call(msgspec.Struct):
    function: _Function
    id: str | None = None


class _Message(msgspec.Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class _Top(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int] | None = None


class _Token(_Top):
    top_logprobs: list[_Top] | None = None


class Line(msgspec.Struct):
    """One line of a stream, or a whole answer; of both routes."""

    message: _Message | None = None
    response: str | None = None
    thinking: str | None = None
    done: bool = False
    done_reason: str | None = None
    error: str | None = None
    logprobs: list[_Token] | None = None
    prompt_eval_count: int = 0
    eval_count: int = 0
    load_duration: int = 0
    prompt_eval_duration: int = 0
    eval_duration: int = 0

    def usage(self) -> Usage:
        """Of the last line."""
        return Usage(self.prompt_eval_count, self.eval_count)


_line = msgspec.json.Decoder(Line)


class _Body:
    """Reads answers of either route."""

    def __init__(self, request: Request) -> None:
        self._row = Row(request)

    def piece(self, piece: bytes) -> Iterable[Event]:
        """Events of one line."""
        line = decoded(_line, piece)
        if line.error is not None:
            raise _reported(line.error)
        message = line.message or _Message(line.response, line.thinking)
        events = self._row.delta(
            message.content or "",
            reasoning=message.thinking or "",
            calls=self._calls(message.tool_calls or ()),
            logprobs=tuple(_logprob(one) for one in line.logprobs or ()),
        )
        if line.done:
            self._row.usage = line.usage()
            self._row.timing = Timing(
                line.load_duration / 1e9, line.prompt_eval_duration / 1e9, line.eval_duration / 1e9
            )
            events += self._row.finish(_REASONS.get(line.done_reason or "", "stop"))
        return events

    def whole(self, body: bytes) -> Iterable[Event]:
        """A whole answer is the one line that is `done`."""
        return self.piece(body)

    def end(self) -> Sequence[Event]:
        """The last event."""
        return self._row.completed()

    def _calls(self, calls: Sequence[_Call]) -> list[ToolCallDelta]:
        first = self._row.calls
        return [
            ToolCallDelta(
                first + number,
                call.id or f"call_{first + number}",
                call.function.name,
                bytes(call.function.arguments).decode(),
            )
            for number, call in enumerate(calls)
        ]


class _Speaker:
    """What both operations share."""

    operation: str
    _path: str

    def reader(self, request: Request, terms: Terms, head: Head) -> Reader:
        """Lines for a stream, else one object."""
        body = _Body(request)
        return WholeReader(body) if is_whole(head) else StreamReader(LineReader(), body)

    def patch(self, raw: RawRequest, terms: Terms) -> Outgoing:
        """The same body with the server's name of the model."""
        return patched(self._path, raw, terms)

    def relay(self, raw: RawRequest, terms: Terms, head: Head) -> Relay:
        """Lines pass as they are but for the model's name."""
        renamer = Renamer(terms.model, raw.asked_model)
        if is_whole(head):
            return WholePassing(raw.id, renamer.rename, _whole_usage)
        return LineRelay(raw.id, _last_usage, renamer)

    def error(self, head: Head, body: bytes) -> TrunklineError:
        """{"error": "..."}; a full queue has status 503 there."""
        said = _words(body)
        if head.status == 503 and ("busy" in said or "maximum pending" in said):
            words = f"The backend takes no more for now: {shown(said)}"
            return RateLimited(words, retry_after=retry_after_of(head))
        return failure(head, said)

    def _outgoing(self, asked: Asked, body: Json) -> Outgoing:
        return asked.outgoing(self._path, body | _common(asked))


class ChatSpeaker(_Speaker):
    """`POST /api/chat`."""

    operation = "ollama.chat"
    _path = "/api/chat"

    def encode(self, request: Request, terms: Terms) -> Outgoing:
        """See `Speaker`."""
        asked = Asked(request, terms)
        source = chat_input(request, "Ollama's chat")
        # A last answer goes on there by itself: see `goes_on`.
        asked.take("continue_final_message")
        body: Json = {"model": terms.model, "messages": _messages(asked, source)}
        if asked.peek("tool_choice") == "none":
            # Whose tools the model does not see cannot call them.
            asked.take("tool_choice")
            asked.take("tools")
        asked.place(body, "tools", "tools", "tools")
        if any(one["function"].get("strict") for one in body.get("tools", ())):
            asked.tell("tools.strict")
        return self._outgoing(asked, body)


class GenerateSpeaker(_Speaker):
    """`POST /api/generate`, raw: the model's template is not used."""

    operation = "ollama.generate"
    _path = "/api/generate"

    def encode(self, request: Request, terms: Terms) -> Outgoing:
        """See `Speaker`."""
        asked = Asked(request, terms)
        prompt = prompt_text(request, terms, "Ollama's generate")
        return self._outgoing(asked, {"model": terms.model, "prompt": prompt, "raw": True})


def _common(asked: Asked) -> Json:
    """`stream`, `format`, `think`, `logprobs` and `options`."""
    body: Json = {"stream": asked.has("stream")}
    grammar = asked.peek("grammar")
    if grammar is not None and grammar.kind == "json_object" and asked.has("json_object"):
        asked.take("grammar")
        body["format"] = "json"
    elif grammar is not None and grammar.kind == "json_schema" and asked.has("json_schema"):
        body["format"] = schema_of(asked.take("grammar"))
    _place_thinking(asked, body)
    logprobs = asked.take("logprobs", "logprobs")
    if logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": logprobs}
    return body | {"options": _options(asked)}


def _place_thinking(asked: Asked, body: Json) -> None:
    wanted = asked.reasoning()
    asked.pass_over("reasoning", "reasoning_effort")
    if wanted == Reasoning():
        return
    think = _LEVELS.get(wanted.effort or "", True)
    if wanted.enabled is False or wanted.budget == 0:
        think = False
    body["think"] = think
    if think and wanted.budget is not None:
        asked.tell("thinking_budget")
    if think is True and wanted.effort is not None:
        asked.tell("reasoning_effort")


def _options(asked: Asked) -> Json:
    limit = asked.take("max_tokens")
    temperature, top_p = asked.take("temperature"), asked.take("top_p")
    options: Json = {
        "temperature": 1.0 if temperature is None else temperature,
        # 0 keeps all tokens.
        "top_k": 0,
        "top_p": 1.0 if top_p is None else top_p,
        "repeat_penalty": 1.0,
        "num_predict": -1 if limit is None else limit,
    }
    for name, option in _OPTIONS.items():
        asked.put(options, name, option)
    if "seed" in options:
        options["seed"] &= _MAX_SEED
    options["top_k"] = max(0, options["top_k"])
    for name in OF_LOADING:
        if (said := asked.note(f"options.{name}")) is not None:
            options[name] = said
    return options


def _messages(asked: Asked, source: ChatInput) -> list[Json]:
    # Results name the tool that they are of.
    names = {
        call["id"]: call["function"]["name"]
        for message in source.messages
        for call in message.tool_calls or ()
    }
    for message in source.messages:
        if message.name is not None and message.role != "tool":
            asked.tell("messages.name")
        if any(one.sealed for one in message.thoughts):
            # Only who sealed them can read them.
            asked.tell("reasoning_content")
    return [_message(message, names) for message in source.messages]


def _message(message: Message, names: dict[str, str]) -> Json:
    sent: Json = {
        "role": "system" if message.role == "developer" else message.role,
        "content": text_of(message),
    }
    if message.reasoning_content:
        sent["thinking"] = message.reasoning_content
    if message.tool_calls:
        sent["tool_calls"] = [
            {
                "id": call["id"],
                "function": {"name": call["function"]["name"], "arguments": arguments_of(call)},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        sent["tool_call_id"] = message.tool_call_id
        name = names.get(message.tool_call_id, message.name)
        if name:
            sent["tool_name"] = name
    return sent


def _logprob(one: _Token) -> TokenLogprob:
    # Its tokens have no ids there.
    top = tuple((top.token, _bytes(top), 0, top.logprob) for top in one.top_logprobs or ())
    return TokenLogprob(one.token, _bytes(one), 0, one.logprob, top)


def _bytes(one: _Top) -> bytes:
    return one.token.encode() if one.bytes is None else bytes(one.bytes)


def _last_usage(line: bytes) -> Usage | None:
    """Usage, if `line` is the last one. Raises what it reports."""
    if b'"done":false' in line:
        return None
    return _whole_usage(line)


def _whole_usage(body: bytes) -> Usage | None:
    line = decoded(_line, body)
    if line.error is not None:
        raise _reported(line.error)
    return line.usage() if line.done else None


def _words(body: bytes) -> str:
    try:
        return _line.decode(body).error or ""
    except msgspec.DecodeError:
        return body[:600].decode(errors="replace")


def _reported(said: str) -> TrunklineError:
    """An error within a stream has no status: its words must do."""
    error = rejected(said)
    if error.kind != "invalid_request":
        return error
    return UpstreamFailed(f"The backend failed: {shown(said)}")


CHAT = ChatSpeaker()
GENERATE = GenerateSpeaker()
