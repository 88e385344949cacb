"""`POST /v1/chat/completions`, spoken to a server.

Shapes: the official client's `types/chat/completion_create_params.py`, `chat_completion.py` and
`chat_completion_chunk.py` (openai 3.52); vLLM's further fields (docs/serving/
openai_compatible_server.md). Read 2026-11-21.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Raw

from trunkline.core.errors import TrunklineError
from trunkline.core.types import (
    ChatInput,
    Event,
    Json,
    Message,
    RawRequest,
    Request,
    ToolCallDelta,
)
from trunkline.wire.asked import Asked, chat_input
from trunkline.wire.client import Head, Outgoing, Reader, Relay, Terms
from trunkline.wire.openai.client_answer import (
    ChoicesAnswer,
    Chunk,
    Logprobs,
    Row,
    argument_text,
    told_tokens,
)
from trunkline.wire.openai.client_efforts import effort
from trunkline.wire.openai.client_fields import (
    CHAT_ID,
    call_id,
    finished,
    longest,
    open_body,
    place_grammar,
    place_notes,
    place_sampling,
    place_tools,
)
from trunkline.wire.openai.client_history import chat_history, suits
from trunkline.wire.openai.client_relay import counts, look, passes, patched, relay
from trunkline.wire.reading import StreamReader, WholeReader, is_whole
from trunkline.wire.sse import EventReader
from trunkline.wire.told import refusal

_PATH = "/v1/chat/completions"


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: Raw = Raw(b"null")


class _Call(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Part(msgspec.Struct):
    """Mistral's: a thought has parts of its own."""

    type: str = ""
    text: str | None = None
    thinking: list[_Part] | None = None

    def thought(self) -> str:
        """The text of a thought."""
        return "".join(part.text or "" for part in self.thinking or ())


class _Message(msgspec.Struct):
    """A message, or more of one."""

    content: str | list[_Part] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    # Of a chunk, and of a whole answer.
    delta: _Message | None = None
    message: _Message | None = None
    logprobs: Logprobs | None = None
    finish_reason: str | None = None
    # What matched: vLLM's name, and SGLang's.
    stop_reason: str | int | None = None
    matched_stop: str | int | None = None


_chunk = msgspec.json.Decoder(Chunk[_Choice])
_NOTHING = _Message()


class ChatSpeaker:
    """See `Speaker`."""

    operation = "openai.chat"
    path = _PATH
    counts = staticmethod(counts)
    look = staticmethod(look)

    def passes(self, terms: Terms) -> bool:
        """See `PlainSpeaker`."""
        return passes(terms) and suits(terms)

    def encode(self, request: Request, terms: Terms) -> Outgoing:
        """A conversation. Raises `Unsupported` for any other prompt, too."""
        source = chat_input(request, "The server's chat API")
        asked = Asked(request, terms)
        body = open_body(asked)
        body["messages"] = [_sent(message, terms) for message in source.messages]
        name = "max_completion_tokens" if asked.has("max_completion_tokens") else "max_tokens"
        if (most := longest(asked, request)) is not None:
            body[name] = most
        place_sampling(asked, request, body)
        if (logprobs := asked.take("logprobs", "logprobs")) is not None:
            body["logprobs"] = True
            if logprobs:
                body["top_logprobs"] = logprobs
        place_tools(asked, request, body)
        place_grammar(asked, body)
        # "The 'metadata' parameter is only allowed when 'store' is enabled", OpenAI says.
        loose = not asked.has("max_completion_tokens") or request.notes.get("store") is True
        place_notes(asked, body, *(() if loose else ("metadata",)))
        passed_over = _place_template(asked, source, body)
        return finished(asked, _PATH, body, passed_over)

    def reader(self, request: Request, terms: Terms, head: Head) -> Reader:
        """Of chunks, or of one object."""
        answer = _Answer(request, _chunk)
        return WholeReader(answer) if is_whole(head) else StreamReader(EventReader(), answer)

    def patch(self, raw: RawRequest, terms: Terms) -> Outgoing:
        """See `Speaker`; earlier turns that the server would refuse are made to fit."""
        raw, left_out = chat_history(raw, terms)
        outgoing = patched(_PATH, raw, terms)
        return msgspec.structs.replace(outgoing, dropped=left_out) if left_out else outgoing

    def relay(self, raw: RawRequest, terms: Terms, head: Head) -> Relay:
        """See `Speaker`."""
        return relay(raw, terms, head)

    def error(self, head: Head, body: bytes) -> TrunklineError:
        """See `Speaker`."""
        return refusal(head, body)


def _sent(message: Message, terms: Terms) -> Json:
    role = message.role
    if role == "developer" and "max_completion_tokens" not in terms.features:
        # Only OpenAI's own models tell the two apart.
        role = "system"
    content = message.content
    sent: Json = {
        "role": role,
        "content": content if content is None or isinstance(content, str) else list(content),
    }
    if message.name is not None:
        sent["name"] = message.name
    if message.tool_calls:
        sent["tool_calls"] = [_call(call, terms) for call in message.tool_calls]
    if message.tool_call_id is not None:
        sent["tool_call_id"] = call_id(message.tool_call_id, terms, CHAT_ID)
    if message.reasoning_content and "template_kwargs" in terms.features:
        sent["reasoning_content"] = message.reasoning_content
    elif message.tool_calls and "past_reasoning" in terms.features:
        # Missing it is an error, also where the model or another server has thought nothing.
        sent["reasoning_content"] = message.reasoning_content or ""
    return sent


def _call(call: Json, terms: Terms) -> Json:
    function, given = call["function"], call.get("id")
    if not function.get("arguments"):
        # Servers read them as JSON.
        call = {**call, "function": {**function, "arguments": "{}"}}
    return call if given is None else {**call, "id": call_id(given, terms, CHAT_ID)}


def _place_template(asked: Asked, source: ChatInput, body: Json) -> tuple[str, ...]:
    """How the conversation becomes a prompt. Returns what is passed over."""
    if asked.take("continue_final_message", "continue_final_message"):
        body["continue_final_message"] = True
        body["add_generation_prompt"] = False
    variables = dict(source.template_kwargs)
    passed_over: list[str] = []
    if asked.has("template_kwargs"):
        asked.take("reasoning")
        asked.take("chat_template_kwargs")
        if asked.has("reasoning") and isinstance(variables.get("reasoning_effort"), str):
            body["reasoning_effort"] = variables.pop("reasoning_effort")
        if variables:
            body["chat_template_kwargs"] = variables
    elif asked.has("past_reasoning") and asked.unthinking():
        asked.take("reasoning")
        body["thinking"] = {"type": "disabled"}
    else:
        word = effort(asked, "reasoning_effort", tools="tools" in body)
        if word is not None:
            body["reasoning_effort"] = word
        lost = not asked.has("past_reasoning")
        if lost and any(message.reasoning_content for message in source.messages):
            passed_over.append("reasoning_content")
    return tuple(passed_over)


class _Answer(ChoicesAnswer[_Choice]):
    """See `ChoicesAnswer`."""

    def _choice(self, choice: _Choice, into: list[Event]) -> None:
        row = self._rows.row(choice.index)
        message = choice.delta or choice.message or _NOTHING
        text, reasoning = message.content, message.reasoning_content or message.reasoning or ""
        if not isinstance(text, str):
            parts = text or ()
            reasoning += "".join(part.thought() for part in parts)
            text = "".join(part.text or "" for part in parts)
        if message.refusal:
            row.refused = True
            text += message.refusal
        calls = _calls(row, message.tool_calls) if message.tool_calls else ()
        logprobs = (
            told_tokens(choice.logprobs.content) if self._logprobs and choice.logprobs else None
        )
        into += row.delta(text, reasoning, calls, logprobs)
        if choice.finish_reason:
            stop = choice.matched_stop if choice.stop_reason is None else choice.stop_reason
            into += row.finish(choice.finish_reason, stop)


def _calls(row: Row, calls: Sequence[_Call]) -> tuple[ToolCallDelta, ...]:
    found: list[ToolCallDelta] = []
    for call in calls:
        function = call.function or _Function()
        arguments = argument_text(function.arguments)
        found += row.call(call.index, call.id or "", function.name or "", arguments)
    return tuple(found)
