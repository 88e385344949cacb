"""A configuration as YAML again: the long form, without what is default."""

from __future__ import annotations

import functools
import re
from typing import Any

import msgspec
import yaml

from trunkline.server.file.config import FileConfig
from trunkline.server.file.variables import escape

MASK = "********"
_SECRET_NAME = re.compile(
    r"(^|[_-])(keys?|api[_-]?keys?|secret|token|password|credentials?|authorization|cookie)($|[_-])"
    r"|^(authorization|cookie|x-api-key)$",
    re.IGNORECASE,
)
# Fields whose names look like secrets and that are none.
_OPEN_NAMES = frozenset({"first_token", "max_tokens", "max_completion_tokens", "api_key_file"})
_URL_PASSWORD = re.compile(r"(?<=://)[^/@\s]+@")


def dump(config: FileConfig, mask: bool = True) -> str:
    """YAML that `load` reads as the same configuration; with `mask` no secret is in it."""
    plain = _plain(config, mask, False)
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text = yaml.dump(plain, Dumper=dumper, sort_keys=False, allow_unicode=True, width=100)
    return str(text) if plain else ""


def _plain(value: Any, mask: bool, secret: bool) -> Any:
    match value:
        case msgspec.Struct():
            return _fields(value, mask)
        case dict():
            return {
                key: _plain(item, mask, secret or is_secret(str(key)))
                for key, item in value.items()
            }
        case tuple() | list():
            items = list(value)
            if mask and items and all(isinstance(item, str) for item in items):
                items = _mask_flags(items)
            return [_plain(item, mask, secret) for item in items]
        case str():
            return _text(value, mask, secret)
    return MASK if mask and secret and value not in (None, False, True) else value


def _text(text: str, mask: bool, secret: bool) -> str:
    if mask and text == MASK:
        return text
    if mask and secret and text:
        return MASK
    return escape(_URL_PASSWORD.sub(f"{MASK}@", text) if mask else text)


def _fields(struct: msgspec.Struct, mask: bool) -> dict[str, Any]:
    """The fields that are not at their default."""
    found = {}
    for field in _infos(type(struct)):
        value = getattr(struct, field.name)
        if field.required or value != _default(field):
            found[field.encode_name] = _plain(value, mask, is_secret(field.name))
    return found


@functools.cache
def _infos(kind: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    """The fields of a struct; their annotations are evaluated each time they are asked for."""
    return msgspec.structs.fields(kind)


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    factory = field.default_factory
    return None if factory is msgspec.NODEFAULT else factory()


def is_secret(name: str) -> bool:
    """Whether a field of this name holds what nobody should see."""
    return name not in _OPEN_NAMES and _SECRET_NAME.search(name) is not None


def _mask_flags(items: list[str]) -> list[str]:
    """Arguments of a program with the values of its secret flags masked."""
    found: list[str] = []
    for item in items:
        flag, equals, value = item.partition("=")
        if found and found[-1].startswith("-") and "=" not in found[-1] and _is_flag(found[-1]):
            item = MASK
        elif equals and _is_flag(flag) and value:
            item = f"{flag}={MASK}"
        found.append(item)
    return found


def _is_flag(text: str) -> bool:
    """Whether a flag sets a secret."""
    return text.startswith("-") and is_secret(text.lstrip("-"))
