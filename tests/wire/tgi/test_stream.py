from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.wire.support import ANSWER, GOLDEN, TIMING, USAGE, delta, end, token
from trunkline.core.errors import EngineCrashed, QueueFull
from trunkline.core.types import Delta, Event, RowFinished
from trunkline.wire.codec import Incoming, Renderer
from trunkline.wire.tgi.generate import GENERATE_STREAM, GenerateAsk


def stream(**parameters: Any) -> Renderer:
    body = {"inputs": "Once", "parameters": parameters}
    asked = GENERATE_STREAM.decode(Incoming(json.dumps(body).encode()))
    assert isinstance(asked, GenerateAsk)
    assert asked.stream
    return asked.renderer(ANSWER)


def parsed(sse: bytes) -> list[Any]:
    """Events of a stream in TGI's spelling: no space after the colon."""
    assert not sse or sse.endswith(b"\n\n")
    events = sse.decode().split("\n\n")[:-1]
    assert all(event.startswith("data:{") for event in events)
    return [json.loads(event.removeprefix("data:")) for event in events]


def test_every_token_is_an_event_and_the_last_tells_all() -> None:
    renderer = stream(details=True)
    sent = renderer.take(0, [delta("Hi", token("Hi", 1, -0.25))])
    assert sent == (
        b'data:{"index":1,"token":{"id":1,"text":"Hi","logprob":-0.25,"special":false},'
        b'"generated_text":null,"details":null}\n\n'
    )
    sent = renderer.take(0, [delta(" you", token(" you", 2)), RowFinished("r", 0, "length")])
    assert sent == b""
    (last,) = parsed(renderer.finish(USAGE, TIMING))
    assert last == {
        "index": 2,
        "token": {"id": 2, "text": " you", "logprob": -0.5, "special": False},
        "generated_text": "Hi you",
        "details": {
            "finish_reason": "length",
            "generated_tokens": 2,
            "seed": None,
            "input_length": 7,
        },
    }


def test_the_published_last_event_byte_for_byte() -> None:
    expected = (GOLDEN / "tgi" / "stream_last.txt").read_bytes()
    renderer = stream()
    words = re.findall(
        " ?[a-zA-Z]+", "This is a picture of an anthropomorphic rabbit in a space suit"
    )
    # It took 15 tokens to say that.
    words += [""] * (15 - len(words))
    renderer.take(0, [delta(word, token(word, 5)) for word in words])
    renderer.take(0, [delta(".", token(".", 28723, -0.6196289)), RowFinished("r", 0, "length")])
    assert renderer.finish(USAGE, TIMING).rstrip() == expected.rstrip()


def test_end_of_text_is_a_special_token_and_the_last() -> None:
    renderer = stream(top_n_tokens=2, details=True)
    sent = renderer.take(0, [delta("Hi", token("Hi", 1, top=2)), end(token("</s>", 2, top=2))])
    assert [one["id"] for one in parsed(sent)[0]["top_tokens"]] == [1, 901]
    (last,) = parsed(renderer.finish(USAGE, TIMING))
    assert last["token"] == {"id": 2, "text": "</s>", "logprob": -0.5, "special": True}
    assert (last["generated_text"], last["details"]["generated_tokens"]) == ("Hi", 2)
    assert last["details"]["finish_reason"] == "eos_token"


def test_end_that_comes_alone_still_has_its_event() -> None:
    renderer = stream()
    assert len(parsed(renderer.take(0, [delta("Hi", token("Hi", 1))]))) == 1
    assert renderer.take(0, [RowFinished("r", 0, "length")]) == b""
    (last,) = parsed(renderer.finish(USAGE, TIMING))
    assert (last["token"]["special"], last["generated_text"]) == (True, "Hi")


def test_stop_sequence_is_part_of_the_text() -> None:
    renderer = stream(details=True)
    # The stop sequence ended within the token " END!!".
    renderer.take(0, [delta("a END", token("a", 1), token(" END!!", 2))])
    renderer.take(0, [RowFinished("r", 0, "stop", "END")])
    (last,) = parsed(renderer.finish(USAGE, TIMING))
    assert last["generated_text"] == "a END"
    assert last["details"]["finish_reason"] == "stop_sequence"


def test_the_prompt_comes_with_the_last_event_alone() -> None:
    renderer = stream(return_full_text=True)
    first = renderer.take(0, [delta("!", token("!", 1))])
    assert b"Once" not in first
    renderer.take(0, [end(token("</s>", 2))])
    assert parsed(renderer.finish(USAGE, TIMING))[0]["generated_text"] == "Once!"


def shown(renderer: Renderer, events: list[Event]) -> tuple[str, str]:
    """The text that a client puts together of the tokens, and the one it is told."""
    sse = b"".join(renderer.take(0, [event]) for event in events)
    found = parsed(sse + renderer.finish(USAGE, TIMING))
    text = "".join(one["token"]["text"] for one in found if not one["token"]["special"])
    assert [one["index"] for one in found] == list(range(1, len(found) + 1))
    return text, found[-1]["generated_text"]


def test_characters_of_several_tokens() -> None:
    train = "🚂".encode()
    events: list[Event] = [
        delta("na\u00efve ", token("na", 1), token(b"\xc3", 2), token(b"\xaf", 3), token("ve ", 4)),
        delta("🚂", token(train[:2], 5), token(train[2:], 6)),
        end(token("</s>", 7)),
    ]
    assert shown(stream(), events) == ("naïve 🚂", "naïve 🚂")


def test_hidden_special_tokens_within_the_text() -> None:
    events: list[Event] = [
        delta("ab", token("a", 1), token("<|pad|>", 2), token("b", 3)),
        end(token("</s>", 7)),
    ]
    assert shown(stream(), events) == ("ab", "ab")


def test_text_before_its_token_and_bytes_that_are_none() -> None:
    events: list[Event] = [
        # Held back: the token comes with its last character.
        Delta("r", 0, "a ", (), ()),
        delta("END x", token("a EN", 1), token("D x", 2)),
        # A space that the tokenizer does not show, and a byte that begins nothing.
        delta("Hi", token(" Hi", 3)),
        delta("\ufffd", token(b"\xff", 4)),
        Delta("r", 0, "tail", (), ()),
        RowFinished("r", 0, "length"),
    ]
    assert shown(stream(), events) == ("a END xHi\ufffdtail", "a END xHi\ufffdtail")


@given(st.lists(st.tuples(st.text(max_size=4), st.binary(max_size=4)), max_size=6))
def test_whatever_comes_the_tokens_make_up_the_text(pairs: list[tuple[str, bytes]]) -> None:
    events: list[Event] = []
    for text, piece in pairs:
        events += [delta(text, token(text, 1)), delta(text, token(piece, 2), token(text, 3))]
    text, told = shown(stream(), [*events, end(token("</s>", 9))])
    assert text == told


def test_errors_before_and_after_the_first_byte() -> None:
    full = QueueFull("the queue holds 8 requests", retry_after=2.0)
    assert GENERATE_STREAM.status(full) == 429
    assert json.loads(GENERATE_STREAM.error(full))["error_type"] == "overloaded"
    crashed = EngineCrashed("the engine died")
    assert GENERATE_STREAM.status(crashed) == 424
    (event,) = parsed(GENERATE_STREAM.stream_error(crashed))
    assert event == {
        "error": "Request failed during generation: the engine died",
        "error_type": "generation",
    }
