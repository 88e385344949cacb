"""Calls that are JSON objects: {"name": ..., "arguments": {...}}, alone or in a list.

The text of the arguments is passed on as the model wrote it, while it comes. It is not checked:
only strings and brackets are followed, to find its end. A "<" outside strings, which no JSON has,
ends it as well: there the model closed its tag and forgot a bracket.
"""

from __future__ import annotations

import json
import re

from trunkline.text.tool_calls.reader import (
    MAX_HELD,
    MAX_NAME,
    Malformed,
    Reader,
    Step,
    Take,
    TooLong,
)

_OUTSIDE = re.compile(r'["{}\[\]<]')
_INSIDE = re.compile(r'["\\]')
_SCALAR = re.compile(r'[^\s,:;"{}\[\]<]*')
_ARGUMENTS = ("arguments", "parameters")
# Longest object within a string, in characters.
_MAX_STRING = 4 * 1024 * 1024
# Longest value of any other key, in characters.
_MAX_OTHER = 1024


def value(reader: Reader, take: Take, limit: int | None = None) -> Step[None]:
    """Hand the text of one JSON value to `take` as it comes.

    Raises `TooLong` where more than `limit` characters are there at once.
    """
    first = yield from reader.peek()
    if not first or first not in '{["':
        scalar = yield from reader.run(_SCALAR, MAX_NAME)
        if not scalar:
            raise Malformed
        take(scalar)
        return
    depth, quoted, skip = 0, False, 0
    while True:
        pattern = _INSIDE if quoted else _OUTSIDE
        found = pattern.search(reader.buffer, min(reader.position + skip, len(reader.buffer)))
        if found is None or (found.group() == "\\" and found.end() == len(reader.buffer)):
            stop = found.start() if found else len(reader.buffer)
            _hand_on(reader, stop, take)
            skip = 0
            if not (yield from reader.more()):
                _hand_on(reader, len(reader.buffer), take)
                raise Malformed
            continue
        if limit is not None and found.end() - reader.position > limit:
            raise TooLong
        mark = found.group()
        if mark == "\\":
            skip = found.end() + 1 - reader.position
            continue
        if mark == "<":
            _hand_on(reader, found.start(), take)
            raise Malformed
        skip = found.end() - reader.position
        if mark == '"':
            quoted = not quoted
        else:
            depth += 1 if mark in "{[" else -1
        if depth <= 0 and not quoted:
            _hand_on(reader, found.end(), take)
            return


def _hand_on(reader: Reader, end: int, take: Take) -> None:
    if end > reader.position:
        take(reader.buffer[reader.position : end])
        reader.position = end


def whole(reader: Reader, limit: int = MAX_HELD) -> Step[str]:
    """The text of one JSON value, once it is complete. Raises `TooLong` beyond `limit`."""
    parts: list[str] = []
    size = 0

    def take(text: str) -> None:
        nonlocal size
        size += len(text)
        if size > limit:
            raise TooLong
        parts.append(text)

    yield from value(reader, take, limit)
    return "".join(parts)


def string(reader: Reader) -> Step[str]:
    """One JSON string, decoded. Raises `Malformed` for anything else."""
    if (yield from reader.peek()) != '"':
        raise Malformed
    return _decoded((yield from whole(reader)))


def _decoded(text: str) -> str:
    try:
        found = json.loads(text, strict=False)
        found.encode()
    except (ValueError, AttributeError) as error:
        raise Malformed from error
    return str(found)


def arguments(reader: Reader) -> Step[None]:
    """The value behind "arguments": normally an object, which streams.

    An object inside a string is taken out of it, and null becomes {}.
    """
    first = yield from reader.peek()
    if first == "{":
        yield from value(reader, reader.arguments)
        return
    text = yield from whole(reader, _MAX_STRING)
    reader.arguments(_unwrapped(text))


def _unwrapped(text: str) -> str:
    if text == "null":
        return "{}"
    try:
        inner = _decoded(text) if text.startswith('"') else ""
        if inner and isinstance(json.loads(inner), dict):
            return inner
    except (Malformed, ValueError, RecursionError):
        return text
    return "{}" if text == '""' else text


def call(reader: Reader, *, known: bool = False) -> Step[None]:
    """One object with "name" and "arguments" (or "parameters"), in any order.

    The call starts when the arguments begin, or at the end of an object that has none. With
    `known` the name must be one of the request's tools, it or "type" must come first, and there
    must be arguments: for dialects without a tag, where any JSON might be meant as an answer.
    """
    yield from reader.expect("{")
    name: str | None = None
    call_id: str | None = None
    early = ""
    started = False
    while True:
        yield from reader.space()
        if (yield from reader.accept("}")):
            break
        key = yield from string(reader)
        if known and name is None and key not in ("name", "type"):
            raise Malformed
        yield from reader.space()
        yield from reader.expect(":")
        yield from reader.space()
        if key == "name":
            name = yield from string(reader)
            if known and name not in reader.tools:
                raise Malformed
        elif key in _ARGUMENTS and name is not None and not started:
            reader.start(name, call_id)
            started = True
            yield from arguments(reader)
            reader.hold()
        else:
            text = yield from whole(reader, MAX_HELD if key in _ARGUMENTS else _MAX_OTHER)
            if key in _ARGUMENTS and not early:
                early = text
            elif key == "id" and text.startswith('"'):
                call_id = _decoded(text)
        yield from reader.space()
        if not (yield from reader.accept(",")):
            yield from reader.expect("}")
            break
    if name is None or (known and not started):
        raise Malformed
    if not started:
        reader.start(name, call_id)
        reader.arguments(_unwrapped(early) if early else "{}")
    reader.end()


def calls(reader: Reader) -> Step[None]:
    """One call, or a list of them."""
    yield from reader.space()
    if not (yield from reader.accept("[")):
        yield from call(reader)
    else:
        while True:
            yield from reader.space()
            yield from call(reader)
            yield from reader.space()
            if not (yield from reader.accept(",")):
                break
        yield from reader.expect("]")
    reader.hold()
