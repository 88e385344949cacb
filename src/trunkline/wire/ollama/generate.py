"""`POST /api/generate`."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from trunkline.core.errors import InvalidRequest, Unsupported
from trunkline.core.types import (
    ChatInput,
    InfillInput,
    Input,
    Message,
    ModelCard,
    Request,
    TextInput,
)
from trunkline.wire.codec import NDJSON, Answer, Codec, Incoming, Renderer
from trunkline.wire.ollama.answers import Prepared
from trunkline.wire.ollama.errors import render_error, status, stream_error
from trunkline.wire.ollama.fields import (
    CommonFields,
    common,
    decode,
    named,
    no_images,
)
from trunkline.wire.ollama.generate_answer import GenerateStream, GenerateWhole, prepared
from trunkline.wire.ollama.names import find_name

_TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class GenerateFields(CommonFields, kw_only=True):
    """The body."""

    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    template: str | None = None
    context: list[_TokenId] | None = None
    raw: bool | None = None
    images: list[Any] | None = None


_decoder = msgspec.json.Decoder(GenerateFields)


class GenerateAsk:
    """A decoded call. With an empty prompt it only loads the model, or unloads it."""

    def __init__(self, fields: GenerateFields) -> None:
        self._common = common(fields)
        named(self._common)
        self.model = self._common.model
        self.keep_alive = self._common.keep_alive
        self._prompt = fields.prompt or ""
        self._raw = bool(fields.raw)
        self._suffix = fields.suffix or ""
        if self._prompt or self._common.keep_alive != 0:
            self._refuse(fields)
        self._system = fields.system or ""
        self._context = tuple(fields.context or ())
        # What needs no model is one object, whatever `stream` says.
        self.stream = self._common.stream and bool(self._prompt)
        # False: the model has no chat template; Ollama's own for such a model is the bare prompt.
        self._can_chat = True

    def check(self, card: ModelCard) -> None:
        """Raise `Unsupported` for what the model cannot do; note whether it can chat."""
        self._common.check(card)
        if self._suffix and card.context_length and "insert" not in card.capabilities:
            raise Unsupported(f'"{self.model}" does not support insert', param="suffix")
        self._can_chat = not card.context_length or bool(card.chat_template)

    def requests(self, request_id: str, model: str, tenant: str) -> tuple[Request, ...]:
        """The one request, or none."""
        if not self._prompt:
            return ()
        request = Request(
            id=request_id,
            model=model,
            input=self._input(),
            sampling=self._common.options.sampling,
            stop=self._common.options.stop,
            implied=(*self._common.options.implied, "return_prompt_ids"),
            explicit=self._common.options.explicit,
            notes=self._common.options.notes,
            grammar=self._common.grammar,
            tool_choice="none",
            overflow="cap",
            tenant=tenant,
            return_prompt_ids=not self._raw,
        )
        return (request,)

    def renderer(self, answer: Answer) -> Renderer:
        """Lines for a stream, else one object."""
        if not self._prompt:
            return Prepared(lambda: prepared(answer, "unload" if self.keep_alive == 0 else "load"))
        return GenerateStream(answer) if self.stream else GenerateWhole(answer)

    def _input(self) -> Input:
        if self._suffix and not self._raw:
            # As the templates of such models do; they have no place for anything else.
            return InfillInput((self._prompt,), (self._suffix,))
        if self._raw or not (self._can_chat or self._context):
            system = "" if self._raw or not self._system else f"{self._system}\n\n"
            return TextInput(system + self._prompt)
        turn = Message("user", self._prompt)
        return ChatInput(
            messages=(Message("system", self._system), turn) if self._system else (turn,),
            template_kwargs=self._common.template_kwargs(),
            prefix_ids=self._context,
        )

    def _refuse(self, fields: GenerateFields) -> None:
        if self._raw and (fields.template or fields.system or fields.context):
            problem = "raw mode does not support template, system, or context"
            raise InvalidRequest(problem, param="raw")
        if fields.template:
            problem = "'template' is not supported: it is the model's own that is used"
            raise Unsupported(problem, param="template")
        no_images(fields.images)


def decode_generate(body: bytes | bytearray) -> GenerateAsk:
    """Decode and check a body. Raises `InvalidRequest`, `ModelNotFound` and `Unsupported`."""
    return GenerateAsk(decode(_decoder, body))


def _decode(incoming: Incoming) -> GenerateAsk:
    return decode_generate(incoming.body)


GENERATE = Codec(
    "gen-",
    _decode,
    render_error,
    stream_error,
    stream_type=NDJSON,
    whole_type=b"application/json; charset=utf-8",
    status=status,
    find_name=find_name,
    operation="ollama.generate",
    streams="unless_declined",
)
