"""`POST /tokenize` and `POST /detokenize`.

Shapes: entrypoints/serve/tokenize/protocol.py (vllm-project/vllm 030ea52, 2026). The answer to
`/detokenize` says the text under the names of all who share its path and its request: `prompt`
(vLLM), `content` (llama.cpp), `text` (SGLang).
"""

from __future__ import annotations

from typing import Annotated, cast

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from trunkline.core.errors import InvalidRequest, Unsupported
from trunkline.core.types import Request, TextInput, Tokenization
from trunkline.wire.codec import Ask, Codec, Incoming, pieces_of
from trunkline.wire.openai.chat import CHAT
from trunkline.wire.openai.fields import NOTHING, TokenId, asks, decode
from trunkline.wire.vllm.errors import render_error, stream_error

# Above every context.
_MAX_TOKENS = 4 * 1024 * 1024


class TokenizeFields(msgspec.Struct, kw_only=True):
    """The body of `/tokenize`."""

    model: str | None = None
    # One of the two.
    prompt: str | UnsetType = UNSET
    messages: Raw = NOTHING
    # Of a prompt it is true, of messages false, unless given.
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None


class DetokenizeFields(msgspec.Struct, kw_only=True):
    """The body of `/detokenize`."""

    model: str | None = None
    # llama.cpp takes no tokens for none.
    tokens: Annotated[list[TokenId], Meta(max_length=_MAX_TOKENS)] | None = None


class _Tokens(msgspec.Struct):
    count: int
    max_model_len: int
    tokens: tuple[int, ...]
    token_strs: list[str] | None


class _Text(msgspec.Struct):
    prompt: str
    content: str
    text: str


_tokenize = msgspec.json.Decoder(TokenizeFields)
_detokenize = msgspec.json.Decoder(DetokenizeFields)


class TokenizeLookup:
    """How a prompt, or the prompt of a conversation, is tokenized."""

    def __init__(self, fields: TokenizeFields, conversation: Ask | None) -> None:
        self.model = fields.model or ""
        self._fields = fields
        self._conversation = conversation

    def question(self, request_id: str, model: str, tenant: str) -> Request:
        """The prompt."""
        if self._conversation is not None:
            return self._conversation.requests(request_id, model, tenant)[0]
        prompt = self._fields.prompt
        special = self._fields.add_special_tokens is not False
        text = TextInput("" if prompt is UNSET else prompt, add_special_tokens=special)
        return Request(id=request_id, model=model, input=text, tenant=tenant)

    def render(self, answer: Tokenization) -> bytes:
        """Count, limit and tokens."""
        strings = None
        if self._fields.return_token_strs:
            strings = [piece.decode(errors="replace") for piece in pieces_of(answer)]
        ids = answer.token_ids
        return msgspec.json.encode(_Tokens(len(ids), answer.context_length, ids, strings))


class DetokenizeLookup:
    """What tokens say."""

    def __init__(self, fields: DetokenizeFields) -> None:
        self.model = fields.model or ""
        self._tokens = tuple(fields.tokens or ())

    def question(self, request_id: str, model: str, tenant: str) -> tuple[int, ...]:
        """The tokens."""
        return self._tokens

    def render(self, answer: Tokenization) -> bytes:
        """The text."""
        return msgspec.json.encode(_Text(answer.text, answer.text, answer.text))


def _decode_tokenize(incoming: Incoming) -> TokenizeLookup:
    fields = decode(_tokenize, incoming.body)
    if fields.prompt is not UNSET:
        return TokenizeLookup(fields, None)
    if fields.add_special_tokens:
        problem = "'add_special_tokens' is not supported with 'messages': templates write them."
        raise Unsupported(problem, param="add_special_tokens")
    if not asks(fields.messages):
        problem = "'prompt' is required, or 'messages' (or TGI's 'inputs', llama.cpp's 'content')."
        raise InvalidRequest(problem, param="prompt")
    return TokenizeLookup(fields, cast(Ask, CHAT.decode(incoming)))


def _decode_detokenize(incoming: Incoming) -> DetokenizeLookup:
    return DetokenizeLookup(decode(_detokenize, incoming.body))


# POST /tokenize with `prompt` or `messages`
TOKENIZE = Codec("tok-", _decode_tokenize, render_error, stream_error, looks_up=True)
# POST /detokenize
DETOKENIZE = Codec("detok-", _decode_detokenize, render_error, stream_error, looks_up=True)
