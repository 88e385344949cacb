from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trunkline.text.byte_tokenizer import ByteTokenizer
from trunkline.text.detokenizer import Detokenizer
from trunkline.text.tokenizer import FimTokens


class Pieces:
    """A tokenizer whose tokens are given byte strings; the last one is special."""

    vocab_size = 0
    bos: int | None = None
    eog: frozenset[int] = frozenset()

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = [*pieces, b"<special>"]
        self.special = len(pieces)

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        raise NotImplementedError

    def piece(self, token: int) -> bytes:
        return self._pieces[token]

    fim = FimTokens()

    def is_special(self, token: int) -> bool:
        return token == self.special


@given(st.lists(st.binary(max_size=6)))
def test_any_bytes_split_anywhere(pieces: list[bytes]) -> None:
    detokenizer = Detokenizer(Pieces(pieces))
    shown = []
    fed = b""
    for token, piece in enumerate(pieces):
        shown.append(detokenizer.feed(token))
        fed += piece
        # Nothing shown is ever taken back, and at most 3 bytes are held.
        assert fed.decode(errors="replace").startswith("".join(shown))
        assert len(fed.decode(errors="replace")) - len("".join(shown)) <= 3
    assert "".join(shown) + detokenizer.finish() == fed.decode(errors="replace")


@given(st.text(), st.data())
def test_text_split_anywhere_shows_no_replacement(text: str, data: st.DataObject) -> None:
    raw = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)))))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    detokenizer = Detokenizer(Pieces(pieces))
    shown = [detokenizer.feed(token) for token in range(len(pieces))]
    assert "".join(shown) == text
    assert detokenizer.finish() == ""


def test_half_a_character_is_held_and_then_replaced() -> None:
    detokenizer = Detokenizer(Pieces([b"\xe2\x82", b"A"]))
    assert detokenizer.feed(0) == ""
    assert detokenizer.pending
    assert detokenizer.feed(1) == "\ufffdA"
    assert not detokenizer.pending


def test_unfinished_character_at_the_end() -> None:
    detokenizer = Detokenizer(Pieces([b"a\xf0\x9f\x98"]))
    assert detokenizer.feed(0) == "a"
    assert detokenizer.finish() == "\ufffd"


def test_special_tokens_are_skipped_or_shown() -> None:
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode("a<|im_end|>b", add_special=False, parse_special=True)
    assert ids == [97, 257, 98]
    for skip, expected in ((True, "ab"), (False, "a<|im_end|>b")):
        detokenizer = Detokenizer(tokenizer, skip_special_tokens=skip)
        assert "".join(map(detokenizer.feed, ids)) == expected


def test_special_token_inside_a_character_does_not_break_it() -> None:
    pieces = Pieces([b"\xc3", b"\xa9"])
    detokenizer = Detokenizer(pieces)
    assert [detokenizer.feed(t) for t in (0, pieces.special, 1)] == ["", "", "é"]
