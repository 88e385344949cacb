"""The body of `/infill`: what comes before and behind a gap, and other files.

Source: `post_infill` in tools/server/server-context.cpp of llama.cpp b11549. It is the engine's
front that knows the model's tokens and puts the prompt together (`engine.front.infill`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from trunkline.core.errors import InvalidRequest
from trunkline.core.types import InfillInput, MixedInput, SourceFile, TextInput, TokensInput
from trunkline.wire.llamacpp.fields import CompletionFields, decode
from trunkline.wire.llamacpp.prompts import mixed

# Files beside the one with the gap.
_MAX_EXTRA = 1024

_any = msgspec.json.Decoder(Any)


class InfillFields(CompletionFields, kw_only=True):
    """What `/completion` has, and what is to be filled in."""

    # Text, or a list of texts and tokens.
    input_prefix: Any = msgspec.UNSET
    input_suffix: Any = msgspec.UNSET
    input_extra: Any = None


def infill_input(fields: InfillFields) -> InfillInput:
    """What is to be filled in. Raises `InvalidRequest`."""
    raw = bytes(fields.prompt)
    prompt = decode(_any, raw) if raw not in (b"", b"null") else ""
    if not isinstance(prompt, str):
        raise InvalidRequest('"prompt" must be a string', param="prompt")
    return InfillInput(
        _parts(fields.input_prefix, "input_prefix"),
        _parts(fields.input_suffix, "input_suffix"),
        prompt,
        _extra(fields.input_extra),
        fit=True,
        repository=True,
    )


def _parts(value: Any, name: str) -> tuple[str | tuple[int, ...], ...]:
    if value is msgspec.UNSET:
        raise InvalidRequest(f'"{name}" is required', param=name)
    match mixed(value, special=False):
        case TextInput(text=text):
            return (text,)
        case MixedInput(parts=parts):
            return parts
        case TokensInput(token_ids=token_ids):
            return (token_ids,)
        case _:
            raise InvalidRequest(f'"{name}" must be a string', param=name)


def _extra(value: Any) -> tuple[SourceFile, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > _MAX_EXTRA:
        problem = '"input_extra" must be an array of {"filename": string, "text": string}'
        raise InvalidRequest(problem, param="input_extra")
    return tuple(map(_file, value))


def _file(chunk: Any) -> SourceFile:
    text = chunk.get("text") if isinstance(chunk, dict) else None
    if not isinstance(text, str):
        problem = 'extra_context chunk must contain a "text" field with a string value'
        raise InvalidRequest(problem, param="input_extra")
    name = chunk.get("filename", "tmp")
    if not isinstance(name, str):
        problem = 'extra_context chunk\'s "filename" field must be a string'
        raise InvalidRequest(problem, param="input_extra")
    return SourceFile(text, name)
