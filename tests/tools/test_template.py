"""The chat template of the model and the text that it was trained on are the same."""

from __future__ import annotations

import functools
import importlib
import itertools
import json
from typing import Any

import pytest
from jinja2 import Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

mix = importlib.import_module("caboose.corpus.mix")
template = importlib.import_module("caboose.template")


@functools.cache
def _compiled() -> Template:
    """As transformers compiles: sandboxed, trimmed blocks, a plain `tojson`."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.from_string(template.CHAT_TEMPLATE)


def _render(messages: list[dict[str, Any]], **variables: Any) -> str:
    return _compiled().render(messages=messages, add_generation_prompt=True, **variables)


def test_template_gives_the_training_text() -> None:
    """Prompts of every family, with tools, tool results, thoughts and system prompts."""
    seen = set()
    for example in itertools.islice(mix.examples(11), 600):
        if not example.messages:
            continue
        seen.add((example.family, bool(example.tools), example.thinking))
        text = _render(
            list(example.messages[:-1]),
            tools=list(example.tools) or None,
            enable_thinking=example.thinking,
        )
        assert text == template.prompt(example)
    assert len(seen) > 8


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("hi", "hi"),
        (None, ""),
        ([{"type": "text", "text": "h"}, {"type": "text", "text": "i"}], "hi"),
        ([{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "i"}], "i"),
    ],
)
def test_content_forms(content: Any, text: str) -> None:
    """A string, nothing, or parts of which the texts count."""
    rendered = _render([{"role": "user", "content": content}])
    assert rendered == f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"


def test_thinking_only_when_asked() -> None:
    """`enable_thinking` adds a marker when true and nothing otherwise."""
    messages = [{"role": "user", "content": "hi"}]
    plain = _render(messages)
    assert plain == _render(messages, enable_thinking=False)
    assert _render(messages, enable_thinking=True) == (
        f"<|im_start|>system\n/think<|im_end|>\n{plain}"
    )


def test_tool_calls_come_back_as_written() -> None:
    """Arguments as an object or as a JSON string; results grouped in one user turn."""
    calls = [
        {"type": "function", "function": {"name": "f", "arguments": {"x": "é"}}},
        {"type": "function", "function": {"name": "g", "arguments": '{"y": 1}'}},
    ]
    text = _render(
        [
            {"role": "user", "content": "go"},
            {"role": "assistant", "content": None, "tool_calls": calls},
            {"role": "tool", "content": "1"},
            {"role": "tool", "content": "2"},
        ]
    )
    assert text == (
        "<|im_start|>user\ngo<|im_end|>\n"
        '<|im_start|>assistant\n<tool_call>\n{"name": "f", "arguments": {"x": "é"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "g", "arguments": {"y": 1}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\n1\n</tool_response>\n"
        "<tool_response>\n2\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_earlier_thoughts_are_left_out() -> None:
    """What the model thought in an earlier turn is not shown again."""
    text = _render(
        [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "<think>\nhm\n</think>\n\nb"},
            {"role": "user", "content": "c"},
        ]
    )
    assert "hm" not in text
    assert "<|im_start|>assistant\nb<|im_end|>" in text
