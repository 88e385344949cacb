"""`POST /completion`, `POST /completions`, `POST /infill`.

Source: tools/server/server-context.cpp of llama.cpp b11549.
"""

from __future__ import annotations

import msgspec

from trunkline.core.errors import Unsupported
from trunkline.core.types import Grammar, Input, Json, LineLimits, Request, TextInput
from trunkline.wire.codec import Answer, Codec, Incoming, Renderer
from trunkline.wire.llamacpp.completion_answer import CompletionStream, CompletionWhole, Wanted
from trunkline.wire.llamacpp.errors import render_error, status, stream_error
from trunkline.wire.llamacpp.fields import CompletionFields, decode
from trunkline.wire.llamacpp.infill import InfillFields, infill_input
from trunkline.wire.llamacpp.prompts import prompts
from trunkline.wire.llamacpp.sampling import beyond, implied, sampling, settings
from trunkline.wire.openai.formats import json_schema

_MAX_STOPS = 64
_decoder = msgspec.json.Decoder(CompletionFields)
_infill_decoder = msgspec.json.Decoder(InfillFields)


class CompletionAsk:
    """A decoded call; each of its prompts is a request."""

    def __init__(self, fields: CompletionFields, inputs: tuple[Input, ...]) -> None:
        self.model = fields.model or ""
        self.stream = bool(fields.stream)
        self._inputs = inputs
        self._sampling = sampling(fields)
        self._stop = _stops(fields)
        self._grammar = _grammar(fields)
        self._rows = fields.n_cmpl or fields.n or 1
        self._fields = fields

    def requests(self, request_id: str, model: str, tenant: str) -> tuple[Request, ...]:
        """One for each prompt."""
        several = len(self._inputs) > 1
        return tuple(
            self._request(f"{request_id}-{index}" if several else request_id, one, model, tenant)
            for index, one in enumerate(self._inputs)
        )

    def renderer(self, answer: Answer) -> Renderer:
        """Events for a stream, else one object, or a list of them."""
        wanted = Wanted(
            prompts=tuple(one.text if isinstance(one, TextInput) else None for one in self._inputs),
            rows=self._rows,
            settings=self._settings(),
            return_tokens=bool(self._fields.return_tokens),
            logprobs=self._sampling.logprobs is not None,
            response_fields=tuple(self._fields.response_fields or ()),
        )
        return CompletionStream(answer, wanted) if self.stream else CompletionWhole(answer, wanted)

    def _request(self, request_id: str, source: Input, model: str, tenant: str) -> Request:
        return Request(
            id=request_id,
            model=model,
            input=source,
            sampling=self._sampling,
            n=self._rows,
            stop=self._stop,
            implied=implied(self._fields),
            lines=_lines(self._fields),
            grammar=self._grammar,
            tool_choice="none",
            overflow="cap",
            tenant=tenant,
            beyond=beyond(self._fields),
            # Nobody else's prefix has this name.
            cache_salt=request_id if self._fields.cache_prompt is False else "",
            # The answer tells it as text.
            show_prompt=not isinstance(source, TextInput),
        )

    def _settings(self) -> Json:
        said = settings(self._sampling)
        kind = self._grammar.kind if self._grammar else ""
        grammar = self._fields.grammar if kind == "gbnf" else ""
        return said | {"stop": list(self._stop), "stream": self.stream, "grammar": grammar or ""}


def decode_completion(body: bytes | bytearray) -> CompletionAsk:
    """Decode and check a body. Raises `InvalidRequest` and `Unsupported`."""
    fields = decode(_decoder, body)
    return CompletionAsk(fields, prompts(fields.prompt))


def decode_infill(body: bytes | bytearray) -> CompletionAsk:
    """The same for `/infill`. Whether the model can do it, its front says."""
    fields = decode(_infill_decoder, body)
    return CompletionAsk(fields, (infill_input(fields),))


def _stops(fields: CompletionFields) -> tuple[str, ...]:
    given = [fields.stop] if isinstance(fields.stop, str) else fields.stop or []
    if len(given) > _MAX_STOPS:
        raise Unsupported(f"Field 'stop': more than {_MAX_STOPS} strings", param="stop")
    # Empty ones are passed over there too.
    return tuple(stop for stop in given if stop)


def _lines(fields: CompletionFields) -> LineLimits | None:
    limits = LineLimits(
        max(0, fields.n_indent or 0), max(0.0, (fields.t_max_predict_ms or 0.0) / 1e3)
    )
    return None if limits == LineLimits() else limits


def _grammar(fields: CompletionFields) -> Grammar | None:
    if fields.grammar:
        return Grammar("gbnf", fields.grammar)
    schema = bytes(fields.json_schema).strip()
    if fields.grammar is not None or schema in (b"", b"null"):
        return None
    if schema == b"{}":
        return Grammar("json_object")
    return json_schema(msgspec.Raw(schema), strict=False)


def _decode(incoming: Incoming) -> CompletionAsk:
    return decode_completion(incoming.body)


def _infill(incoming: Incoming) -> CompletionAsk:
    return decode_infill(incoming.body)


INFILL = Codec("infill-", _infill, render_error, stream_error, status=status)
COMPLETION = Codec(
    "cmpl-",
    _decode,
    render_error,
    stream_error,
    status=status,
    operation="llamacpp.completion",
)
