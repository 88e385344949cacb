"""From a request to a group for the core: prompt ids, and every limit checked."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import msgspec
import numpy as np

from trunkline.core.errors import ContextOverflow, InvalidRequest, Unsupported, refuse
from trunkline.core.types import (
    ChatInput,
    InfillInput,
    MixedInput,
    Request,
    SamplingParams,
    TextInput,
    TokensInput,
)
from trunkline.engine.config import EngineConfig
from trunkline.engine.frames import AddGroup, CoreReady, RowGrammar
from trunkline.engine.front.infill import infill_prompt
from trunkline.engine.front.model_text import ModelText
from trunkline.engine.front.shape import Shaper
from trunkline.text.tokenizer import Tokenizer

# Prompts above this many characters are tokenized in a thread: libllama takes about 0.8 ms for
# each 1,000 characters of English on a slow core (Qwen3's vocabulary of 151,936).
_LONG_TEXT = 4 * 1024
# Characters of all stop strings of a request together.
_MAX_STOP_CHARACTERS = 64 * 1024
# Alternatives per position (OpenAI allows 20, vLLM what it was told).
_MAX_LOGPROBS = 1000
# Log probabilities of a prompt, alternatives included: some 0.2 KB each, in several processes.
_MAX_PROMPT_LOGPROBS = 1_000_000


class Prompt(NamedTuple):
    """A prompt as the model gets it."""

    # Templates rendered; "" where the request brought token ids.
    text: str
    token_ids: list[int]


class Preparer:
    """Turns requests into prompts and groups. Knows the model's text and the limits."""

    def __init__(
        self, config: EngineConfig, text: ModelText, tokenizing: ThreadPoolExecutor
    ) -> None:
        self._config = config
        self._text = text
        self._tokenizing = tokenizing

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's."""
        return self._text.tokenizer

    @property
    def shaper(self) -> Shaper:
        """The model's."""
        return self._text.shaper

    async def prompt(self, request: Request, context: int = 0) -> Prompt:
        """The prompt, truncated where the request says so. Raises `InvalidRequest`.

        `context`: longest prompt plus output, for prompts that are made to fit.
        """
        refuse(request.beyond)
        prompt = await self._whole_prompt(request, context)
        most = request.truncate_prompt
        if most is None or len(prompt.token_ids) <= most:
            return prompt
        if most < 1:
            raise InvalidRequest(f"truncate must be at least 1, not {most}", param="truncate")
        return Prompt(prompt.text, prompt.token_ids[-most:])

    async def _whole_prompt(self, request: Request, context: int) -> Prompt:
        match request.input:
            case ChatInput() as chat:
                if self._text.renderer is None:
                    raise Unsupported(self._text.why_no_chat)
                # The template writes BOS itself where the model wants it, as in transformers.
                text = await self._text.renderer.render(chat)
                rendered = await self._encode(text, special=False)
                if not chat.prefix_ids:
                    return rendered
                self.check_ids(chat.prefix_ids, "context")
                return Prompt(text, [*chat.prefix_ids, *rendered.token_ids])
            case TextInput(text, special, parse):
                return await self._encode(text, special=special, parse=parse)
            case MixedInput() as mixed:
                return await self._mixed(mixed)
            case InfillInput() as gap:
                return await self._infill(gap, context, request.sampling.max_tokens)
            case TokensInput(token_ids):
                self.check_ids(token_ids, "prompt")
                return Prompt("", list(token_ids))

    async def _mixed(self, mixed: MixedInput) -> Prompt:
        texts: list[str] = []
        ids: list[int] = []
        special = mixed.add_special_tokens
        for part in mixed.parts:
            if isinstance(part, str):
                one = await self._encode(part, special=special, parse=mixed.parse_special_tokens)
                texts.append(part)
                ids += one.token_ids
            else:
                self.check_ids(part, "prompt")
                ids += part
            special = False
        return Prompt("".join(texts), ids)

    async def _infill(self, gap: InfillInput, context: int, max_tokens: int | None) -> Prompt:
        parts = (*gap.prefix, *gap.suffix)
        for part in parts:
            if not isinstance(part, str):
                self.check_ids(part, "prompt")
        size = sum(map(len, parts)) + sum(len(file.text) for file in gap.extra)

        def encode() -> Prompt:
            return Prompt("", infill_prompt(self._text.tokenizer, gap, context, max_tokens))

        return await self._maybe_in_thread(size, encode)

    async def _encode(self, text: str, *, special: bool, parse: bool = True) -> Prompt:
        def encode() -> Prompt:
            tokenizer = self._text.tokenizer
            return Prompt(text, tokenizer.encode(text, add_special=special, parse_special=parse))

        return await self._maybe_in_thread(len(text), encode)

    async def _maybe_in_thread(self, size: int, encode: Callable[[], Prompt]) -> Prompt:
        """What `encode` gives; in a thread where the text has many characters."""
        if size <= _LONG_TEXT:
            return encode()
        return await asyncio.get_running_loop().run_in_executor(self._tokenizing, encode)

    def group(
        self,
        number: int,
        request: Request,
        prompt: list[int],
        core: CoreReady,
        arrived: float,
        grammar: RowGrammar | None = None,
    ) -> AddGroup:
        """The message to the core. Raises `InvalidRequest`, `ContextOverflow`."""
        sampling = request.sampling
        self._check_rows(request, core)
        self._check_sampling(request)
        if not prompt:
            raise InvalidRequest("the prompt is empty", param=_prompt_field(request))
        self._check_prompt_logprobs(request, len(prompt))
        max_tokens = completion_limit(request, len(prompt), core.context)
        # Something is sampled in any case; the front throws it away.
        most = max(1, max_tokens)
        return AddGroup(
            group=number,
            prompt=np.asarray(prompt, dtype="<i4").tobytes(),
            n=request.n,
            params=msgspec.structs.replace(sampling, max_tokens=most, seed=_seed(sampling)),
            priority=request.priority,
            tenant=request.tenant,
            root=prefix_root(request.cache_salt, self._config.name),
            arrived=arrived,
            grammar=grammar,
            prompt_logprobs=request.prompt_logprobs,
            prompt_start=request.prompt_logprobs_start,
        )

    def _check_rows(self, request: Request, core: CoreReady) -> None:
        most = min(self._config.max_num_seqs, core.sequences)
        if not 1 <= request.n <= most:
            raise InvalidRequest(f"n must be between 1 and {most}, not {request.n}", param="n")

    def _check_sampling(self, request: Request) -> None:
        sampling = request.sampling
        self.check_ids((token for token, _ in sampling.logit_bias), "logit_bias")
        self.check_ids(sampling.stop_token_ids, "stop_token_ids")
        if not all(request.stop):
            raise InvalidRequest("a stop string must not be empty", param="stop")
        if sum(map(len, request.stop)) > _MAX_STOP_CHARACTERS:
            raise InvalidRequest(
                f"stop strings may have {_MAX_STOP_CHARACTERS} characters together", param="stop"
            )
        if sampling.max_tokens is not None and sampling.max_tokens < 0:
            raise InvalidRequest(
                f"max_tokens must not be negative: {sampling.max_tokens}", param="max_tokens"
            )
        if sampling.logprobs is not None and not 0 <= sampling.logprobs <= _MAX_LOGPROBS:
            raise InvalidRequest(
                f"logprobs must be between 0 and {_MAX_LOGPROBS}, not {sampling.logprobs}",
                param="logprobs",
            )

    def _check_prompt_logprobs(self, request: Request, tokens: int) -> None:
        wanted, start = request.prompt_logprobs, request.prompt_logprobs_start
        if wanted is None:
            return
        if not 0 <= wanted <= _MAX_LOGPROBS:
            raise InvalidRequest(
                f"prompt_logprobs must be between 0 and {_MAX_LOGPROBS}, not {wanted}",
                param="prompt_logprobs",
            )
        if not 0 <= start < tokens:
            raise InvalidRequest(
                f"log probabilities are to begin at position {start}; the prompt has {tokens}",
                param="logprob_start_len",
            )
        if (tokens - start) * (1 + wanted) > _MAX_PROMPT_LOGPROBS:
            raise InvalidRequest(
                f"{wanted} log probabilities at each of {tokens - start} prompt tokens are more "
                f"than {_MAX_PROMPT_LOGPROBS}; ask for fewer of them",
                param="prompt_logprobs",
            )

    def check_ids(self, ids: Iterable[int], param: str) -> None:
        """Raise `InvalidRequest` for an id outside the vocabulary."""
        vocabulary = self._text.tokenizer.vocab_size
        for token in ids:
            if not 0 <= token < vocabulary:
                raise InvalidRequest(
                    f"{param}: token id {token} is outside the vocabulary of {vocabulary}",
                    param=param,
                )


def completion_limit(request: Request, prompt_tokens: int, context: int) -> int:
    """Most tokens that each row may generate. Raises `ContextOverflow`, in vLLM's words."""
    left = context - prompt_tokens
    wanted = request.sampling.max_tokens
    where = _prompt_field(request)
    if left >= 1 and (wanted is None or wanted <= left):
        return wanted if wanted is not None else left
    if left >= 1 and request.overflow == "cap":
        return left
    limit = f"This model's maximum context length is {context} tokens. However, you requested "
    advice = f"Please reduce the length of the {where} or completion."
    if wanted is None:
        raise ContextOverflow(
            f"{limit}{prompt_tokens} tokens in the {where}, which leaves no room for the "
            f"completion. {advice}",
            param=where,
        )
    raise ContextOverflow(
        f"{limit}{prompt_tokens + wanted} tokens ({prompt_tokens} in the {where}, {wanted} in the "
        f"completion). {advice}",
        param=where if left < 1 else "max_tokens",
    )


def prefix_root(cache_salt: str, model: str) -> bytes:
    """Key of the prefix tree that a request may share: 16 bytes, equal for equal arguments."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (model.encode(errors="replace"), cache_salt.encode(errors="surrogatepass")):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()


def _seed(sampling: SamplingParams) -> int:
    """64 bits: those of the request's seed in two's complement, or drawn."""
    if sampling.seed is None:
        return secrets.randbits(64)
    if not -(1 << 63) <= sampling.seed < 1 << 64:
        raise InvalidRequest("seed must fit 64 bits", param="seed")
    return sampling.seed & ((1 << 64) - 1)


def _prompt_field(request: Request) -> str:
    return "messages" if isinstance(request.input, ChatInput) else "prompt"
