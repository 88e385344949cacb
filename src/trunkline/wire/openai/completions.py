"""`POST /v1/completions`."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Raw

from trunkline.core.errors import InvalidRequest, TrunklineError, Unsupported
from trunkline.core.types import Input, Request, TextInput, TokensInput
from trunkline.wire.codec import Answer, Codec, Renderer
from trunkline.wire.openai.answers import stream_error
from trunkline.wire.openai.completions_answer import CompletionStream, CompletionWhole
from trunkline.wire.openai.errors import render_error
from trunkline.wire.openai.fields import (
    COMMON_REFUSED,
    NOTHING,
    CommonFields,
    Refusal,
    TokenId,
    TopCount,
    decode,
    include_usage,
    sampling,
    stops,
)
from trunkline.wire.openai.formats import constraint, named_error

# OpenAI's default, unlike that of chat.
DEFAULT_MAX_TOKENS = 16
# Prompts of one call, and prompts times n: each prompt is a request of its own in the queue.
MAX_PROMPTS = 256
MAX_CHOICES = 1024

_refusal = Refusal((*COMMON_REFUSED, "prompt_embeds"))
_SPACE = b" \t\r\n"


class CompletionFields(CommonFields, kw_only=True):
    """The body. `user` and the like are ignored."""

    # A string, strings, token ids, or lists of token ids.
    prompt: Raw = NOTHING
    logprobs: TopCount | None = None
    best_of: Annotated[int, Meta(ge=1, le=128)] | None = None
    # vLLM's: BOS and the like before the prompt, where the model wants them.
    add_special_tokens: bool | None = None
    echo: bool | None = None
    suffix: str | None = None
    # Known, and refused when they ask for something.
    prompt_embeds: Raw = NOTHING


class _Text(msgspec.Struct):
    prompt: str


class _Texts(msgspec.Struct):
    prompt: Annotated[list[str], Meta(min_length=1, max_length=MAX_PROMPTS)]


# The upper bound is above every context; it spares decoding what can only be refused.
TokenIds = Annotated[list[TokenId], Meta(min_length=1, max_length=4 * 1024 * 1024)]


class _Ids(msgspec.Struct):
    prompt: TokenIds


class _IdLists(msgspec.Struct):
    prompt: Annotated[list[TokenIds], Meta(min_length=1, max_length=MAX_PROMPTS)]


_decoder = msgspec.json.Decoder(CompletionFields)
_text = msgspec.json.Decoder(_Text)
_texts = msgspec.json.Decoder(_Texts)
_ids = msgspec.json.Decoder(_Ids)
_id_lists = msgspec.json.Decoder(_IdLists)


class CompletionAsk:
    """A decoded call."""

    def __init__(self, fields: CompletionFields) -> None:
        self.model = fields.model or ""
        self.stream = bool(fields.stream)
        self._fields = fields
        self._n = fields.n or 1
        # Rows of each prompt; the best n of them are shown.
        self._rows = max(self._n, fields.best_of or 1)
        self._include_usage = include_usage(fields)
        self._inputs = _inputs(fields)
        self._stop = stops(fields)
        self._grammar = constraint(fields)
        self._sampling = sampling(
            fields,
            max_tokens=fields.max_tokens or DEFAULT_MAX_TOKENS,
            # The best are told by their log probabilities.
            logprobs=0 if fields.logprobs is None and self._rows > self._n else fields.logprobs,
        )
        if len(self._inputs) * self._rows > MAX_CHOICES:
            problem = f"{len(self._inputs)} prompts times {self._rows} rows is over {MAX_CHOICES}."
            raise InvalidRequest(problem, param="prompt")

    def requests(self, request_id: str, model: str, tenant: str) -> tuple[Request, ...]:
        """One request per prompt."""
        fields = self._fields
        several = len(self._inputs) > 1
        return tuple(
            Request(
                id=f"{request_id}-{index}" if several else request_id,
                model=model,
                input=one,
                sampling=self._sampling,
                n=self._rows,
                grammar=self._grammar,
                stop=self._stop,
                include_stop=bool(fields.include_stop_str_in_output),
                skip_special_tokens=fields.skip_special_tokens is not False,
                truncate_prompt=fields.truncate_prompt_tokens,
                priority=fields.priority or 0,
                tenant=tenant,
                cache_salt=fields.cache_salt or "",
            )
            for index, one in enumerate(self._inputs)
        )

    def renderer(self, answer: Answer) -> Renderer:
        """Chunks for a stream, else one object."""
        texts = [one.text for one in self._inputs if isinstance(one, TextInput)]
        echoed = tuple(texts) if self._fields.echo else ()
        if self.stream:
            return CompletionStream(
                answer, n=self._n, include_usage=self._include_usage, echo=echoed
            )
        logprobs = self._fields.logprobs is not None
        return CompletionWhole(answer, n=self._n, rows=self._rows, logprobs=logprobs, echo=echoed)


def decode_completion(body: bytes | bytearray) -> CompletionAsk:
    """Decode and check a body. Raises `InvalidRequest` and `Unsupported`."""
    fields = decode(_decoder, body)
    _refusal.check(fields)
    if fields.suffix:
        raise Unsupported("'suffix' is not supported by this model.", param="suffix")
    if fields.best_of is not None:
        _check_best_of(fields.best_of, fields)
    if fields.echo:
        _check_echo(fields)
    return CompletionAsk(fields)


def _check_best_of(best_of: int, fields: CompletionFields) -> None:
    if best_of < (fields.n or 1):
        raise InvalidRequest("'best_of' must not be less than 'n'.", param="best_of")
    if best_of > (fields.n or 1) and fields.stream:
        problem = "'best_of' greater than 'n' cannot be streamed: the best are known at the end."
        raise InvalidRequest(problem, param="best_of")


def _check_echo(fields: CompletionFields) -> None:
    if fields.logprobs is not None:
        raise Unsupported("'echo' together with 'logprobs' is not supported.", param="echo")
    if not bytes(fields.prompt).lstrip(b"[ \t\r\n").startswith(b'"'):
        problem = "'echo' of a prompt of token ids is not supported; send its text."
        raise Unsupported(problem, param="echo")


def _inputs(fields: CompletionFields) -> tuple[Input, ...]:
    """The prompts. msgspec knows no union of list types, so the first characters decide."""
    raw = bytes(fields.prompt)
    if not raw or raw == b"null":
        raise InvalidRequest("'prompt' is missing.", param="prompt")
    body = b'{"prompt":%b}' % raw
    special = fields.add_special_tokens is not False
    if not raw.startswith(b"["):
        return (TextInput(decode(_text, body).prompt, add_special_tokens=special),)
    first = raw[1:].lstrip(_SPACE)[:1]
    if first == b'"':
        texts = decode(_texts, body).prompt
        return tuple(TextInput(text, add_special_tokens=special) for text in texts)
    if first == b"[":
        return tuple(TokensInput(tuple(ids)) for ids in decode(_id_lists, body).prompt)
    return (TokensInput(tuple(decode(_ids, body).prompt)),)


def _named(error: TrunklineError) -> TrunklineError:
    return named_error(error, "response_format", "structured_outputs")


COMPLETIONS = Codec(
    "cmpl-",
    lambda incoming: decode_completion(incoming.body),
    lambda error: render_error(_named(error)),
    lambda error: stream_error(_named(error)),
)
