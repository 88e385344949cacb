"""Every dialect: golden outputs, however they are cut; awkward and hostile text."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.text.tool_calls.driving import Read, dialect, read
from tests.text.tool_calls.golden import GOLDEN, PING, ROME, TOOLS, Golden
from trunkline.text.tool_calls import DIALECTS
from trunkline.text.tool_calls.reader import MAX_HELD, Arguments, Text
from trunkline.text.tool_calls.tools import Tools

NAMES = [dialect.name for dialect in DIALECTS]


def _id(golden: Golden) -> str:
    return f"{golden.dialect}-{GOLDEN.index(golden)}"


def test_every_dialect_has_golden_outputs() -> None:
    assert {golden.dialect for golden in GOLDEN} == set(NAMES)


@pytest.mark.parametrize("golden", GOLDEN, ids=_id)
def test_golden(golden: Golden) -> None:
    got = read(golden.dialect, [golden.raw])
    assert got.parsed == golden.calls
    assert (got.text, got.reasoning) == (golden.text, golden.reasoning)
    assert all(complete for _, _, _, complete in got.calls)
    if golden.ids:
        assert tuple(call_id for _, call_id, _, _ in got.calls) == golden.ids


@pytest.mark.parametrize("golden", GOLDEN, ids=_id)
def test_golden_cut_anywhere(golden: Golden) -> None:
    whole = read(golden.dialect, [golden.raw])
    assert read(golden.dialect, golden.raw) == whole
    for cut in range(len(golden.raw)):
        assert read(golden.dialect, [golden.raw[:cut], golden.raw[cut:]]) == whole


@pytest.mark.parametrize("golden", [one for one in GOLDEN if not one.text], ids=_id)
@pytest.mark.parametrize("space", [" ", "\n\n", "\n" * 500])
def test_whitespace_before_a_call_is_no_content(golden: Golden, space: str) -> None:
    if golden.raw.startswith(" "):
        pytest.skip("its header begins with whitespace")
    for pieces in ([space + golden.raw], [*space, *golden.raw]):
        got = read(golden.dialect, pieces)
        assert (got.text, got.parsed) == ("", golden.calls)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_golden_in_random_pieces_with_text_around(data: st.DataObject) -> None:
    golden = data.draw(st.sampled_from(GOLDEN))
    before = data.draw(st.sampled_from(["", "Well: ", "a <b> {c} [d]\n\n", "é 漢字 🙂 "]))
    after = data.draw(st.sampled_from(["", "\n", " bye", "\n<\n"]))
    raw = before + golden.raw + after
    cuts = sorted(data.draw(st.sets(st.integers(0, len(raw)), max_size=8)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    whole = read(golden.dialect, [raw])
    assert read(golden.dialect, pieces) == whole
    if not raw.startswith((" to=", "Well:  to=")) and golden.dialect != "openai":
        assert whole.parsed == golden.calls


@pytest.mark.parametrize("golden", GOLDEN, ids=_id)
def test_cut_off_calls_show_what_was_read(golden: Golden) -> None:
    """max_tokens may end the output anywhere: no exception, and only beginnings of the truth."""
    whole = read(golden.dialect, [golden.raw])
    for end in range(len(golden.raw)):
        cut = read(golden.dialect, [golden.raw[:end]])
        assert len(cut.calls) <= len(whole.calls)
        for got, wanted in zip(cut.calls[:-1], whole.calls, strict=False):
            assert got == wanted
        if cut.calls:
            assert cut.calls[-1][0] == whole.calls[len(cut.calls) - 1][0]


JSON_TEXTS = {
    "hermes": '<tool_call>\n{"name": "ping", "arguments": %s}\n</tool_call>',
    "granite": '<|tool_call|>[{"name": "ping", "arguments": %s}]',
    "phi4_mini_json": 'functools[{"name": "ping", "arguments": %s}]',
    "llama3_json": '{"name": "ping", "parameters": %s}',
    "mistral": '[TOOL_CALLS] [{"name": "ping", "arguments": %s}]',
    "mistral_v11": "[TOOL_CALLS]ping[ARGS]%s",
    "deepseek_v3": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>ping\n"
    "```json\n%s\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    "deepseek_v31": "<｜tool▁call▁begin｜>ping<｜tool▁sep｜>%s<｜tool▁call▁end｜>",
    "kimi_k2": "<|tool_calls_section_begin|><|tool_call_begin|>functions.ping:0"
    "<|tool_call_argument_begin|>%s<|tool_call_end|><|tool_calls_section_end|>",
    "openai": "<|channel|>commentary to=functions.ping<|message|>%s<|call|>",
}


@pytest.mark.parametrize("name", JSON_TEXTS)
@pytest.mark.parametrize(
    "arguments",
    [
        "{}",
        '{"a": {"b": [{"c": {}}, []]}}',
        '{ "a" :\n\t1 }',
        r'{"a": "quote \" brace } tag </tool_call> ] \\"}',
        '{"a": "}]}<tool_call>"}',
        '{"a": "é 漢 🙂 \\u00e9"}',
    ],
)
def test_json_arguments_come_out_as_they_were_written(name: str, arguments: str) -> None:
    raw = JSON_TEXTS[name] % arguments
    for pieces in ([raw], list(raw)):
        assert read(name, pieces) == Read("", "", (("ping", _given_id(name), arguments, True),))


def _given_id(name: str) -> str | None:
    return "functions.ping:0" if name == "kimi_k2" else None


VALUES = {
    "qwen3_coder": "<tool_call>\n<function=get_weather>\n<parameter=city>\n%s\n</parameter>\n"
    "</function>\n</tool_call>",
    "glm45": "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>%s</arg_value>\n"
    "</tool_call>",
    "deepseek_v32": '<｜DSML｜function_calls>\n<｜DSML｜invoke name="get_weather">\n'
    '<｜DSML｜parameter name="city" string="true">%s</｜DSML｜parameter>\n</｜DSML｜invoke>\n'
    "</｜DSML｜function_calls>",
    "functiongemma": "<start_function_call>call:get_weather{city:<escape>%s<escape>}"
    "<end_function_call>",
    "gemma4": '<|tool_call>call:get_weather{city:<|"|>%s<|"|>}<tool_call|>',
}


@pytest.mark.parametrize("name", VALUES)
@settings(max_examples=60, deadline=None)
@given(value=st.text(st.sampled_from("aé🙂\n\t \"'\\{}[]<>/:,=1"), max_size=12))
def test_text_values_become_json_strings(name: str, value: str) -> None:
    raw = VALUES[name] % value
    got = read(name, raw)
    assert got.parsed == (("get_weather", {"city": value}),)
    assert got == read(name, [raw])


@pytest.mark.parametrize(
    ("literal", "wanted"),
    [
        ("'it\\'s \"x\"'", 'it\'s "x"'),
        ('"tab\\t nl\\n bs\\\\ \\u00e9 \\x41 \\U0001F642 \\d"', "tab\t nl\n bs\\ é A 🙂 \\d"),
        ('"""a "quoted" b"""', 'a "quoted" b'),
        ('"\\ud83d\\ude42"', "🙂"),
        ("-3", -3),
        ("1_000", 1000),
        ("0x10", 16),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("None", None),
        ("false", False),
        ("(1, 2,)", [1, 2]),
        ("{'a': [True, {'b': None}], 1: 2}", {"a": [True, {"b": None}], "1": 2}),
        ("Paris", "Paris"),
        ("[]", []),
    ],
)
def test_python_literals(literal: str, wanted: object) -> None:
    raw = f"[ping(x={literal}, y=1)]"
    for pieces in ([raw], list(raw)):
        assert read("pythonic", pieces).parsed == (("ping", {"x": wanted, "y": 1}),)


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("hermes", "<tool_call>\nnot json\n</tool_call>"),
        ("hermes", '<tool_call>{"nome": "x"}</tool_call>'),
        ("hermes", '<tool_call>{"name": 5, "arguments": {}}</tool_call>'),
        ("hermes", '<tool_call>{"name": "a b", "arguments": {}}</tool_call>'),
        ("hermes", '<tool_call>{"name": "", "arguments": {}}</tool_call>'),
        ("hermes", 'a < b <tool <tool_cal {"name": "ping"}'),
        ("hermes", '<tool_call>{"name": "pi'),
        ("hermes", "</tool_call> } ] \n"),
        ("granite", "<|tool_call|>none"),
        ("phi4_mini_json", "functools are useful [1]"),
        ("llama3_json", '{"name": "Alice", "age": 5}'),
        ("llama3_json", '{"answer": {"name": "ping", "x": [1]}, "n": 2}'),
        ("llama3_json", "int main() { return 0; }"),
        ("llama3_json", '<|python_tag|>brave_search.call(query="x")'),
        ("pythonic", "[1, 2, 3] and [a](b) and [unknown(x=1)]"),
        ("pythonic", "[ping(1, 2)]"),
        ("mistral", "[TOOL_CALLS] nothing"),
        ("mistral_v11", "[TOOL_CALLS]f[ARGS"),
        ("deepseek_v3", "<｜tool▁calls▁begin｜>oops<｜tool▁calls▁end｜>"),
        ("deepseek_v31", "<｜tool▁call▁begin｜>f<｜tool▁"),
        ("deepseek_v32", "<｜DSML｜function_calls>\n<｜DSML｜invoke nome>"),
        ("kimi_k2", "<|tool_calls_section_begin|>\n<|tool_calls_section_end|>"),
        ("qwen3_coder", "<tool_call>\n<function=f>\nwhat?\n</function>"),
        ("qwen3_coder", "<tool_call>\n<func"),
        ("glm45", '<tool_call>{"name": "f"}</tool_call>'),
        ("functiongemma", "<start_function_call>tell:f{}<end_function_call>"),
        ("gemma4", "<|tool_call>call:f[]<tool_call|>"),
        ("openai", "no channels here"),
    ],
)
def test_what_is_no_call_is_text(name: str, raw: str) -> None:
    for pieces in ([raw], list(raw)):
        assert read(name, pieces) == Read(raw, "", ())


TAGS = sorted(
    {tag for golden in GOLDEN for tag in re.findall(r"<[^<>\n]{1,40}>|\[/?[A-Z_]+\]", golden.raw)}
)
SCRAPS = ["{", "}", "[", "]", '"', "\\", ":", ",", " ", "\n", "(", ")", "=", "ping", "é🙂", "1"]
SCRAPS += [
    '{"name": "ping", "arguments": ',
    '"name"',
    "functools",
    "call:",
    "function",
    "```json\n",
]


@settings(max_examples=250, deadline=None)
@given(
    st.sampled_from(NAMES),
    st.lists(st.sampled_from(TAGS + SCRAPS + SCRAPS), max_size=14),
)
def test_any_text_goes_in_and_nothing_is_lost_without_a_call(name: str, parts: list[str]) -> None:
    raw = "".join(parts)
    whole = read(name, [raw])
    assert read(name, raw) == whole
    assert read(name, parts) == whole
    if not whole.calls and name != "openai":
        assert whole.text == raw


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(NAMES), st.text(max_size=40))
def test_any_unicode_goes_through(name: str, raw: str) -> None:
    assert read(name, raw) == Read(raw, "", ())


def test_text_is_held_only_where_a_tag_may_be_starting() -> None:
    parser = dialect("hermes").parser(Tools(TOOLS))
    steps = [("a <", "a"), ("to", ""), ("ol", ""), ("x", " <toolx"), ("y z", "y z"), (" <", "")]
    for part, shown in steps:
        assert parser.feed(part) == ([Text(shown)] if shown else [])
    assert parser.finish() == [Text(" <")]


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("hermes", '<tool_call>{"name": "get_weather", "arguments": {"city": "'),
        ("mistral_v11", '[TOOL_CALLS]get_weather[ARGS]{"city": "'),
        ("deepseek_v32", '<｜DSML｜invoke name="get_weather">\n<｜DSML｜parameter name="city">'),
        ("qwen3_coder", "<tool_call>\n<function=get_weather>\n<parameter=city>\n"),
        ("glm45", "<tool_call>get_weather<arg_key>city</arg_key><arg_value>"),
        ("pythonic", '[get_weather(city="Gay '),
        ("gemma4", '<|tool_call>call:get_weather{city:<|"|>'),
        ("openai", '<|channel|>commentary to=functions.get_weather<|message|>{"city": "'),
    ],
)
def test_arguments_stream_as_they_come(name: str, raw: str) -> None:
    parser = dialect(name).parser(Tools(TOOLS))
    parser.feed(raw)
    assert parser.feed("Par") == [Arguments("Par")]
    assert parser.feed("is") == [Arguments("is")]


@pytest.mark.parametrize(
    ("raw", "calls", "text"),
    [
        # A bracket too many, a bracket too few, no closing tag.
        ('<tool_call>{"name": "ping", "arguments": {}}}\n</tool_call>', (PING,), ""),
        ('<tool_call>{"name": "ping", "arguments": {}\n</tool_call>', (PING,), ""),
        ('<tool_call>{"name": "ping", "arguments": {}}', (PING,), ""),
        # Arguments in a string; null; an unknown tool; garbage, then a call.
        (
            r'<tool_call>{"name": "get_weather", "arguments": "{\"city\": \"Rome\"}"}</tool_call>',
            (ROME,),
            "",
        ),
        ('<tool_call>{"name": "ping", "arguments": null}</tool_call>', (PING,), ""),
        (
            '<tool_call>{"name": "other", "arguments": {"x": 1}}</tool_call>',
            (("other", {"x": 1}),),
            "",
        ),
        (
            '<tool_call>oops <tool_call>{"name": "ping"}</tool_call>',
            (PING,),
            "<tool_call>oops",
        ),
        # A list whose second member is no call.
        (
            '<tool_call>[{"name": "ping"}, {"nome": 1}]</tool_call>!',
            (PING,),
            ', {"nome": 1}]</tool_call>!',
        ),
    ],
)
def test_mistakes_that_models_make(raw: str, calls: tuple[object, ...], text: str) -> None:
    for pieces in ([raw], list(raw)):
        got = read("hermes", pieces)
        assert got.parsed == calls
        assert got.text == text


def test_missing_bracket_ends_the_arguments_at_the_tag() -> None:
    got = read("hermes", '<tool_call>{"name": "ping", "arguments": {"a": [1\n</tool_call> done')
    assert got.calls == (("ping", None, '{"a": [1\n', True),)
    assert got.text == " done"


def test_garbage_between_parameters_follows_the_call() -> None:
    raw = "<function=get_weather>\n<parameter=city>\nRome\n</parameter>\noops</function>"
    got = read("qwen3_coder", raw)
    assert got.parsed == (ROME,)
    assert got.text == "\noops</function>"


def test_deeply_nested_arguments_are_no_danger() -> None:
    deep = "[" * 5_000
    raw = f'<tool_call>{{"name": "ping", "arguments": {{"a": {deep}'
    assert read("hermes", [raw]).calls == (("ping", None, '{"a": ' + deep, False),)
    pythonic = read("pythonic", [f"[ping(a={deep}"])
    assert pythonic.calls[0][0] == "ping"
    coder = f"<function=store>\n<parameter=tags>\n{deep}\n</parameter>\n</function>"
    assert read("qwen3_coder", [coder]).parsed == (("store", {"tags": deep}),)


def test_long_output_takes_linear_time() -> None:
    value = json.dumps({"text": 'x}{\\"' * 8_000})
    raw = JSON_TEXTS["hermes"] % value
    pieces = [raw[i : i + 4] for i in range(0, len(raw), 4)]
    assert read("hermes", pieces).calls == (("ping", None, value, True),)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("phi4_mini_json", 'functools[{"arguments":['),
        ("llama3_json", '{"type":'),
        ("mistral", '[TOOL_CALLS][{"id":['),
    ],
)
def test_beginnings_within_beginnings_take_linear_time(name: str, unit: str) -> None:
    """Each tag could be the start of a call that holds all the others."""
    raw = unit * (20_000 // len(unit))
    assert read(name, [raw]) == Read(raw, "", ())
    parser = dialect(name).parser(Tools(TOOLS))
    fed = [parser.feed(raw[start : start + 8]) for start in range(0, len(raw), 8)]
    shown = sum(len(piece.text) for pieces in fed for piece in pieces if isinstance(piece, Text))
    assert len(raw) - shown <= MAX_HELD + 8
