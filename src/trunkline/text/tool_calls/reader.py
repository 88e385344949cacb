"""Reading a model's output as it arrives: the machinery that every dialect is written with.

A dialect is a generator, its *program*: it reads like a grammar, calls the methods of `Reader`
with ``yield from``, and is suspended wherever it needs text that has not come yet. No decision
depends on how the text was cut into pieces, so the result does not either (except beyond
`MAX_HELD`).

What happens to output that is not a proper call:

- Until a call has started (`Reader.start`) its text is held. If it turns out malformed it comes
  out as plain text, tag included, and reading goes on right behind the tag.
- Once a call has started it cannot be taken back. What cannot be understood ends it, and comes
  out as plain text behind it.
- Output that ends inside a call leaves what was read of it, with no `CallEnd`.

Whitespace directly before a call, and whitespace between the last call and the end, is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from itertools import groupby
from typing import NamedTuple, TypeAlias, TypeVar

from trunkline.text.tool_calls.tools import Tools

# Text that may be held back for a call that has not started yet, in characters. What is held may
# have to be read again from each tag in it, so the time for that grows with the square.
MAX_HELD = 8 * 1024
# Whitespace and brackets that are too many behind a call, in characters.
_MAX_CLOSERS = 64
# Longest name, id, key or header, in characters.
MAX_NAME = 256

_NAME = re.compile(r"""[^\s"'<>{}\[\]()\x00-\x1f\ud800-\udfff]+""")
_SPACE = re.compile(r"\s*")
_CLOSERS = re.compile(r"[\s}\]]*")

T = TypeVar("T")
Step: TypeAlias = Generator[None, None, T]
Take: TypeAlias = Callable[[str], None]


class Text(NamedTuple):
    """More of the answer."""

    text: str


class Reasoning(NamedTuple):
    """More of the thinking before the answer."""

    text: str


class CallStart(NamedTuple):
    """A call begins; everything up to its `CallEnd` belongs to it."""

    name: str
    # The id that the model gave it, if it gave one.
    id: str | None = None


class Arguments(NamedTuple):
    """More of the JSON text of the call's arguments."""

    text: str


class CallEnd(NamedTuple):
    """The call is complete."""


Piece: TypeAlias = Text | Reasoning | CallStart | Arguments | CallEnd


class Malformed(Exception):
    """What came is not what the program expects, or the output has ended.

    Control flow within a parser; it never leaves it.
    """


def _is_name(text: str) -> bool:
    return len(text) <= MAX_NAME and _NAME.fullmatch(text) is not None


class TooLong(Malformed):
    """No call has started after more text than may be held: up to `MAX_HELD` of it is text."""


class Marks:
    """Strings to look for in text. None may be the beginning of another."""

    def __init__(self, *strings: str) -> None:
        self.strings = strings
        self.pattern = re.compile("|".join(map(re.escape, strings)))
        self._first = frozenset(string[0] for string in strings)
        self._longest = max(map(len, strings))

    def partial(self, text: str, position: int) -> int:
        """Where, from `position` on, one of the strings may be starting; else the text's end."""
        for start in range(max(position, len(text) - self._longest + 1), len(text)):
            if text[start] in self._first:
                end = text[start:]
                if any(string.startswith(end) for string in self.strings):
                    return start
        return len(text)


class Reader:
    """The output so far, the place reached in it, and the pieces made of it."""

    def __init__(self, tools: Tools) -> None:
        self.tools = tools
        # Text that is not dealt with yet begins at `position`.
        self.buffer = ""
        self.position = 0
        # No more text will come.
        self.ended = False
        # Calls started so far.
        self.calls = 0
        self.pieces: list[Piece] = []
        # Where to go back to when what follows is malformed.
        self._held: int | None = None
        self._in_call = False
        # No text has come out since the last call.
        self._just_called = False

    @classmethod
    def of(cls, text: str) -> Reader:
        """A reader of text that is complete."""
        reader = cls(Tools())
        reader.buffer = text
        reader.ended = True
        return reader

    # What comes out

    def emit(self, piece: Piece) -> None:
        """Send a piece out."""
        self.pieces.append(piece)

    def text(self, end: int) -> None:
        """Send the text up to index `end` out as part of the answer."""
        if end > self.position:
            self.emit(Text(self.buffer[self.position : end]))
            self.position = end
            self._just_called = False

    def start(self, name: str, call_id: str | None = None) -> None:
        """A call begins here; nothing before this is held any longer.

        Any name will do, whether or not the request has such a tool, as in vLLM: the caller can
        tell the model. Raises `Malformed` where it cannot be a name.
        """
        if not _is_name(name):
            raise Malformed
        self.emit(CallStart(name, call_id if call_id and _is_name(call_id) else None))
        self.calls += 1
        self._held = None
        self._in_call = True

    def arguments(self, text: str) -> None:
        """More of the arguments' JSON text."""
        if text:
            self.emit(Arguments(text))

    def end(self) -> None:
        """The call is complete. What follows is held until the next one starts."""
        if self._in_call:
            self.emit(CallEnd())
            self._in_call = False
            self._just_called = True
        self.hold()

    # Going back

    def hold(self) -> None:
        """What follows comes out as text if it turns out malformed."""
        self._held = self.position

    def rewind(self) -> None:
        """Back to where `hold` was called, if nothing has been started since."""
        if self._held is not None:
            self.position = self._held
            self._held = None

    def release(self) -> None:
        """What has been read so far is final."""
        self._held = None

    # What comes in

    def append(self, text: str) -> None:
        """Take more text; what is dealt with is forgotten."""
        done = self.position if self._held is None else min(self.position, self._held)
        self.buffer = self.buffer[done:] + text
        self.position -= done
        if self._held is not None:
            self._held -= done

    def more(self) -> Step[bool]:
        """Wait for more text; False at the end of the output.

        `position` may have another value afterwards. Raises `TooLong`.
        """
        if self.ended:
            return False
        if self._held is not None and len(self.buffer) - self._held > MAX_HELD:
            raise TooLong
        yield
        return True

    def peek(self) -> Step[str]:
        """The next character, "" at the end."""
        while self.position >= len(self.buffer):
            if not (yield from self.more()):
                return ""
        return self.buffer[self.position]

    def space(self) -> Step[None]:
        """Skip whitespace."""
        yield from self.run(_SPACE)

    def run(self, pattern: re.Pattern[str], limit: int = MAX_HELD) -> Step[str]:
        """The longest run of the characters that `pattern` repeats, "" if there is none.

        Raises `Malformed` beyond `limit` characters.
        """
        parts: list[str] = []
        size = 0
        while True:
            found = pattern.match(self.buffer, self.position)
            assert found is not None, "the pattern must match nothing as well"
            parts.append(found.group())
            size += len(found.group())
            self.position = found.end()
            if size > limit:
                raise Malformed
            if self.position < len(self.buffer) or not (yield from self.more()):
                return "".join(parts)

    def accept(self, *literals: str) -> Step[str]:
        """Read the longest of `literals` that comes next; "" if none of them does."""
        longest = max(map(len, literals))
        while True:
            rest = self.buffer[self.position : self.position + longest]
            best = max((x for x in literals if rest.startswith(x)), key=len, default="")
            open_ = any(len(x) > len(rest) and x.startswith(rest) for x in literals)
            if not open_ or not (yield from self.more()):
                self.position += len(best)
                return best

    def expect(self, *literals: str) -> Step[str]:
        """Read one of `literals`; raises `Malformed` where none of them comes."""
        found = yield from self.accept(*literals)
        if not found:
            raise Malformed
        return found

    def stream(self, marks: Marks, take: Take, *, trim: bool = False) -> Step[str]:
        """Hand text to `take` as it comes, up to one of `marks`, which is read and returned.

        With `trim` the whitespace before the mark is dropped. Raises `Malformed` at the end of
        the output, when everything has been handed on.
        """
        while True:
            found = marks.pattern.search(self.buffer, self.position)
            stop = found.start() if found else marks.partial(self.buffer, self.position)
            self._hand_on(self._space_before(stop) if trim else stop, take)
            if found:
                self.position = found.end()
                return found.group()
            if not (yield from self.more()):
                self._hand_on(len(self.buffer), take)
                raise Malformed

    def _hand_on(self, end: int, take: Take) -> None:
        if end > self.position:
            take(self.buffer[self.position : end])
            self.position = end

    def upto(self, marks: Marks, limit: int = MAX_NAME) -> Step[tuple[str, str]]:
        """The text up to one of `marks`, and the mark. Raises `Malformed` beyond `limit`."""
        parts: list[str] = []

        def take(text: str) -> None:
            parts.append(text)
            if sum(map(len, parts)) > limit:
                raise Malformed

        mark = yield from self.stream(marks, take)
        return "".join(parts), mark

    def answer(self, marks: Marks) -> Step[str | None]:
        """Pass text on up to one of `marks`, which is read and returned; None at the end.

        From the mark on (and the whitespace before it) everything is held.
        """
        self.release()
        while True:
            found = marks.pattern.search(self.buffer, self.position)
            if found:
                self.text(self._space_before(found.start()))
                self.hold()
                self.position = found.end()
                return found.group()
            self.text(self._space_before(marks.partial(self.buffer, self.position)))
            if not (yield from self.more()):
                if not (self._just_called and self.buffer[self.position :].isspace()):
                    self.text(len(self.buffer))
                return None

    def _space_before(self, end: int) -> int:
        start = max(self.position, end - MAX_HELD)
        return start + len(self.buffer[start:end].rstrip())

    # Calls

    def attempt(self, mark: str, body: Step[None]) -> Step[bool]:
        """Run `body`, which reads what follows `mark`; afterwards the place is behind a call.

        False where no call came of it: then `mark` has gone out as text.
        """
        calls = self.calls
        try:
            yield from body
        except Malformed as error:
            self.rewind()
            if self.calls == calls:
                end = self.buffer.index(mark, self.position) + len(mark)
                if isinstance(error, TooLong):
                    end = min(self.position + MAX_HELD, len(self.buffer))
                self.text(end)
                return False
            if self.ended and self._in_call:
                return True
        self.end()
        return True

    def close(self, *tags: str) -> Step[None]:
        """Behind a call: skip one of `tags`, and brackets that are too many before it."""
        self.hold()
        found = ""
        try:
            yield from self.run(_CLOSERS, _MAX_CLOSERS)
            found = yield from self.accept(*tags)
        except Malformed:
            found = ""
        if found:
            self.hold()
        else:
            self.rewind()


Program: TypeAlias = Callable[[Reader], Step[None]]


class Tags(NamedTuple):
    """The tags around calls."""

    # Each call begins with one of these.
    opens: tuple[str, ...]
    # Each call ends with one of these, or with none.
    closes: tuple[str, ...] = ()
    # One of these may precede the first call.
    sections: tuple[str, ...] = ()
    # One of these may follow the last call.
    section_closes: tuple[str, ...] = ()


def tagged(tags: Tags, body: Program) -> Program:
    """The program of a dialect whose calls lie between `tags`; `body` reads what is in them."""
    marks = Marks(*tags.sections, *tags.opens)

    def call(reader: Reader, mark: str) -> Step[None]:
        if mark in tags.sections:
            yield from reader.space()
            yield from reader.expect(*tags.opens)
        yield from body(reader)

    def program(reader: Reader) -> Step[None]:
        while (mark := (yield from reader.answer(marks))) is not None:
            if (yield from reader.attempt(mark, call(reader, mark))):
                for group in (tags.closes, tags.section_closes):
                    if group:
                        yield from reader.close(*group)

    return program


class Parser:
    """One row's text on its way through a dialect's program."""

    def __init__(self, program: Program, tools: Tools) -> None:
        self._reader = Reader(tools)
        self._program = program(self._reader)
        next(self._program, None)

    def feed(self, text: str) -> list[Piece]:
        """Take more text; what has become certain."""
        self._reader.append(text)
        next(self._program, None)
        return self._taken()

    def finish(self) -> list[Piece]:
        """The end of the output: the rest."""
        self._reader.ended = True
        next(self._program, None)
        return self._taken()

    def _taken(self) -> list[Piece]:
        """The pieces made, neighbours of one kind joined."""
        taken: list[Piece] = []
        for kind, group in groupby(self._reader.pieces, type):
            if kind is Text or kind is Reasoning or kind is Arguments:
                taken.append(kind("".join(str(piece[0]) for piece in group if piece)))
            else:
                taken += group
        self._reader.pieces.clear()
        return taken
