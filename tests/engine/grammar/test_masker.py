"""Rows in the core: forks, the end, reasoning first, failures, buffers."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from tests.engine.grammar.follow import END, ROW, TOKENIZER, allowed, compiled, feed, masker
from trunkline.core.types import Grammar
from trunkline.engine.frames import RowGrammar
from trunkline.engine.grammar.masker import Masker
from trunkline.engine.seam import RowKey

CHOICE = Grammar("choice", '["yes", "yes!", "no"]')
SIBLING = RowKey(1, 1)
FREE = RowKey(2, 0)


class Longer:
    """Bytes, ChatML's special tokens, and one long token with id 259."""

    vocab_size = 260
    bos: int | None = None
    eog = TOKENIZER.eog
    fim = TOKENIZER.fim

    def __init__(self, long: bytes) -> None:
        self._long = long

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        return TOKENIZER.encode(text, add_special=add_special, parse_special=parse_special)

    def piece(self, token: int) -> bytes:
        return self._long if token == 259 else TOKENIZER.piece(token)

    def is_special(self, token: int) -> bool:
        return token != 259 and TOKENIZER.is_special(token)


def test_rows_without_a_grammar_need_no_masks() -> None:
    of = Masker(TOKENIZER, max_rows=4)
    assert of.masks([FREE]) is None
    assert of.accept(FREE, 65) is None
    assert not of.ended(FREE)
    assert of.ready(FREE)
    of.fork(FREE, [SIBLING])
    of.close(FREE)
    assert of.open_rows == 0
    of.shutdown()


def test_a_row_without_a_grammar_beside_one_with_may_say_anything() -> None:
    of = masker(CHOICE)
    masks = of.masks([FREE, ROW, FREE])
    assert masks is not None
    assert masks.shape == (3, 9)
    assert masks.dtype == np.uint32
    assert (masks[0] == 0xFFFFFFFF).all()
    assert (masks[2] == 0xFFFFFFFF).all()
    assert allowed(of) == {ord("y"), ord("n")}
    of.shutdown()


def test_the_end_is_allowed_where_the_grammar_may_end() -> None:
    of = masker(CHOICE)
    assert feed(of, "yes")
    assert allowed(of) == {ord("!"), 257, 258}
    assert not of.ended(ROW)
    assert of.accept(ROW, END) is None
    assert of.ended(ROW)
    of.shutdown()


def test_a_row_ends_with_the_last_token_where_nothing_else_may_come() -> None:
    of = masker(CHOICE)
    assert feed(of, "no")
    assert of.ended(ROW)
    # A plan launched ahead may still sample it; what comes of that is dropped.
    assert of.masks([ROW]) is not None
    assert of.accept(ROW, 0) is None
    of.shutdown()


def test_forks_go_their_own_ways_from_where_they_are() -> None:
    of = masker(CHOICE)
    assert feed(of, "ye")
    of.fork(ROW, [SIBLING, RowKey(1, 2)])
    assert feed(of, "s!", SIBLING)
    assert of.ended(SIBLING)
    assert allowed(of) == {ord("s")}
    assert allowed(of, RowKey(1, 2)) == {ord("s")}
    of.close(ROW)
    assert of.open_rows == 2
    assert feed(of, "s", RowKey(1, 2))
    of.shutdown()


def test_a_token_outside_the_grammar_fails_its_row_alone() -> None:
    of = masker(CHOICE)
    of.open(SIBLING, RowGrammar(compiled(CHOICE)))
    error = of.accept(ROW, ord("x"))
    assert error is not None
    assert "grammar" in error.message
    assert of.accept(ROW, ord("y")) == error
    assert feed(of, "no", SIBLING)
    of.close(ROW)
    of.open(ROW, RowGrammar(compiled(CHOICE)))
    assert feed(of, "no")
    of.shutdown()


def test_a_grammar_that_is_too_slow_to_follow_fails_its_row_alone() -> None:
    # Without end ambiguous: a long token has more readings than the limit allows.
    slow = 'start: s\ns: s s s | s s | "a" | "b" |\n%llguidance {"no_forcing": true}\n'
    of = Masker(Longer(b"ab" * 100), max_rows=2)
    of.open(ROW, RowGrammar(compiled(CHOICE)))
    of.open(SIBLING, RowGrammar(slow))
    begun = time.process_time()
    masks = of.masks([ROW, SIBLING])
    assert time.process_time() - begun < 2
    assert masks is not None
    error = of.accept(SIBLING, ord("a"))
    assert error is not None
    assert "Too many items" in error.message
    assert feed(of, "yes")
    of.shutdown()


@pytest.mark.parametrize(
    "source", ["start: nothing", 'start: <|no_such_token|> "x"', "", 'start: "a" %%%']
)
def test_a_source_that_does_not_compile_fails_its_row(source: str) -> None:
    of = masker(RowGrammar(source))
    assert of.masks([ROW]) is not None
    assert of.accept(ROW, 65) is not None
    of.shutdown()


def test_reasoning_is_free_until_its_last_token() -> None:
    # 256 plays </think>.
    of = masker(RowGrammar(compiled(CHOICE), after_tokens=(256,)))
    free = allowed(of)
    assert free == set(range(259)) - {257, 258}
    assert feed(of, "{ anything, no?")
    assert of.accept(ROW, 256) is None
    # White space may follow, but not without end.
    assert allowed(of) == {ord(c) for c in "yn \t\n\r\v\f"} | {0x1C, 0x1D, 0x1E, 0x1F} & allowed(of)
    assert feed(of, "\n\n")
    assert feed(of, "  ")
    assert allowed(of) == {ord("y"), ord("n")}
    assert feed(of, "no")
    assert of.ended(ROW)
    of.shutdown()


@pytest.mark.parametrize("text", ["hm</think>", "a<</think>\n\n", "</think</think>"])
def test_reasoning_may_end_with_a_text(text: str) -> None:
    of = masker(RowGrammar(compiled(CHOICE), after_text="</think>"))
    assert feed(of, text)
    assert ord("z") not in allowed(of)
    assert feed(of, "yes")
    assert allowed(of) == {ord("!"), 257, 258}
    of.shutdown()


def test_the_rest_of_the_token_that_ends_reasoning_counts() -> None:
    of = Masker(Longer(b"k>\n\nye"), max_rows=1)
    of.open(ROW, RowGrammar(compiled(CHOICE), after_text="</think>"))
    assert feed(of, "so</thin")
    assert of.accept(ROW, 259) is None
    assert allowed(of) == {ord("s")}
    of.shutdown()


def test_masks_stay_whole_for_as_many_calls_as_there_are_buffers() -> None:
    of = masker(CHOICE)
    first = of.masks([ROW])
    assert first is not None
    copy = first.copy()
    assert feed(of, b"")
    assert of.accept(ROW, ord("y")) is None
    second = of.masks([ROW])
    assert second is not None
    assert (first == copy).all()
    assert (first != second).any()
    of.shutdown()


def test_a_grammar_becomes_ready() -> None:
    of = masker(Grammar("json_schema", json.dumps({"enum": list(range(500))})))
    allowed(of)
    assert of.ready(ROW)
    of.shutdown()
