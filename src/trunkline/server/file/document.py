"""YAML with positions: text in, a tree whose every node knows where it stands.

Only the syntax of YAML is used, never its types: no object is ever constructed, and whether `no` is
a word or a truth is decided by the field that it is for. Size, depth and what aliases expand to are
bounded. Merge keys (``<<``) work.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import yaml
from yaml import events

from trunkline.server.file.problems import FileError, Place, Problem

MAX_BYTES = 2 << 20
MAX_DEPTH = 48
# Nodes, with aliases expanded.
MAX_NODES = 200_000

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")
_CORE_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = frozenset(_CORE_TAG + name for name in ("int", "float", "bool", "null"))
_INT = re.compile(r"[-+]?[0-9]+")
# As PyYAML writes them, with a point; "1e5" and "0E0" are words to it.
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+][0-9]+)?")
_BOOLS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


class Scalar(msgspec.Struct, frozen=True):
    """A single value, as text."""

    place: Place
    text: str
    # Written without quotes, so that it may be a number, a truth or nothing.
    plain: bool = True
    # Name of the environment variable that the text came from; such a text is never shown.
    variable: str = ""

    @property
    def is_null(self) -> bool:
        """Whether it means that there is no value."""
        return self.plain and not self.variable and self.text in ("", "~", "null", "Null", "NULL")

    def shown(self) -> str:
        """The value in an error, without a secret."""
        return f"the value of {self.variable}" if self.variable else repr(self.text[:80])


class Sequence(msgspec.Struct, frozen=True):
    """A list."""

    place: Place
    items: tuple[Node, ...] = ()


class Mapping(msgspec.Struct, frozen=True):
    """Keys with values, in their order."""

    place: Place
    entries: dict[str, Node] = {}
    # Where each key stands.
    keys: dict[str, Place] = {}

    def key_place(self, key: str) -> Place:
        """Where `key` stands; the mapping itself for one that was not in the file."""
        return self.keys.get(key, self.place)

    def with_entry(self, key: str, node: Node) -> Mapping:
        """The same with one entry more, or another value for it."""
        return Mapping(self.place, {**self.entries, key: node}, self.keys)

    def without(self, *names: str) -> Mapping:
        """The same without some keys."""
        rest = {key: node for key, node in self.entries.items() if key not in names}
        return Mapping(self.place, rest, self.keys)


Node = Scalar | Sequence | Mapping


def read_bool(text: str) -> bool | None:
    """What YAML 1.1 takes for a truth; None when it is none."""
    return _BOOLS.get(text.lower())


def to_plain(node: Node) -> Any:
    """The node as Python's own types: null, truths, whole numbers, numbers with a point, texts."""
    match node:
        case Sequence(items=items):
            return [to_plain(item) for item in items]
        case Mapping(entries=entries):
            return {key: to_plain(value) for key, value in entries.items()}
        case Scalar(text=text):
            return _plain_value(node, text)


def _plain_value(node: Scalar, text: str) -> Any:
    if not node.plain:
        return text
    if node.is_null:
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def overlay(base: Node, above: Node) -> Node:
    """`above`, and where both are mappings what only `base` has, all the way down."""
    if not (isinstance(base, Mapping) and isinstance(above, Mapping)):
        return above
    entries = dict(base.entries)
    for key, node in above.entries.items():
        entries[key] = overlay(entries[key], node) if key in entries else node
    return Mapping(above.place, entries, {**base.keys, **above.keys})


def parse(data: bytes, file: str, repeated: list[Problem] | None = None) -> Node:
    """The tree of one YAML document. Raises `FileError`.

    A key that is there twice is an error; with `repeated` it is told there, and the last counts.
    """
    if len(data) > MAX_BYTES:
        raise _error(file, 1, 1, "", f"the file is larger than {MAX_BYTES >> 20} MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _error(file, line, 1, "", "the file is not UTF-8 text") from error
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Builder(file, repeated).build(yaml.parse(text, Loader=loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise _error(file, line, column, "", f"not YAML: {what}") from error
    except yaml.YAMLError as error:
        raise _error(file, 1, 1, "", f"not YAML: {' '.join(str(error).split())}") from error


def _error(file: str, line: int, column: int, path: str, message: str) -> FileError:
    return FileError([Problem(Place(file, line, column, path), message)])


class _Open:
    """A collection under construction."""

    def __init__(self, place: Place, anchor: str | None, is_mapping: bool) -> None:
        self.place = place
        self.anchor = anchor
        self.is_mapping = is_mapping
        self.items: list[Node] = []
        self.entries: dict[str, Node] = {}
        self.keys: dict[str, Place] = {}
        self.merged: list[Mapping] = []
        # The key whose value comes next.
        self.key: Scalar | None = None
        # Nodes in it, aliases expanded.
        self.weight = 1

    def next_path(self) -> str:
        """Path of what comes next in it."""
        path = self.place.path
        if not self.is_mapping:
            return f"{path}[{len(self.items)}]"
        if self.key is None:
            return path
        name = self.key.text
        shown = name if _PLAIN_KEY.fullmatch(name) else f'"{name}"'
        return f"{path}.{shown}" if path else shown

    def close(self) -> Node:
        """The finished collection."""
        if not self.is_mapping:
            return Sequence(self.place, tuple(self.items))
        entries, keys = self.entries, self.keys
        for source in self.merged:
            for name, node in source.entries.items():
                entries.setdefault(name, node)
                keys.setdefault(name, source.key_place(name))
        return Mapping(self.place, entries, keys)


class _Builder:
    """Turns parser events into nodes, without recursion."""

    def __init__(self, file: str, repeated: list[Problem] | None) -> None:
        self._file = file
        self._repeated = repeated
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._root: Node | None = None
        self._nodes = 0

    def build(self, stream: Iterator[events.Event]) -> Node:
        """The root. Raises `FileError`, yaml.YAMLError."""
        for event in stream:
            match event:
                case events.ScalarEvent():
                    self._scalar(event)
                case events.MappingStartEvent() | events.SequenceStartEvent():
                    self._begin(event)
                case events.MappingEndEvent() | events.SequenceEndEvent():
                    done = self._stack.pop()
                    self._add(done.close(), done.anchor, done.weight, counted=done.weight - 1)
                case events.AliasEvent():
                    self._alias(event)
                case events.DocumentStartEvent() if self._root is not None:
                    raise self._fail(event, "", "a second document; a file has one")
        return self._root or Mapping(Place(self._file, 1, 1, ""))

    def _begin(self, event: events.CollectionStartEvent) -> None:
        place = self._place(event)
        is_mapping = isinstance(event, events.MappingStartEvent)
        if event.tag not in (None, "!", _CORE_TAG + "map", _CORE_TAG + "seq"):
            raise self._fail(event, place.path, f"unknown tag {event.tag!r}")
        if len(self._stack) >= MAX_DEPTH:
            raise self._fail(event, place.path, f"nested more than {MAX_DEPTH} deep")
        if self._stack and self._stack[-1].is_mapping and self._stack[-1].key is None:
            raise self._fail(event, place.path, "a key must be a single value")
        self._stack.append(_Open(place, event.anchor, is_mapping))

    def _scalar(self, event: events.ScalarEvent) -> None:
        place = self._place(event)
        tag = event.tag
        if tag not in (None, "!", _CORE_TAG + "str") and tag not in _PLAIN_TAGS:
            raise self._fail(event, place.path, f"unknown tag {tag!r}")
        plain = event.implicit[0] if tag is None else tag in _PLAIN_TAGS
        self._add(Scalar(place, event.value, plain), event.anchor, 1)

    def _alias(self, event: events.AliasEvent) -> None:
        found = self._anchors.get(event.anchor or "")
        if found is None:
            message = f"no anchor &{event.anchor} before this alias, or the alias stands within it"
            raise self._fail(event, self._place(event).path, message)
        self._add(found[0], None, found[1])

    def _add(self, node: Node, anchor: str | None, weight: int, counted: int = 0) -> None:
        self._nodes += weight - counted
        if self._nodes > MAX_NODES:
            raise FileError(
                [Problem(node.place, f"more than {MAX_NODES} values, aliases expanded")]
            )
        if anchor:
            self._anchors[anchor] = (node, weight)
        if not self._stack:
            self._root = node
            return
        parent = self._stack[-1]
        parent.weight += weight
        if not parent.is_mapping:
            parent.items.append(node)
        elif parent.key is None:
            self._key(parent, node)
        else:
            self._entry(parent, parent.key, node)
            parent.key = None

    def _key(self, parent: _Open, node: Node) -> None:
        if not isinstance(node, Scalar):
            raise FileError([Problem(node.place, "a key must be a single value")])
        if node.text in parent.keys:
            line = parent.keys[node.text].line
            place = parent.keys[node.text]._replace(line=node.place.line, column=node.place.column)
            problem = Problem(place, f"{node.text!r} is there twice, see line {line}")
            if self._repeated is None:
                raise FileError([problem])
            self._repeated.append(problem)
        parent.key = node

    def _entry(self, parent: _Open, key: Scalar, node: Node) -> None:
        if key.text == "<<" and key.plain:
            sources = node.items if isinstance(node, Sequence) else (node,)
            for source in sources:
                if not isinstance(source, Mapping):
                    raise FileError([Problem(source.place, "<< expects a mapping to merge")])
                parent.merged.append(source)
            return
        parent.entries[key.text] = node
        parent.keys[key.text] = key.place._replace(path=parent.next_path())

    def _place(self, event: events.Event) -> Place:
        mark = event.start_mark
        assert mark is not None
        path = self._stack[-1].next_path() if self._stack else ""
        return Place(self._file, mark.line + 1, mark.column + 1, path)

    def _fail(self, event: events.Event, path: str, message: str) -> FileError:
        place = self._place(event)
        return FileError([Problem(place._replace(path=path), message)])
