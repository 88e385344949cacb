"""`POST /api/chat`."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from trunkline.core.errors import InvalidRequest, Unsupported
from trunkline.core.types import ChatInput, ModelCard, Request
from trunkline.wire.codec import NDJSON, Answer, Codec, Incoming, Renderer
from trunkline.wire.ollama.answers import Prepared
from trunkline.wire.ollama.chat_answer import ChatStream, ChatWhole, prepared
from trunkline.wire.ollama.errors import render_error, status, stream_error
from trunkline.wire.ollama.fields import NOTHING, CommonFields, common, decode
from trunkline.wire.ollama.messages import ChatMessage, goes_on, messages
from trunkline.wire.ollama.names import find_name
from trunkline.wire.openai.tools import chat_tools


class ChatFields(CommonFields, kw_only=True):
    """The body."""

    messages: list[ChatMessage] | None = None
    tools: Raw = NOTHING


_decoder = msgspec.json.Decoder(ChatFields)


class ChatAsk:
    """A decoded call. Without messages it only loads the model, or unloads it."""

    def __init__(self, fields: ChatFields) -> None:
        self._common = common(fields)
        self.model = self._common.model
        self.keep_alive = self._common.keep_alive
        if not self.model:
            raise InvalidRequest("model is required", param="model")
        self._messages = messages(fields.messages or ())
        self._tools = chat_tools(fields.tools, NOTHING)
        # What needs no model is one object, whatever `stream` says.
        self.stream = self._common.stream and bool(self._messages)

    def check(self, card: ModelCard) -> None:
        """Raise `Unsupported` for what the model cannot do."""
        self._common.check(card)
        if self._tools.definitions and card.context_length and "tools" not in card.capabilities:
            raise Unsupported(f'"{self.model}" does not support tools', param="tools")

    def requests(self, request_id: str, model: str, tenant: str) -> tuple[Request, ...]:
        """The one request, or none."""
        if not self._messages:
            return ()
        going_on = goes_on(self._messages)
        request = Request(
            id=request_id,
            model=model,
            input=ChatInput(
                messages=self._messages,
                tools=self._tools.definitions,
                template_kwargs=self._common.template_kwargs(),
                add_generation_prompt=not going_on,
                continue_final_message=going_on,
            ),
            sampling=self._common.options.sampling,
            stop=self._common.options.stop,
            implied=self._common.options.implied,
            explicit=self._common.options.explicit,
            notes=self._common.options.notes,
            grammar=self._common.grammar,
            tool_choice=self._tools.choice,
            overflow="cap",
            tenant=tenant,
        )
        return (request,)

    def renderer(self, answer: Answer) -> Renderer:
        """Lines for a stream, else one object."""
        if not self._messages:
            return Prepared(lambda: prepared(answer, "unload" if self.keep_alive == 0 else "load"))
        return ChatStream(answer) if self.stream else ChatWhole(answer)


def decode_chat(body: bytes | bytearray) -> ChatAsk:
    """Decode and check a body. Raises `InvalidRequest` and `Unsupported`."""
    return ChatAsk(decode(_decoder, body))


def _decode(incoming: Incoming) -> ChatAsk:
    return decode_chat(incoming.body)


CHAT = Codec(
    "chat-",
    _decode,
    render_error,
    stream_error,
    stream_type=NDJSON,
    whole_type=b"application/json; charset=utf-8",
    status=status,
    find_name=find_name,
    operation="ollama.chat",
    streams="unless_declined",
)
