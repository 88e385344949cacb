"""Arguments that come one by one as tagged text, put together to a JSON object.

Their text does not say what type they have, so the tool's schema decides: a string streams as it
comes, anything else is converted when it is complete. What does not fit the declared types is
passed on as a string: the caller checks arguments, and sees what the model wrote.
"""

from __future__ import annotations

import json
import math
import re
from types import TracebackType
from typing import NoReturn, Self

from trunkline.text.tool_calls.literals import escaped, from_python
from trunkline.text.tool_calls.reader import Malformed, Marks, Reader, Step
from trunkline.text.tool_calls.tools import Tool

_STRING = frozenset({"string"})
_INTEGER = re.compile(r"[+-]?[0-9]{1,400}")
_FIRST = {"{": "object", "[": "array"}


class Fields:
    """The JSON object of one call's arguments, as it grows. The call starts with the first."""

    def __init__(self, reader: Reader, name: str, call_id: str | None = None) -> None:
        self._reader = reader
        self._name = name
        self._id = call_id
        self._tool: Tool = reader.tools.get(name)
        self._before = "{"

    def add(self, key: str, ends: Marks, types: frozenset[str] | None = None) -> Step[str]:
        """Read the value of argument `key` up to one of `ends`; which one it was.

        `types` replaces what the schema says.
        """
        reader = self._reader
        if self._before == "{":
            reader.start(self._name, self._id)
        reader.arguments(f"{self._before}{json.dumps(key, ensure_ascii=False)}: ")
        self._before = ", "
        types = self._tool.types(key) if types is None else types
        if types == _STRING:
            reader.arguments('"')
            end = yield from reader.stream(ends, lambda text: reader.arguments(escaped(text)))
            reader.arguments('"')
        else:
            parts: list[str] = []
            try:
                end = yield from reader.stream(ends, parts.append)
            except Malformed:
                reader.arguments(json_text("".join(parts), types))
                raise
            reader.arguments(json_text("".join(parts), types))
        reader.hold()
        return end

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """No more arguments. After something malformed, make what has been sent whole."""
        if kind is None and self._before == "{":
            self._reader.start(self._name, self._id)
            self._reader.arguments("{}")
        elif kind is None or (kind is Malformed and self._before != "{" and not self._reader.ended):
            self._reader.arguments("}")


def json_text(text: str, types: frozenset[str]) -> str:
    """`text` as JSON of one of `types`; of the type that it looks like where that is empty."""
    word = text.strip()
    found = _of_type(word, types)
    return json.dumps(text, ensure_ascii=False) if found is None else found


def _of_type(word: str, types: frozenset[str]) -> str | None:
    lower = word.lower()
    if lower in ("null", "none") and ("null" in types or (not types and lower == word)):
        return "null"
    if lower in ("true", "false") and ("boolean" in types or not types):
        return lower
    if not types or types & {"integer", "number"}:
        number = _number(word, fractions=not types or "number" in types)
        if number is not None:
            return number
    if _FIRST.get(word[:1], "") in (types or _FIRST.values()):
        return word if _is_json(word) else from_python(word)
    return None


def _number(word: str, *, fractions: bool) -> str | None:
    if _INTEGER.fullmatch(word):
        return str(int(word))
    try:
        number = float(word)
    except ValueError:
        return None
    if not math.isfinite(number) or "_" in word:
        return None
    if fractions:
        return word if _is_json(word) else repr(number)
    return str(int(number)) if number.is_integer() else None


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return False
    return True


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
