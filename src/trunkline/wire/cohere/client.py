"""Cohere's `POST /v2/chat`, spoken to the service.

Shapes: docs.cohere.com/v2/reference/chat and .../chat-stream, .../docs/streaming,
.../docs/tool-use-streaming, and the types of the cohere package 7.3 (read 2026-11-21). Citations
are passed over. The plan of a model's tool calls is what it thought. `index` tells which call a
piece of a stream belongs to.

Thinking is on or off there, with `token_budget` at most: words of effort are budgets, those of
Google's table (`gemini.thinking`), and "high" and above are none. `p` is 0.01 to 0.99 there.
`strict_tools` holds for all tools, and each must require a parameter
(docs.cohere.com/docs/tool-use-parameter-types). Names of messages have no place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from trunkline.core.errors import (
    ContentRefused,
    TrunklineError,
    Unsupported,
    UpstreamFailed,
    UpstreamTimeout,
)
from trunkline.core.types import (
    Event,
    Json,
    Message,
    RawRequest,
    Request,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from trunkline.wire.asked import Asked, Reasoning, chat_input, schema_of, texts_of
from trunkline.wire.calls import Calls
from trunkline.wire.client import Feature, Head, Outgoing, Reader, Relay, Terms
from trunkline.wire.failures import failure, shown
from trunkline.wire.reading import Row, StreamReader, WholeReader, decoded, is_whole
from trunkline.wire.sse import EventReader, ServerEvent

# Field of a request -> field there.
_FIELDS = {
    "max_tokens": "max_tokens",
    "temperature": "temperature",
    "top_k": "k",
    "stop": "stop_sequences",
    "seed": "seed",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}
# Kind of a grammar -> what the model must be able to do.
_JSON: dict[str, Feature] = {"json_object": "json_object", "json_schema": "json_schema"}
# Tokens of thinking; what is not here has no limit.
_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 8192}
_EFFORTS = frozenset((*_BUDGETS, "high", "xhigh", "max"))
_LEAST_P, _MOST_P = 0.01, 0.99
_NO_PARAMETERS: Json = {"type": "object", "properties": {}}


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct):
    id: str | None = None
    function: _Function | None = None


class _Block(msgspec.Struct):
    type: str | None = None
    text: str | None = None
    thinking: str | None = None


class _Said(msgspec.Struct):
    content: _Block | list[_Block] | str | None = None
    tool_plan: str | None = None
    tool_calls: _Call | list[_Call] | None = None


class _Tokens(msgspec.Struct):
    input_tokens: float | None = None
    output_tokens: float | None = None


class _Usage(msgspec.Struct):
    tokens: _Tokens | None = None
    billed_units: _Tokens | None = None
    cached_tokens: float | None = None

    def usage(self) -> Usage:
        """`tokens` has the service's own preamble, `billed_units` has not."""
        counted = self.tokens or self.billed_units or _Tokens()
        prompt, output = counted.input_tokens or 0, counted.output_tokens or 0
        return Usage(int(prompt), int(output), int(self.cached_tokens or 0))


class _Logprobs(msgspec.Struct):
    token_ids: list[int] = []
    text: str | None = None
    logprobs: list[float] | None = None


class _Delta(msgspec.Struct):
    message: _Said | None = None
    finish_reason: str | None = None
    usage: _Usage | None = None
    error: str | None = None


class _Event(msgspec.Struct):
    type: str = ""
    index: int = 0
    delta: _Delta | None = None
    logprobs: _Logprobs | None = None
    # Of an error without a type.
    message: str | None = None


class _Whole(msgspec.Struct):
    message: _Said
    finish_reason: str = ""
    usage: _Usage | None = None
    logprobs: list[_Logprobs] | None = None


_event = msgspec.json.Decoder(_Event)
_whole = msgspec.json.Decoder(_Whole)


class _Body:
    def __init__(self, request: Request) -> None:
        self._row = Row(request)
        self._calls = Calls(request)
        # Whether anything but thoughts came.
        self._begun = False

    def piece(self, piece: ServerEvent) -> Iterable[Event]:
        """Events of one event."""
        if piece.data == b"[DONE]":
            return []
        event = decoded(_event, piece.data)
        delta = event.delta or _Delta()
        said = delta.message or _Said()
        match event.type:
            case "content-start" | "content-delta":
                return self._content(said, event.logprobs)
            case "tool-plan-delta":
                return self._row.delta(reasoning=said.tool_plan or "")
            case "tool-call-start" | "tool-call-delta":
                return self._call(event.index, said, starts=event.type == "tool-call-start")
            case "tool-call-end":
                return self._row.delta(calls=self._calls.end(event.index))
            case "message-end":
                return [*self._row.delta(calls=self._calls.rest()), *self._end(delta)]
            case "" if event.message is not None:
                raise UpstreamFailed(f"The backend failed: {shown(event.message)}")
        return []

    def whole(self, body: bytes) -> Iterable[Event]:
        """Events of a whole answer."""
        answer = decoded(_whole, body)
        said = answer.message
        calls = said.tool_calls if isinstance(said.tool_calls, list) else []
        texts, thoughts = _texts(said)
        functions = [call.function or _Function() for call in calls]
        self._begun = bool(texts or calls)
        events = self._row.delta(
            texts,
            reasoning=(said.tool_plan or "") + thoughts,
            calls=[
                ToolCallDelta(index, call.id, one.name, one.arguments or "{}")
                for index, (call, one) in enumerate(zip(calls, functions, strict=True))
            ],
            logprobs=tuple(one for piece in answer.logprobs or () for one in _logprobs(piece)),
        )
        return [*events, *self._end(_Delta(None, answer.finish_reason, answer.usage))]

    def end(self) -> Sequence[Event]:
        """The last event."""
        return self._row.completed()

    def _content(self, said: _Said, logprobs: _Logprobs | None) -> list[Event]:
        text, thoughts = _texts(said)
        self._begun = self._begun or bool(text)
        found = tuple(_logprobs(logprobs)) if logprobs is not None else None
        return self._row.delta(text, reasoning=thoughts, logprobs=found)

    def _call(self, index: int, said: _Said, *, starts: bool) -> list[Event]:
        call = said.tool_calls
        if isinstance(call, list) and call:
            call = call[0]
        if not isinstance(call, _Call) or call.function is None:
            return []
        pieces = call.function.arguments or ""
        if not starts:
            return self._row.delta(calls=self._calls.more(index, pieces))
        self._begun = True
        return self._row.delta(calls=self._calls.begin(index, call.id, call.function.name, pieces))

    def _end(self, delta: _Delta) -> list[Event]:
        if delta.usage is not None:
            self._row.usage = delta.usage.usage()
        said = f": {shown(delta.error)}" if delta.error else "."
        match delta.finish_reason:
            case "ERROR":
                raise UpstreamFailed(f"The backend failed while it answered{said}")
            case "TIMEOUT":
                raise UpstreamTimeout(f"The backend ran out of time while it answered{said}")
            case "ERROR_TOXIC" if self._begun:
                return self._row.finish("content_filter")
            case "ERROR_TOXIC":
                raise ContentRefused(f"The provider's policy ends the answer{said}")
            case "MAX_TOKENS" | "ERROR_LIMIT":
                return self._row.finish("length")
        return self._row.finish("stop")


class ChatSpeaker:
    """`POST /v2/chat`."""

    operation = "cohere.chat"

    def encode(self, request: Request, terms: Terms) -> Outgoing:
        """See `Speaker`."""
        asked = Asked(request, terms)
        source = chat_input(request, "Cohere's chat")
        body: Json = {
            "model": terms.model,
            "messages": [_message(asked, message) for message in source.messages],
            "stream": asked.has("stream"),
        }
        for name, field in _FIELDS.items():
            asked.put(body, name, field)
        if "k" in body:
            body["k"] = max(0, body["k"])
        if (top_p := asked.take("top_p")) is not None:
            body["p"] = min(max(top_p, _LEAST_P), _MOST_P)
        # The chosen token's alone are to be had.
        if asked.peek("logprobs") == 0 and asked.take("logprobs", "logprobs") is not None:
            body["logprobs"] = True
        _place_tools(asked, body, request.tool_name)
        _place_format(asked, body)
        _place_thinking(asked, body)
        return asked.outgoing("/v2/chat", body)

    def reader(self, request: Request, terms: Terms, head: Head) -> Reader:
        """Events for a stream, else one object."""
        body = _Body(request)
        return WholeReader(body) if is_whole(head) else StreamReader(EventReader(), body)

    def patch(self, raw: RawRequest, terms: Terms) -> Outgoing:
        """No client speaks this dialect to us."""
        raise Unsupported("Requests in Cohere's dialect are not taken.")

    def relay(self, raw: RawRequest, terms: Terms, head: Head) -> Relay:
        """As `patch`."""
        raise Unsupported("Requests in Cohere's dialect are not taken.")

    def error(self, head: Head, body: bytes) -> TrunklineError:
        """{"id", "message"}; 498 is a token on a deny list (docs.cohere.com/reference/errors)."""
        try:
            said = _event.decode(body).message or ""
        except msgspec.DecodeError:
            said = body[:600].decode(errors="replace")
        if head.status == 498:
            return ContentRefused(f"The provider's policy refuses the prompt: {shown(said)}")
        return failure(head, said)


def _place_tools(asked: Asked, body: Json, tool_name: str) -> None:
    tools = asked.take("tools", "tools")
    if not tools:
        return
    choice = asked.take("tool_choice")
    if choice == "named":
        # No single one can be named there, but one alone can be offered.
        tools = [tool for tool in tools if tool["function"]["name"] == tool_name]
    if choice is not None:
        body["tool_choice"] = "NONE" if choice == "none" else "REQUIRED"
    functions = [tool["function"] for tool in tools]
    body["tools"] = [_tool(one) for one in functions]
    _place_strict(asked, body, functions)


def _place_strict(asked: Asked, body: Json, functions: list[Json]) -> None:
    strict = [one for one in functions if one.get("strict")]
    if not strict:
        return
    if strict == functions and all((one.get("parameters") or {}).get("required") for one in strict):
        body["strict_tools"] = True
    else:
        asked.tell("tools.strict")


def _place_thinking(asked: Asked, body: Json) -> None:
    wanted = asked.reasoning()
    asked.pass_over("reasoning", "reasoning_effort")
    if wanted == Reasoning():
        return
    if wanted.off or wanted.budget == 0:
        body["thinking"] = {"type": "disabled"}
        return
    body["thinking"] = {"type": "enabled"}
    budget = _BUDGETS.get(wanted.effort or "") if wanted.budget is None else wanted.budget
    if budget is not None and budget > 0:
        body["thinking"]["token_budget"] = budget
    elif wanted.effort is not None and wanted.effort not in _EFFORTS:
        asked.tell("reasoning_effort")


def _tool(function: Json) -> Json:
    sent: Json = {"name": function["name"]}
    if function.get("description"):
        sent["description"] = function["description"]
    sent["parameters"] = function.get("parameters") or _NO_PARAMETERS
    return {"type": "function", "function": sent}


def _place_format(asked: Asked, body: Json) -> None:
    grammar = asked.peek("grammar")
    if grammar is None or grammar.kind not in _JSON or not asked.has(_JSON[grammar.kind]):
        return
    asked.take("grammar")
    body["response_format"] = {"type": "json_object"}
    if grammar.kind == "json_schema":
        body["response_format"]["json_schema"] = schema_of(grammar)


def _message(asked: Asked, message: Message) -> Json:
    if message.name is not None and message.role != "tool":
        asked.tell("messages.name")
    content = _content(texts_of(message))
    match message.role:
        case "developer":
            return {"role": "system", "content": content}
        case "tool":
            call = message.tool_call_id or ""
            return {"role": "tool", "tool_call_id": call, "content": content}
        case "assistant":
            return _answer(asked, message)
    return {"role": message.role, "content": content}


def _content(texts: list[str]) -> str | list[Json]:
    """Several blocks stay blocks."""
    if len(texts) < 2:
        return "".join(texts)
    return [{"type": "text", "text": text} for text in texts]


def _answer(asked: Asked, message: Message) -> Json:
    sent: Json = {"role": "assistant"}
    thoughts, texts = message.reasoning_content, texts_of(message)
    blocks: list[Json] = []
    if any(one.sealed for one in message.thoughts):
        # Only who sealed them can read them.
        asked.tell("reasoning_content")
    if message.tool_calls:
        sent["tool_calls"] = [_called(call) for call in message.tool_calls]
        if thoughts:
            sent["tool_plan"] = thoughts
    elif thoughts:
        blocks.append({"type": "thinking", "thinking": thoughts})
    if blocks:
        sent["content"] = [*blocks, *({"type": "text", "text": text} for text in texts or [""])]
    elif texts or not message.tool_calls:
        sent["content"] = _content(texts)
    return sent


def _called(call: Mapping[str, Json]) -> Json:
    function = call["function"]
    # Some clients send "" for a call without any.
    function = {"name": function["name"], "arguments": function.get("arguments") or "{}"}
    return {"id": call["id"], "type": "function", "function": function}


def _texts(said: _Said) -> tuple[str, str]:
    """Text and thoughts."""
    content = said.content
    if isinstance(content, str):
        return content, ""
    blocks = content if isinstance(content, list) else [content] if content is not None else []
    text = "".join(block.text or "" for block in blocks)
    return text, "".join(block.thinking or "" for block in blocks)


def _logprobs(piece: _Logprobs) -> list[TokenLogprob]:
    """One for each token; the text is that of all of them, and told with the first."""
    text = piece.text or ""
    pairs = zip(piece.token_ids, piece.logprobs or (), strict=False)
    return [
        TokenLogprob(shown_, shown_.encode(), token_id, logprob)
        for index, (token_id, logprob) in enumerate(pairs)
        for shown_ in (text if index == 0 else "",)
    ]


CHAT = ChatSpeaker()
