"""`POST /tokenize`, `POST /detokenize`, `POST /apply-template`.

Source: tools/server/server-context.cpp of llama.cpp b11549.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from trunkline.core.types import Request, Tokenization
from trunkline.wire.codec import Codec, Incoming, pieces_of
from trunkline.wire.llamacpp.completion_answer import encoder
from trunkline.wire.llamacpp.errors import render_error, status, stream_error
from trunkline.wire.llamacpp.fields import decode
from trunkline.wire.llamacpp.prompts import mixed
from trunkline.wire.openai.chat import ChatAsk, decode_chat


class TokenizeFields(msgspec.Struct):
    """The body of `/tokenize`."""

    model: str | None = None
    content: Any = ""
    add_special: bool | None = None
    parse_special: bool | None = None
    with_pieces: bool | None = None


class _DetokenizeFields(msgspec.Struct):
    model: str | None = None
    tokens: list[Annotated[int, Meta(ge=0, le=2**31 - 1)]] | None = None


class _Piece(msgspec.Struct):
    id: int
    # Bytes, where they are no UTF-8 by themselves.
    piece: str | list[int]


_tokenize = msgspec.json.Decoder(TokenizeFields)
_detokenize = msgspec.json.Decoder(_DetokenizeFields)


class TokenizeLookup:
    """What tokens a text has."""

    def __init__(self, fields: TokenizeFields) -> None:
        self.model = fields.model or ""
        self._pieces = bool(fields.with_pieces)
        parse = fields.parse_special is not False
        self._input = mixed(fields.content, special=bool(fields.add_special), parse=parse)

    def question(self, request_id: str, model: str, tenant: str) -> Request:
        """The text."""
        return Request(id=request_id, model=model, input=self._input, tenant=tenant)

    def render(self, answer: Tokenization) -> bytes:
        """The tokens; with pieces, what each says."""
        if not self._pieces:
            return encoder.encode({"tokens": answer.token_ids})
        pairs = zip(answer.token_ids, pieces_of(answer), strict=True)
        return encoder.encode({"tokens": [_Piece(number, _shown(data)) for number, data in pairs]})


class DetokenizeLookup:
    """What tokens say."""

    def __init__(self, fields: _DetokenizeFields) -> None:
        self.model = fields.model or ""
        self._tokens = tuple(fields.tokens or ())

    def question(self, request_id: str, model: str, tenant: str) -> tuple[int, ...]:
        """The tokens."""
        return self._tokens

    def render(self, answer: Tokenization) -> bytes:
        """The text."""
        return encoder.encode({"content": answer.text})


class TemplateLookup:
    """What prompt a conversation becomes; the body is one of chat completions."""

    def __init__(self, ask: ChatAsk) -> None:
        self.model = ask.model
        self._ask = ask

    def question(self, request_id: str, model: str, tenant: str) -> Request:
        """The conversation."""
        (request,) = self._ask.requests(request_id, model, tenant)
        return request

    def render(self, answer: Tokenization) -> bytes:
        """The prompt."""
        return encoder.encode({"prompt": answer.text})


def decode_tokenize(body: bytes | bytearray) -> TokenizeLookup:
    """Decode and check a body. Raises `InvalidRequest`."""
    return TokenizeLookup(decode(_tokenize, body))


def decode_detokenize(body: bytes | bytearray) -> DetokenizeLookup:
    """Decode and check a body. Raises `InvalidRequest`."""
    return DetokenizeLookup(decode(_detokenize, body))


def _shown(data: bytes) -> str | list[int]:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return list(data)


def _lookup_tokens(incoming: Incoming) -> TokenizeLookup:
    return decode_tokenize(incoming.body)


def _lookup_text(incoming: Incoming) -> DetokenizeLookup:
    return decode_detokenize(incoming.body)


def _lookup_prompt(incoming: Incoming) -> TemplateLookup:
    return TemplateLookup(decode_chat(incoming.body))


TOKENIZE = Codec("tok-", _lookup_tokens, render_error, stream_error, status=status, looks_up=True)
DETOKENIZE = Codec("detok-", _lookup_text, render_error, stream_error, status=status, looks_up=True)
APPLY_TEMPLATE = Codec(
    "tmpl-", _lookup_prompt, render_error, stream_error, status=status, looks_up=True
)
