"""Questions about tokens, as servers answer them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Raw

from trunkline.backends.kind import TokenDialect
from trunkline.backends.site import Site
from trunkline.core.errors import (
    InvalidRequest,
    TrunklineError,
    Unsupported,
    UpstreamFailed,
    refuse,
)
from trunkline.core.types import (
    ChatInput,
    InfillInput,
    MixedInput,
    Request,
    TextInput,
    Tokenization,
    TokensInput,
)
from trunkline.wire.client import Head, Speaker, Terms

# Seconds that a question may take: a template and a tokenizer, never the model.
_TIMEOUT = 30.0
# What of a request's body decides how its prompt looks.
_VLLM_FIELDS = (
    "messages",
    "tools",
    "chat_template_kwargs",
    "add_generation_prompt",
    "continue_final_message",
)
_ANTHROPIC_FIELDS = ("model", "messages", "system", "tools", "tool_choice", "thinking")
_GEMINI_FIELDS = ("contents", "systemInstruction", "tools", "toolConfig")

_fields = msgspec.json.Decoder(dict[str, Raw])


class Tokens:
    """Asks one backend. Everything raises `TrunklineError`, `Unsupported` where it cannot."""

    def __init__(
        self, dialect: TokenDialect, site: Site, speakers: Mapping[str, Speaker], name: str
    ) -> None:
        self._dialect = dialect
        self._site = site
        self._speakers = speakers
        self._name = name

    async def count(self, request: Request, terms: Terms) -> int:
        """Prompt tokens of `request`."""
        refuse(request.beyond)
        if isinstance(request.input, TokensInput):
            return len(request.input.token_ids)
        if self._dialect == "anthropic":
            body = self._body("anthropic.messages", request, terms, _ANTHROPIC_FIELDS)
            told = await self._ask("/v1/messages/count_tokens", body)
            return _number(told, "input_tokens")
        if self._dialect == "gemini":
            body = self._body("gemini.generate", request, terms, _GEMINI_FIELDS)
            model = quote(terms.model, safe="")
            whole = {"generateContentRequest": {**body, "model": f"models/{terms.model}"}}
            return _number(
                await self._ask(f"/v1beta/models/{model}:countTokens", whole), "totalTokens"
            )
        return len((await self.tokenize(request, terms)).token_ids)

    async def tokenize(self, request: Request, terms: Terms) -> Tokenization:
        """The tokens of the prompt of `request`.

        What is beyond us is refused, also where calls go without: nobody would be told here.
        """
        refuse(request.beyond)
        if isinstance(request.input, TokensInput):
            return await self.detokenize(request.input.token_ids, terms)
        if isinstance(request.input, MixedInput | InfillInput):
            raise self._cannot("tokenize a prompt of several parts")
        ask = {"vllm": self._vllm, "llamacpp": self._llamacpp, "tgi": self._tgi}.get(self._dialect)
        if ask is None:
            raise self._cannot("tokenize")
        return await ask(request, request.input, terms)

    async def detokenize(self, token_ids: tuple[int, ...], terms: Terms) -> Tokenization:
        """The text of tokens."""
        if self._dialect == "vllm":
            told = await self._ask("/detokenize", {"model": terms.model, "tokens": token_ids})
            return Tokenization(_text(told, "prompt", "text"), token_ids)
        if self._dialect == "llamacpp":
            told = await self._ask("/detokenize", {"tokens": token_ids})
            return Tokenization(_text(told, "content"), token_ids)
        raise self._cannot("detokenize")

    async def _vllm(
        self, request: Request, prompt: ChatInput | TextInput, terms: Terms
    ) -> Tokenization:
        body: dict[str, Any]
        if isinstance(prompt, ChatInput):
            body = self._body("openai.chat", request, terms, _VLLM_FIELDS)
            text = ""
        else:
            text = prompt.text
            body = {"prompt": text, "add_special_tokens": prompt.add_special_tokens}
        told = await self._ask("/tokenize", {"model": terms.model, **body})
        return Tokenization(text, _ids(told), (), int(told.get("max_model_len") or 0))

    async def _llamacpp(
        self, request: Request, prompt: ChatInput | TextInput, terms: Terms
    ) -> Tokenization:
        special = parse = True
        if isinstance(prompt, ChatInput):
            body = self._body("openai.chat", request, terms, _VLLM_FIELDS)
            text = _text(await self._ask("/apply-template", body), "prompt")
        else:
            text = prompt.text
            special, parse = prompt.add_special_tokens, prompt.parse_special_tokens
        told = await self._ask(
            "/tokenize", {"content": text, "add_special": special, "parse_special": parse}
        )
        return Tokenization(text, _ids(told))

    async def _tgi(
        self, request: Request, prompt: ChatInput | TextInput, terms: Terms
    ) -> Tokenization:
        if isinstance(prompt, ChatInput):
            body = self._body("openai.chat", request, terms, ("messages", "tools"))
            told = await self._ask("/chat_tokenize", body)
            text, tokens = _text(told, "templated_text"), told.get("tokenize_response")
        else:
            text, tokens = prompt.text, await self._ask("/tokenize", {"inputs": prompt.text})
        try:
            ids = tuple(int(token["id"]) for token in tokens)
            pieces = tuple(str(token.get("text", "")).encode() for token in tokens)
            return Tokenization(text, ids, pieces)
        except (TypeError, KeyError, ValueError, AttributeError):
            raise UpstreamFailed(f"backend {self._name!r} told no tokens") from None

    def _body(
        self, operation: str, request: Request, terms: Terms, wanted: tuple[str, ...]
    ) -> dict[str, Any]:
        """Fields of the body that `request` would be sent as."""
        speaker = self._speakers.get(operation)
        if speaker is None:
            raise self._cannot("tokenize a conversation")
        fields = _fields.decode(speaker.encode(request, terms).body)
        return {name: fields[name] for name in wanted if name in fields}

    async def _ask(self, path: str, body: Mapping[str, Any]) -> Any:
        response = await self._site.fetch("POST", path, msgspec.json.encode(body), timeout=_TIMEOUT)
        if not response.ok:
            raise self._refusal(response.head, response.body)
        try:
            return msgspec.json.decode(response.body)
        except msgspec.DecodeError:
            raise UpstreamFailed(f"backend {self._name!r} answered with no JSON") from None

    def _refusal(self, head: Head, body: bytes) -> TrunklineError:
        if head.status in (404, 405, 501):
            return self._cannot("tokenize")
        text = self._site.redact(body[:300].decode("utf-8", "replace"))
        problem = f"backend {self._name!r} answered {head.status}: {text}"
        wrong = head.status in (400, 422)
        return InvalidRequest(problem) if wrong else UpstreamFailed(problem)

    def _cannot(self, what: str) -> Unsupported:
        return Unsupported(f"backend {self._name!r} cannot {what}")


def _number(told: Any, name: str) -> int:
    value = told.get(name) if isinstance(told, dict) else None
    if not isinstance(value, int):
        raise UpstreamFailed(f"the backend told no {name}")
    return value


def _ids(told: Any) -> tuple[int, ...]:
    tokens = told.get("tokens") if isinstance(told, dict) else None
    if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
        raise UpstreamFailed("the backend told no tokens")
    return tuple(tokens)


def _text(told: Any, *names: str) -> str:
    for name in names:
        value = told.get(name) if isinstance(told, dict) else None
        if isinstance(value, str):
            return value
    raise UpstreamFailed(f"the backend told no {names[0]}")
