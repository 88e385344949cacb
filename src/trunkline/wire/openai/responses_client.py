"""`POST /v1/responses`, spoken to a server.

Shapes: the official client's `types/responses/response_create_params.py` and
`response_input_item_param.py` (openai 3.52, read 2026-11-21). Nothing is stored there unless the
client says so: whoever translates keeps the conversation itself. What this API has no field for
(stop strings, seeds, penalties, several answers) is refused or left out.
"""

from __future__ import annotations

import msgspec

from trunkline.core.errors import TrunklineError, Unsupported, UpstreamFailed
from trunkline.core.types import ChatInput, Grammar, Json, Message, RawRequest, Request
from trunkline.wire.asked import Asked, chat_input, texts_of
from trunkline.wire.client import Head, Outgoing, Reader, Relay, Terms
from trunkline.wire.openai.client_efforts import effort
from trunkline.wire.openai.client_fields import (
    RESPONSES_ID,
    call_id,
    default_length,
    finished,
    longest,
    place_notes,
    response_format,
)
from trunkline.wire.openai.client_history import input_history
from trunkline.wire.openai.responses_client_answer import ResponseAnswer, ResponseStream, look
from trunkline.wire.passing import WholePassing, renaming
from trunkline.wire.reading import StreamReader, WholeReader, is_whole
from trunkline.wire.relays import patched
from trunkline.wire.sse import EventReader
from trunkline.wire.told import refusal

_PATH = "/v1/responses"
_LOGPROBS = "message.output_text.logprobs"
# Fields of chat completions that have another name here, or none.
_ELSEWHERE = frozenset(
    {"max_tokens", "max_completion_tokens", "reasoning_effort", "seed", "stop"}
    | {"presence_penalty", "frequency_penalty"}
)


class ResponsesSpeaker:
    """See `Speaker`."""

    operation = "openai.responses"

    def encode(self, request: Request, terms: Terms) -> Outgoing:
        """A conversation. Raises `Unsupported` for any other prompt, and for one of nothing."""
        source = chat_input(request, "The server's Responses API")
        asked = Asked(request, _here(terms))
        body: Json = {"model": terms.model, "store": False, "input": _items(source, terms)}
        if asked.has("stream"):
            body["stream"] = True
        if (most := longest(asked, request)) is not None:
            body["max_output_tokens"] = most
        asked.place(body, "temperature", "temperature")
        asked.place(body, "top_p", "top_p")
        if (logprobs := asked.take("logprobs", "logprobs")) is not None:
            body["include"] = [_LOGPROBS]
            body["top_logprobs"] = logprobs
        _place_tools(asked, request, body)
        grammar: Grammar | None = asked.take("grammar")
        if grammar is not None:
            if (wanted := response_format(asked, grammar)) is not None:
                body["text"] = {"format": wanted}
            else:
                asked.leave("grammar", grammar)
        _place_notes(asked, body)
        return finished(asked, _PATH, body, _place_reasoning(asked, source, body))

    def reader(self, request: Request, terms: Terms, head: Head) -> Reader:
        """Of events, or of one object."""
        answer = ResponseAnswer(request)
        return WholeReader(answer) if is_whole(head) else StreamReader(EventReader(), answer)

    def patch(self, raw: RawRequest, terms: Terms) -> Outgoing:
        """See `Speaker`; earlier turns that the server would refuse are made to fit."""
        raw, left_out = input_history(raw, terms)
        outgoing = patched(_PATH, raw, _here(terms))
        return msgspec.structs.replace(outgoing, dropped=left_out) if left_out else outgoing

    def relay(self, raw: RawRequest, terms: Terms, head: Head) -> Relay:
        """See `Speaker`. Raises `UpstreamFailed` for JSON where a stream was asked for."""
        name = raw.asked_model if raw.asked_model != terms.model else None
        if not is_whole(head):
            return ResponseStream(raw.id, name)
        if raw.stream:
            raise UpstreamFailed("The backend answered with one object; a stream was asked for.")
        return WholePassing(raw.id, renaming(name), look)

    def error(self, head: Head, body: bytes) -> TrunklineError:
        """See `Speaker`."""
        return refusal(head, body)


def _here(terms: Terms) -> Terms:
    """`terms` with the names that `default_body` has here; what has none is left out."""
    given = terms.default_body
    if not given:
        return terms
    defaults = {name: value for name, value in given.items() if name not in _ELSEWHERE}
    if (most := default_length(terms)) is not None:
        defaults["max_output_tokens"] = most
    if "reasoning_effort" in given:
        defaults.setdefault("reasoning", {"effort": given["reasoning_effort"]})
    return msgspec.structs.replace(terms, default_body=defaults)


def _items(source: ChatInput, terms: Terms) -> list[Json]:
    items = [item for message in source.messages for item in _message_items(message, terms)]
    if not items:
        problem = "The conversation has no text; the server's Responses API takes none such."
        raise Unsupported(problem, param="messages")
    return items


def _message_items(message: Message, terms: Terms) -> list[Json]:
    content = _content(message, terms)
    if message.role == "tool":
        answered = call_id(message.tool_call_id or "", terms, RESPONSES_ID)
        return [{"type": "function_call_output", "call_id": answered, "output": content}]
    items: list[Json] = []
    if content:
        items.append({"type": "message", "role": message.role, "content": content})
    for call in message.tool_calls or ():
        function = call["function"]
        items.append(
            {
                "type": "function_call",
                "call_id": call_id(call.get("id") or "", terms, RESPONSES_ID),
                "name": function["name"],
                "arguments": function.get("arguments") or "{}",
            }
        )
    return items


def _content(message: Message, terms: Terms) -> str | list[Json]:
    """Text; several blocks stay apart.

    Of what the model said they have another type, and other servers want an id then that there is
    not (opencode issue 42613).
    """
    texts = texts_of(message)
    if len(texts) < 2:
        return "".join(texts)
    if message.role == "assistant":
        if "max_completion_tokens" not in terms.features:
            return "\n".join(texts)
        return [{"type": "output_text", "text": text, "annotations": []} for text in texts]
    return [{"type": "input_text", "text": text} for text in texts]


def _place_notes(asked: Asked, body: Json) -> None:
    place_notes(asked, body)
    if (verbosity := body.pop("verbosity", None)) is not None:
        body["text"] = {**body.get("text", {}), "verbosity": verbosity}


def _place_tools(asked: Asked, request: Request, body: Json) -> None:
    tools = asked.take("tools", "tools")
    if tools is None or (request.tool_choice == "none" and not asked.has("tool_choice")):
        # The choice among none goes with them.
        asked.take("tool_choice")
        asked.take("parallel_tool_calls")
        return
    # Here, unlike in chat completions, a schema is strict unless it says that it is not.
    body["tools"] = [
        {"type": "function", "parameters": None, "strict": False, **tool["function"]}
        for tool in tools
    ]
    choice = asked.take("tool_choice", "tool_choice")
    if choice == "named":
        body["tool_choice"] = {"type": "function", "name": request.tool_name}
    elif choice is not None:
        body["tool_choice"] = choice
    asked.place(body, "parallel_tool_calls", "parallel_tool_calls", "parallel_tool_calls")


def _place_reasoning(asked: Asked, source: ChatInput, body: Json) -> tuple[str, ...]:
    """How hard to think. Returns what is passed over."""
    if (word := effort(asked, "reasoning")) is not None:
        body["reasoning"] = {"effort": word}
    passed_over: list[str] = []
    if any(message.reasoning_content for message in source.messages):
        # OpenAI takes back only what it encrypted itself.
        passed_over.append("reasoning_content")
    return tuple(passed_over)
