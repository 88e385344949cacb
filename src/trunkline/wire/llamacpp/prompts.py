"""`prompt` of `/completion`: text, tokens, both in turn, or several of these.

Source: `tokenize_input_prompts` in tools/server/server-common.cpp of llama.cpp b11549.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from trunkline.core.errors import InvalidRequest, Unsupported
from trunkline.core.types import Input, MixedInput, TextInput, TokensInput
from trunkline.wire.llamacpp.fields import decode

_MAX_PROMPTS = 1024
# Texts within one prompt; each is tokenized by itself.
_MAX_TEXTS = 4096

_any = msgspec.json.Decoder(Any)
_EXPECTED = (
    '"prompt" elements must be a string, a list of tokens, a JSON object containing a prompt '
    "string, or a list of mixed strings & tokens."
)


def prompts(raw: Raw) -> tuple[Input, ...]:
    """The prompts. Raises `InvalidRequest`, `Unsupported`."""
    if not bytes(raw):
        raise InvalidRequest("\"prompt\" is required: key 'prompt' not found", param="prompt")
    value = decode(_any, raw)
    if not isinstance(value, list) or any(_is_token(one) for one in value):
        return (_prompt(value),)
    if not value:
        raise InvalidRequest('"prompt" must not be empty', param="prompt")
    if len(value) > _MAX_PROMPTS:
        raise InvalidRequest(f'"prompt" holds more than {_MAX_PROMPTS}', param="prompt")
    return tuple([_prompt(one) for one in value])


def mixed(value: Any, *, special: bool, parse: bool = True) -> Input:
    """One prompt: text, or a list of texts and tokens. Raises `InvalidRequest`."""
    if isinstance(value, str):
        return TextInput(value, special, parse)
    if not isinstance(value, list):
        raise InvalidRequest(_EXPECTED, param="prompt")
    if all(_is_token(one) for one in value):
        return TokensInput(tuple(value))
    parts: list[str | tuple[int, ...]] = []
    run: list[int] = []
    for one in value:
        if isinstance(one, str):
            if run:
                parts.append(tuple(run))
                run = []
            parts.append(one)
        elif _is_token(one):
            run.append(one)
        else:
            raise InvalidRequest(_EXPECTED, param="prompt")
    if run:
        parts.append(tuple(run))
    if len(parts) > _MAX_TEXTS:
        raise InvalidRequest(f'"prompt" changes more than {_MAX_TEXTS} times', param="prompt")
    return MixedInput(tuple(parts), special, parse)


def _prompt(value: Any) -> Input:
    if isinstance(value, dict):
        if value.get("multimodal_data"):
            problem = "Multimodal data provided, but model does not support multimodal requests."
            raise Unsupported(problem, param="multimodal_data")
        value = value.get("prompt_string")
    return mixed(value, special=True)


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**31) <= value < 2**31
