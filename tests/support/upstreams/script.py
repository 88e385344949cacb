"""What a stand-in answers, and how it fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal

import msgspec

# What goes wrong besides an error's status.
Fault = Literal[
    "",
    # Nothing comes, or nothing after the first piece, until the client goes.
    "hang",
    "hang_mid",
    # The connection breaks off: at once, or after the first piece.
    "die",
    "die_mid",
    # Bytes that are no answer in any dialect, with status 200.
    "garbage",
    # The head of the answer takes its time.
    "slow_head",
]


class Call(msgspec.Struct, frozen=True):
    """One tool call."""

    name: str
    arguments: dict[str, Any] = {}
    id: str = "call_stand_in_1"


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """One answer."""

    # Text, in the pieces of a stream.
    pieces: tuple[str, ...] = ("Hello", " from", " the", " stand-in", ".")
    # Thinking before the text, in the dialects that have it.
    reasoning: str = ""
    calls: tuple[Call, ...] = ()
    finish: Literal["stop", "length"] = "stop"
    prompt_tokens: int = 11
    completion_tokens: int = 5
    # Status of an error; 0 = none. Its words, and seconds of Retry-After.
    error: int = 0
    message: str = "because the script says so"
    retry_after: int | None = None
    fault: Fault = ""
    # Seconds between pieces, and of `slow_head`.
    pause: float = 0.0

    @property
    def text(self) -> str:
        """All of the text."""
        return "".join(self.pieces)


class Seen(msgspec.Struct, frozen=True):
    """One request that arrived."""

    method: str
    # With the query string.
    path: str
    # Names in lower case.
    headers: dict[str, str]
    data: bytes

    @property
    def body(self) -> Any:
        """The body, decoded; None where there is none."""
        return json.loads(self.data) if self.data else None


class Reply(msgspec.Struct, frozen=True):
    """One response: a whole body, or pieces of a stream."""

    body: bytes | tuple[bytes, ...]
    type: str = "application/json"
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


# Answers a request by a script; None = there is no such path.
Dialect = Callable[[Seen, Script], Reply | None]


def dumps(value: Any) -> bytes:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def failed(script: Script, body: Any, **headers: str) -> Reply:
    """The response of an error."""
    fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
    if script.retry_after is not None:
        fields.append(("retry-after", str(script.retry_after)))
    return Reply(dumps(body), status=script.error, headers=tuple(fields))
