"""GBNF, the grammar format of llama.cpp, to llguidance's Lark.

Source: https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md.

llguidance reads text in two stages: a lexer that takes the longest terminal, then a parser. GBNF
has one. So everything that is regular (rules that do not refer to themselves, and simple
repetition spelled as recursion) becomes one terminal as large as can be; a grammar that is regular
as a whole is then exact. In a truly recursive one, a terminal is followed by what cannot be a part
of it in any grammar that a person writes; where it can, the longer reading wins: some texts of the
grammar cannot come, but none comes that is not of the grammar.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple, NoReturn, TypeAlias

from trunkline.core.errors import InvalidRequest

# Parentheses within parentheses within ...
_MAX_DEPTH = 64
# llama.cpp's MAX_REPETITION_THRESHOLD.
_MAX_REPEAT = 2000


class Terminal(NamedTuple):
    """Characters: a Lark string or regular expression."""

    lark: str


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

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_SPACE_AND_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_COUNT = re.compile(r"\{\s*(\d{1,9})\s*(?:(,)\s*(\d{1,9})?\s*)?\}")
_TOKEN = re.compile(r"<[^<>\s]{1,80}>")
_ESCAPE = re.compile(
    r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([nrt\\\"\[\]/.'^$()*+?{}|-]))"
)
_CONTROL = {"n": "\n", "r": "\r", "t": "\t"}


def gbnf_to_lark(text: str) -> str:
    """Lark source for the GBNF grammar `text`, whose first rule is `root`.

    Raises `InvalidRequest` with line and reason.
    """
    return _Writer(_Reader(text).rules()).lark()


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
        for name in (ref for node in found.values() for ref in _refs(node)):
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
            return Terminal("/(?s:.)/")
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
        return Terminal(json.dumps("".join(chars))) if chars else Sequence(())

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
            ranges.append(f"\\x{{{ord(first):x}}}-\\x{{{ord(last):x}}}")
        if not ranges and not negated:
            self._fail("a character class is empty")
        return Terminal(f"/[{'^' * negated}{''.join(ranges)}]/" if ranges else "/(?s:.)/")

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


class _Writer:
    """Decides what is a terminal, and writes Lark."""

    def __init__(self, rules: dict[str, Node]) -> None:
        self._rules = {name: _unrolled(name, node) for name, node in rules.items()}
        regular = _regular(self._rules)
        self._names = {
            name: f"{'T' if name in regular else 'r'}{index}"
            for index, name in enumerate(self._rules)
        }
        self._regular = regular
        self._hoisted: dict[str, str] = {}

    def lark(self) -> str:
        lines = [f"start: {self._names['root']}"]
        for name, node in self._rules.items():
            write = self._terminal if name in self._regular else self._rule
            lines.append(f"{self._names[name]}: {write(node)}")
        lines += [f"{name}: {body}" for body, name in self._hoisted.items()]
        return "\n".join(lines)

    def _terminal(self, node: Node) -> str:
        return _write(node, self._terminal, self._names)

    def _rule(self, node: Node) -> str:
        """As `_terminal`, with the longest regular runs hoisted into terminals of their own."""
        if self._is_regular(node):
            return self._hoist(node)
        if not isinstance(node, Sequence):
            return _write(node, self._rule, self._names)
        parts: list[str] = []
        run: list[Node] = []
        for part in node.parts:
            if self._is_regular(part):
                run.append(part)
                continue
            parts += [self._hoist(Sequence(tuple(run)))] if run else []
            parts.append(_write(part, self._rule, self._names))
            run = []
        parts += [self._hoist(Sequence(tuple(run)))] if run else []
        return " ".join(parts)

    def _is_regular(self, node: Node) -> bool:
        return not _has_token(node) and all(name in self._regular for name in _refs(node))

    def _hoist(self, node: Node) -> str:
        if isinstance(node, Ref):
            return self._names[node.name]
        body = self._terminal(node)
        return self._hoisted.setdefault(body, f"X{len(self._hoisted)}")


def _write(node: Node, inner: Callable[[Node], str], names: dict[str, str]) -> str:
    match node:
        case Terminal(lark) | Token(lark):
            return lark
        case Ref(name):
            return names[name]
        case Sequence(parts):
            return " ".join(map(inner, parts)) if parts else '""'
        case Choice(options):
            return f"({' | '.join(map(inner, options))})"
        case Repeat(part, least, most):
            return f"({inner(part)}){_times(least, most)}"


def _times(least: int, most: int | None) -> str:
    short = {(0, None): "*", (1, None): "+", (0, 1): "?"}
    return short.get((least, most)) or f"{{{least},{'' if most is None else most}}}"


def _children(node: Node) -> tuple[Node, ...]:
    match node:
        case Sequence(parts):
            return parts
        case Choice(options):
            return options
        case Repeat(part, _, _):
            return (part,)
    return ()


def _refs(node: Node) -> Iterator[str]:
    if isinstance(node, Ref):
        yield node.name
    for child in _children(node):
        yield from _refs(child)


def _has_token(node: Node) -> bool:
    return isinstance(node, Token) or any(map(_has_token, _children(node)))


def _regular(rules: dict[str, Node]) -> set[str]:
    """Names of the rules from which no recursive one and no token can be reached."""
    found: set[str] = set()
    open_rules = {name: set(_refs(node)) for name, node in rules.items() if not _has_token(node)}
    while more := {name for name, refs in open_rules.items() if refs <= found}:
        found |= more
        for name in more:
            del open_rules[name]
    return found


def _unrolled(name: str, node: Node) -> Node:
    """`r ::= x r | y` as `x* y`, and `r ::= r x | y` as `y x*`; else `node` itself.

    Exact by Arden's rule; the old JSON grammars spell white space so.
    """
    options = list(node.options if isinstance(node, Choice) else (node,))
    if isinstance(node, Repeat) and (node.least, node.most) == (0, 1):
        inner = node.node
        options = [*(inner.options if isinstance(inner, Choice) else (inner,)), Sequence(())]
    steps: list[Node] = []
    ends: list[Node] = []
    sides = set()
    for option in options:
        parts = option.parts if isinstance(option, Sequence) else (option,)
        if name not in _refs(option):
            ends.append(option)
        elif len(parts) > 1 and Ref(name) in (parts[0], parts[-1]):
            right = parts[-1] == Ref(name)
            rest = parts[:-1] if right else parts[1:]
            if any(name in _refs(part) for part in rest):
                return node
            sides.add(right)
            steps.append(Sequence(rest))
        else:
            return node
    if len(sides) != 1 or not ends:
        return node
    loop = Repeat(Choice(tuple(steps)), 0, None)
    end = Choice(tuple(ends))
    return Sequence((loop, end) if sides.pop() else (end, loop))
