"""What a dialect offers for a route that generates text: bytes to requests, events to bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from trunkline.core.errors import TrunklineError
from trunkline.core.types import Event, Request, Usage


class Answer(msgspec.Struct, frozen=True):
    """What every response says of itself."""

    id: str
    # As the client named it.
    model: str
    # Unix seconds.
    created: int
    # Changes when the same seed may give other text; see `system_fingerprint` in OpenAI's API.
    fingerprint: str


class Renderer(Protocol):
    """Turns the events of one call into its response body."""

    def take(self, prompt: int, events: Sequence[Event]) -> bytes:
        """Bytes to send now for events of the call's request number `prompt`; may be none."""

    def finish(self, usage: Usage) -> bytes:
        """The last bytes, when every request has completed; `usage` is their sum."""


class Ask(Protocol):
    """A decoded call, before the gateway has said which model answers it."""

    # As the client named it; "" = not named.
    model: str
    # True: the client wants events as they come.
    stream: bool

    def requests(self, request_id: str, model: str, tenant: str) -> tuple[Request, ...]:
        """One request per prompt, for the model that calls itself `model`."""

    def renderer(self, answer: Answer) -> Renderer:
        """What renders the response."""


class Codec(msgspec.Struct, frozen=True):
    """One generating route of one dialect."""

    # Ids begin with this.
    id_prefix: str
    # Raises `InvalidRequest` and `Unsupported`.
    decode: Callable[[bytes | bytearray], Ask]
    # Body of an error response.
    error: Callable[[TrunklineError], bytes]
    # What ends a stream that has begun and then failed.
    stream_error: Callable[[TrunklineError], bytes]
