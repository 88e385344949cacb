"""The GGUF tokenizer: round trips, special tokens, and texts meant to hurt."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.tiny_gguf import write_tiny_gguf
from trunkline.core.errors import InvalidRequest
from trunkline.text.gguf_tokenizer import LONGEST_RUN, SHORT, GgufTokenizer, load_tokenizer
from trunkline.text.special_cuts import SpecialCuts
from trunkline.text.tokenizer import FimTokens, Tokenizer

END, START, STOP = 262, 263, 264


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GgufTokenizer]:
    # "default" is split by std::regex, which overflows small stacks.
    found = load_tokenizer(write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf"))
    yield found
    found.close()


def ids(tokenizer: Tokenizer, text: str, *, special: bool = True) -> list[int]:
    return tokenizer.encode(text, add_special=False, parse_special=special)


def text(tokenizer: Tokenizer, tokens: list[int]) -> str:
    return b"".join(map(tokenizer.piece, tokens)).decode()


def test_what_it_knows(tokenizer: GgufTokenizer) -> None:
    assert tokenizer.vocab_size == 265
    assert tokenizer.bos is None or not tokenizer.encode("", add_special=True, parse_special=False)
    assert tokenizer.eog == {END, STOP}
    assert tokenizer.is_special(START)
    assert not tokenizer.is_special(65)
    assert tokenizer.piece(START) == b"<|im_start|>"
    for token in (-1, 265):
        with pytest.raises(IndexError):
            tokenizer.piece(token)
        with pytest.raises(IndexError):
            tokenizer.is_special(token)


def test_tokens_for_filling_in(tokenizer: GgufTokenizer, tmp_path: Path) -> None:
    assert tokenizer.fim == FimTokens()
    assert not tokenizer.fim.complete
    # By name, and by the file's metadata.
    named = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|repo_name|>", "<|file_sep|>")
    known = load_tokenizer(write_tiny_gguf(tmp_path / "named.gguf", specials=named))
    assert known.fim == FimTokens(265, 266, 267, 268, 269)
    keys = {f"tokenizer.ggml.fim_{name}_token_id": 70 + i for i, name in enumerate(("pre", "suf"))}
    half = load_tokenizer(write_tiny_gguf(tmp_path / "half.gguf", metadata=keys))
    assert half.fim == FimTokens(70, 71)
    assert not half.fim.complete
    older = {f"tokenizer.ggml.{name}_token_id": 75 for name in ("prefix", "suffix", "middle")}
    old = load_tokenizer(write_tiny_gguf(tmp_path / "old.gguf", metadata=older))
    assert old.fim == FimTokens(75, 75, 75)
    assert old.fim.complete
    for one in (known, half, old):
        one.close()


def test_special_tokens_are_parsed_only_when_asked(tokenizer: GgufTokenizer) -> None:
    assert ids(tokenizer, "<|im_start|>hello") == [START, 259]
    plain = ids(tokenizer, "<|im_start|>hello", special=False)
    assert START not in plain
    assert text(tokenizer, plain) == "<|im_start|>hello"


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200).filter(lambda s: not any("\ud800" <= c <= "\udfff" for c in s)))
def test_any_text_comes_back(tokenizer: GgufTokenizer, given_text: str) -> None:
    assert text(tokenizer, ids(tokenizer, given_text, special=False)) == given_text


def test_nul_bytes_are_text(tokenizer: GgufTokenizer) -> None:
    assert text(tokenizer, ids(tokenizer, "a\0b\0<|im_end|>\0")) == "a\0b\0<|im_end|>\0"


def test_lone_surrogates_are_refused(tokenizer: GgufTokenizer) -> None:
    with pytest.raises(InvalidRequest, match="lone surrogate at character 2"):
        ids(tokenizer, "ab\ud800c")


@pytest.mark.parametrize("letter", ["a", " ", "!", "1", "é", "\n"])
def test_long_runs_do_not_overflow_the_stack(tokenizer: GgufTokenizer, letter: str) -> None:
    """On a stack of 8 MiB these end the process."""
    run = letter * 60_000
    assert text(tokenizer, ids(tokenizer, run)) == run


def test_runs_beyond_the_stack_are_refused(tokenizer: GgufTokenizer) -> None:
    with pytest.raises(InvalidRequest, match="600000 characters in a row"):
        ids(tokenizer, "x" * 600_000)
    with pytest.raises(InvalidRequest, match="in a row"):
        ids(tokenizer, "x " + " " * (LONGEST_RUN + 1))


def test_many_special_tokens_take_linear_time(tokenizer: GgufTokenizer) -> None:
    begin = time.process_time()
    assert ids(tokenizer, "<|im_start|>" * 40_000) == [START] * 40_000
    # In one piece: some ten seconds.
    assert time.process_time() - begin < 4


def test_long_texts_are_cut_without_a_trace(tokenizer: GgufTokenizer) -> None:
    unit = "<|im_start|>user\nhello  world<|im_end|>\n"
    single = ids(tokenizer, unit)
    assert len(unit) * 1000 > SHORT
    assert ids(tokenizer, unit * 1000) == single * 1000
    plain = ids(tokenizer, unit, special=False)
    assert ids(tokenizer, unit * 1000, special=False) == plain * 1000


def test_begin_and_end_are_added_once_to_long_texts(tmp_path: Path) -> None:
    metadata = {
        "tokenizer.ggml.bos_token_id": START,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": True,
    }
    path = write_tiny_gguf(tmp_path / "bos.gguf", metadata=metadata)
    tokenizer = load_tokenizer(path)
    for size in (3, 30_000):
        found = tokenizer.encode("ab " * size, add_special=True, parse_special=True)
        inner = ids(tokenizer, "ab " * size)
        assert found == [START, *inner, STOP]
    tokenizer.close()


def test_threads_may_share_it(tokenizer: GgufTokenizer) -> None:
    texts = [f"hello {n} <|im_end|>" * (1 + n % 3 * 500) for n in range(9)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda t: ids(tokenizer, t), texts))
    assert [text(tokenizer, tokens) for tokens in found] == texts


def test_cuts_avoid_tokens_that_overlap() -> None:
    cuts = SpecialCuts(["<ab>", "b><", "<lstrip>"], ["<lstrip>"])
    body = "x" * 9000
    assert list(cuts.parts(body + "<ab>" + body)) == [body, "<ab>" + body]
    # Which one wins in "<ab><" is libllama's business: no cut there.
    assert list(cuts.parts(body + "<ab><" + body)) == [body + "<ab><" + body]
    assert list(cuts.parts(body + "<lstrip>" + body)) == [body + "<lstrip>" + body]
    assert list(SpecialCuts([], []).parts(body)) == [body]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(["<ab>", "b><", "a", "<", "xy" * 3000]), max_size=12))
def test_parts_make_up_the_text(pieces: list[str]) -> None:
    whole = "".join(pieces)
    assert "".join(SpecialCuts(["<ab>", "b><"], []).parts(whole)) == whole
