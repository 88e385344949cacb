"""GBNF to llguidance's Lark.

llguidance reads text in two stages: a lexer that takes the longest terminal, then a parser. GBNF
has one. What is regular (rules that do not refer to themselves, and repetition spelled as
recursion) becomes terminals as large as can be, which makes masks cheap; a grammar that is regular
as a whole is one terminal and exact. In a recursive grammar a terminal is cut smaller wherever its
text could go on with what may follow it. What is left: where two terminals may come at one place
and one begins like the other, the longer reading wins. Then some texts of the grammar cannot come;
none comes that is not of the grammar.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from functools import reduce
from operator import or_
from typing import NamedTuple

from trunkline.core.errors import InvalidRequest
from trunkline.text.gbnf import (
    Choice,
    Node,
    Ranges,
    Ref,
    Repeat,
    Sequence,
    Terminal,
    Token,
    children,
    read_gbnf,
    references,
)

# Longest translation, in characters.
_MAX_LARK = 1 << 20


def gbnf_to_lark(text: str) -> str:
    """Lark source for the GBNF grammar `text`, whose first rule is `root`.

    Raises `InvalidRequest` with line and reason.
    """
    return _Writer(read_gbnf(text)).lark()


class _Facts(NamedTuple):
    """Of a node's texts. Sets of characters are bits, one for each of `_Alphabet`'s classes."""

    nullable: bool = False
    # What a text may begin with.
    first: int = 0
    # What may come behind one text and make it, or the begin of it, another text.
    more: int = 0
    # All characters.
    all: int = 0


class _Alphabet:
    """The characters, in classes that no range of the grammar divides."""

    def __init__(self, rules: Mapping[str, Node]) -> None:
        self._cuts: list[int] = []
        cuts: set[int] = set()
        for node in rules.values():
            self._collect(node, cuts)
        self._cuts = sorted(cuts)
        self._known: dict[Ranges, int] = {}

    def _collect(self, node: Node, cuts: set[int]) -> None:
        if isinstance(node, Terminal):
            for ranges in node.chars:
                for first, last in ranges:
                    cuts |= {first, last + 1}
        for child in children(node):
            self._collect(child, cuts)

    def bits(self, ranges: Ranges) -> int:
        """The set of the characters in `ranges`."""
        if ranges not in self._known:
            found = 0
            for first, last in ranges:
                low, high = bisect_left(self._cuts, first), bisect_left(self._cuts, last + 1)
                found |= (1 << high) - (1 << low)
            self._known[ranges] = found
        return self._known[ranges]


class _Analysis:
    """Facts of all nodes, by iteration until nothing changes, and what may follow each rule."""

    def __init__(self, rules: Mapping[str, Node]) -> None:
        self._rules = rules
        self._alphabet = _Alphabet(rules)
        self._facts = dict.fromkeys(rules, _Facts())
        while (found := {name: self.of(node) for name, node in rules.items()}) != self._facts:
            self._facts = found
        self.follow = dict.fromkeys(rules, 0)
        before: dict[str, int] = {}
        while before != self.follow:
            before = dict(self.follow)
            for name, node in rules.items():
                self._spread(node, self.follow[name])

    def of(self, node: Node) -> _Facts:
        """Facts of one node."""
        match node:
            case Terminal(_, chars):
                sets = [self._alphabet.bits(ranges) for ranges in chars]
                return _Facts(False, sets[0], 0, reduce(or_, sets))
            case Ref(name):
                return self._facts[name]
            case Sequence(parts):
                return reduce(_then, map(self.of, parts), _Facts(nullable=True))
            case Choice(options):
                return reduce(_either, map(self.of, options))
            case Repeat(part, least, most):
                one = self.of(part)
                found = one if most == 1 else _then(one, one)
                more = found.more | (one.first if least != most else 0)
                return _Facts(one.nullable or least == 0, one.first, more, one.all)
        return _Facts()

    def _spread(self, node: Node, follow: int) -> None:
        """Add `follow`, which may come behind `node`, to the rules that `node` may end with."""
        match node:
            case Ref(name):
                self.follow[name] |= follow
            case Sequence(parts):
                for part, behind in zip(parts, self.behind(parts, follow), strict=True):
                    self._spread(part, behind)
            case Choice(options):
                for option in options:
                    self._spread(option, follow)
            case Repeat(part, _, most):
                self._spread(part, follow | (0 if most == 1 else self.of(part).first))

    def behind(self, parts: tuple[Node, ...], follow: int) -> list[int]:
        """What may come behind each of `parts`, when `follow` may come behind the last."""
        found = []
        for part in reversed(parts):
            found.append(follow)
            facts = self.of(part)
            follow = facts.first | (follow if facts.nullable else 0)
        return found[::-1]


def _then(one: _Facts, two: _Facts) -> _Facts:
    everything = one.all | two.all
    more = two.more | (one.more | two.first if two.nullable else 0)
    if one.more & two.first:
        # Where one ends is not clear, so nothing is.
        more = everything
    first = one.first | (two.first if one.nullable else 0)
    return _Facts(one.nullable and two.nullable, first, more, everything)


def _either(one: _Facts, two: _Facts) -> _Facts:
    everything = one.all | two.all
    more = one.more | two.more
    if one.nullable or two.nullable:
        more |= one.first | two.first
    if one.first & two.first:
        more = everything
    return _Facts(one.nullable or two.nullable, one.first | two.first, more, everything)


class _Writer:
    """Decides what is a terminal, and writes Lark."""

    def __init__(self, rules: Mapping[str, Node]) -> None:
        self._rules = {name: _unrolled(name, node) for name, node in rules.items()}
        self._regular = _regular(self._rules)
        self._names = {name: str(index) for index, name in enumerate(self._rules)}
        self._sets = _Analysis(self._rules)
        self._hoisted: dict[str, str] = {}
        self._length = 0

    def lark(self) -> str:
        """The whole grammar."""
        lines = [f"start: {self._rule(Ref('root'), 0)}"]
        for name, node in self._rules.items():
            if name in self._regular:
                lines.append(f"T{self._names[name]}: {self._terminal(node)}")
            else:
                lines.append(f"r{self._names[name]}: {self._rule(node, self._sets.follow[name])}")
        lines += [f"{name}: {body}" for body, name in self._hoisted.items()]
        return "\n".join(lines)

    def _terminal(self, node: Node) -> str:
        """`node`, which is regular, within a terminal."""
        if isinstance(node, Ref):
            return f"T{self._names[node.name]}"
        return self._counted(_write(node, [self._terminal(child) for child in children(node)]))

    def _rule(self, node: Node, follow: int) -> str:
        """`node` within a rule, where `follow` may come behind it."""
        if self._is_terminal(node, follow):
            return self._hoist(node)
        match node:
            case Ref(name) if name in self._regular:
                return f"({self._rule(self._rules[name], follow)})"
            case Ref(name):
                return f"r{self._names[name]}"
            case Sequence(parts):
                return " ".join(self._runs(parts, self._sets.behind(parts, follow)))
            case Repeat(part, _, most):
                again = 0 if most == 1 else self._sets.of(part).first
                inner = [self._rule(part, follow | again)]
            case _:
                inner = [self._rule(child, follow) for child in children(node)]
        return self._counted(_write(node, inner))

    def _runs(self, parts: tuple[Node, ...], behind: list[int]) -> list[str]:
        """The parts of a sequence, the longest runs that can be terminals in one."""
        found: list[str] = []
        at = 0
        while at < len(parts):
            end = at
            while end < len(parts) and self._is_regular(parts[end]):
                end += 1
            while end > at + 1 and not self._is_terminal(Sequence(parts[at:end]), behind[end - 1]):
                end -= 1
            if end > at + 1:
                found.append(self._hoist(Sequence(parts[at:end])))
            else:
                end = at + 1
                found.append(self._rule(parts[at], behind[at]))
            at = end
        return found

    def _is_terminal(self, node: Node, follow: int) -> bool:
        return self._is_regular(node) and not self._sets.of(node).more & follow

    def _is_regular(self, node: Node) -> bool:
        return not _has_token(node) and all(name in self._regular for name in references(node))

    def _hoist(self, node: Node) -> str:
        body = self._terminal(node)
        if isinstance(node, Ref):
            return body
        return self._hoisted.setdefault(body, f"X{len(self._hoisted)}")

    def _counted(self, text: str) -> str:
        self._length += len(text)
        if self._length > _MAX_LARK:
            raise InvalidRequest("the gbnf grammar is too complex", param="gbnf")
        return text


def _write(node: Node, inner: list[str]) -> str:
    match node:
        case Terminal(lark, _) | Token(lark):
            return lark
        case Choice(_):
            return f"({' | '.join(inner)})"
        case Repeat(_, least, most):
            return f"({inner[0]}){_times(least, most)}"
    return " ".join(inner) or '""'


def _times(least: int, most: int | None) -> str:
    short = {(0, None): "*", (1, None): "+", (0, 1): "?"}
    return short.get((least, most)) or f"{{{least},{'' if most is None else most}}}"


def _has_token(node: Node) -> bool:
    return isinstance(node, Token) or any(map(_has_token, children(node)))


def _regular(rules: Mapping[str, Node]) -> set[str]:
    """Names of the rules from which no recursive one and no token can be reached."""
    found: set[str] = set()
    left = {name: set(references(node)) for name, node in rules.items() if not _has_token(node)}
    while more := {name for name, used in left.items() if used <= found}:
        found |= more
        for name in more:
            del left[name]
    return found


def _unrolled(name: str, node: Node) -> Node:
    """`r ::= x r | y` as `x* y`, and `r ::= r x | y` as `y x*`; else `node` itself.

    Exact by Arden's rule; older JSON grammars spell white space so.
    """
    options = list(node.options if isinstance(node, Choice) else (node,))
    if isinstance(node, Repeat) and (node.least, node.most) == (0, 1):
        inner = node.node
        options = [*(inner.options if isinstance(inner, Choice) else (inner,)), Sequence(())]
    ends = [option for option in options if name not in references(option)]
    steps = [option for option in options if name in references(option)]
    for left in (False, True):
        rests = [_without(option, name, left) for option in steps]
        if ends and steps and all(rest is not None for rest in rests):
            loop = Repeat(Choice(tuple(rest for rest in rests if rest is not None)), 0, None)
            end = Choice(tuple(ends))
            return Sequence((end, loop) if left else (loop, end))
    return node


def _without(option: Node, name: str, left: bool) -> Node | None:
    """`option` less the reference to `name` at its left or right end; None if it is elsewhere."""
    if not isinstance(option, Sequence) or len(option.parts) < 2:
        return None
    own, rest = (
        (option.parts[0], option.parts[1:]) if left else (option.parts[-1], option.parts[:-1])
    )
    inside = any(name in references(part) for part in rest)
    return Sequence(rest) if own == Ref(name) and not inside else None
