"""Reads GBNF, the grammar format of llama.cpp.

Source: https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple, NoReturn, TypeAlias

from trunkline.core.errors import InvalidRequest

# Parentheses within parentheses within ...
_MAX_DEPTH = 64
# llama.cpp's MAX_REPETITION_THRESHOLD.
_MAX_REPEAT = 2000


# Ranges of code points, both ends included.
Ranges: TypeAlias = tuple[tuple[int, int], ...]
LAST = 0x10FFFF


class Terminal(NamedTuple):
    """Characters: a Lark string or regular expression."""

    lark: str
    # What each of them may be.
    chars: tuple[Ranges, ...]


class Token(NamedTuple):
    """A special token: `<name>` or `<[id]>`."""

    lark: str


class Ref(NamedTuple):
    """A rule by its name."""

    name: str


class Sequence(NamedTuple):
    """One after the other; empty: nothing."""

    parts: tuple[Node, ...]


class Choice(NamedTuple):
    """One of them."""

    options: tuple[Node, ...]


class Repeat(NamedTuple):
    """`node` at least `least` and at most `most` times (None: no bound)."""

    node: Node
    least: int
    most: int | None


Node: TypeAlias = Terminal | Token | Ref | Sequence | Choice | Repeat

_ANY = Terminal("/(?s:.)/", (((0, LAST),),))
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_SPACE_AND_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_COUNT = re.compile(r"\{\s*(\d{1,9})\s*(?:(,)\s*(\d{1,9})?\s*)?\}")
_TOKEN = re.compile(r"<[^<>\s]{1,80}>")
_ESCAPE = re.compile(
    r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([nrt\\\"\[\]/.'^$()*+?{}|-]))"
)
_CONTROL = {"n": "\n", "r": "\r", "t": "\t"}


def read_gbnf(text: str) -> dict[str, Node]:
    """The rules of a grammar, `root` among them, by name.

    Raises `InvalidRequest` with line and reason.
    """
    return _Reader(text).rules()


class _Reader:
    """Recursive descent over the text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def rules(self) -> dict[str, Node]:
        found: dict[str, Node] = {}
        self._skip(_SPACE_AND_LINES)
        while self._at < len(self._text):
            name = self._name()
            self._skip(_SPACE)
            self._expect("::=")
            self._skip(_SPACE_AND_LINES)
            if name in found:
                self._fail(f"the rule {name!r} is defined twice")
            found[name] = self._choice(0)
            if self._at < len(self._text) and self._peek() not in "\r\n":
                self._fail("expected the end of the line")
            self._skip(_SPACE_AND_LINES)
        if "root" not in found:
            self._fail("there is no rule 'root'")
        for name in (ref for node in found.values() for ref in references(node)):
            if name not in found:
                self._fail(f"the rule {name!r} is used but not defined")
        return found

    def _choice(self, depth: int) -> Node:
        if depth > _MAX_DEPTH:
            self._fail(f"more than {_MAX_DEPTH} parentheses within each other")
        options = [self._sequence(depth)]
        while self._peek() == "|":
            self._at += 1
            self._skip(_SPACE_AND_LINES)
            options.append(self._sequence(depth))
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _sequence(self, depth: int) -> Node:
        parts: list[Node] = []
        while (node := self._item(depth)) is not None:
            parts.append(self._repeated(node))
            self._skip(_SPACE_AND_LINES if depth else _SPACE)
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def _item(self, depth: int) -> Node | None:
        char = self._peek()
        if char == '"':
            return self._literal()
        if char == "[":
            return self._class()
        if char == ".":
            self._at += 1
            return _ANY
        if char == "(":
            self._at += 1
            self._skip(_SPACE_AND_LINES)
            node = self._choice(depth + 1)
            self._expect(")")
            return node
        if char == "<":
            if (match := _TOKEN.match(self._text, self._at)) is None:
                self._fail("a token is written <name> or <[id]>")
            self._at = match.end()
            return Token(match.group())
        if char == "!":
            self._fail("negated tokens are not supported")
        return Ref(self._name()) if _NAME.match(char) else None

    def _repeated(self, node: Node) -> Node:
        while (char := self._peek()) and char in "*+?{":
            if char == "{":
                if (match := _COUNT.match(self._text, self._at)) is None:
                    self._fail("a repetition is written {m}, {m,} or {m,n}")
                least = int(match[1])
                most = None if match[2] and not match[3] else int(match[3] or match[1])
                if max(least, most or 0) > _MAX_REPEAT or (most is not None and most < least):
                    self._fail(f"a repetition is {{m,n}} with m <= n <= {_MAX_REPEAT}")
                self._at = match.end()
                node = Repeat(node, least, most)
            else:
                self._at += 1
                node = Repeat(node, int(char == "+"), 1 if char == "?" else None)
            self._skip(_SPACE)
        return node

    def _literal(self) -> Node:
        self._at += 1
        chars = []
        while (char := self._char('"')) is not None:
            chars.append(char)
        ranges = tuple(((ord(char), ord(char)),) for char in chars)
        return Terminal(json.dumps("".join(chars)), ranges) if chars else Sequence(())

    def _class(self) -> Node:
        self._at += 1
        negated = self._peek() == "^"
        self._at += negated
        ranges = []
        while (first := self._char("]")) is not None:
            last = first
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                last = self._char("") or first
            if last < first:
                self._fail("a range in a character class runs backwards")
            ranges.append((ord(first), ord(last)))
        if not ranges:
            return _ANY if negated else self._fail("a character class is empty")
        text = "".join(f"\\x{{{first:x}}}-\\x{{{last:x}}}" for first, last in ranges)
        if not negated:
            return Terminal(f"/[{text}]/", (tuple(ranges),))
        return Terminal(f"/[^{text}]/", (_complement(ranges),))

    def _char(self, end: str) -> str | None:
        """The next character, escapes resolved; None behind an unescaped `end`."""
        char = self._peek()
        if not char:
            self._fail("a literal or a character class is not closed")
        if char == end:
            self._at += 1
            return None
        if char != "\\":
            self._at += 1
            return char
        if (match := _ESCAPE.match(self._text, self._at)) is None:
            self._fail(f"{self._text[self._at : self._at + 2]!r} is no escape sequence")
        self._at = match.end()
        if match[4]:
            return _CONTROL.get(match[4], match[4])
        code = int(match[1] or match[2] or match[3], 16)
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            self._fail(f"{match.group()} is no character")
        return chr(code)

    def _name(self) -> str:
        if (match := _NAME.match(self._text, self._at)) is None:
            self._fail("expected the name of a rule")
        self._at = match.end()
        return match.group()

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _skip(self, space: re.Pattern[str]) -> None:
        match = space.match(self._text, self._at)
        self._at = match.end() if match else self._at

    def _expect(self, text: str) -> None:
        if not self._text.startswith(text, self._at):
            self._fail(f"expected {text!r}")
        self._at += len(text)

    def _fail(self, why: str) -> NoReturn:
        line = self._text.count("\n", 0, self._at) + 1
        raise InvalidRequest(f"the gbnf grammar is malformed in line {line}: {why}", param="gbnf")


def _complement(ranges: list[tuple[int, int]]) -> Ranges:
    found = []
    begin = 0
    for first, last in sorted(ranges):
        if first > begin:
            found.append((begin, first - 1))
        begin = max(begin, last + 1)
    return (*found, (begin, LAST)) if begin <= LAST else tuple(found)


def children(node: Node) -> tuple[Node, ...]:
    """The nodes right below `node`."""
    match node:
        case Sequence(parts):
            return parts
        case Choice(options):
            return options
        case Repeat(part, _, _):
            return (part,)
    return ()


def references(node: Node) -> Iterator[str]:
    """Names of the rules that `node` uses."""
    if isinstance(node, Ref):
        yield node.name
    for child in children(node):
        yield from references(child)
