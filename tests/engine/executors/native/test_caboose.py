"""The bundled model says on the native engine what it says on llama.cpp, but for rounding."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import trunkline
from tests.engine.executors.real import Driver, load_real
from trunkline.core.types import SamplingParams
from trunkline.engine.seam import Chunk, OpenRow, Scoring
from trunkline.text.gguf_tokenizer import load_tokenizer

CABOOSE = Path(trunkline.__file__).with_name("models_bundled") / "caboose.gguf"
# Written for this test: nothing that the model was trained on.
HELD_OUT = """\
The ferry to the north island leaves twice a day, and on Sundays only once. Marta had \
missed the early one because her bicycle lost its chain on the hill behind the school, so she sat \
on the sea wall with a paper bag of plums and counted the gulls. There were fourteen of them, or \
fifteen if she counted the one with the crooked wing twice. "You will be late for the wedding," \
said the man who sold the tickets. "It is not my wedding," said Marta. She had 3 hours, 2 \
sandwiches and a book about lighthouses that she had read before. At noon the fog came in from \
the west; at one it was gone again. What is 48 + 27? Seventy-five. She wrote that down, together \
with the names of the boats: Heron, Little Annie, Patience. When the second ferry came it was \
nearly empty. The captain let her ring the bell, and the chain, oiled by a kind stranger, did not \
come off again until October."""
PROMPTS = ("Hello! Who are you?", "What is 12 + 30?", "Tell me a tiny story.", "Name three fruits.")
# Logits closer than this are a tie that either engine may break its own way: llama.cpp rounds the
# inputs of F16 matrices to 16 bits, which moves logits by some thousandths.
TIE = 0.05


@pytest.fixture(scope="module")
def drivers() -> Iterator[dict[str, Driver]]:
    found = {name: Driver(load_real(name, CABOOSE), each=32) for name in ("native", "ggml")}
    yield found
    for driver in found.values():
        driver.executor.close()


def ids(text: str) -> list[int]:
    return load_tokenizer(CABOOSE).encode(text, add_special=True, parse_special=True)


def chat(question: str) -> str:
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


def logprobs(driver: Driver, tokens: list[int], piece: int = 100) -> np.ndarray:
    """Of all tokens but the first."""
    row = OpenRow(driver.key(), SamplingParams(), 1, np.array(tokens, np.int32))
    opened, found = [row], []
    for start in range(0, len(tokens) - 1, piece):
        part = tokens[start : min(start + piece, len(tokens) - 1)]
        targets = np.array(tokens[start + 1 : start + 1 + len(part)], np.int32)
        plain = driver.chunk(row.key, 0, part, start)
        chunk = Chunk(
            plain.key, 0, 0, plain.tokens, start, (), plain.blocks, Scoring(0, targets, 0)
        )
        found.append(driver.step([chunk], opened).scored[0].logprobs)
        opened = []
    driver.step(close=[row.key])
    joined: np.ndarray = np.concatenate(found).astype(np.float64)
    return joined


def test_perplexity(drivers: dict[str, Driver]) -> None:
    tokens = ids(chat("Tell me a story.") + HELD_OUT)
    ours, theirs = (logprobs(drivers[name], tokens) for name in ("native", "ggml"))
    assert len(ours) == len(tokens) - 1 > 200
    found, right = np.exp(-ours.mean()), np.exp(-theirs.mean())
    print(f"perplexity {found:.5f}, llama.cpp {right:.5f}, largest {abs(ours - theirs).max():.5f}")
    assert abs(found / right - 1) < 0.001
    # Not by chance: token by token. One of them may be as far off as two roundings that add up.
    apart = np.sort(abs(ours - theirs))
    assert np.median(apart) < TIE / 10
    assert apart[-2] < TIE
    assert apart[-1] < 2 * TIE


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_text(drivers: dict[str, Driver], prompt: str) -> None:
    """Equal, up to a token of which the two engines' best are nearly as good."""
    prompt_ids, greedy = ids(chat(prompt)), SamplingParams(temperature=0.0, max_tokens=48)
    answers = []
    for driver in drivers.values():
        row = OpenRow(driver.key(), greedy, 1, np.array(prompt_ids, np.int32))
        answers.append(driver.alone(row, 1, 512))
    ours, theirs = answers
    assert len(ours) > 2
    if ours == theirs:
        return
    same = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
    driver = drivers["native"]
    known = [*prompt_ids, *ours[:same]]
    row = OpenRow(driver.key(), greedy, 1, np.array(known, np.int32))
    driver.step([driver.chunk(row.key, 2, known, 0, sample=True)], [row])
    logits = driver.logits()[0]
    assert abs(logits[ours[same]] - logits[theirs[same]]) < TIE
