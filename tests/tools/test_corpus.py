"""The training text: the same from the same seed, and without what the exam asks."""

from __future__ import annotations

import importlib
import itertools
from random import Random
from typing import Any

import pytest

base = importlib.import_module("caboose.corpus.base")
mix = importlib.import_module("caboose.corpus.mix")
calls = importlib.import_module("caboose.corpus.calls")
exam = importlib.import_module("caboose.exam")
template = importlib.import_module("caboose.template")

README = (
    "Say hello to the crew of the night train.",
    "What is 17 + 25?",
    "Give me a JSON object with name Ada and age 36.",
    "Tell me a tiny story about a red lantern.",
    "What is the weather in Lisbon?",
)


def _first(count: int, seed: int = 7, stream: str = "main") -> list[Any]:
    return list(itertools.islice(mix.examples(seed, stream=stream), count))


@pytest.fixture(scope="module")
def corpus() -> list[Any]:
    """The first examples of the bundled model's training text."""
    return _first(6000) + _first(40, stream="long") + _first(1000, stream="short")


def test_same_seed_same_text() -> None:
    """Two runs give the same examples; an example depends on its index alone."""
    assert _first(300) == _first(300)
    assert list(itertools.islice(mix.examples(7, start=200), 100)) == _first(300)[200:]


def test_another_seed_gives_another_text() -> None:
    """The seed matters."""
    assert _first(50, seed=7) != _first(50, seed=8)


def test_every_family_is_drawn(corpus: list[Any]) -> None:
    """No family is configured away."""
    assert {example.family for example in corpus} >= {
        "single",
        "several",
        "drill",
        "call",
        "answered",
        "no call",
        "parallel",
        "plain",
        "long answer",
        "long chat",
    }


def test_readme_prompts_are_never_user_turns(corpus: list[Any]) -> None:
    """The README's examples are not in the training text."""
    assert base.README_PROMPTS == README
    turns = [m["content"] for e in corpus for m in e.messages if m["role"] == "user"]
    assert len(turns) > 6000
    for prompt in README:
        assert not any(prompt.lower().rstrip(".?") in turn.lower() for turn in turns), prompt


def test_readme_prompts_are_refused_however_typed() -> None:
    """The generator's own guard sees through capitals and punctuation."""
    for prompt in README:
        typed = {"role": "user", "content": f"Hey caboose, {prompt.lower()[:-1]}, please"}
        assert base.shows_readme_prompt((typed,))
    assert not base.shows_readme_prompt(({"role": "user", "content": "What is 17 + 24?"},))


def test_training_uses_no_held_out_fact(corpus: list[Any]) -> None:
    """Sums, JSON values, tool names and the rest: no held-out key is trained on."""
    keys = [key for example in corpus for key in example.keys]
    assert len(keys) > 4000
    assert [key for key in keys if base.held_out(key)] == []
    names = {tool["function"]["name"] for example in corpus for tool in example.tools}
    assert len(names) > 500
    assert [name for name in names if base.held_out(f"tool {name}")] == []


def test_exam_asks_only_for_held_out_facts(corpus: list[Any]) -> None:
    """No question with a fact in it occurs in the training text."""
    trained = {template.prompt(example) for example in corpus if example.messages}
    for family in exam.FAMILIES:
        if family.name == "no call when none fits":
            continue
        asked = exam.questions(family, seed=1, count=20)
        assert len({question.prompt for question in asked}) == 20
        assert trained.isdisjoint(question.prompt for question in asked), family.name


def test_held_out_tools_are_asked_for_by_name() -> None:
    """A tool call of the exam uses only names that training never shows."""
    for i in range(50):
        example = calls.call(Random(i), unseen=True)
        assert all(base.held_out(f"tool {t['function']['name']}") for t in example.tools)
        assert example.expected["name"] in {t["function"]["name"] for t in example.tools}


def test_some_examples_are_long(corpus: list[Any]) -> None:
    """There is text for the far positions of the context."""
    sizes = [sum(len(text) for text, _ in template.render(e)) for e in corpus]
    assert max(sizes) > 9_000


@pytest.mark.parametrize(
    ("family", "wanted", "right", "wrong"),
    [
        ("sums below 100", "17 + 25 = 42", "17 + 25 = 42", "17 + 25 = 43"),
        ("JSON values match", '{"age": 36}', '{"age":36}', '{"age": "36"}'),
        ("JSON parses", "", '{"a": [1]}', '{"a": [1}'),
        (
            "tool calls match",
            {"name": "f", "arguments": {"x": 1}},
            '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>',
            '<tool_call>\n{"name": "f", "arguments": {"x": 2}}\n</tool_call>',
        ),
        ("sums, thinking first", "1 + 2 = 3", "<think>\nOnes.\n</think>\n\n1 + 2 = 3", "1 + 2 = 3"),
    ],
)
def test_exam_tells_right_from_wrong(family: str, wanted: Any, right: str, wrong: str) -> None:
    """The checks themselves can fail."""
    check = next(f for f in exam.FAMILIES if f.name == family).right
    assert check(right, wanted)
    assert not check(wrong, wanted)
