"""`POST /v1/messages` and `POST /v1/messages/count_tokens`."""

from __future__ import annotations

import msgspec

from trunkline.core.types import CachePoint, ChatInput, Request, Tokenization
from trunkline.wire.anthropic.answer import MessageStream, MessageWhole, Style
from trunkline.wire.anthropic.content import Conversation, conversation
from trunkline.wire.anthropic.errors import decode, render_error, status, stream_error
from trunkline.wire.anthropic.fields import (
    MessagesFields,
    PromptFields,
    constraint,
    explicit,
    sampling,
    stops,
    template_variables,
)
from trunkline.wire.anthropic.notes import noted
from trunkline.wire.anthropic.tools import chosen_tools
from trunkline.wire.cache_points import closed
from trunkline.wire.codec import Answer, Codec, Incoming, Renderer
from trunkline.wire.openai.tools import Tools

_messages = msgspec.json.Decoder(MessagesFields)
_count = msgspec.json.Decoder(PromptFields)


class MessagesAsk:
    """A decoded call."""

    def __init__(self, fields: MessagesFields) -> None:
        self.model = fields.model or ""
        self.stream = bool(fields.stream)
        self._tools = _tools(fields)
        turns = conversation(fields.system, fields.messages)
        self._input = _input(fields, self._tools, turns)
        self._sampling = sampling(fields)
        self._explicit = explicit(fields)
        self._notes = noted(fields, turns.left_out)
        self._stop = stops(fields)
        self._grammar = constraint(fields)
        choice = fields.tool_choice
        self._parallel = not (choice and choice.disable_parallel_tool_use)
        self._style = Style(
            caching=_marks_cache(fields, self._input),
            hide_thinking=fields.thinking is not None and fields.thinking.display == "omitted",
            silent=fields.max_tokens == 0,
        )

    def requests(self, request_id: str, model: str, tenant: str) -> tuple[Request, ...]:
        """The one request."""
        request = Request(
            id=request_id,
            model=model,
            input=self._input,
            sampling=self._sampling,
            explicit=self._explicit,
            notes=self._notes,
            stop=self._stop,
            grammar=self._grammar,
            tool_choice=self._tools.choice,
            tool_name=self._tools.name,
            parallel_tool_calls=self._parallel,
            # Agents ask for tens of thousands of tokens of whatever model answers.
            overflow="cap",
            tenant=tenant,
        )
        return (request,)

    def renderer(self, answer: Answer) -> Renderer:
        """Events for a stream, else one message."""
        return (MessageStream if self.stream else MessageWhole)(answer, self._style)


class _Counted(msgspec.Struct):
    input_tokens: int


class CountLookup:
    """A decoded question for the number of tokens of a prompt."""

    def __init__(self, fields: PromptFields) -> None:
        self.model = fields.model or ""
        self._tools = _tools(fields)
        self._input = _input(fields, self._tools, conversation(fields.system, fields.messages))

    def question(self, request_id: str, model: str, tenant: str) -> Request:
        """The request whose prompt is counted."""
        choice = self._tools.choice
        return Request(
            id=request_id,
            model=model,
            input=self._input,
            tool_choice=choice,
            tool_name=self._tools.name,
            tenant=tenant,
        )

    def render(self, answer: Tokenization) -> bytes:
        """The number."""
        return msgspec.json.encode(_Counted(len(answer.token_ids)))


def decode_messages(incoming: Incoming) -> MessagesAsk:
    """Decode and check a call. Raises `InvalidRequest` and `Unsupported`."""
    return MessagesAsk(decode(_messages, incoming.body))


def decode_count(incoming: Incoming) -> CountLookup:
    """Decode and check a question. Raises `InvalidRequest` and `Unsupported`."""
    return CountLookup(decode(_count, incoming.body))


def _tools(fields: PromptFields) -> Tools:
    return chosen_tools(fields.tools or (), fields.tool_choice)


def _input(fields: PromptFields, tools: Tools, turns: Conversation) -> ChatInput:
    return ChatInput(
        messages=tuple(turns.messages),
        tools=tools.definitions,
        template_kwargs=template_variables(fields),
        add_generation_prompt=not turns.continued,
        continue_final_message=turns.continued,
        cache_points=_cache_points(fields, tools, turns),
    )


def _cache_points(
    fields: PromptFields, tools: Tools, turns: Conversation
) -> tuple[CachePoint, ...]:
    """All marks of a body. The one at its top is behind the last message, if none is there yet."""
    points = turns.cache_points
    marks = [tool["cache_control"] for tool in fields.tools or () if tool.get("cache_control")]
    if marks and tools.definitions:
        ttl = marks[-1].get("ttl") if isinstance(marks[-1], dict) else None
        points = [CachePoint("tools", ttl=ttl if ttl in ("5m", "1h") else ""), *points]
    if fields.cache_control is None:
        return tuple(points)
    return closed(points, turns.messages, fields.cache_control.ttl or "")


def _marks_cache(fields: PromptFields, prompt: ChatInput) -> bool:
    """Whether a body asks for caching anywhere."""
    return bool(prompt.cache_points) or any(
        tool.get("cache_control") for tool in fields.tools or ()
    )


MESSAGES = Codec(
    "msg_",
    decode_messages,
    render_error,
    stream_error,
    status=status,
    operation="anthropic.messages",
)
COUNT_TOKENS = Codec("msg_", decode_count, render_error, stream_error, status=status, looks_up=True)
