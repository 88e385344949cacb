"""What a dialect offers for a route: bytes to requests or questions, events to bytes.

A route that generates text has a `Codec` whose `decode` gives an `Ask`; one that asks about text
(tokens, templates) gives a `Lookup`. Codecs are pure: no sockets, no clocks, no state of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, Protocol, runtime_checkable

import msgspec

from trunkline.core.errors import TrunklineError, Unsupported
from trunkline.core.types import Event, Request, Timing, Tokenization, Usage

# Content types of streams.
EVENT_STREAM = b"text/event-stream; charset=utf-8"
NDJSON = b"application/x-ndjson"


class Incoming(msgspec.Struct, frozen=True):
    """What a codec sees of an HTTP request."""

    body: bytes
    # Variables of the route's path.
    path: Mapping[str, str] = {}
    # Header fields; names in lower case, values as sent. The first of each name.
    headers: Mapping[bytes, bytes] = {}
    # Query string, undecoded.
    query: str = ""


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
    """Turns the events of one call into its response body.

    One that has a method `fail(error) -> bytes` ends its own stream when the call fails after the
    first byte; for the others the codec's `stream_error` does.
    """

    def take(self, prompt: int, events: Sequence[Event]) -> bytes:
        """Bytes to send now for events of the call's request number `prompt`; may be none."""

    def finish(self, usage: Usage, timing: Timing) -> bytes:
        """The last bytes, when every request has completed; sums over all of them."""


@runtime_checkable
class Successor(Protocol):
    """A renderer that can take over in the middle of a relayed stream and look the same."""

    def succeed(self, relayed: bytes) -> None:
        """Go on with the ids and times that `relayed`, whole events of this dialect, has."""


class Ask(Protocol):
    """A decoded call, before the gateway has said which model answers it.

    One whose dialect knows what a model can do has a method `check(card: ModelCard) -> None`, which
    raises `InvalidRequest`; one that leans on stored responses has `recall` (`openai.responses`);
    one that may say how long its model stays loaded has `keep_alive: float | None` (Ollama).
    """

    # As the client named it; "" = not named.
    model: str
    # True: the client wants events as they come.
    stream: bool

    def requests(self, request_id: str, model: str, tenant: str) -> tuple[Request, ...]:
        """One request per prompt, for the model that calls itself `model`.

        None at all where the model is only to be loaded or unloaded (Ollama's empty prompt): the
        renderer's `finish` is the answer.
        """

    def renderer(self, answer: Answer) -> Renderer:
        """What renders the response."""


class Lookup(Protocol):
    """A decoded question about text, answered by the model's front without generating."""

    # As the client named it; "" = not named.
    model: str

    def question(self, request_id: str, model: str, tenant: str) -> Request | tuple[int, ...]:
        """A request whose prompt is to be tokenized, or token ids to be turned into text."""

    def render(self, answer: Tokenization) -> bytes:
        """Body of the response."""


def pieces_of(answer: Tokenization) -> Sequence[bytes]:
    """The bytes of each token. Raises `Unsupported` where who answered does not tell them."""
    if len(answer.pieces) != len(answer.token_ids):
        raise Unsupported("The server of this model does not tell what each token says.")
    return answer.pieces


def _status(error: TrunklineError) -> int:
    return error.status


def _no_headers(usage: Usage, timing: Timing) -> bytes:
    return b""


class Codec(msgspec.Struct, frozen=True):
    """One route of one dialect."""

    # Ids begin with this.
    id_prefix: str
    # Raises `InvalidRequest` and `Unsupported`.
    decode: Callable[[Incoming], Ask | Lookup]
    # Body of an error response.
    error: Callable[[TrunklineError], bytes]
    # What ends a stream that has begun and then failed.
    stream_error: Callable[[TrunklineError], bytes]
    # Content type of a stream.
    stream_type: bytes = EVENT_STREAM
    # Content type of a whole answer.
    whole_type: bytes = b"application/json"
    # HTTP status of an error, where the dialect's differs.
    status: Callable[[TrunklineError], int] = _status
    # True: `decode` gives a `Lookup`.
    looks_up: bool = False
    # Which of the names that there are a client means by one, or None.
    find_name: Callable[[str, Iterable[str]], str | None] | None = None
    # Name of the operation, where another server may be spoken to in the same words and the
    # request can be passed on as it is: "openai.chat". "" = always decoded.
    operation: str = ""
    # Whether an answer is a stream: as the body's `stream` says, with the default that it has
    # there, or, whatever the body says, because the route is for streams or for whole answers.
    streams: Literal["asked", "unless_declined", "always", "never"] = "asked"
    # Id of the earlier response that the top level of a body goes on from, so that nobody can
    # answer it but who keeps that; "" = none.
    refers: Callable[[Mapping[str, msgspec.Raw]], str] | None = None
    # Id under which whoever gave a relayed answer keeps it, read off its first bytes; "" = it does
    # not.
    kept: Callable[[bytes], str] | None = None
    # Further header lines of a whole answer, each ended by CRLF (TGI's timings).
    headers: Callable[[Usage, Timing], bytes] = _no_headers
