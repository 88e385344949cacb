"""`POST /v2/models/{model}[/versions/{version}]/generate` and `.../generate_stream`.

Shapes: docs/protocol/extension_generate.md (triton-inference-server/server e1db8a6, 2026-08-19).
As Triton's vLLM backend does, a whole answer begins with the input unless that is excluded, and a
stream has only what is new.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import UNSET, UnsetType

from trunkline.core.errors import InvalidRequest
from trunkline.core.types import Delta, Event, Request, RowFinished, TextInput, Timing, Usage
from trunkline.wire.codec import Answer, Codec, Incoming, Renderer
from trunkline.wire.kserve.errors import render_error, status, stream_error
from trunkline.wire.kserve.fields import (
    Parameters,
    decode_parameters,
    prompt,
    refusal,
    sampling,
    stops,
)
from trunkline.wire.kserve.metadata import VERSION, check_version
from trunkline.wire.one_line import Encoder

_encoder = Encoder()


class _Output(msgspec.Struct):
    model_name: str
    model_version: str
    text_output: str
    id: str | UnsetType = UNSET
    finish_reason: str | UnsetType = UNSET
    num_input_tokens: int | UnsetType = UNSET
    num_output_tokens: int | UnsetType = UNSET


class GenerateAsk:
    """A decoded call."""

    def __init__(self, parameters: Parameters, model: str, *, stream: bool) -> None:
        self._beyond = refusal.of(parameters)
        self.model = model
        self.stream = stream
        self._parameters = parameters
        self._prompt = prompt(parameters)
        # `stream` false on the streaming route asks for one event with the whole answer.
        self._pieces = stream and parameters.stream is not False
        if self._pieces and parameters.exclude_input_in_output is False:
            problem = "When streaming, `exclude_input_in_output` = False is not allowed."
            raise InvalidRequest(problem, param="exclude_input_in_output")
        self._sampling = sampling(parameters)

    def requests(self, request_id: str, model: str, tenant: str) -> tuple[Request, ...]:
        """The one request."""
        parameters = self._parameters
        request = Request(
            id=request_id,
            model=model,
            input=TextInput(self._prompt),
            sampling=self._sampling,
            stop=stops(parameters),
            include_stop=bool(parameters.include_stop_str_in_output),
            skip_special_tokens=parameters.skip_special_tokens is not False,
            # As vLLM does where its server is not asked.
            overflow="cap",
            tenant=tenant,
            beyond=self._beyond,
        )
        return (request,)

    def renderer(self, answer: Answer) -> Renderer:
        """Events for a stream, else one object."""
        output = _Output(answer.model, VERSION, "")
        if self._parameters.id is not None:
            output.id = self._parameters.id
        if self._pieces:
            return GenerateStream(output, self._parameters)
        before = "" if self._parameters.exclude_input_in_output else self._prompt
        return GenerateWhole(output, self._parameters, before, event=self.stream)


class GenerateWhole:
    """Collects everything; one object at the end."""

    def __init__(
        self, output: _Output, parameters: Parameters, before: str, *, event: bool
    ) -> None:
        self._output = output
        self._parameters = parameters
        self._text = [before]
        self._event = event

    def take(self, prompt: int, events: Sequence[Event]) -> bytes:
        """Keep what matters; sends nothing."""
        for event in events:
            if isinstance(event, Delta):
                self._text += (event.reasoning, event.text)
            elif isinstance(event, RowFinished):
                _finish(self._output, self._parameters, event)
        return b""

    def finish(self, usage: Usage, timing: Timing) -> bytes:
        """The object."""
        output = self._output
        output.text_output = "".join(self._text)
        _count(output, self._parameters, usage)
        return _event(output) if self._event else _encoder.encode(output)


class GenerateStream:
    """Renders text as it comes."""

    def __init__(self, output: _Output, parameters: Parameters) -> None:
        self._output = output
        self._parameters = parameters
        # True: an event has gone out.
        self._said = False

    def take(self, prompt: int, events: Sequence[Event]) -> bytes:
        """One event for the text of `events`."""
        texts: list[str] = []
        for event in events:
            if isinstance(event, Delta):
                texts += (event.reasoning, event.text)
            elif isinstance(event, RowFinished):
                _finish(self._output, self._parameters, event)
        self._output.text_output = "".join(texts)
        # What ends the stream comes with `finish`.
        if not self._output.text_output:
            return b""
        self._said = True
        return _event(msgspec.structs.replace(self._output, finish_reason=UNSET))

    def finish(self, usage: Usage, timing: Timing) -> bytes:
        """The event that tells how it ended, if that was asked for; there is one in any case."""
        output = self._output
        output.text_output = ""
        _count(output, self._parameters, usage)
        told = (output.finish_reason, output.num_input_tokens, output.num_output_tokens)
        needless = self._said and all(one is UNSET for one in told)
        return b"" if needless else _event(output)


def _finish(output: _Output, parameters: Parameters, event: RowFinished) -> None:
    if parameters.return_finish_reason:
        output.finish_reason = event.reason


def _count(output: _Output, parameters: Parameters, usage: Usage) -> None:
    if parameters.return_num_input_tokens:
        output.num_input_tokens = usage.prompt_tokens
    if parameters.return_num_output_tokens:
        output.num_output_tokens = usage.completion_tokens


def _event(output: _Output) -> bytes:
    return b"data: %b\n\n" % _encoder.encode(output)


def _ask(incoming: Incoming, *, stream: bool) -> GenerateAsk:
    model = incoming.path["model"]
    check_version(model, incoming.path.get("version"))
    return GenerateAsk(decode_parameters(incoming.body), model, stream=stream)


def _whole(incoming: Incoming) -> GenerateAsk:
    return _ask(incoming, stream=False)


def _stream(incoming: Incoming) -> GenerateAsk:
    return _ask(incoming, stream=True)


# Both with and without a version in the path.
GENERATE = Codec(
    "kserve-",
    _whole,
    render_error,
    stream_error,
    status=status,
    operation="kserve.generate",
    streams="never",
)
GENERATE_STREAM = msgspec.structs.replace(GENERATE, decode=_stream, streams="always")
