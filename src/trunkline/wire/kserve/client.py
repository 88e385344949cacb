"""Triton's generate extension, spoken to a server. Prompts of raw text only.

docs/protocol/extension_generate.md (triton-inference-server/server e1db8a6, 2026-08-19): fields
that are no input tensor of the model become request parameters, which are strings, numbers or
booleans. So one body serves both: vLLM's backend reads `sampling_parameters`, JSON text, and
nothing else where that is there; TensorRT-LLM's ensemble reads the tensors at the top level. Stop
strings are enforced here besides, for models that know none.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from trunkline.core.errors import TrunklineError, UpstreamFailed
from trunkline.core.types import Event, Json, RawRequest, Request, Usage
from trunkline.wire.asked import Asked, prompt_text
from trunkline.wire.client import Head, Outgoing, Reader, Relay, Terms
from trunkline.wire.failures import failure, rejected, shown
from trunkline.wire.passing import WholePassing
from trunkline.wire.reading import Row, StreamReader, WholeReader, decoded, is_whole
from trunkline.wire.relays import EventRelay, Renamer, patched
from trunkline.wire.sse import EventReader, ServerEvent
from trunkline.wire.stops import StopCutter

# Field of a request -> TensorRT-LLM's tensor. vLLM's names are ours.
_TENSORS = {
    "max_tokens": "max_tokens",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "repetition_penalty": "repetition_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "seed": "random_seed",
    "min_tokens": "min_length",
}
# vLLM's backend ends an answer after 16 tokens where nothing is said.
_DEFAULT_TOKENS = 1024
# What vLLM's backend alone has.
_VLLM: tuple[str, ...] = ("min_p", "stop", "stop_token_ids", "ignore_eos", "skip_special_tokens")


class _Answer(msgspec.Struct):
    """One event of a stream, or a whole answer."""

    text_output: str | list[str] | None = None
    finish_reason: str | None = None
    num_input_tokens: int | None = None
    num_output_tokens: int | None = None
    error: str | None = None


_answer = msgspec.json.Decoder(_Answer, strict=False)


class _Body:
    def __init__(self, request: Request) -> None:
        self._row = Row(request)
        self._cutter = StopCutter(request.stop)
        self._tally = _Tally()

    def piece(self, piece: ServerEvent) -> Iterable[Event]:
        """Events of one event."""
        return self.whole(piece.data)

    def whole(self, body: bytes) -> Iterable[Event]:
        """Events of one answer."""
        answer = self._tally.take(body)
        if self._row.finished:
            return []
        output = answer.text_output or ""
        text, stop = self._cutter.feed(output if isinstance(output, str) else "".join(output))
        events = self._row.delta(text)
        return events if stop is None else [*events, *self._row.finish("stop", stop)]

    def end(self) -> Sequence[Event]:
        """The last events: nothing marks the end of a stream there."""
        if not self._tally.events:
            raise UpstreamFailed("The backend's answer is empty.")
        if self._tally.failed:
            raise UpstreamFailed("The backend's answer is cut off.")
        self._row.usage = self._tally.usage
        events = self._row.delta(self._cutter.end())
        length = self._tally.finish_reason == "length"
        return [*events, *self._row.finish("length" if length else "stop"), *self._row.completed()]


class GenerateSpeaker:
    """`POST /v2/models/{model}/generate_stream`, or `.../generate`."""

    operation = "kserve.generate"
    unmarked: Literal[True] = True

    def encode(self, request: Request, terms: Terms) -> Outgoing:
        """See `Speaker`."""
        asked = Asked(request, terms)
        stream = asked.has("stream")
        body: Json = {
            "text_input": prompt_text(request, terms, "Triton's generate"),
            "stream": stream,
            "exclude_input_in_output": True,
            "return_finish_reason": True,
            "return_num_input_tokens": True,
            "return_num_output_tokens": True,
        }
        sampling: Json = {}
        if (asked.peek("top_k") or 0) <= 0:
            # A neutral one that the client gave; the tensor holds no negative numbers.
            asked.take("top_k")
        for name, tensor in _TENSORS.items():
            asked.put(sampling, name, name)
            if name in sampling:
                body[tensor] = sampling[name]
        for name in _VLLM:
            asked.put(sampling, name, name)
        asked.take("include_stop")
        if "max_tokens" not in sampling:
            sampling["max_tokens"] = body["max_tokens"] = _DEFAULT_TOKENS
        body["sampling_parameters"] = msgspec.json.encode(sampling).decode()
        return asked.outgoing(_path(terms.model, stream=stream), body)

    def reader(self, request: Request, terms: Terms, head: Head) -> Reader:
        """Events for a stream, else one object."""
        body = _Body(request)
        return WholeReader(body) if is_whole(head) else StreamReader(EventReader(), body)

    def patch(self, raw: RawRequest, terms: Terms) -> Outgoing:
        """The same body at the server's path."""
        return patched(_path(terms.model, stream=raw.stream), raw, terms, named=False)

    def relay(self, raw: RawRequest, terms: Terms, head: Head) -> Relay:
        """Passes everything on but the model's name."""
        renamer = Renamer(terms.model, raw.asked_model, "model_name")
        tally = _Tally()
        if is_whole(head):
            return WholePassing(raw.id, renamer.rename, tally.look)
        return EventRelay(raw.id, tally.look, renamer)

    def error(self, head: Head, body: bytes) -> TrunklineError:
        """{"error": "..."}."""
        try:
            said = _answer.decode(body).error or ""
        except msgspec.DecodeError:
            said = body[:600].decode(errors="replace")
        return failure(head, said)


class _Tally:
    """Counts: events, or tokens where the server tells them."""

    def __init__(self) -> None:
        self.events = 0
        # True: an error was reported.
        self.failed = False
        self.finish_reason: str | None = None
        self._prompt = 0
        self._output = 0

    @property
    def usage(self) -> Usage:
        """So far."""
        return Usage(self._prompt, self._output or self.events)

    def take(self, body: bytes) -> _Answer:
        """One more answer. Raises what it reports."""
        answer = decoded(_answer, body)
        if answer.error is not None:
            self.failed = True
            error = rejected(answer.error)
            plain = error.kind == "invalid_request"
            raise UpstreamFailed(f"The backend failed: {shown(answer.error)}") if plain else error
        self.events += 1
        self.finish_reason = answer.finish_reason or self.finish_reason
        self._prompt = answer.num_input_tokens or self._prompt
        # Of a stream each event tells its own.
        self._output += answer.num_output_tokens or 0
        return answer

    def look(self, body: bytes) -> Usage:
        """For relays."""
        self.take(body)
        return self.usage


def _path(model: str, *, stream: bool) -> str:
    name = urllib.parse.quote(model, safe="")
    return f"/v2/models/{name}/generate{'_stream' if stream else ''}"


GENERATE = GenerateSpeaker()
