"""Messages between front and core, and between gateway and front.

Each travels as a 4-byte little-endian length and that many bytes of MessagePack (`Framing`). The
core sends one `StepFrame` per step, the front one `EventBatch` per step frame.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from trunkline.core.errors import ErrorInfo
from trunkline.core.types import Event, ModelCard, Request, SamplingParams, Tokenization

# A frame above this is a fault of the peer: the connection is closed.
MAX_FRAME = 64 * 1024 * 1024


# front -> core ------------------------------------------------------------------------------


class RowGrammar(msgspec.Struct, frozen=True, array_like=True):
    """What every row of a group must follow."""

    # llguidance's Lark, as `engine.grammar.compiler` gave it.
    source: str
    # The grammar begins behind the first of these tokens, or behind this text; until then
    # anything may come but the end of the text. Neither: it begins with the answer.
    after_tokens: tuple[int, ...] = ()
    after_text: str = ""


class AddGroup(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Queue a group of n rows with one prompt."""

    group: int
    # Prompt token ids, little-endian int32.
    prompt: bytes
    n: int
    # `seed` and `max_tokens` are filled in.
    params: SamplingParams
    priority: int
    tenant: str
    # Root of the prefix tree: salt, adapters, sharing scope. Equal keys share.
    root: bytes
    # time.monotonic() of the front (one clock for all processes of a machine).
    arrived: float
    grammar: RowGrammar | None = None
    # Log probabilities of the prompt's tokens behind position `prompt_start`, and this many
    # alternatives of each; None = none.
    prompt_logprobs: int | None = None
    prompt_start: int = 0


class AbortRows(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Stop one row (`row` >= 0) or the whole group (-1). Unknown ones are ignored."""

    group: int
    row: int = -1


class StopCore(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """End the process in good order."""


ToCore = AddGroup | AbortRows | StopCore


# core -> front ------------------------------------------------------------------------------


class CoreReady(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The model is loaded. The first message of a core."""

    context: int
    kv_tokens: int
    sequences: int
    kv_bytes_per_token: int
    executor: str
    load_seconds: float


class RowOutput(msgspec.Struct, frozen=True, array_like=True):
    """What one row produced in one step."""

    group: int
    row: int
    epoch: int
    # Index of the token among the row's output, from 0.
    sequence: int
    # -1: nothing new, only `finish`.
    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
    # "stop" (end of text or stop id), "length", or None. A finished row is gone from the core.
    finish: str | None = None


class PromptScores(msgspec.Struct, frozen=True, array_like=True):
    """Log probabilities of consecutive tokens of a group's prompt, each sent once and in order."""

    group: int
    # Position of the first of them.
    start: int
    # Natural logs: little-endian float32, one per token.
    logprobs: bytes
    # Tokens at least as probable at that place, itself among them: little-endian int32.
    ranks: bytes
    # The best of each token's place, falling: ids (int32) and log probabilities (float32), as many
    # for each token as were asked for.
    top_ids: bytes = b""
    top_logprobs: bytes = b""


class GroupStarted(msgspec.Struct, frozen=True, array_like=True):
    """A group has got its first place in the batch."""

    group: int
    # Prompt tokens found in the prefix cache.
    cached: int
    # Seconds in the queue.
    waited: float


class GroupFailed(msgspec.Struct, frozen=True, array_like=True):
    """A group is gone; no more of its rows follow."""

    group: int
    error: ErrorInfo


class CoreStats(msgspec.Struct, frozen=True, array_like=True):
    """State and counters of a core; counters run from its start."""

    running: int = 0
    waiting: int = 0
    # Tokens: held by rows, held by the prefix cache, capacity.
    kv_in_use: int = 0
    kv_cached: int = 0
    kv_total: int = 0
    # Sequences (or slots) held by rows and by the prefix cache.
    sequences_in_use: int = 0
    sequences_cached: int = 0
    steps: int = 0
    # Prompt tokens asked for, and those found in the prefix cache.
    prefix_queries: int = 0
    prefix_hits: int = 0
    prefill_tokens: int = 0
    decode_tokens: int = 0
    preemptions: int = 0
    # Seconds: in executor steps, and of these in sampling.
    step_seconds: float = 0.0
    sampling_seconds: float = 0.0
    # Bytes of the process's resident memory.
    resident_bytes: int = 0


class StepFrame(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """All that one step brought. Also sent, with empty lists, when only `stats` changed."""

    step: int
    outputs: tuple[RowOutput, ...]
    started: tuple[GroupStarted, ...]
    failed: tuple[GroupFailed, ...]
    stats: CoreStats
    # They come before the outputs of this step.
    prompts: tuple[PromptScores, ...] = ()


class CoreFailed(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The core cannot start or go on; its last message."""

    error: ErrorInfo


class CoreLoading(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """How far the loading of the model has come, now and then before `CoreReady`."""

    # 0 to 1.
    progress: float


FromCore = CoreReady | StepFrame | CoreFailed | CoreLoading


# gateway -> front ---------------------------------------------------------------------------


class Submit(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Begin a request."""

    request: Request


class CancelRequest(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The client is gone."""

    request_id: str


class CountTokens(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Answered by one `TokenCount`."""

    request: Request


class TokenizePrompt(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Answered by one `Tokenized`."""

    request: Request


class DetokenizeIds(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Answered by one `Tokenized` with this id."""

    request_id: str
    token_ids: tuple[int, ...]


class StopFront(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Finish what is in flight for at most `grace` seconds, then end."""

    grace: float


ToFront = Submit | CancelRequest | CountTokens | StopFront | TokenizePrompt | DetokenizeIds


# front -> gateway ---------------------------------------------------------------------------


class FrontStatus(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Sent on connection, when anything but counters changes, and every second under load."""

    # As `core.types.Health`.
    state: str
    detail: str
    # None until the model is loaded.
    card: ModelCard | None
    stats: CoreStats
    # Times that the core was started again after it died.
    restarts: int = 0
    executor: str = ""
    core_pid: int = 0


class EventBatch(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Events of one step, of all requests of this connection."""

    events: tuple[Event, ...]


class TokenCount(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Answer to `CountTokens`: a count, or an error."""

    request_id: str
    count: int
    error: ErrorInfo | None = None


class Tokenized(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Answer to `TokenizePrompt` and `DetokenizeIds`."""

    request_id: str
    answer: Tokenization
    error: ErrorInfo | None = None


FromFront = FrontStatus | EventBatch | TokenCount | Tokenized


class FrameTooLarge(Exception):
    """A peer announced a frame above `MAX_FRAME`."""


def pack(payload: bytes) -> bytes:
    """`payload` as a frame."""
    return len(payload).to_bytes(4, "little") + payload


class Framing:
    """Splits a byte stream into frames. Raises `FrameTooLarge`."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the payload of every frame that `data` completes."""
        self._buffer += data
        offset = 0
        while len(self._buffer) - offset >= 4:
            size = int.from_bytes(self._buffer[offset : offset + 4], "little")
            if size > MAX_FRAME:
                raise FrameTooLarge(f"frame of {size} bytes")
            if len(self._buffer) - offset - 4 < size:
                break
            yield bytes(self._buffer[offset + 4 : offset + 4 + size])
            offset += 4 + size
        del self._buffer[:offset]
