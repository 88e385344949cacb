"""`POST /generate` with `text` or `input_ids`."""

from __future__ import annotations

import msgspec

from trunkline.core.errors import InvalidRequest
from trunkline.core.types import Request
from trunkline.wire.codec import Answer, Codec, Incoming, Renderer
from trunkline.wire.openai.fields import decode
from trunkline.wire.openai.prompt_details import check_amount
from trunkline.wire.sglang.answers import GenerateStream, GenerateWhole, Shown
from trunkline.wire.sglang.errors import render_error, stream_error
from trunkline.wire.sglang.fields import (
    GenerateFields,
    grammar,
    logprobs,
    prompts,
    refusal,
    sampling_params,
    sampling_refusal,
    samplings,
    stops,
)

_decoder = msgspec.json.Decoder(GenerateFields)


class GenerateAsk:
    """A decoded call."""

    def __init__(self, fields: GenerateFields) -> None:
        self._beyond = refusal.of(fields)
        self.model = fields.model or ""
        self.stream = bool(fields.stream)
        self._fields = fields
        self._prompts = prompts(fields)
        count = len(self._prompts.inputs)
        self._samplings = samplings(fields, count)
        for one in self._samplings:
            # Of all prompts: no answer begins where that to another one will be refused.
            self._beyond = {**self._beyond, **sampling_refusal.of(one)}
        self._rows = self._samplings[0].n or 1
        self._logprobs = logprobs(fields, count)
        most = max((one.top for one in self._logprobs if one and one.start >= 0), default=None)
        check_amount(
            len(bytes(fields.text)) + len(bytes(fields.input_ids)), most, "top_logprobs_num"
        )
        self._grammars = [grammar(one) for one in self._samplings]
        self._stops = [stops(one) for one in self._samplings]
        self._params = [
            sampling_params(one, None if wanted is None else wanted.top)
            for one, wanted in zip(self._samplings, self._logprobs, strict=True)
        ]
        if isinstance(fields.rid, list) and len(fields.rid) != count:
            problem = f"'rid' has {len(fields.rid)} entries for {count} prompts."
            raise InvalidRequest(problem, param="rid")

    def requests(self, request_id: str, model: str, tenant: str) -> tuple[Request, ...]:
        """One request per prompt."""
        several = len(self._prompts.inputs) > 1
        return tuple(
            self._request(f"{request_id}-{index}" if several else request_id, index, model, tenant)
            for index in range(len(self._prompts.inputs))
        )

    def _request(self, request_id: str, index: int, model: str, tenant: str) -> Request:
        wanted = self._logprobs[index]
        of_prompt = wanted is not None and wanted.start >= 0
        return Request(
            id=request_id,
            model=model,
            input=self._prompts.inputs[index],
            sampling=self._params[index],
            n=self._rows,
            stop=self._stops[index],
            include_stop=bool(self._samplings[index].no_stop_trim),
            skip_special_tokens=self._samplings[index].skip_special_tokens is not False,
            grammar=self._grammars[index],
            beyond=self._beyond,
            priority=-(self._fields.priority or 0),
            tenant=tenant,
            cache_salt=self._fields.cache_salt or "",
            prompt_logprobs=wanted.top if wanted is not None and of_prompt else None,
            prompt_logprobs_start=wanted.start if wanted is not None and of_prompt else 0,
        )

    def renderer(self, answer: Answer) -> Renderer:
        """Events for a stream, else one object or a list."""
        shown = Shown(
            ids=self._ids(answer.id),
            rows=self._rows,
            several=self._prompts.batch or self._rows > 1,
            logprobs=tuple(self._logprobs),
            texts=bool(self._fields.return_text_in_logprobs),
        )
        return GenerateStream(shown) if self.stream else GenerateWhole(shown)

    def _ids(self, request_id: str) -> tuple[str, ...]:
        """As the client named its requests, else ours."""
        given = self._fields.rid
        if isinstance(given, list):
            return tuple(given)
        first = given or request_id
        if not self._prompts.batch:
            return (first,)
        return tuple(f"{first}_{index}" for index in range(len(self._prompts.inputs)))


def _decode(incoming: Incoming) -> GenerateAsk:
    return GenerateAsk(decode(_decoder, incoming.body))


# POST /generate with `text` or `input_ids`
GENERATE = Codec("sgl-", _decode, render_error, stream_error)
