"""Arguments written as literals of Python or of Gemma, turned into JSON while they come."""

from __future__ import annotations

import json
import math
import re
from typing import NamedTuple

from trunkline.text.tool_calls.reader import MAX_NAME, Malformed, Marks, Reader, Step, Take

# Brackets within brackets.
_MAX_DEPTH = 64

_IDENTIFIER = re.compile(r"[\w.\-]*")
_WORD = re.compile(r"[^\s,:=()\[\]{}<\"']*")
_BARE = re.compile(r"[^,()\[\]{}<\"']*")
_JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_HEX = re.compile(r"[0-9a-fA-F]*")
_CONSTANTS = {
    "True": "true",
    "False": "false",
    "None": "null",
    "true": "true",
    "false": "false",
    "null": "null",
}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "a": "\a", "v": "\v"}
_HEX_ESCAPES = {"x": 2, "u": 4, "U": 8}


class Style(NamedTuple):
    """How a dialect writes literals."""

    # Quote -> whether backslashes escape within it.
    quotes: dict[str, bool]
    # Between a name and its value.
    assign: str
    # Behind the last argument.
    close: str
    # What a number, a constant or a string without quotes consists of.
    word: re.Pattern[str]


PYTHON = Style({'"""': True, "'''": True, '"': True, "'": True}, "=", ")", _WORD)
GEMMA = Style({'<|"|>': False, "<escape>": False, '"': True}, ":", "}", _BARE)


def escaped(text: str) -> str:
    """The text as it stands between the quotes of a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def arguments(reader: Reader, style: Style, name: str) -> Step[None]:
    """Named arguments up to the bracket that closes them; the opening one has been read.

    The call starts with the first argument's name, or at the closing bracket.
    """
    yield from reader.space()
    if (yield from reader.accept(style.close)):
        reader.start(name)
        reader.arguments("{}")
        return
    before = "{"
    while True:
        key = yield from _key(reader, style)
        yield from reader.space()
        yield from reader.expect(style.assign)
        if before == "{":
            reader.start(name)
        reader.arguments(f"{before}{key}: ")
        before = ", "
        yield from value(reader, style, reader.arguments)
        yield from reader.space()
        comma = yield from reader.accept(",")
        yield from reader.space()
        if (yield from reader.accept(style.close)):
            reader.arguments("}")
            return
        if not comma:
            raise Malformed


def value(reader: Reader, style: Style, take: Take, depth: int = 0) -> Step[None]:
    """One literal, handed to `take` as JSON text. Raises `Malformed` where none comes."""
    if depth > _MAX_DEPTH:
        raise Malformed
    yield from reader.space()
    quote = yield from reader.accept(*style.quotes)
    if quote:
        take('"')
        yield from _quoted(reader, quote, style.quotes[quote], take)
        take('"')
        return
    bracket = yield from reader.accept("[", "(", "{")
    if bracket == "{":
        yield from _items(reader, style, take, depth, keyed=True)
    elif bracket:
        yield from _items(reader, style, take, depth, keyed=False)
    else:
        word = yield from reader.run(style.word, MAX_NAME)
        take(_scalar(word.strip()))


def _items(reader: Reader, style: Style, take: Take, depth: int, *, keyed: bool) -> Step[None]:
    take("{" if keyed else "[")
    before = ""
    while True:
        yield from reader.space()
        if (yield from reader.accept("}" if keyed else "]", "}" if keyed else ")")):
            break
        take(before)
        before = ", "
        if keyed:
            key = yield from _key(reader, style)
            take(f"{key}: ")
            yield from reader.space()
            yield from reader.expect(":")
        yield from value(reader, style, take, depth + 1)
        yield from reader.space()
        if not (yield from reader.accept(",")):
            yield from reader.expect("}" if keyed else "]", "}" if keyed else ")")
            break
    take("}" if keyed else "]")


def _key(reader: Reader, style: Style) -> Step[str]:
    """A name, with or without quotes, as a JSON string."""
    yield from reader.space()
    quote = yield from reader.accept(*style.quotes)
    if not quote:
        key = yield from reader.run(_IDENTIFIER, MAX_NAME)
        if not key:
            raise Malformed
        return f'"{escaped(key)}"'
    parts: list[str] = []
    yield from _quoted(reader, quote, style.quotes[quote], parts.append)
    return f'"{"".join(parts)}"'


def _quoted(reader: Reader, quote: str, escapes: bool, take: Take) -> Step[None]:
    """The inside of a string and its closing quote."""
    marks = Marks("\\", quote) if escapes else Marks(quote)
    while (yield from reader.stream(marks, lambda text: take(escaped(text)))) == "\\":
        yield from _escape(reader, take)


def _escape(reader: Reader, take: Take) -> Step[None]:
    """What a backslash, which has been read, stands for."""
    kind = yield from reader.peek()
    if not kind:
        raise Malformed
    reader.position += 1
    if kind in _HEX_ESCAPES:
        wanted = _HEX_ESCAPES[kind]
        digits = ""
        while len(digits) < wanted and _HEX.fullmatch((yield from reader.peek()) or "!"):
            digits += reader.buffer[reader.position]
            reader.position += 1
        take(_character(kind, digits, complete=len(digits) == wanted))
    elif kind in _ESCAPES:
        take(escaped(_ESCAPES[kind]))
    elif kind in "\\'\"/":
        take(escaped(kind))
    elif kind != "\n":
        # Not an escape in Python either: the backslash stands for itself.
        take(escaped("\\" + kind))


def _character(kind: str, digits: str, *, complete: bool) -> str:
    if complete and int(digits, 16) <= 0xFFFF:
        # As an escape, since it may be half of a pair.
        return f"\\u{int(digits, 16):04x}"
    if complete and int(digits, 16) <= 0x10FFFF:
        return escaped(chr(int(digits, 16)))
    return escaped("\\" + kind + digits)


def _scalar(word: str) -> str:
    """A number or a constant; any other word is a string whose quotes the model forgot."""
    if not word:
        raise Malformed
    if word in _CONSTANTS:
        return _CONSTANTS[word]
    if _JSON_NUMBER.fullmatch(word):
        return word
    try:
        return str(int(word, 0))
    except ValueError:
        pass
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    return repr(number) if math.isfinite(number) else f'"{escaped(word)}"'


def from_python(text: str) -> str | None:
    """The JSON text of a Python literal; None where `text` is not one."""
    parts: list[str] = []
    reader = Reader.of(text)
    try:
        for _ in value(reader, PYTHON, parts.append):
            raise AssertionError("nothing more will come")
    except Malformed:
        return None
    return "".join(parts) if not text[reader.position :].strip() else None
