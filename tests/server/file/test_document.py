"""YAML with positions, and within bounds."""

from __future__ import annotations

import contextlib
import textwrap
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline.server.file import document
from trunkline.server.file.document import Mapping, Scalar, Sequence, overlay, parse, to_plain
from trunkline.server.file.problems import FileError, Problem


def tree(text: str) -> Any:
    return parse(textwrap.dedent(text).encode(), "f.yaml")


def problem(text: str | bytes) -> Problem:
    data = textwrap.dedent(text).encode() if isinstance(text, str) else text
    with pytest.raises(FileError) as caught:
        parse(data, "f.yaml")
    (found,) = caught.value.problems
    return found


def test_every_node_knows_where_it_stands() -> None:
    root = tree(
        """\
        server:
          port: 80
        routes:
          - name: a
            targets: [x/y, {backend: "z"}]
        """
    )
    port = root.entries["server"].entries["port"]
    assert port == Scalar(port.place, "80")
    assert port.place == ("f.yaml", 2, 9, "server.port")
    targets = root.entries["routes"].items[0].entries["targets"]
    assert targets.items[0].place == ("f.yaml", 5, 15, "routes[0].targets[0]")
    quoted = targets.items[1].entries["backend"]
    assert quoted.place == ("f.yaml", 5, 30, "routes[0].targets[1].backend")
    assert not quoted.plain
    assert root.key_place("routes") == ("f.yaml", 3, 1, "routes")


def test_odd_keys_are_quoted_in_paths() -> None:
    root = tree("routes: {gpt-4o: a, 'a.b/*': c}")
    assert [node.place.path for node in root.entries["routes"].entries.values()] == [
        "routes.gpt-4o",
        'routes."a.b/*"',
    ]


def test_merge_keys_give_what_is_not_there() -> None:
    root = tree(
        """\
        base: &base {a: 1, b: 2}
        more: &more {c: 3}
        one: {<<: *base, b: 9}
        two: {<<: [*base, *more], d: 4}
        """
    )
    plain = to_plain(root)
    assert plain["one"] == {"a": 1, "b": 9}
    assert plain["two"] == {"a": 1, "b": 2, "c": 3, "d": 4}
    assert root.entries["one"].entries["a"].place.line == 1


def test_an_empty_file_is_an_empty_mapping() -> None:
    assert to_plain(tree("# nothing\n")) == {}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: [1, 2\nc: 3\n", 3, "not YAML"),
        ("a: 1\n  b: 2\n", 2, "not YAML"),
        ("a: \x01\n", 1, "not YAML"),
        ("a: 1\na: 2\n", 2, "'a' is there twice, see line 1"),
        ("a: 1\n---\nb: 2\n", 2, "a second document"),
        ("a: 1\nb: !!python/object:os.system x\n", 2, "unknown tag"),
        ("a: !Ref x\n", 1, "unknown tag '!Ref'"),
        ("? [1, 2]\n: x\n", 1, "a key must be a single value"),
        ("a: *nobody\n", 1, "no anchor &nobody"),
        ("a: &a [1, *a]\n", 1, "no anchor &a before this alias"),
        ("a: {<<: 3}\n", 1, "<< expects a mapping"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, line: int, message: str) -> None:
    found = problem(text)
    assert found.place.line == line
    assert message in found.message


def test_bytes_that_are_no_text_are_refused_with_their_line() -> None:
    found = problem(b"a: 1\nb: \xff\n")
    assert (found.place.line, found.message) == (2, "the file is not UTF-8 text")


def test_size_depth_and_aliases_are_bounded() -> None:
    assert "larger than 2 MiB" in problem(b"#" * (document.MAX_BYTES + 1)).message
    deep = "a: " + "[" * 100 + "]" * 100
    assert "nested more than 48 deep" in problem(deep).message
    # Nine lists of nine of the list before: a billion laughs.
    bomb = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"{name}: &{name} [{','.join([f'*{below}'] * 9)}]\n"
        for below, name in zip("abcdefg", "bcdefgh", strict=True)
    )
    assert "aliases expanded" in problem(bomb).message


def test_an_overlay_goes_all_the_way_down() -> None:
    base, above = tree("{a: {b: 1, c: 2}, d: 3}"), tree("{a: {c: 9}, d: [4]}")
    assert to_plain(overlay(base, above)) == {"a": {"b": 1, "c": 9}, "d": [4]}


_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=20)
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("ab-_ 1", max_size=4), inner)
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=40)
@given(st.dictionaries(st.text("abc", min_size=1), _VALUES))
def test_what_yaml_writes_is_read_as_it_was(value: dict[str, Any]) -> None:
    assert to_plain(parse(yaml.safe_dump(value, allow_unicode=True).encode(), "f")) == value


@settings(deadline=None)
@given(st.text("ab:-[]{}&*!#|>'\"%@`,? \n\t<0", max_size=60) | st.binary(max_size=40))
def test_nothing_but_file_errors_comes_of_any_bytes(text: str | bytes) -> None:
    with contextlib.suppress(FileError):
        node = parse(text.encode() if isinstance(text, str) else text, "f")
        assert isinstance(node, Mapping | Sequence | Scalar)
