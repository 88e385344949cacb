from __future__ import annotations

import pytest

from trunkline.core.errors import Unsupported
from trunkline.core.types import InfillInput, SourceFile
from trunkline.engine.front.infill import infill_prompt
from trunkline.text.byte_tokenizer import ByteTokenizer
from trunkline.text.tokenizer import FimTokens

PRE, SUF, MID, REP, SEP, BOS = range(300, 306)


class Coder(ByteTokenizer):
    """Bytes, and tokens for filling in."""

    fim = FimTokens(PRE, SUF, MID)


class Repository(Coder):
    """It knows files too, and begins texts with BOS."""

    fim = FimTokens(PRE, SUF, MID, REP, SEP)
    bos = BOS

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        ids = super().encode(text, add_special=False, parse_special=parse_special)
        return [BOS, *ids] if add_special else ids


def shown(ids: list[int]) -> str:
    names = {PRE: "<P>", SUF: "<S>", MID: "<M>", REP: "<R>", SEP: "<F>", BOS: "<B>"}
    return "".join(names.get(one) or chr(one) for one in ids)


GAP = InfillInput(("ab",), ("yz",), prompt="p", extra=(SourceFile("x", "x.py"), SourceFile("w")))


def prompt(tokenizer: ByteTokenizer, gap: InfillInput = GAP, context: int = 4096) -> str:
    return shown(infill_prompt(tokenizer, gap, context, None))


def gap(**fields: object) -> InfillInput:
    return InfillInput(**{"prefix": ("ab",), "suffix": ("yz",), **fields})  # type: ignore[arg-type]


def test_the_order_of_tokens() -> None:
    assert prompt(Coder(), gap()) == "<P>ab<S>yz<M>"
    assert prompt(Repository(), gap(prompt="p")) == "<B><P>abp<S>yz<M>"
    assert prompt(Coder(), gap(prefix=("a", (SEP, SUF), "b"))) == "<P>a<F><S>b<S>yz<M>"


def test_files_come_before() -> None:
    files = (SourceFile("x", "x.py"), SourceFile("w"))
    wanted = gap(prompt="p", extra=files, repository=True, fit=True)
    assert prompt(Repository(), wanted) == (
        "<R>myproject\n<F>x.py\nx<F>tmp\nw<F>filename\n<B><P>abp<S>yz<M>"
    )
    snippet = "\n\n--- snippet ---\n\n"
    assert prompt(Coder(), wanted) == f"{snippet}x{snippet}w<P>abp<S>yz<M>"


def test_names_of_tokens_are_text_but_in_the_prompt() -> None:
    ids = infill_prompt(Coder(), gap(prefix=("<|im_end|>",), prompt="<|im_end|>"), 0, None)
    assert ids.count(257) == 1


@pytest.mark.parametrize("context", [64, 512, 4096, 100_000])
def test_what_is_nearest_to_the_gap_is_kept(context: int) -> None:
    text = "".join(map(chr, range(97, 123))) * 4000
    files = (SourceFile(text),)
    wanted = gap(prefix=(text,), suffix=(text,), extra=files, repository=True, fit=True)
    said = prompt(Coder(), wanted, context)
    before, after = said.split("<S>")
    extra, prefix = before.split("<P>")
    suffix = after.removesuffix("<M>")
    window = min(2048, context * 3 // 4)
    assert (len(prefix), len(suffix)) == (3 * (window // 4), window // 4 - 2)
    assert text.endswith(prefix)
    assert text.startswith(suffix)
    assert text.endswith(extra)
    assert bool(extra) == (context > 4000)
    # What marks them, and room for an answer.
    assert len(prefix) + len(suffix) + len(extra) + 4 <= context - context // 4 + 8


def test_twice_the_answer_is_left_free() -> None:
    text = "x" * 10_000
    wanted = gap(prefix=("a",), suffix=("b",), extra=(SourceFile(text),), repository=True, fit=True)
    ids = infill_prompt(Coder(), wanted, 4096, 500)
    assert ids.count(ord("x")) == 4096 - 2048 - 1000


def test_nothing_is_cut_unasked() -> None:
    assert len(prompt(Coder(), gap(prefix=("x" * 9000,)))) > 9000


def test_a_model_that_cannot() -> None:
    class Half(ByteTokenizer):
        fim = FimTokens(prefix=PRE)

    with pytest.raises(Unsupported) as caught:
        prompt(Half())
    assert caught.value.message == (
        "Infill is not supported by this model: suffix token is missing. middle token is missing. "
    )
