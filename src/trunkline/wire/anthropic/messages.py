"""`POST /v1/messages` and `POST /v1/messages/count_tokens`."""

from __future__ import annotations

import msgspec

from trunkline.core.types import ChatInput, Request, Tokenization
from trunkline.wire.anthropic.answer import MessageStream, MessageWhole, Style
from trunkline.wire.anthropic.content import conversation
from trunkline.wire.anthropic.errors import decode, render_error, status, stream_error
from trunkline.wire.anthropic.fields import (
    MessagesFields,
    PromptFields,
    constraint,
    marks_cache,
    sampling,
    stops,
    template_variables,
)
from trunkline.wire.anthropic.tools import chosen_tools
from trunkline.wire.codec import Answer, Codec, Incoming, Renderer
from trunkline.wire.openai.tools import Tools

_messages = msgspec.json.Decoder(MessagesFields)
_count = msgspec.json.Decoder(PromptFields)


class MessagesAsk:
    """A decoded call."""

    def __init__(self, fields: MessagesFields, *, caching: bool) -> None:
        self.model = fields.model or ""
        self.stream = bool(fields.stream)
        self._tools = _tools(fields)
        self._input = _input(fields, self._tools)
        self._sampling = sampling(fields)
        self._stop = stops(fields)
        self._grammar = constraint(fields)
        choice = fields.tool_choice
        self._parallel = not (choice and choice.disable_parallel_tool_use)
        self._style = Style(
            caching=caching,
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
        self._input = _input(fields, self._tools)

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
    fields = decode(_messages, incoming.body)
    return MessagesAsk(fields, caching=marks_cache(incoming.body))


def decode_count(incoming: Incoming) -> CountLookup:
    """Decode and check a question. Raises `InvalidRequest` and `Unsupported`."""
    return CountLookup(decode(_count, incoming.body))


def _tools(fields: PromptFields) -> Tools:
    return chosen_tools(fields.tools or (), fields.tool_choice)


def _input(fields: PromptFields, tools: Tools) -> ChatInput:
    messages, continued = conversation(fields.system, fields.messages)
    return ChatInput(
        messages=messages,
        tools=tools.definitions,
        template_kwargs=template_variables(fields),
        add_generation_prompt=not continued,
        continue_final_message=continued,
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
