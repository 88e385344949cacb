"""`POST /tokenize` and `POST /chat_tokenize`.

Shapes: `SimpleToken` and `ChatTokenizeResponse` in `router/src/lib.rs` (TGI db931fc, 2026-01-08).
"""

from __future__ import annotations

from typing import cast

import msgspec

from trunkline.core.types import Request, TextInput, Tokenization
from trunkline.wire.codec import Ask, Codec, Incoming, pieces_of
from trunkline.wire.openai.chat import CHAT
from trunkline.wire.openai.fields import decode
from trunkline.wire.tgi.errors import render_error, status, stream_error
from trunkline.wire.tgi.fields import GenerateFields


class _SimpleToken(msgspec.Struct):
    id: int
    text: str
    # Byte offsets in the text.
    start: int
    stop: int


class _ChatTokens(msgspec.Struct):
    tokenize_response: list[_SimpleToken]
    templated_text: str


_decoder = msgspec.json.Decoder(GenerateFields)
_encoder = msgspec.json.Encoder()


class TokenizeLookup:
    """How `inputs` is tokenized; `parameters` say nothing about that."""

    def __init__(self, fields: GenerateFields) -> None:
        self.model = fields.model or ""
        self._inputs = fields.inputs

    def question(self, request_id: str, model: str, tenant: str) -> Request:
        """The prompt."""
        return Request(id=request_id, model=model, input=TextInput(self._inputs), tenant=tenant)

    def render(self, answer: Tokenization) -> bytes:
        """A list of tokens."""
        return _encoder.encode(_tokens(answer))


class ChatTokenizeLookup:
    """What a conversation becomes, and how that is tokenized."""

    def __init__(self, ask: Ask) -> None:
        self.model = ask.model
        self._ask = ask

    def question(self, request_id: str, model: str, tenant: str) -> Request:
        """The conversation."""
        return self._ask.requests(request_id, model, tenant)[0]

    def render(self, answer: Tokenization) -> bytes:
        """Tokens and the text that they are of."""
        return _encoder.encode(_ChatTokens(_tokens(answer), answer.text))


def _tokens(answer: Tokenization) -> list[_SimpleToken]:
    """Tokens with their places; one that is not in the text (BOS) has none."""
    text = answer.text.encode(errors="surrogatepass")
    found: list[_SimpleToken] = []
    at = 0
    for token, piece in zip(answer.token_ids, pieces_of(answer), strict=True):
        here = _part(text, at, piece)
        stop = at + len(here)
        start, stop = (at, stop) if here else (0, 0)
        found.append(_SimpleToken(token, here.decode(errors="replace"), start, stop))
        at += len(here)
    return found


def _part(text: bytes, at: int, piece: bytes) -> bytes:
    """What of `text` at `at` the piece is; vocabularies may put a space before the first word."""
    for form in (piece, piece.removeprefix(b" ")):
        if form and text.startswith(form, at):
            return form
    return b""


def _tokenize(incoming: Incoming) -> TokenizeLookup:
    return TokenizeLookup(decode(_decoder, incoming.body))


def _chat_tokenize(incoming: Incoming) -> ChatTokenizeLookup:
    return ChatTokenizeLookup(cast(Ask, CHAT.decode(incoming)))


# POST /tokenize with `inputs`
TOKENIZE = Codec("tgi-", _tokenize, render_error, stream_error, status=status, looks_up=True)
# POST /chat_tokenize
CHAT_TOKENIZE = msgspec.structs.replace(TOKENIZE, decode=_chat_tokenize)
