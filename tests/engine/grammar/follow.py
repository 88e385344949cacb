"""Follow grammars byte by byte, as a row of the core would."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from trunkline.core.types import Grammar
from trunkline.engine.frames import RowGrammar
from trunkline.engine.grammar.masker import Masker
from trunkline.engine.grammar.messages import outline
from trunkline.engine.grammar.vocabulary import outline_tokenizer
from trunkline.engine.grammar.worker import checked
from trunkline.engine.seam import RowKey
from trunkline.text.byte_tokenizer import ByteTokenizer

ROW = RowKey(1, 0)
TOKENIZER = ByteTokenizer()
END = 257  # <|im_end|>


def compiled(grammar: Grammar) -> str:
    """The source that the worker answers with. Raises `InvalidRequest`."""
    return checked(grammar, outline_tokenizer(outline(TOKENIZER)))


def masker(grammar: Grammar | RowGrammar) -> Masker:
    """A masker over bytes whose row `ROW` follows `grammar`."""
    if isinstance(grammar, Grammar):
        grammar = RowGrammar(compiled(grammar))
    found = Masker(TOKENIZER, max_rows=8)
    found.open(ROW, grammar)
    deadline = time.monotonic() + 60
    while not found.ready(ROW) and time.monotonic() < deadline:
        time.sleep(0.0005)
    return found


def allowed(of: Masker, key: RowKey = ROW) -> set[int]:
    """Tokens that may come next."""
    masks = of.masks([key])
    assert masks is not None
    assert masks.shape == (1, 9)
    return {t for t in range(TOKENIZER.vocab_size) if masks[0, t // 32] >> (t % 32) & 1}


def feed(of: Masker, text: str | bytes, key: RowKey = ROW) -> bool:
    """Go on with `text`; False where the mask does not allow it."""
    for token in text.encode() if isinstance(text, str) else text:
        if of.ended(key) or token not in allowed(of, key):
            return False
        assert of.accept(key, token) is None
    return True


def accepts(grammar: Grammar, text: str) -> bool:
    """Whether `text` is one that the grammar lets come out, whole."""
    of = masker(grammar)
    try:
        return feed(of, text) and (of.ended(ROW) or END in allowed(of))
    finally:
        of.shutdown()


def walk(grammar: Grammar, seed: int, prefer: str = '"}],', most: int = 2000) -> str | None:
    """A random text of the grammar, or None where it has not come to an end after `most` bytes."""
    choose = random.Random(seed)
    of = masker(grammar)
    out = bytearray()
    try:
        while not of.ended(ROW):
            if len(out) >= most:
                return None
            token = _pick(sorted(allowed(of)), choose, prefer.encode())
            assert of.accept(ROW, token) is None
            if token < 256:
                out.append(token)
    finally:
        of.shutdown()
    return out.decode()


def _pick(tokens: list[int], choose: random.Random, prefer: bytes) -> int:
    assert tokens, "a dead end"
    good = [token for token in tokens if token == END or (token < 256 and token in prefer)]
    pick: Callable[[list[int]], int] = choose.choice
    return pick(good) if good and choose.random() < 0.5 else pick(tokens)
