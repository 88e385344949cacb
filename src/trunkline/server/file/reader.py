"""From the tree of a file to typed structs. Every problem is collected, each with its place.

What a field accepts follows from its type alone: bounds, allowed values, units and nested structs
are those that msgspec sees.
"""

from __future__ import annotations

import functools
import math
import typing
from collections.abc import Sequence as Names
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from trunkline.core.sizes import format_size, parse_size
from trunkline.server.file.document import (
    Mapping,
    Node,
    Scalar,
    Sequence,
    read_bool,
    to_plain,
)
from trunkline.server.file.problems import FileError, Place, Problem, nearest
from trunkline.server.file.variables import MissingVariable, Variables

S = TypeVar("S", bound=msgspec.Struct)


class _Invalid(Exception):
    """A value that has been complained about."""


class Reader:
    """Reads one file; `problems` holds what was wrong so far."""

    def __init__(self, variables: Variables) -> None:
        self.problems: list[Problem] = []
        self._variables = variables

    def complain(self, place: Place, message: str) -> None:
        """Add a problem."""
        self.problems.append(Problem(place, message))

    def check(self) -> None:
        """Raises `FileError` when there are problems."""
        if self.problems:
            raise FileError(self.problems)

    def struct(self, kind: type[S], node: Node) -> S | None:
        """A struct; None, with the problems noted, when the node is none."""
        try:
            return typing.cast(S, self._struct(_info(kind), node))
        except _Invalid:
            return None

    def fields(self, kind: type[msgspec.Struct], node: Node, skip: Names[str]) -> Mapping | None:
        """Check a mapping that may have any of the fields of `kind` but those in `skip`.

        Nothing is required. Returns the mapping, or None when it is none.
        """
        fields = _info(kind).fields
        known = {field.encode_name: field for field in fields if field.name not in skip}
        try:
            mapping = self._mapping(node)
            self._known(mapping, known)
            for name, field in known.items():
                if name in mapping.entries:
                    self._value(field.type, mapping.entries[name])
        except _Invalid:
            return None
        return mapping

    def text(self, node: Node) -> str | None:
        """A single text with its references resolved; None, with the problem noted."""
        try:
            return self._scalar(node).text
        except _Invalid:
            return None

    def scalar(self, node: Scalar) -> Scalar | None:
        """A scalar with its references resolved; None, with the problem noted."""
        try:
            return self._scalar(node)
        except _Invalid:
            return None

    # One value

    def _value(self, kind: inspect.Type, node: Node) -> Any:
        unit = ""
        if isinstance(kind, inspect.Metadata):
            unit = (kind.extra or {}).get("unit", "")
            kind = kind.type
        match kind:
            case inspect.StructType():
                return self._struct(kind, node)
            case inspect.VarTupleType(item_type=item):
                return self._tuple(item, node)
            case inspect.DictType(value_type=item):
                return self._dict(item, node)
            case inspect.UnionType(types=types):
                return self._optional(types, node)
            case inspect.AnyType():
                return self._any(node)
            case inspect.IntType():
                return self._int(kind, unit, node)
            case inspect.FloatType():
                return self._float(kind, node)
            case inspect.BoolType():
                return self._bool(node)
            case inspect.StrType():
                return self._str(kind, node)
            case inspect.LiteralType(values=values):
                return self._literal(values, node)
        raise TypeError(f"no configuration field may have the type {kind}")

    def _bad(self, place: Place, message: str) -> _Invalid:
        self.complain(place, message)
        return _Invalid()

    def _scalar(self, node: Node) -> Scalar:
        if not isinstance(node, Scalar):
            kind = "a list" if isinstance(node, Sequence) else "a mapping"
            raise self._bad(node.place, f"expected a single value, not {kind}")
        try:
            return self._variables.resolve(node)
        except MissingVariable as error:
            raise self._bad(node.place, str(error)) from error

    def _expected(self, what: str, node: Scalar) -> _Invalid:
        given = "nothing" if node.is_null else node.shown()
        return self._bad(node.place, f"expected {what}, not {given}")

    def _int(self, kind: inspect.IntType, unit: str, node: Node) -> int:
        scalar = self._scalar(node)
        low, high = kind.ge, kind.le
        what = "a size such as 512M or 2G" if unit == "bytes" else "a whole number"
        try:
            value = parse_size(scalar.text) if unit == "bytes" else int(scalar.text)
        except ValueError:
            raise self._expected(what + _bounds(None, low, high, unit), scalar) from None
        if (low is not None and value < low) or (high is not None and value > high):
            raise self._expected(what + _bounds(None, low, high, unit), scalar)
        return value

    def _float(self, kind: inspect.FloatType, node: Node) -> float:
        scalar = self._scalar(node)
        above, low, high = kind.gt, kind.ge, kind.le
        try:
            value = float(scalar.text)
        except ValueError:
            value = math.nan
        good = math.isfinite(value)
        good = good and (above is None or value > above) and (low is None or value >= low)
        if not good or (high is not None and value > high):
            raise self._expected("a number" + _bounds(above, low, high, ""), scalar)
        return value

    def _bool(self, node: Node) -> bool:
        scalar = self._scalar(node)
        value = read_bool(scalar.text)
        if value is None:
            raise self._expected("true or false", scalar)
        return value

    def _str(self, kind: inspect.StrType, node: Node) -> str:
        scalar = self._scalar(node)
        if scalar.is_null or len(scalar.text) < (kind.min_length or 0):
            raise self._expected("a text", scalar)
        return scalar.text

    def _literal(self, values: tuple[Any, ...], node: Node) -> Any:
        scalar = self._scalar(node)
        for text in (scalar.text, scalar.text.replace("-", "_").lower()):
            if text in values:
                return text
        raise self._expected("one of " + ", ".join(map(str, values)), scalar)

    def _optional(self, types: tuple[inspect.Type, ...], node: Node) -> Any:
        rest = [kind for kind in types if not isinstance(kind, inspect.NoneType)]
        if len(rest) < len(types) and isinstance(node, Scalar) and node.is_null:
            return None
        (kind,) = rest
        return self._value(kind, node)

    def _any(self, node: Node) -> Any:
        match node:
            case Sequence(items=items):
                return [self._any(item) for item in items]
            case Mapping(entries=entries):
                return {key: self._any(value) for key, value in entries.items()}
            case _:
                return to_plain(self._scalar(node))

    # Several values

    def _tuple(self, item: inspect.Type, node: Node) -> tuple[Any, ...]:
        if isinstance(node, Scalar):
            if node.is_null:
                return ()
            # One value where a list may stand is a list of one.
            node = Sequence(node.place, (node,))
        if isinstance(node, Mapping):
            raise self._bad(node.place, "expected a list, not a mapping")
        return tuple(self._all(item, list(node.items)))

    def _all(self, kind: inspect.Type, nodes: list[Node]) -> list[Any]:
        values, bad = [], False
        for node in nodes:
            try:
                values.append(self._value(kind, node))
            except _Invalid:
                bad = True
        if bad:
            raise _Invalid
        return values

    def _dict(self, item: inspect.Type, node: Node) -> dict[str, Any]:
        mapping = self._mapping(node)
        values = self._all(item, list(mapping.entries.values()))
        return dict(zip(mapping.entries, values, strict=True))

    def _mapping(self, node: Node) -> Mapping:
        if isinstance(node, Mapping):
            return node
        if isinstance(node, Scalar) and node.is_null:
            return Mapping(node.place)
        what = f"not {node.shown()}" if isinstance(node, Scalar) else "not a list"
        raise self._bad(node.place, f"expected a mapping with fields, {what}")

    def _known(self, mapping: Mapping, known: typing.Container[str]) -> bool:
        names = typing.cast(typing.Iterable[str], known)
        good = True
        for name in mapping.entries:
            if name not in known:
                good = False
                message = f"no field is called {name!r}; {nearest(name, names)}"
                self.complain(mapping.key_place(name), message)
        return good

    def _struct(self, kind: inspect.StructType, node: Node) -> Any:
        mapping = self._mapping(node)
        known = {field.encode_name: field for field in kind.fields}
        bad = not self._known(mapping, known)
        values = {}
        for name, field in known.items():
            if name in mapping.entries:
                try:
                    values[field.name] = self._value(field.type, mapping.entries[name])
                except _Invalid:
                    bad = True
            elif field.required:
                bad = True
                self.complain(mapping.place, f"the field {name!r} is missing: {describe(field)}")
        if bad:
            raise _Invalid
        return kind.cls(**values)


@functools.cache
def _info(kind: type[msgspec.Struct]) -> inspect.StructType:
    """What a struct consists of; taking it apart takes a millisecond."""
    return typing.cast(inspect.StructType, inspect.type_info(kind))


def describe(field: inspect.Field) -> str:
    """The sentence of a field."""
    if isinstance(field.type, inspect.Metadata):
        return str((field.type.extra_json_schema or {}).get("description", ""))
    return ""


def _bounds(above: float | None, low: float | None, high: float | None, unit: str) -> str:
    def show(bound: float) -> str:
        return format_size(int(bound)) if unit == "bytes" else f"{bound:g}"

    if above is not None:
        return f" above {show(above)}" + (f" up to {show(high)}" if high is not None else "")
    if high is not None:
        return f" from {show(low or 0)} to {show(high)}"
    return "" if low is None else f" of at least {show(low)}"
