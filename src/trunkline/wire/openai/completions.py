"""`POST /v1/completions`."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Raw

from trunkline.core.errors import InvalidRequest, TrunklineError, Unsupported
from trunkline.core.types import (
    InfillInput,
    Input,
    ModelCard,
    Request,
    TextInput,
    TokensInput,
)
from trunkline.wire.codec import Answer, Codec, Renderer
from trunkline.wire.openai.answers import stream_error
from trunkline.wire.openai.completions_answer import CompletionStream, CompletionWhole, Shown
from trunkline.wire.openai.errors import render_error
from trunkline.wire.openai.fields import (
    COMMON_REFUSED,
    NOTHING,
    Refusal,
    TokenId,
    TopCount,
    decode,
    include_usage,
    sampling,
    stops,
)
from trunkline.wire.openai.formats import constraint, named_error
from trunkline.wire.openai.notes import Notes, explicit
from trunkline.wire.openai.prompt_details import (
    PromptFields,
    check_amount,
    check_prompt_logprobs,
)

# OpenAI's default, unlike that of chat.
DEFAULT_MAX_TOKENS = 16
# Prompts of one call, and prompts times n: each prompt is a request of its own in the queue.
MAX_PROMPTS = 256
MAX_CHOICES = 1024

_refusal = Refusal(COMMON_REFUSED, essential=("prompt_embeds",))
_notes = Notes("user")
_SPACE = b" \t\r\n"


class CompletionFields(PromptFields, kw_only=True):
    """The body."""

    # A string, strings, token ids, or lists of token ids.
    prompt: Raw = NOTHING
    # 0: nothing but the echo. null: as much as there is room for, as vLLM has it (`get_max_tokens`
    # in vllm/entrypoints/utils.py, 00fc880).
    max_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = DEFAULT_MAX_TOKENS
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
        self._beyond = _refusal.of(fields)
        self.model = fields.model or ""
        self.stream = bool(fields.stream)
        self._fields = fields
        self._n = fields.n or 1
        # Rows of each prompt; the best n of them are shown.
        self._rows = max(self._n, fields.best_of or 1)
        self._include_usage = include_usage(fields)
        self._inputs = _inputs(fields)
        self._stop = stops(fields)
        self._notes = _notes.of(fields)
        self._grammar = constraint(fields)
        self._sampling = sampling(
            fields,
            max_tokens=fields.max_tokens,
            # The best are told by their log probabilities.
            logprobs=0 if fields.logprobs is None and self._rows > self._n else fields.logprobs,
        )
        check_amount(len(bytes(fields.prompt)), self._prompt_logprobs(), "prompt")
        if len(self._inputs) * self._rows > MAX_CHOICES:
            problem = f"{len(self._inputs)} prompts times {self._rows} rows is over {MAX_CHOICES}."
            raise InvalidRequest(problem, param="prompt")

    def check(self, card: ModelCard) -> None:
        """Raise `Unsupported` where the model cannot fill in; a card without facts says nothing."""
        if self._fields.suffix and card.context_length and "insert" not in card.capabilities:
            raise Unsupported("'suffix' is not supported by this model.", param="suffix")

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
                show_prompt=self._shows_prompt(one),
                prompt_logprobs=self._prompt_logprobs(),
                explicit=explicit(self._fields),
                notes=self._notes,
                beyond=self._beyond,
            )
            for index, one in enumerate(self._inputs)
        )

    def renderer(self, answer: Answer) -> Renderer:
        """Chunks for a stream, else one object."""
        fields = self._fields
        texts = [one.text if isinstance(one, TextInput) else None for one in self._inputs]
        shown = Shown(
            n=self._n,
            rows=self._rows,
            logprobs=fields.logprobs,
            echo=tuple(texts) if fields.echo else (),
            prompt_logprobs=fields.prompt_logprobs,
            token_ids=bool(fields.return_token_ids),
        )
        if self.stream:
            return CompletionStream(answer, shown, include_usage=self._include_usage)
        return CompletionWhole(answer, shown)

    def _prompt_logprobs(self) -> int | None:
        fields = self._fields
        wanted = [fields.prompt_logprobs, fields.logprobs if fields.echo else None]
        return max((one for one in wanted if one is not None), default=None)

    def _shows_prompt(self, prompt: Input) -> bool:
        unknown = bool(self._fields.echo) and not isinstance(prompt, TextInput)
        return unknown or bool(self._fields.return_token_ids)


def decode_completion(body: bytes | bytearray) -> CompletionAsk:
    """Decode and check a body. Raises `InvalidRequest` and `Unsupported`."""
    fields = decode(_decoder, body)
    check_prompt_logprobs(fields)
    if fields.suffix and fields.echo:
        raise InvalidRequest("'echo' and 'suffix' exclude each other.", param="echo")
    if fields.max_tokens == 0 and not fields.echo:
        problem = "'max_tokens' must be at least 1, but for the 'echo' of a prompt alone."
        raise InvalidRequest(problem, param="max_tokens")
    if fields.best_of is not None:
        _check_best_of(fields.best_of, fields)
    return CompletionAsk(fields)


def _check_best_of(best_of: int, fields: CompletionFields) -> None:
    if best_of < (fields.n or 1):
        raise InvalidRequest("'best_of' must not be less than 'n'.", param="best_of")
    if best_of > (fields.n or 1) and fields.stream:
        problem = "'best_of' greater than 'n' cannot be streamed: the best are known at the end."
        raise InvalidRequest(problem, param="best_of")


def _inputs(fields: CompletionFields) -> tuple[Input, ...]:
    """The prompts, each with the suffix if there is one."""
    prompts = _prompts(fields)
    if not fields.suffix:
        return prompts
    suffix = (fields.suffix,)
    return tuple(
        InfillInput((one.text if isinstance(one, TextInput) else one.token_ids,), suffix)
        for one in prompts
    )


def _prompts(fields: CompletionFields) -> tuple[TextInput | TokensInput, ...]:
    """msgspec knows no union of list types, so the first characters decide."""
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
    operation="openai.completions",
)
