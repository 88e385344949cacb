"""Reads a part of a foreign file key by key: what nobody asks for is listed, and stops nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from collections.abc import Mapping as Names

import msgspec

from trunkline.server.file.document import Mapping, Node, Scalar, Sequence, read_bool, to_plain
from trunkline.server.file.problems import Note, Place, Problem
from trunkline.server.file.variables import MissingVariable, Variables

NOT_SUPPORTED = "not supported, and left out"


class Report:
    """What has been found out while reading: notes, and problems that stop it."""

    def __init__(self, variables: Variables) -> None:
        self.variables = variables
        self.notes: list[Note] = []
        self.problems: list[Problem] = []

    def note(self, place: Place, message: str) -> None:
        """Something that is left out or done in another way."""
        note = Note(place, message)
        if note not in self.notes:
            self.notes.append(note)

    def problem(self, place: Place, message: str) -> None:
        """Something without which the file cannot be used."""
        self.problems.append(Problem(place, message))


class Section:
    """One mapping. Each key that is asked for is taken; `rest` notes the others."""

    def __init__(self, node: Node | None, place: Place, report: Report) -> None:
        self.report = report
        self.place = node.place if node is not None else place
        self._node = node if isinstance(node, Mapping) else Mapping(self.place)
        self._taken: set[str] = set()
        is_empty = isinstance(node, Scalar) and node.is_null
        if node is not None and not isinstance(node, Mapping) and not is_empty:
            report.note(node.place, "expected a mapping; left out")

    def take(self, name: str) -> Node | None:
        """The value of a key; None when it is not there or says nothing."""
        self._taken.add(name)
        node = self._node.entries.get(name)
        return None if isinstance(node, Scalar) and node.is_null else node

    def place_of(self, name: str) -> Place:
        """Where a key stands."""
        return self._node.key_place(name)

    def scalar(self, name: str) -> Scalar | None:
        """A single value, references resolved; a variable that is not set is noted."""
        node = self.take(name)
        if node is None:
            return None
        if not isinstance(node, Scalar):
            self.report.note(node.place, "expected a single value; left out")
            return None
        found = self.resolved(node)
        return found if isinstance(found, Scalar) else None

    def text(self, name: str) -> str:
        """A text, or ""."""
        scalar = self.scalar(name)
        return scalar.text if scalar is not None else ""

    def number(self, name: str, low: float = 0.0) -> float | None:
        """A finite number of at least `low`."""
        scalar = self.scalar(name)
        if scalar is None:
            return None
        try:
            value = float(scalar.text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value < low:
            what = f"expected a number of at least {low:g}, not {scalar.shown()}; left out"
            self.report.note(scalar.place, what)
            return None
        return value

    def whole(self, name: str) -> int | None:
        """A whole number of at least 0."""
        value = self.number(name)
        return None if value is None else int(value)

    def flag(self, name: str) -> bool | None:
        """A truth."""
        scalar = self.scalar(name)
        if scalar is None:
            return None
        value = read_bool(scalar.text)
        if value is None:
            message = f"expected true or false, not {scalar.shown()}; left out"
            self.report.note(scalar.place, message)
        return value

    def items(self, name: str) -> tuple[Node, ...]:
        """The items of a list; a single value is a list of one."""
        node = self.take(name)
        if node is None:
            return ()
        return node.items if isinstance(node, Sequence) else (node,)

    def texts(self, name: str) -> tuple[str, ...]:
        """The texts of a list, references resolved."""
        found = [self.resolved(item) for item in self.items(name)]
        return tuple(item.text for item in found if isinstance(item, Scalar))

    def resolved(self, node: Node) -> Node | None:
        """`node` with the references in it resolved; what is not set is noted, and left out."""
        match node:
            case Mapping(entries=entries):
                inner = {name: self.resolved(value) for name, value in entries.items()}
                there = {name: value for name, value in inner.items() if value is not None}
                return msgspec.structs.replace(node, entries=there)
            case Sequence(items=items):
                found = [self.resolved(item) for item in items]
                return msgspec.structs.replace(
                    node, items=tuple(item for item in found if item is not None)
                )
            case Scalar():
                try:
                    return self.report.variables.resolve(node)
                except MissingVariable as error:
                    self.report.note(node.place, f"{error}; left out")
        return None

    def section(self, name: str) -> Section:
        """A mapping inside this one; an empty one when it is not there."""
        return Section(self.take(name), self.place, self.report)

    def ignore(self) -> None:
        """All of it is left out; the reason has been noted."""
        self._taken.update(self._node.entries)

    def names(self) -> tuple[str, ...]:
        """All keys that say something; none is taken by this."""
        return tuple(
            name
            for name, node in self._node.entries.items()
            if not (isinstance(node, Scalar) and node.is_null)
        )

    def entries(self) -> Iterator[tuple[str, Node]]:
        """All keys with their values, taken."""
        for name, node in self._node.entries.items():
            self._taken.add(name)
            yield name, node

    def table(self, name: str) -> dict[str, str]:
        """A mapping of texts, references resolved."""
        inner = self.section(name)
        found = {key: inner.scalar(key) for key in inner._node.entries}
        return {key: scalar.text for key, scalar in found.items() if scalar is not None}

    def rest(self, reasons: Names[str, str], harmless: frozenset[str] = frozenset()) -> None:
        """Note every key that nobody took, with the reason where there is a special one."""
        for name, node in self._node.entries.items():
            is_empty = isinstance(node, Scalar) and node.is_null
            if name not in self._taken and name not in harmless and not is_empty:
                self.report.note(self.place_of(name), reasons.get(name, NOT_SUPPORTED))

    def plain(self, name: str) -> object:
        """A value as Python's own types, references resolved."""
        node = self.take(name)
        found = None if node is None else self.resolved(node)
        return None if found is None else to_plain(found)
