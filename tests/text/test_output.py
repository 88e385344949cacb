"""The pipeline of one row: thinking, answer and calls in order, ids, finish reason."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest

from tests.text.tool_calls.golden import GOLDEN, TOOLS
from tests.text.tool_calls.test_grammar import IDS, accepts
from trunkline.core.errors import InvalidRequest
from trunkline.core.types import ChatInput, FinishReason, Message, Request, TextInput, ToolCallDelta
from trunkline.text.output import Output, OutputFormat, RowOutput
from trunkline.text.tool_calls import by_name, for_template
from trunkline.text.tool_calls.tools import Tools

QWEN3 = "{{ '<tool_call>' }}{{ content.split('</think>') }}"
PLAIN = "{{ '<|im_start|>' + message.role + message.content }}"
CALLS = [
    f'<tool_call>\n{{"name": "ping", "arguments": {{"n": {n}}}}}\n</tool_call>' for n in (1, 2)
]


def request(**fields: Any) -> Request:
    return Request(
        id="r", model="m", input=ChatInput((Message("user", "hi"),), tuple(TOOLS)), **fields
    )


def row(
    template: str = QWEN3, prompt: str = "", *, of: Request | None = None, **overrides: str
) -> RowOutput:
    numbers = itertools.count()
    found = OutputFormat.of(template, **overrides).row(
        of or request(), Tools(TOOLS), prompt, lambda: f"id{next(numbers)}"
    )
    assert found is not None
    return found


def run(output: RowOutput, *texts: str) -> list[Output]:
    outputs = [more for text in texts for more in output.feed(text)]
    return outputs + output.finish()


def test_thinking_then_text_then_calls_in_one_piece() -> None:
    raw = f"<think>\nHm.\n</think>\n\nLook:\n{CALLS[0]}\n{CALLS[1]}"
    output = row()
    assert run(output, raw) == [
        Output(
            "Hm.",
            "Look:",
            (
                ToolCallDelta(0, "id0", "ping", '{"n": 1}'),
                ToolCallDelta(1, "id1", "ping", '{"n": 2}'),
            ),
        )
    ]
    assert output.reason("stop") == "tool_calls"
    assert output.reason("length") == "length"


def test_every_character_alone_gives_the_same() -> None:
    raw = f"<think>\nHm é.\n</think>\n\nLook: 漢\n{CALLS[0]}\nbetween\n{CALLS[1]} after"
    outputs = run(row(), *raw)
    assert "".join(output.reasoning for output in outputs) == "Hm é."
    assert "".join(output.text for output in outputs) == "Look: 漢\nbetween after"
    deltas = [delta for output in outputs for delta in output.tool_calls]
    for index in (0, 1):
        mine = [delta for delta in deltas if delta.index == index]
        assert (mine[0].id, mine[0].name) == (f"id{index}", "ping")
        assert all(delta.id is None and delta.name is None for delta in mine[1:])
        assert "".join(delta.arguments for delta in mine) == f'{{"n": {index + 1}}}'
    assert len(deltas) > 10


def test_text_behind_a_call_comes_in_an_output_of_its_own() -> None:
    assert run(row(), CALLS[0] + " and.") == [
        Output(tool_calls=(ToolCallDelta(0, "id0", "ping", '{"n": 1}'),)),
        Output(text=" and."),
    ]


def test_a_stop_string_inside_a_call_leaves_arguments_that_break_off() -> None:
    """The front cuts the raw text before the stop string and feeds no more."""
    output = row()
    outputs = run(output, '<tool_call>{"name": "ping", "arguments": {"n": ')
    assert outputs == [Output(tool_calls=(ToolCallDelta(0, "id0", "ping", '{"n": '),))]
    assert output.reason("stop") == "stop"


def test_without_calls_the_reason_stays() -> None:
    output = row()
    assert run(output, "<tool_call> is a tag") == [Output(text="<tool_call> is a tag")]
    reasons: tuple[FinishReason, ...] = ("stop", "length", "cancelled", "error")
    assert [output.reason(reason) for reason in reasons] == list(reasons)


def test_calls_beyond_the_first_are_dropped_without_parallel_calls() -> None:
    output = row(of=request(parallel_tool_calls=False))
    outputs = run(output, CALLS[0] + CALLS[1])
    assert outputs == [Output(tool_calls=(ToolCallDelta(0, "id0", "ping", '{"n": 1}'),))]
    assert output.reason("stop") == "tool_calls"


def test_plain_text_needs_nothing() -> None:
    tools = Tools(TOOLS)
    assert OutputFormat.of(PLAIN).row(request(), tools, "") is None
    assert OutputFormat.of("<tool_call>").row(request(), Tools(), "") is None
    assert OutputFormat.of("<tool_call>").row(request(tool_choice="none"), tools, "") is None
    raw = Request(id="r", model="m", input=TextInput("hi"))
    assert OutputFormat.of(QWEN3).row(raw, tools, "") is None


def test_tool_choice_none_leaves_calls_in_the_text() -> None:
    outputs = run(row(of=request(tool_choice="none")), "<think>a</think>" + CALLS[0])
    assert outputs == [Output("a", CALLS[0])]


def test_thinking_opened_by_the_prompt() -> None:
    assert run(row(prompt="assistant\n<think>\n"), "a</think>b") == [Output("a", "b")]


def test_harmony_is_read_with_and_without_tools() -> None:
    template = "{{ '<|channel|>analysis<|message|>' }}"
    raw = "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b"
    for of in (request(), request(tool_choice="none")):
        assert run(row(template, of=of), raw) == [Output("a", "b")]


def test_ids_of_the_model_and_of_the_dialect() -> None:
    kimi = "{{ '<|tool_call_argument_begin|>' }}"
    raw = (
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.ping:0"
        "<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>"
    )
    assert run(row(kimi), raw)[0].tool_calls[0].id == "functions.ping:0"
    for template, tag, form in (
        ("[TOOL_CALLS][ARGS]", "[TOOL_CALLS]ping[ARGS]{}", r"[A-Za-z0-9]{9}"),
        ("<tool_call>", CALLS[0], r"call_[0-9a-f]{24}"),
    ):
        own = OutputFormat.of(template).row(request(), Tools(TOOLS), "")
        assert own is not None
        made = own.feed(tag)[0].tool_calls[0].id
        assert made is not None
        assert re.fullmatch(form, made)


def test_overrides() -> None:
    assert run(row(PLAIN, tool_call_parser="mistral"), "[TOOL_CALLS]ping{}")[0].tool_calls
    assert run(row(PLAIN, reasoning_parser="qwen3"), "<think>a")[0].reasoning == "a"
    assert OutputFormat.of(QWEN3, tool_call_parser="none", reasoning_parser="none") == (None, None)
    gptoss = OutputFormat.of(PLAIN, reasoning_parser="openai_gptoss")
    assert gptoss == (by_name("openai"), None)
    with pytest.raises(InvalidRequest, match=r"'hermez'.*hermes"):
        OutputFormat.of(PLAIN, tool_call_parser="hermez")
    with pytest.raises(InvalidRequest, match=r"'qwen'.*qwen3"):
        OutputFormat.of(PLAIN, reasoning_parser="qwen")


@pytest.mark.parametrize("prompt", ["", "<think>\n"])
def test_grammar_lets_the_model_think_first(prompt: str) -> None:
    qwen3 = OutputFormat.of(QWEN3)
    call = next(golden.raw for golden in GOLDEN if golden.dialect == "hermes")
    opened = "" if prompt else "<think>\n"
    for special in (True, False):
        lark = qwen3.grammar(
            request(tool_choice="required"), Tools(TOOLS), prompt, (IDS if special else {}).get
        )
        # A tag within the thoughts is text there: no special token.
        thought = f"{opened}Hm {{. {'' if special else '<tool_call>'}\n</think>\n\n"
        assert accepts(lark, thought + call, special=special)
        assert not accepts(lark, f"{thought}No.", special=special)
        assert accepts(lark, call, special=special) == (not prompt)


def test_grammar_of_requests_that_need_none() -> None:
    tools, special = Tools(TOOLS), IDS.get
    assert OutputFormat.of(PLAIN).grammar(request(), tools, "", special) is None
    assert OutputFormat.of(QWEN3).grammar(request(), tools, "", special) is None
    none = request(tool_choice="none")
    assert OutputFormat.of(QWEN3).grammar(none, tools, "", special) is None
    with pytest.raises(InvalidRequest, match="tool-call-parser"):
        OutputFormat.of(PLAIN).grammar(request(tool_choice="required"), tools, "", special)


@pytest.mark.parametrize(
    ("template", "name"),
    [
        # The words of each template that only its family has; the files are named in the modules.
        ('<tools></tools> XML tags ... <tool_call>\\n{"name": <function-name>', "hermes"),
        ("<tool_call>\n<function=example_function_name>\n<parameter=example_1>", "qwen3_coder"),
        ("<tool_call>{function-name}\n<arg_key>{arg-key-1}</arg_key>", "glm45"),
        ("'<|start_of_role|>' ... '<|tool_call|>'", "granite"),
        ("'<|start_of_role|>' ... '<tool_call>'", "granite4"),
        ("'<|tool|>' + tools + '<|/tool|>' '<|tool_call|>'", "phi4_mini_json"),
        ("'[TOOL_CALLS] ['", "mistral"),
        ("'[TOOL_CALLS]' + name + '[ARGS]'", "mistral_v11"),
        ("'<｜tool▁call▁begin｜>' '<｜tool▁sep｜>' '\\n```json\\n'", "deepseek_v3"),
        ("'<｜tool▁call▁begin｜>' '<｜tool▁sep｜>'", "deepseek_v31"),
        ('set dsml_token = "｜DSML｜" ... <{{ dsml_token }}function_calls>', "deepseek_v32"),
        ("'<|im_system|>tool_declare<|im_middle|>'", "kimi_k2"),
        ("'<|tool_call>call:'", "gemma4"),
        ("'<start_function_call>call:'", "functiongemma"),
        ("'<|channel|>analysis<|message|>'", "openai"),
        ('Respond in the format {"name": function name, "parameters": dictionary', "llama3_json"),
        ("[func_name1(params_name1=params_value1)]", "pythonic"),
        ("'<|tool_list_start|>'", "lfm2"),
        (PLAIN, None),
    ],
)
def test_the_template_tells_the_dialect(template: str, name: str | None) -> None:
    found = for_template(template)
    assert (found.name if found else None) == name


@pytest.mark.parametrize(
    "name",
    [
        # vLLM, vllm/tool_parsers/__init__.py.
        "deepseek_v3",
        "deepseek_v31",
        "deepseek_v32",
        "deepseek_v4",
        "functiongemma",
        "gemma4",
        "glm45",
        "glm47",
        "granite",
        "granite-20b-fc",
        "granite4",
        "hermes",
        "kimi_k2",
        "lfm2",
        "llama3_json",
        "llama4_json",
        "llama4_pythonic",
        "mimo",
        "mistral",
        "openai",
        "phi4_mini_json",
        "pythonic",
        "qwen3_coder",
        "qwen3_xml",
    ],
)
def test_vllms_names_are_known(name: str) -> None:
    assert by_name(name) is not None
