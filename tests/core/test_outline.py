"""What is found in objects is what msgspec reads there; in what is no JSON nothing is found."""

from __future__ import annotations

import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.core.twins import twins
from trunkline.core.outline import PureOutline, PureWholeAnswer

fields_of = msgspec.json.Decoder(dict[str, msgspec.Raw])
outlines = pytest.mark.parametrize("kind", twins(PureOutline))
answers = pytest.mark.parametrize("kind", twins(PureWholeAnswer))

NAME, MARKS = "model", ("prompt", "n")
# Values that a mark may have.
NOTHING = (b"null", b"false")


def decoded(body: bytes) -> dict[str, bytes] | None:
    try:
        return {name: bytes(value) for name, value in fields_of.decode(body).items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def find(kind: Any, body: bytes) -> bytes | None:
    """What is found, after a look at where."""
    found = kind(NAME, MARKS).find(body)
    if found is None:
        return None
    value, at = found
    assert at == -1 or body[at : at + len(value)] == value
    assert at >= 0 or kind is PureOutline
    assert isinstance(value, bytes)
    return value


@outlines
@pytest.mark.parametrize(
    "value",
    [
        '"a"',
        '""',
        '"a\\"b\\\\"',
        "1",
        "-0.5e+10",
        "true",
        "false",
        "null",
        "[]",
        "{}",
        '[1, {"a":2}]',
    ],
)
@pytest.mark.parametrize("form", ['{"model":%s}', ' {"a":1,\n"model" :\t%s , "b":[]}\r\n '])
def test_a_field_is_found_as_it_is_spelled(kind: Any, value: str, form: str) -> None:
    assert find(kind, (form % value).encode()) == value.encode()


@outlines
@pytest.mark.parametrize(
    "body",
    [
        "",
        " ",
        "[]",
        '"model"',
        "{}",
        '{"a":1}',
        '{"model":1,"model":2}',
        '{"model":1,"prompt":2}',
        '{"n":0,"model":1}',
        '{"model":1}x',
        '{"model":1}{}',
        '{"model":1',
        '{"model":1,}',
        '{,"model":1}',
        '{"model"}',
        '{"model":}',
        "{model:1}",
        "{'model':1}",
        '{"model":1 "a":2}',
        '\ufeff{"model":1}',
        '{"model":1}\0',
        '{"model":1, "a": [1,]}',
        '{"model":1, "a": [1 2]}',
        '{"model":1, "a": [}',
        '{"model":1, "a": {"b"}}',
        '{"model":1, "a": {"b":1,}}',
        '{"model":1, "a": {1:1}}',
    ],
)
def test_what_is_not_there_once_is_not_found(kind: Any, body: str) -> None:
    assert find(kind, body.encode()) is None


@outlines
@pytest.mark.parametrize(
    "value",
    [
        *("01", "-", "-01", "1.", ".5", "1.e5", "1e", "1e+", "+1", "0x1", "1_0", "1e5.5", "--1"),
        *("tru", "True", "nul", "NaN", "Infinity", "-Infinity", "nullx", "truefalse"),
        *('"', '"a', '"\\"', '"\n"', '"\x1f"', '"\0"', '"\\x"', '"\\\n"', '"\\u12"', '"\\u12g4"'),
        *('"\\ud800"', '"\\udc00"', '"\\ud83dx"', '"\\ud83d\\u0041"', '"\\ud83d\\\\ude00"'),
        *('"\\\\ud83d\\ude00"', '"\\ud83d\\ude00\\ude00"', '"\\u"', '"\\', '"\\u0', '"\\ud83d\\u'),
    ],
)
def test_what_is_no_json_is_not_found(kind: Any, value: str) -> None:
    for before in ("a" * length for length in range(0, 68, 3)):
        bodies = [
            f'{{"model":1,"x":{value}}}',
            f'{{"model":1,"{before}":[{value}]}}',
            f'{{"model":1,"x":{{"y":"{before}","z":{value}',
            f'{{"model":{value}}}',
        ]
        if value[0] == '"' and len(value) > 2:
            bodies.append(f'{{"model":1,"x":"{before}{value[1:]}}}')
        for body in bodies:
            assert find(kind, body.encode()) is None
            assert decoded(body.encode()) is None


@outlines
def test_escapes_anywhere_in_a_string(kind: Any) -> None:
    """Strings are read 64 bytes at a time: no edge between two is in the way."""
    escapes = ['\\"', "\\\\", "\\/\\b\\f\\n\\r\\t", "\\u00e9\\uABCD", "\\ud83d\\ude00", '\\\\\\"']
    for escape, after in itertools.product(escapes, (0, 1, 63, 64, 65, 130)):
        for before in range(70):
            value = '"' + "a" * before + escape * 3 + "b" * after + '"'
            body = f'{{"x":{value},"model":{value}}}'.encode()
            assert find(kind, body) == value.encode()
            assert find(kind, body.replace(b'"}', b"}")) is None


@outlines
def test_bytes_that_are_not_ascii_may_stand_in_values(kind: Any) -> None:
    for text in ("é", "日本語" * 30, "🚂"):
        body = json.dumps({"x": {text: [text]}, "model": text}, ensure_ascii=False).encode()
        assert find(kind, body) == f'"{text}"'.encode()


@outlines
def test_marks_that_say_nothing(kind: Any) -> None:
    for value in ("null", "false"):
        assert find(kind, b'{"n":%b,"model":1,"prompt":%b}' % ((value.encode(),) * 2)) == b"1"
    for value in ("true", "0", '""', '"null"', '"false"', "[]", "{}", "1"):
        assert find(kind, b'{"model":1,"n":%b}' % value.encode()) is None
    assert find(kind, b'{"model":1,"n":true,"n":null}') in (None, b"1")
    assert find(kind, b'{"model":1,"n":null,"n":true}') is None


@outlines
def test_names_that_hide(kind: Any) -> None:
    assert find(kind, b'{"model":1,"\\u0070rompt":2}') is None
    assert find(kind, b'{"model":1,"mod\\u0065l":2}') in (None, b"2")
    # What is within is nobody's business.
    assert find(kind, b'{"x":{"\\u0070rompt":1,"prompt":2},"model":3}') == b"3"


@outlines
def test_nesting_is_bounded(kind: Any) -> None:
    for deep in ("[" * 127 + "]" * 127, '{"a":' * 126 + "{}" + "}" * 126):
        assert find(kind, f'{{"model":1,"x":{deep}}}'.encode()) == b"1"
    for deep in ("[" * 100_000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000):
        assert find(kind, f'{{"model":1,"x":{deep}}}'.encode()) is None


@outlines
def test_names_are_checked(kind: Any) -> None:
    for name in ('a"b', "a\\b", "é", "a\nb"):
        with pytest.raises(ValueError, match="plain ASCII"):
            kind(name, ())
        with pytest.raises(ValueError, match="plain ASCII"):
            kind("a", (name,))
    with pytest.raises(TypeError):
        kind("a")
    with pytest.raises(TypeError):
        kind("a", 5)


@pytest.mark.parametrize("kind", twins(PureOutline)[1:])
def test_a_body_is_bytes(kind: Any) -> None:
    for body in ("{}", None, 5, bytearray(b"{}")):
        with pytest.raises(TypeError):
            kind("a", ()).find(body)


texts = st.text(max_size=80) | st.sampled_from(["model", "prompt", "n", "\\", '"', "😀", "a" * 70])
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from(["model", "prompt", "n", "messages", "é", "x y"]) | st.text(max_size=6)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Objects as various writers spell them, some of them with a wrong byte or two."""
    fields = draw(st.lists(st.tuples(names, values), max_size=6))
    ascii_only = draw(st.booleans())
    space = draw(st.sampled_from(["", " ", "\n\t "]))
    inner = f",{space}".join(
        f"{json.dumps(name, ensure_ascii=ascii_only)}{space}:{space}"
        f"{json.dumps(value, ensure_ascii=ascii_only)}"
        for name, value in fields
    )
    body = f"{space}{{{inner}}}{space}".encode("utf-8", "surrogatepass")
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(body)))
        put = draw(st.sampled_from([b"", b'"', b"\\", b"{", b"}", b"]", b",", b":", b"1", b"\\u0"]))
        body = body[:at] + put + body[at + draw(st.integers(0, 2)) :]
    return body


@outlines
@settings(max_examples=400, deadline=None)
@given(bodies())
@example(b'{"model":"a","x":"' + b"\\" * 64 + b'"}')
def test_what_is_found_is_what_is_read(kind: Any, body: bytes) -> None:
    found, fields = find(kind, body), decoded(body)
    if found is not None:
        assert fields is not None
        assert fields[NAME] == found
        assert all(fields.get(mark, b"null") in NOTHING for mark in MARKS)
    elif fields is not None and kind is not PureOutline:
        # Nothing is missed but for a reason.
        pairs = json.loads(body.decode(errors="replace"), object_pairs_hook=list, parse_int=str)
        spelled = [name for name, _ in pairs]
        plain = all(name.isascii() and '"' not in name for name in spelled) and b"\\" not in body
        said = [name for name, value in pairs if value is not None and value is not False]
        once = spelled.count(NAME) == 1 and not set(said) & set(MARKS)
        assert not (plain and once)


@outlines
@settings(deadline=None)
@given(st.binary(max_size=300))
def test_noise(kind: Any, noise: bytes) -> None:
    for body in (noise, b'{"model":1,' + noise + b"}", b'{"model":1,"x":"' + noise + b'"}'):
        found = find(kind, body)
        assert found is None or (decoded(body) or {})[NAME] == found


ANSWER = (
    b'{"id":"x","object":"chat.completion","choices":[{"message":{"content":"say \\"usage\\""}}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":4}, "error":null}'
)
USAGE = b'{"prompt_tokens":3,"completion_tokens":4}'
COUNTS = ("prompt_tokens", "completion_tokens")


def tell(kind: Any, body: bytes) -> tuple[int, int] | None:
    found: tuple[int, int] | None
    found = kind("choices", "usage", ("error", "detail"), COUNTS, ("total",)).find(body)
    return found


@answers
def test_what_an_answer_tells(kind: Any) -> None:
    assert tell(kind, ANSWER) == (3, 4)
    assert tell(kind, b'{"usage":{},"choices":[]}') == (0, 0)
    assert tell(kind, b'{"usage":{},"choices":[],"detail":null,"error":null}') == (0, 0)


@answers
@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        (b'{"completion_tokens":7}', (0, 7)),
        (b'{"prompt_tokens":null,"completion_tokens":0}', (0, 0)),
        (b'{ "total" : 9 ,"prompt_tokens": 2 ,\n"details":null}', (2, 0)),
        (b'{"prompt_tokens":999999999999999}', (999999999999999, 0)),
        (b'{"prompt_tokens":1000000000000000}', None),
        (b'{"prompt_tokens":-1}', None),
        (b'{"prompt_tokens":1.0}', None),
        (b'{"prompt_tokens":1e2}', None),
        (b'{"prompt_tokens":"1"}', None),
        (b'{"prompt_tokens":true}', None),
        (b'{"prompt_tokens":1,"prompt_tokens":2}', None),
        (b'{"completion_tokens":1,"completion_tokens":null}', None),
        (b'{"details":1}', None),
        (b'{"details":{}}', None),
        (b'{"total":{}}', None),
        (b'{"prompt_tokens":1,"t\\u006ftal":1}', None),
    ],
)
def test_counts_of_an_answer(kind: Any, usage: bytes, counts: tuple[int, int] | None) -> None:
    found = tell(kind, b'{"choices":[],"usage":%b}' % usage)
    assert found == counts or (kind is PureWholeAnswer and b"\\" in usage)


@answers
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        ANSWER[:-1],
        ANSWER + b"x",
        ANSWER.replace(b"choices", b"data"),
        ANSWER.replace(b'"usage"', b'"used"'),
        ANSWER.replace(b'"id":"x"', b'"usage":{}'),
        ANSWER.replace(b'"id":"x"', b'"choices":[]'),
        ANSWER.replace(b'"id":"x"', b'"us\xc3\xa4ge":\\'),
        ANSWER.replace(b'"error":null', b'"error":{}'),
        ANSWER.replace(b'"error":null', b'"error":false'),
        ANSWER.replace(b'"error":null', b'"detail":"gone"'),
        ANSWER.replace(b'"error":null', b'"error":null,"error":1'),
        ANSWER.replace(b'"error":null', b'"error":1,"error":null'),
        ANSWER.replace(b"chat.completion", b"error"),
        *(ANSWER.replace(b'"chat.completion"', kind) for kind in (b"0", b"[]", b"1E400", b"true")),
        ANSWER.replace(b"chat.completion", b"err\\u006fr"),
        ANSWER.replace(USAGE, b"null"),
        ANSWER.replace(USAGE, b"[]"),
        b'{"usage":{},"choices":{}}',
        b'{"usage":{},"choices":null}',
    ],
)
def test_what_is_no_whole_answer(kind: Any, body: bytes) -> None:
    assert tell(kind, body) is None


@answers
@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["choices", "usage", "error", "object", "id", "detail"]),
            st.sampled_from(
                ["[]", "{}", "null", '"error"', '"x"', "5", '[{"usage":1}]', '{"total":7}']
            ),
        ),
        max_size=6,
    )
)
def test_what_is_told_is_what_is_read(kind: Any, pairs: list[tuple[str, str]]) -> None:
    body = ("{" + ",".join(f'"{name}":{value}' for name, value in pairs) + "}").encode()
    found = tell(kind, body)
    fields = dict(pairs)
    good = (
        fields.get("choices", "")[:1] == "["
        and fields.get("usage", "")[:1] == "{"
        and fields.get("object", "null") in ("null", '"x"')
        and fields.get("error", "null") == fields.get("detail", "null") == "null"
    )
    if found is not None:
        assert good
        assert found == (0, 0)
    elif good and kind is not PureWholeAnswer:
        assert len(fields) < len(pairs)
