"""The grammars compile with llguidance, accept what the dialects write, and nothing else."""

from __future__ import annotations

import re
from typing import Any

import pytest
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from tests.text.tool_calls.driving import dialect, read
from tests.text.tool_calls.golden import GOLDEN, TOOLS, Golden
from trunkline.core.errors import InvalidRequest
from trunkline.text.tool_calls import DIALECTS
from trunkline.text.tool_calls.lark import Choice
from trunkline.text.tool_calls.tools import Tools

# What is a special token in some model: <tag>, [TAG], ｜DSML｜ within tags.
TAG = re.compile(r"(<(?!/?｜DSML)[^<>\s]{1,40}>|\[/?[A-Z_]{2,}\]|｜DSML｜)")
SPECIALS = sorted({tag for golden in GOLDEN for tag in TAG.findall(golden.raw)})
# Token ids that no byte has.
IDS = {tag: 256 + number for number, tag in enumerate(SPECIALS)}
EOS = 256 + len(SPECIALS)
NAMES = [dialect.name for dialect in DIALECTS]


class _Bytes:
    """A tokenizer with one token a byte, and one for each special tag."""

    eos_token_id = EOS
    bos_token_id = None
    tokens = (
        *(bytes([byte]) for byte in range(256)),
        *(b"\xff" + tag.encode() for tag in SPECIALS),
        b"\xff<eos>",
    )
    special_token_ids = tuple(range(256, EOS + 1))

    def __call__(self, text: bytes) -> list[int]:
        return list(text)


TOKENIZER = LLTokenizer(TokenizerWrapper(_Bytes()), n_vocab=EOS + 1)


def grammar(
    name: str,
    choice: Choice = "required",
    *,
    special: bool = True,
    tools: list[dict[str, Any]] = TOOLS,
    tool: str = "",
    parallel: bool = True,
) -> str | None:
    ids = IDS if special else {}
    return dialect(name).grammar(Tools(tools), choice, ids.get, name=tool, parallel=parallel)


def accepts(lark: str | None, raw: str, *, special: bool = True) -> bool:
    """Whether `raw`, tags as special tokens if `special`, is a whole answer under the grammar."""
    assert lark is not None
    tokens: list[int] = []
    for part in TAG.split(raw):
        tokens += [IDS[part]] if special and part in IDS else list(part.encode())
    matcher = LLMatcher(TOKENIZER, LLMatcher.grammar_from_lark(lark))
    assert not matcher.get_error(), f"{matcher.get_error()}\n{lark}"
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


@pytest.mark.parametrize("special", [True, False], ids=["tokens", "text"])
@pytest.mark.parametrize("golden", GOLDEN, ids=lambda g: f"{g.dialect}-{GOLDEN.index(g)}")
def test_golden_outputs(golden: Golden, special: bool) -> None:
    got = accepts(grammar(golden.dialect, special=special), golden.raw, special=special)
    assert got == golden.grammatical


@pytest.mark.parametrize("name", NAMES)
def test_text_is_refused_where_a_call_is_required(name: str) -> None:
    assert not accepts(grammar(name), "Hello")
    assert not accepts(grammar(name), "")


@pytest.mark.parametrize("name", NAMES)
def test_wrong_arguments_are_refused(name: str) -> None:
    """The same outputs with a tool, an argument or a value that does not exist."""
    good = next(g for g in GOLDEN if g.dialect == name and g.grammatical)
    lark = grammar(name)
    assert accepts(lark, good.raw)
    tool = good.calls[0][0]
    assert not accepts(lark, good.raw.replace(tool, "no_such_tool"))
    argument = next(iter(good.calls[0][1]))
    assert not accepts(lark, good.raw.replace(argument, "colour"))


@pytest.mark.parametrize("name", NAMES)
def test_named_tool(name: str) -> None:
    good = next(g for g in GOLDEN if g.dialect == name and g.grammatical)
    first = good.calls[0][0]
    several = len({tool for tool, _ in good.calls}) > 1
    assert accepts(grammar(name, "named", tool=first), good.raw) != several
    other = "ping" if first != "ping" else "store"
    assert not accepts(grammar(name, "named", tool=other), good.raw)
    with pytest.raises(InvalidRequest, match="no_such_tool"):
        grammar(name, "named", tool="no_such_tool")


@pytest.mark.parametrize("name", NAMES)
def test_one_call_where_parallel_calls_are_off(name: str) -> None:
    lark = grammar(name, parallel=False)
    for golden in GOLDEN:
        if golden.dialect == name and golden.grammatical:
            assert accepts(lark, golden.raw) == (len(golden.calls) == 1)


STRICT = [{**TOOLS[0], "function": {**TOOLS[0]["function"], "strict": True}}, *TOOLS[1:]]
TRIGGERED = [dialect.name for dialect in DIALECTS if dialect.has_trigger]


@pytest.mark.parametrize("special", [True, False], ids=["tokens", "text"])
@pytest.mark.parametrize("name", TRIGGERED)
def test_auto_leaves_text_free_and_holds_strict_calls_to_their_schema(
    name: str, special: bool
) -> None:
    lark = grammar(name, "auto", special=special, tools=STRICT)
    good = next(g for g in GOLDEN if g.dialect == name and g.grammatical)
    assert accepts(lark, "Hello {world} [1] é", special=special)
    assert accepts(lark, good.raw, special=special)
    assert accepts(lark, "Look: " + good.raw + " and more", special=special)
    assert not accepts(lark, good.raw.replace(good.calls[0][0], "no_such"), special=special)
    one = grammar(name, "auto", special=special, tools=STRICT, parallel=False)
    assert accepts(one, "Hello", special=special)
    assert accepts(one, good.raw, special=special) == (len(good.calls) == 1)


@pytest.mark.parametrize("name", NAMES)
def test_auto_without_strict_tools_needs_no_grammar(name: str) -> None:
    assert grammar(name, "auto") is None
    assert grammar(name, "required", tools=[]) is None


@pytest.mark.parametrize("name", NAMES)
def test_references_enums_and_awkward_names(name: str) -> None:
    """Schemas whose parts refer to the whole, strings with quotes, names in need of escapes."""
    schema = {
        "type": "object",
        "$defs": {"point": {"type": "object", "properties": {"x": {"type": "integer"}}}},
        "properties": {
            "at": {"$ref": "#/$defs/point"},
            "say": {"type": "string", "enum": ['"hi"', "a/b\\c"]},
            "full name": {"type": ["string", "null"]},
        },
        "required": ["say"],
    }
    tools = [
        {"type": "function", "function": {"name": "do-it.now_2", "parameters": schema}},
        {"type": "function", "function": {"name": "bare", "parameters": {"properties": {}}}},
    ]
    for special in (True, False):
        assert not accepts(grammar(name, tools=tools, special=special), "x", special=special)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_grammar_forces_is_read_as_a_call(name: str) -> None:
    """Follow the grammar, tags and closing brackets first: the parser must find a call there."""
    lark = grammar(name, "named", tool="ping", parallel=False)
    assert lark is not None
    matcher = LLMatcher(TOKENIZER, LLMatcher.grammar_from_lark(lark))
    names = {number: tag.encode() for tag, number in IDS.items()}
    raw = b""
    while not matcher.is_accepting() and len(raw) < 400:
        mask = matcher.compute_bitmask()
        allowed = [token for token in range(EOS) if mask[token // 8] >> (token % 8) & 1]
        token = min(allowed, key=lambda token: (token < 256, token not in {*b'}")'}, token))
        matcher.consume_token(token)
        raw += names.get(token) or bytes([token])
    assert matcher.is_accepting(), raw
    got = read(name, [raw.decode()])
    assert [call[0] for call in got.calls] == ["ping"]
    assert got.text == ""


def one_tool(parameters: Any, *, strict: bool) -> list[dict[str, Any]]:
    function = {"name": "count", "parameters": parameters, "strict": strict}
    return [{"type": "function", "function": function}]


@pytest.mark.parametrize("name", NAMES)
def test_a_strict_schema_that_cannot_be_enforced_is_refused_by_name(name: str) -> None:
    one = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}
    parameters = {"type": "object", "properties": {"n": one}, "required": ["n"]}
    with pytest.raises(InvalidRequest, match=r'tool \'count\' uses "uniqueItems"') as caught:
        grammar(name, tools=one_tool(parameters, strict=True))
    assert caught.value.param == "tools"
    lark = grammar(name, tools=one_tool(parameters, strict=False))
    assert lark is not None
    assert "uniqueItems" not in lark
    assert not LLMatcher(TOKENIZER, lark).is_error()


@pytest.mark.parametrize("name", NAMES)
def test_odd_schemas_compile(name: str) -> None:
    one = {"type": "integer", "minimum": 3, "exclusiveMinimum": True, "x-guidance": "odd"}
    parameters = {"type": "object", "properties": {"n": one}, "x-guidance": 7}
    lark = grammar(name, tools=one_tool(parameters, strict=True))
    assert lark is not None
    matcher = LLMatcher(TOKENIZER, lark)
    assert not matcher.is_error(), matcher.get_error()
