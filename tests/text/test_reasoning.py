"""Thinking split from the answer, however the output is cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.text.tool_calls.driving import collect
from trunkline.text.reasoning import FAMILIES, Thinking, by_name, for_template


def _family(name: str) -> Thinking:
    found = by_name(name)
    assert found is not None
    return found


def _split(name: str, raw: str, prompt: str = "", also: tuple[str, ...] = ()) -> tuple[str, str]:
    """(thinking, answer), after checking that no cut changes them."""
    results = {
        collect(_family(name).parser(prompt, also), pieces)[:2]
        for pieces in (
            [raw],
            list(raw),
            *([raw[:cut], raw[cut:]] for cut in range(len(raw))),
        )
    }
    assert len(results) == 1
    answer, thinking = results.pop()
    return thinking, answer


@pytest.mark.parametrize(
    ("name", "raw", "wanted"),
    [
        # https://github.com/vllm-project/vllm/tree/main/vllm/reasoning: one file a form.
        ("qwen3", "<think>\nLet me see.\n</think>\n\nFour.", ("Let me see.", "Four.")),
        ("deepseek_r1", "<think></think>Four.", ("", "Four.")),
        ("mistral", "[THINK]Let me see.[/THINK]Four.", ("Let me see.", "Four.")),
        ("seed_oss", "<seed:think>Let me see.</seed:think>Four.", ("Let me see.", "Four.")),
        ("gemma4", "<|channel>thought\nLet me see.\n<channel|>Four.", ("Let me see.", "Four.")),
        (
            "granite",
            "Here's my thought process: Let me see. Here is my response: Four.",
            ("Let me see.", "Four."),
        ),
        # Not closed; not there; tags that are no tags; tags in the answer; blank space first.
        ("qwen3", "<think>Let me see </thi", ("Let me see </thi", "")),
        ("qwen3", "Four. <think>five</think>", ("", "Four. <think>five</think>")),
        ("qwen3", "<thin> air\n", ("", "<thin> air\n")),
        ("qwen3", "<think>a <b> </thin c</think>d<think>e", ("a <b> </thin c", "d<think>e")),
        ("qwen3", "\n<think>a</think>\n", ("a", "")),
        ("qwen3", " \n Four.", ("", " \n Four.")),
        ("granite", "Here is my dog.", ("", "Here is my dog.")),
        ("qwen3", "", ("", "")),
    ],
)
def test_forms(name: str, raw: str, wanted: tuple[str, str]) -> None:
    assert _split(name, raw) == wanted


@pytest.mark.parametrize("prompt", ["<|im_start|>assistant\n<think>\n", "<｜Assistant｜><think>"])
def test_thinking_that_the_prompt_opened(prompt: str) -> None:
    assert _split("qwen3", "Hm.\n</think>\n\nFour.", prompt) == ("Hm.", "Four.")
    assert _split("qwen3", "Hm, not closed", prompt) == ("Hm, not closed", "")


def test_thinking_that_the_prompt_closed() -> None:
    prompt = "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    assert _split("qwen3", "Four.", prompt) == ("", "Four.")


def test_a_tool_call_ends_the_thinking_where_the_dialect_says_so() -> None:
    also = ("<|tool_calls_section_begin|>",)
    raw = "Hm. <|tool_calls_section_begin|>x"
    assert _split("kimi_k2", raw, "<think>", also) == ("Hm.", "<|tool_calls_section_begin|>x")


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([family.name for family in FAMILIES]),
    st.lists(
        st.sampled_from(
            [
                "<think>",
                "</think>",
                "[THINK]",
                "[/THINK]",
                "<",
                "Here is my ",
                "a",
                "é🙂",
                " ",
                "\n",
            ]
        ),
        max_size=10,
    ),
    st.booleans(),
)
def test_nothing_but_whitespace_and_tags_is_lost(name: str, parts: list[str], inside: bool) -> None:
    family = _family(name)
    raw = "".join(parts)
    prompt = family.opens[0] if inside else ""
    whole = collect(family.parser(prompt), [raw])
    assert collect(family.parser(prompt), parts) == whole
    assert collect(family.parser(prompt), raw) == whole
    if not inside and not whole.reasoning and not raw.lstrip().startswith(family.opens):
        assert whole.text == raw
    for character in ("a", "é", "🙂"):
        assert (whole.text + whole.reasoning).count(character) == raw.count(character) - sum(
            tag.count(character) for tag in family.opens if raw.lstrip().startswith(tag)
        ) or name == "granite"


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{{ content.split('</think>')[-1] }}", "think"),
        ("{{ '[THINK]' }}", "mistral"),
        ("{{ '<seed:think>' }}", "seed_oss"),
        ("Write your thoughts after 'Here is my thought process:'", "granite"),
        ("{{- '<|channel>thought\\n<channel|>' -}}", "gemma4"),
        ("{{ '<|im_start|>' + message.role }}", None),
    ],
)
def test_the_template_tells_the_family(template: str, name: str | None) -> None:
    found = for_template(template)
    assert (found.name if found else None) == name


def test_names() -> None:
    for name in ("qwen3", "deepseek_r1", "kimi_k2", "glm45"):
        assert _family(name).name == "think"
    assert by_name("no such") is None
