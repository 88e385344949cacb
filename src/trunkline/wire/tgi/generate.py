"""`POST /`, `POST /generate` and `POST /generate_stream`."""

from __future__ import annotations

import msgspec

from trunkline.core.types import Request, TextInput, Timing, Usage
from trunkline.wire.codec import Answer, Codec, Incoming, Renderer
from trunkline.wire.openai.fields import decode
from trunkline.wire.tgi.answers import GenerateStream, GenerateWhole, Shown
from trunkline.wire.tgi.errors import render_error, status, stream_error
from trunkline.wire.tgi.fields import (
    NO_PARAMETERS,
    GenerateFields,
    beyond,
    check,
    drawn_seed,
    grammar,
    samples,
    sampling,
)

# TGI's; axum names no character set.
_STREAM = b"text/event-stream"

_decoder = msgspec.json.Decoder(GenerateFields)


class GenerateAsk:
    """A decoded call."""

    def __init__(self, fields: GenerateFields, *, stream: bool, compatible: bool) -> None:
        self.model = fields.model or ""
        self.stream = stream
        self._compatible = compatible
        self._inputs = fields.inputs
        self._parameters = parameters = fields.parameters or NO_PARAMETERS
        check(self._inputs, parameters, stream=stream)
        self._grammar = grammar(parameters.grammar)
        self._best_of = parameters.best_of or 1

    def requests(self, request_id: str, model: str, tenant: str) -> tuple[Request, ...]:
        """The one request."""
        parameters = self._parameters
        request = Request(
            id=request_id,
            model=model,
            input=TextInput(self._inputs),
            sampling=sampling(parameters, seed=self._seed(request_id), logprobs=self._logprobs()),
            n=self._best_of,
            stop=tuple(parameters.stop or ()),
            # What stopped the generation is part of its text.
            include_stop=True,
            implied=self._implied(),
            grammar=self._grammar,
            truncate_prompt=parameters.truncate,
            prompt_logprobs=0 if parameters.decoder_input_details else None,
            tenant=tenant,
            beyond=beyond(parameters),
        )
        return (request,)

    def renderer(self, answer: Answer) -> Renderer:
        """Events for a stream, else one object."""
        parameters = self._parameters
        full = parameters.return_full_text
        if full is None:
            # `POST /` does as the hosted API did for models that continue text.
            full = self._compatible
        # Rows of one request have streams of random numbers that no single seed tells.
        told = samples(parameters) and self._best_of == 1
        shown = Shown(
            prompt=self._inputs if full else "",
            # One of the two is enough.
            details=bool(parameters.details or parameters.decoder_input_details),
            top=bool(parameters.top_n_tokens),
            seed=self._seed(answer.id) if told else None,
            listed=self._compatible,
        )
        return GenerateStream(shown) if self.stream else GenerateWhole(shown)

    def _seed(self, request_id: str) -> int:
        given = self._parameters.seed
        return drawn_seed(request_id) if given is None else given

    def _implied(self) -> tuple[str, ...]:
        """A stream tells log probabilities, and a seed is drawn, though nobody asked."""
        parameters = self._parameters
        names = ["include_stop"]
        if parameters.seed is None:
            names.append("seed")
        if not parameters.top_n_tokens:
            names.append("logprobs")
        return tuple(names)

    def _logprobs(self) -> int | None:
        parameters = self._parameters
        details = parameters.details or parameters.decoder_input_details
        if self.stream or details or self._best_of > 1:
            return parameters.top_n_tokens or 0
        return None


def timing_headers(usage: Usage, timing: Timing) -> bytes:
    """TGI's headers of a whole answer. Milliseconds, but for x-compute-time: seconds."""
    inference = timing.prefill + timing.decode
    total = timing.queue + inference
    lines = {
        "x-compute-type": "trunkline",
        "x-compute-time": f"{total:.9f}",
        "x-total-time": _milliseconds(total),
        # Checks take no time that would show here; they are part of the queue's.
        "x-validation-time": "0",
        "x-queue-time": _milliseconds(timing.queue),
        "x-inference-time": _milliseconds(inference),
        "x-time-per-token": _milliseconds(inference / max(1, usage.completion_tokens)),
        "x-prompt-tokens": str(usage.prompt_tokens),
        "x-generated-tokens": str(usage.completion_tokens),
    }
    return "".join(f"{name}: {value}\r\n" for name, value in lines.items()).encode()


def _milliseconds(seconds: float) -> str:
    return str(int(seconds * 1e3))


def _compatible(incoming: Incoming) -> GenerateAsk:
    fields = decode(_decoder, incoming.body)
    return GenerateAsk(fields, stream=bool(fields.stream), compatible=True)


def _whole(incoming: Incoming) -> GenerateAsk:
    return GenerateAsk(decode(_decoder, incoming.body), stream=False, compatible=False)


def _stream(incoming: Incoming) -> GenerateAsk:
    return GenerateAsk(decode(_decoder, incoming.body), stream=True, compatible=False)


# POST /
ROOT = Codec(
    "tgi-",
    _compatible,
    render_error,
    stream_error,
    stream_type=_STREAM,
    status=status,
    headers=timing_headers,
)
# POST /generate with `inputs`
GENERATE = msgspec.structs.replace(ROOT, decode=_whole, operation="tgi.generate", streams="never")
# POST /generate_stream
GENERATE_STREAM = msgspec.structs.replace(GENERATE, decode=_stream, streams="always")
