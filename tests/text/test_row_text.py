from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.text.test_detokenizer import Pieces
from trunkline.text.byte_tokenizer import ByteTokenizer
from trunkline.text.row_text import RowText
from trunkline.text.stop import StopMatcher, StopStrings


def matcher(*stops: str, include: bool = False) -> StopMatcher:
    return StopMatcher(StopStrings(stops), include_stop=include)


@given(st.lists(st.binary(max_size=4)))
def test_every_token_goes_out_once_and_not_before_its_text(pieces: list[bytes]) -> None:
    row = RowText(Pieces(pieces), None)
    text, tokens = "", 0
    for token in range(len(pieces)):
        shown = row.feed(token)
        text += shown.text
        tokens += shown.tokens
        assert tokens <= token + 1
        # All bytes of what went out are in the text.
        whole = b"".join(pieces[:tokens]).decode(errors="ignore")
        assert len(whole) <= len(text)
    last = row.finish()
    assert text + last.text == b"".join(pieces).decode(errors="replace")
    assert tokens + last.tokens == len(pieces)


@given(st.lists(st.text("abEND", min_size=1, max_size=4)), st.booleans())
def test_tokens_up_to_the_stop(pieces: list[str], include: bool) -> None:
    row = RowText(Pieces([p.encode() for p in pieces]), matcher("END", include=include))
    text, tokens = "", 0
    for token in range(len(pieces)):
        shown = row.feed(token)
        text += shown.text
        tokens += shown.tokens
        if shown.stop:
            begins = [sum(map(len, pieces[:i])) for i in range(len(pieces))]
            assert tokens == sum(1 for begin in begins[: token + 1] if begin < len(text))
            return
        assert "".join(pieces[:tokens]) == text[: sum(map(len, pieces[:tokens]))]
    last = row.finish()
    assert text + last.text == "".join(pieces)
    assert tokens + last.tokens == len(pieces)


def test_character_in_four_tokens() -> None:
    row = RowText(ByteTokenizer(), None)
    shown = [row.feed(byte) for byte in "😀!".encode()]
    assert [(s.text, s.tokens) for s in shown] == [("", 0)] * 3 + [("😀", 4), ("!", 1)]


def test_held_tokens_follow_their_text() -> None:
    row = RowText(ByteTokenizer(), matcher("END"))
    assert [(s.text, s.tokens) for s in map(row.feed, b"ENx")] == [("", 0), ("", 0), ("ENx", 3)]


def test_stop_inside_a_token() -> None:
    row = RowText(Pieces([b"a", b"bEN", b"D c"]), matcher("END"))
    assert row.feed(0)[:2] == ("a", 1)
    # The token straddles what is shown and what may be a stop string.
    assert row.feed(1)[:2] == ("b", 0)
    assert row.feed(2) == ("", 1, "END")


def test_min_tokens_keeps_stops_away() -> None:
    row = RowText(ByteTokenizer(), matcher("b"), min_tokens=3)
    shown = [row.feed(token) for token in b"abab"]
    assert [s.text for s in shown] == ["a", "b", "a", ""]
    assert shown[-1].stop == "b"


def test_replacement_at_the_end_may_be_a_stop_string() -> None:
    row = RowText(ByteTokenizer(), matcher("a\ufffd"))
    assert row.feed(0x61).text == ""
    assert row.feed(0xC3).text == ""
    assert row.finish() == ("", 0, "a\ufffd")
