"""`POST /v1/responses` and `POST /v1/responses/input_tokens`.

A request may lean on what was stored: `previous_response_id`, or references to items. The codec
says what it needs (`Recalling.recall`); the server finds it, and `recalled` gives what can be
answered. What is to be stored afterwards, the renderer says (`ResponseRenderer.stored`).

Fields: the official client's `types/responses/response_create_params.py` (openai 3.52, read
2026-11-21). The further sampling fields are those of chat completions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Generic, Literal, Protocol, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw
from msgspec.structs import replace

from trunkline.core.errors import InvalidRequest, TrunklineError, Unsupported
from trunkline.core.types import Grammar, Json, Request, Tokenization
from trunkline.state.responses import StoredResponse
from trunkline.wire.codec import Answer, Codec
from trunkline.wire.openai.chat_messages import effort
from trunkline.wire.openai.errors import render_error
from trunkline.wire.openai.fields import (
    COMMON_REFUSED,
    NOTHING,
    CommonFields,
    Count,
    Refusal,
    TopCount,
    asks,
    decode,
    sampling,
    stops,
)
from trunkline.wire.openai.formats import constraint, named_error, response_format
from trunkline.wire.openai.notes import Notes, explicit, kinds
from trunkline.wire.openai.responses_answer import Echo, ResponseRenderer
from trunkline.wire.openai.responses_body import AskedReasoning, Reasoning, error_event
from trunkline.wire.openai.responses_items import (
    Item,
    conversation,
    passed_over,
    read_item,
    read_items,
)
from trunkline.wire.openai.responses_tools import ResponseTools, response_tools, tool_name
from trunkline.wire.passing import event_data, first_event

# Built-in conversations, prompt templates and the like live at OpenAI alone.
_refusal = Refusal(
    (*COMMON_REFUSED, "moderation", "access_programs"),
    essential=("background", "conversation", "prompt"),
)

_raw_notes = Notes(
    "service_tier", "prompt_cache_retention", "prompt_cache_options", "context_management"
)

_Value = Annotated[str, Meta(max_length=512)]
_DEFAULTS = {"verbosity": "medium", "reasoning.context": "auto", "reasoning.mode": "standard"}
_LOGPROBS = "message.output_text.logprobs"
_HIDDEN = "reasoning.encrypted_content"
_TEXT = Raw(b'{"type":"text"}')


class _Text(msgspec.Struct, omit_defaults=True):
    format: Raw = NOTHING
    verbosity: str | None = None


class ResponsesFields(CommonFields, kw_only=True):
    """The body.

    A model of ours does not look at its `notes`, nor at what has no effect as these say.
    """

    input: Raw = NOTHING
    instructions: str | None = None
    max_output_tokens: Count | None = None
    max_tool_calls: int | None = None
    metadata: Annotated[dict[str, _Value], Meta(max_length=16)] | None = None
    parallel_tool_calls: bool | None = None
    previous_response_id: str | None = None
    prompt_cache_key: str | None = None
    reasoning: AskedReasoning | None = None
    safety_identifier: str | None = None
    store: bool | None = None
    text: _Text | None = None
    tools: Raw = NOTHING
    tool_choice: Raw = NOTHING
    top_logprobs: TopCount | None = None
    truncation: Literal["auto", "disabled"] | None = None
    include: list[str] | None = None
    user: str | None = None
    # Notes.
    service_tier: Raw = NOTHING
    prompt_cache_retention: Raw = NOTHING
    prompt_cache_options: Raw = NOTHING
    context_management: Raw = NOTHING
    # Known, and refused when they ask for something.
    background: Raw = NOTHING
    conversation: Raw = NOTHING
    prompt: Raw = NOTHING
    moderation: Raw = NOTHING
    access_programs: Raw = NOTHING


class _Made(msgspec.Struct, frozen=True):
    id: str = ""
    store: bool | None = None


class _First(msgspec.Struct):
    """The first event of a stream."""

    response: _Made = _Made()


_decoder = msgspec.json.Decoder(ResponsesFields)
_previous = msgspec.json.Decoder(str | None)
_made = msgspec.json.Decoder(_Made)
_first = msgspec.json.Decoder(_First)


class Recall(msgspec.Struct, frozen=True):
    """What must be found in the store before a request can be answered."""

    # The response that the conversation goes on from.
    previous: str | None = None
    # Items that are referred to.
    items: tuple[str, ...] = ()


T_co = TypeVar("T_co", covariant=True)


class Recalling(Protocol, Generic[T_co]):
    """A decoded request that may need what was stored."""

    # None: it can be answered as it is.
    recall: Recall | None

    def recalled(
        self, chain: Sequence[StoredResponse], holders: Mapping[str, StoredResponse]
    ) -> T_co:
        """The request with all that it needs.

        `chain` are `recall.previous` and the responses before it, the oldest first; `holders` has
        for each of `recall.items` the response that it is part of.
        """


class ResponsesAsk:
    """A decoded call."""

    def __init__(
        self,
        fields: ResponsesFields,
        items: Sequence[Item],
        beyond: Mapping[str, str],
        before: Sequence[Item] = (),
    ) -> None:
        self.model = fields.model or ""
        self.stream = bool(fields.stream)
        self._fields = fields
        self._items = items
        # What was said in earlier responses.
        self._before = before
        self._tools = response_tools(fields.tools, fields.tool_choice)
        self._grammar = _grammar(fields)
        self._stop = stops(fields)
        self._notes = _notes(fields, items, self._tools)
        self._beyond = beyond
        self._logprobs = _logprobs(fields)
        self._sampling = sampling(
            fields,
            max_tokens=fields.max_output_tokens or fields.max_tokens,
            logprobs=self._logprobs,
        )
        self.recall = _recall(fields, items)

    def recalled(
        self, chain: Sequence[StoredResponse], holders: Mapping[str, StoredResponse]
    ) -> ResponsesAsk:
        """See `Recalling`."""
        items = [
            _held(one, holders) if one.type == "item_reference" else one for one in self._items
        ]
        before = [item for response in chain for item in listed_items(response)]
        found = ResponsesAsk(self._fields, items, self._beyond, before)
        found.recall = None
        return found

    def requests(self, request_id: str, model: str, tenant: str) -> tuple[Request, ...]:
        """The one request."""
        fields = self._fields
        wanted = fields.reasoning.effort if fields.reasoning else None
        tools = self._tools.tools
        request = Request(
            id=request_id,
            model=model,
            input=replace(
                conversation(fields.instructions, (*self._before, *self._items), tool_name),
                tools=tools.definitions,
                template_kwargs=effort(wanted),
            ),
            sampling=self._sampling,
            stop=self._stop,
            grammar=self._grammar,
            tool_choice=tools.choice,
            tool_name=tools.name,
            parallel_tool_calls=fields.parallel_tool_calls is not False,
            # Agents ask for more than is left as a matter of course; the answer then says so.
            overflow="cap",
            truncate_prompt=fields.truncate_prompt_tokens,
            priority=fields.priority or 0,
            tenant=tenant,
            cache_salt=fields.cache_salt or "",
            explicit=explicit(fields),
            notes=self._notes,
            beyond=self._beyond,
        )
        return (request,)

    def renderer(self, answer: Answer) -> ResponseRenderer:
        """Events for a stream, else one object."""
        fields = self._fields
        echo = Echo(
            instructions=fields.instructions,
            max_output_tokens=fields.max_output_tokens,
            max_tool_calls=fields.max_tool_calls,
            parallel_tool_calls=fields.parallel_tool_calls is not False,
            previous_response_id=fields.previous_response_id,
            prompt_cache_key=fields.prompt_cache_key or UNSET,
            reasoning=_shown_reasoning(fields.reasoning),
            safety_identifier=fields.safety_identifier or UNSET,
            store=fields.store is not False,
            temperature=1.0 if fields.temperature is None else fields.temperature,
            text=_shown_text(fields.text),
            tool_choice=fields.tool_choice if asks(fields.tool_choice) else Raw(b'"auto"'),
            tools=self._tools.shown,
            top_logprobs=fields.top_logprobs or 0,
            top_p=1.0 if fields.top_p is None else fields.top_p,
            user=fields.user,
            metadata=fields.metadata or {},
        )
        return ResponseRenderer(
            answer,
            echo,
            stream=self.stream,
            logprobs=self._logprobs is not None,
            hidden_reasoning=_HIDDEN in (fields.include or ()),
            find_tool=self._tools.find,
            input_items=self._items,
        )


class InputTokens:
    """A decoded question for the number of input tokens."""

    def __init__(self, ask: ResponsesAsk) -> None:
        self.model = ask.model
        self.recall = ask.recall
        self._ask = ask

    def recalled(
        self, chain: Sequence[StoredResponse], holders: Mapping[str, StoredResponse]
    ) -> InputTokens:
        """See `Recalling`."""
        return InputTokens(self._ask.recalled(chain, holders))

    def question(self, request_id: str, model: str, tenant: str) -> Request:
        """The request whose prompt is counted."""
        (request,) = self._ask.requests(request_id, model, tenant)
        return request

    def render(self, answer: Tokenization) -> bytes:
        """The number."""
        return b'{"object":"response.input_tokens","input_tokens":%d}' % len(answer.token_ids)


def decode_responses(body: bytes | bytearray) -> ResponsesAsk:
    """Decode and check a body. Raises `InvalidRequest` and `Unsupported`."""
    fields = decode(_decoder, body)
    beyond = _refusal.of(fields)
    if fields.n is not None and fields.n > 1:
        raise Unsupported("'n' is not supported: a response has one answer.", param="n")
    if not asks(fields.input) and fields.previous_response_id is None:
        raise InvalidRequest("Missing required parameter: 'input'.", param="input")
    items = read_items(fields.input) if asks(fields.input) else ()
    return ResponsesAsk(fields, items, beyond)


def listed_items(response: StoredResponse) -> tuple[Item, ...]:
    """The items of a stored response: what was said, then what was answered."""
    sent = msgspec.json.decode(response.input, type=list[Raw])
    output = msgspec.json.decode(response.body, type=_Output).output
    return tuple([read_item(raw, "previous_response_id") for raw in (*sent, *output)])


class _Output(msgspec.Struct):
    output: list[Raw]


def _held(reference: Item, holders: Mapping[str, StoredResponse]) -> Item:
    holder = holders.get(reference.id or "")
    for item in listed_items(holder) if holder is not None else ():
        if item.id == reference.id:
            return Item(reference.where, item.type, item.id, item.raw)
    problem = f"Item with id '{(reference.id or '')[:100]}' not found."
    raise InvalidRequest(problem, param=reference.where)


def _recall(fields: ResponsesFields, items: Sequence[Item]) -> Recall | None:
    references: list[str] = []
    for item in items:
        if item.type == "item_reference":
            if not item.id:
                missing = f"{item.where}.id"
                raise InvalidRequest(f"Missing required parameter: '{missing}'.", param=missing)
            references.append(item.id)
    previous = fields.previous_response_id
    if previous is None and not references:
        return None
    return Recall(previous, tuple(references))


def _grammar(fields: ResponsesFields) -> Grammar | None:
    grammar = None
    if fields.text is not None and asks(fields.text.format):
        grammar = response_format(fields.text.format, "text.format")
    other = constraint(fields)
    if grammar is not None and other is not None:
        problem = "'text.format' and another constraint on the answer exclude each other."
        raise InvalidRequest(problem, param="text.format")
    return grammar or other


def _logprobs(fields: ResponsesFields) -> int | None:
    if fields.top_logprobs or _LOGPROBS in (fields.include or ()):
        return fields.top_logprobs or 0
    return None


def _notes(fields: ResponsesFields, items: Sequence[Item], tools: ResponseTools) -> Json:
    thinking = fields.reasoning or AskedReasoning()
    said = {
        # Kept and sent back here, too; `store` is done here alone.
        "user": fields.user,
        "safety_identifier": fields.safety_identifier,
        "metadata": fields.metadata,
        "prompt_cache_key": fields.prompt_cache_key,
        "verbosity": fields.text.verbosity if fields.text else None,
        "reasoning.context": thinking.context,
        "reasoning.mode": thinking.mode,
    }
    found = {name: one for name, one in said.items() if one and one != _DEFAULTS.get(name)}
    found |= _raw_notes.of(fields)
    return found | kinds("tools", tools.others) | kinds("input", passed_over(items))


def _shown_reasoning(asked: AskedReasoning | None) -> Reasoning:
    if asked is None:
        return Reasoning()
    return Reasoning(asked.effort, asked.summary or asked.generate_summary)


def _shown_text(text: _Text | None) -> _Text:
    if text is None or not asks(text.format):
        return _Text(_TEXT, text.verbosity if text else None)
    return text


def _named(error: TrunklineError) -> TrunklineError:
    return named_error(error, "text.format", "structured_outputs")


def refers(fields: Mapping[str, msgspec.Raw]) -> str:
    """Id of the response that a body goes on from; "" = none, or it makes no sense."""
    previous = fields.get("previous_response_id")
    try:
        return "" if previous is None else _previous.decode(previous) or ""
    except msgspec.DecodeError:
        return ""


def kept(data: bytes) -> str:
    """Id under which a relayed response is kept; `data` is all of it, or its first events."""
    try:
        if data.startswith(b"{"):
            made = _made.decode(data)
        else:
            made = _first.decode(event_data(first_event(data))).response
    except msgspec.DecodeError:
        return ""
    return made.id if made.store is not False else ""


RESPONSES = Codec(
    "resp_",
    lambda incoming: decode_responses(incoming.body),
    lambda error: render_error(_named(error)),
    lambda error: error_event(_named(error), 0),
    operation="openai.responses",
    refers=refers,
    kept=kept,
)

INPUT_TOKENS = Codec(
    "resp_",
    lambda incoming: InputTokens(decode_responses(incoming.body)),
    lambda error: render_error(_named(error)),
    lambda error: error_event(_named(error), 0),
    looks_up=True,
)
