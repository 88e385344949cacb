"""Answers of the awkward kind, as the engine tells them, for every codec to render.

What is awkward is what the issues of clients and servers are about: calls that come character by
character, several of them, none of whose arguments are there; a stop string within a call; text
that is cut within a character, or has characters that careless readers of lines take for an end of
line (NEL, U+2028, U+2029).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from tests.wire.support import ANSWER, TIMING, USAGE, token
from trunkline.core.errors import TrunklineError
from trunkline.core.types import Delta, Event, Json, RowFinished, ToolCallDelta
from trunkline.wire.codec import Codec, Incoming

# Two, three and four bytes each; joined and combining ones; what is no end of line, but looks so.
UNICODE = "né ü 漢字 🌊 👩‍🔬 é \x85\u2028\u2029 end"
CITY = '{"city": "Zürich 🌊", "note": "a\\"b\\u2028"}'


class Case(NamedTuple):
    """One answer."""

    name: str
    events: tuple[Event, ...]
    text: str = ""
    reasoning: str = ""
    # Name and the text of the arguments.
    calls: tuple[tuple[str, str], ...] = ()
    # False: the last call breaks off.
    whole: bool = True


def _text(text: str, number: int = 1) -> Delta:
    return Delta("r", 0, text, (number,), (token(text, number),))


def _thought(text: str) -> Delta:
    return Delta("r", 0, "", (1,), (token(text, 1),), reasoning=text)


def _call(index: int, arguments: str, name: str | None = None) -> Delta:
    call = ToolCallDelta(index, f"call_{index}" if name else None, name, arguments)
    return Delta("r", 0, "", (1,), (token(arguments, 1),), tool_calls=(call,))


def _end(reason: Any = "stop", stop: str | None = None) -> RowFinished:
    return RowFinished("r", 0, reason, stop, None if stop else 2, None if stop else token("", 2))


TEXTS = (
    Case(
        "unicode",
        (*(_text(UNICODE[at : at + 3], at) for at in range(0, len(UNICODE), 3)), _end()),
        text=UNICODE,
    ),
    Case(
        "unicode held back within a token",
        (Delta("r", 0, "", (7,), (token(b"\xf0\x9f", 7),)), _text("🌊!"), _end()),
        text="🌊!",
    ),
    Case("a stop string", (_text("One"), _end(stop=" two")), text="One"),
)

CALLS = (
    Case(
        "a call by characters",
        (_call(0, "", "look_up"), *(_call(0, one) for one in CITY), _end("tool_calls")),
        calls=(("look_up", CITY),),
    ),
    Case(
        "two calls",
        (
            _text("Both."),
            _call(0, '{"a": ', "first"),
            _call(0, "1}"),
            _call(1, '{"b": 2}', "second"),
            _end("tool_calls"),
        ),
        text="Both.",
        calls=(("first", '{"a": 1}'), ("second", '{"b": 2}')),
    ),
    Case(
        "no arguments",
        (_call(0, "{}", "now"), _call(1, "", "then"), _call(1, "{}"), _end("tool_calls")),
        calls=(("now", "{}"), ("then", "{}")),
    ),
    Case(
        "a stop string within a call",
        (_call(0, '{"city": "Par', "look_up"), _end(stop="is")),
        calls=(("look_up", '{"city": "Par'),),
        whole=False,
    ),
    Case(
        "reasoning, then calls",
        (_thought("Hm, "), _thought("漢."), _call(0, '{"a": 1}', "first"), _end("tool_calls")),
        reasoning="Hm, 漢.",
        calls=(("first", '{"a": 1}'),),
    ),
    Case(
        "reasoning, text and call at once",
        (
            Delta("r", 0, "Yes.", (1,), None, "Hm.", (ToolCallDelta(0, "c", "f", "{}"),)),
            _end("tool_calls"),
        ),
        text="Yes.",
        reasoning="Hm.",
        calls=(("f", "{}"),),
    ),
)


def rendered(codec: Codec, body: Json, case: Case, *, path: Json | None = None) -> bytes:
    """The answer to `body` on the wire, one event at a time."""
    asked: Any = codec.decode(Incoming(msgspec.json.encode(body), path=path or {}))
    renderer = asked.renderer(ANSWER)
    out = b"".join(renderer.take(0, (event,)) for event in case.events)
    return out + bytes(renderer.finish(USAGE, TIMING))


def broken(codec: Codec, body: Json, error: TrunklineError, *, path: Json | None = None) -> bytes:
    """A stream that fails behind its first text."""
    asked: Any = codec.decode(Incoming(msgspec.json.encode(body), path=path or {}))
    renderer = asked.renderer(ANSWER)
    out = bytes(renderer.take(0, (_text("so far"),)))
    fail = getattr(renderer, "fail", codec.stream_error)
    return out + bytes(fail(error))


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """`data` whole, at every byte, and in pieces that end within characters and lines."""
    text = data.decode()
    assert text.splitlines() == text.removesuffix("\n").split("\n"), "a reader may see more lines"
    yield [data]
    yield [data[index : index + 1] for index in range(len(data))]
    yield [data[index : index + 7] for index in range(0, len(data), 7)]
