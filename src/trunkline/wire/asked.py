"""What a request asks for, ticked off as a speaker finds a place for it.

So nothing is lost unnoticed: what is left at the end is refused by name, or left out and told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from trunkline.core.errors import InvalidRequest, Unsupported
from trunkline.core.types import (
    ChatInput,
    Grammar,
    InfillInput,
    Json,
    Message,
    Request,
    SamplingParams,
)
from trunkline.wire.client import Feature, Outgoing, Terms
from trunkline.wire.raw import lacking

_NEUTRAL = SamplingParams()
# Field -> what a server must be able to do for it.
_FEATURES: Mapping[str, Feature] = {
    "top_k": "top_k",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "repetition_penalty": "repetition_penalty",
    "presence_penalty": "penalties",
    "frequency_penalty": "penalties",
    "seed": "seed",
    "min_tokens": "min_tokens",
    "ignore_eos": "ignore_eos",
    "stop_token_ids": "stop_token_ids",
    "truncate_prompt": "truncate_prompt",
    "skip_special_tokens": "special_tokens",
    "continue_final_message": "continue_final_message",
}
# What a client may say besides that asks for nothing special: no loss where it has no place.
_USUAL: Mapping[str, tuple[str, ...]] = {"service_tier": ("auto", "default", "standard_only")}
_encoder = msgspec.json.Encoder()
_schema = msgspec.json.Decoder(dict[str, Any])


class Reasoning(msgspec.Struct, frozen=True):
    """Whether to think before answering, and how hard; None = not said."""

    enabled: bool | None = None
    # "minimal", "low", "medium", "high", or a word of the client's.
    effort: str | None = None
    # Most tokens of it.
    budget: int | None = None

    @property
    def off(self) -> bool:
        """Whether there is to be none, in so many words."""
        return self.enabled is False or self.effort == "none"


class Asked:
    """One request on its way to one server."""

    def __init__(self, request: Request, terms: Terms) -> None:
        self.terms = terms
        self._left = _asks(request)
        # Nothing is lost where they have no place: nobody asked, or for nothing.
        self._implied = frozenset((*request.implied, *_neutral(request)))
        if terms.hosted:
            for name in request.implied:
                self._left.pop(name, None)
        self._notes = dict(request.notes)
        self._passed_over: list[str] = []

    def has(self, *features: Feature) -> bool:
        """Whether the server has all of them."""
        return self.terms.features.issuperset(features)

    def take(self, name: str, *features: Feature) -> Any:
        """The value of the field `name`, where it was asked for and the server has `features`.

        Else None, and the field stays to be refused or left out.
        """
        return self._left.pop(name, None) if self.has(*features) else None

    def peek(self, name: str) -> Any:
        """The value of a field that has no place yet; None where it was not asked for."""
        return self._left.get(name)

    def place(self, body: Json, name: str, key: str, *features: Feature) -> None:
        """`take`, and put the value at `key` of `body`."""
        value = self.take(name, *features)
        if value is not None:
            body[key] = value

    def leave(self, name: str, value: Any) -> None:
        """Give back what was taken and has no place after all."""
        self._left[name] = value

    def note(self, name: str) -> Any:
        """What the client said besides under `name`, now that it has a place; None: nothing."""
        return self._notes.pop(name, None)

    def tell(self, name: str) -> None:
        """Something is left out that no field of ours is: tell of it."""
        if name not in self._passed_over:
            self._passed_over.append(name)

    def pass_over(self, name: str, told: str = "") -> None:
        """Leave a field out that is no reason to refuse, but tell of it, as `told` calls it."""
        if self._left.pop(name, None) is not None:
            self._passed_over.append(told or name)

    def reasoning(self) -> Reasoning:
        """What is asked of thinking. A server that never thinks need not be told not to."""
        wanted: Reasoning | None = self.take("reasoning", "reasoning")
        if wanted is None and self._left.get("reasoning") == Reasoning(enabled=False):
            del self._left["reasoning"]
        return wanted or Reasoning()

    def unthinking(self) -> bool:
        """Whether there is to be no thinking."""
        wanted: Reasoning | None = self._left.get("reasoning")
        return wanted is not None and wanted.off

    def put(self, body: Json, name: str, key: str) -> None:
        """`place`, where the server has the feature that `name` needs."""
        feature = _FEATURES.get(name)
        self.place(body, name, key, *(() if feature is None else (feature,)))

    def outgoing(
        self, path: str, body: Json, headers: tuple[tuple[str, str], ...] = ()
    ) -> Outgoing:
        """The finished request. Raises `Unsupported`, naming the first field without a place."""
        terms = self.terms
        dropped = tuple(name for name in self._left if name not in self._implied)
        if dropped and terms.unsupported == "refuse":
            raise _unsupported(dropped[0], terms.model)
        notes = [name for name, said in self._notes.items() if said not in _USUAL.get(name, ())]
        return Outgoing(
            path=path,
            body=_encoder.encode({**body, **lacking(body, terms.default_body), **terms.extra_body}),
            headers=(("content-type", "application/json"), *headers),
            dropped=tuple(dict.fromkeys((*dropped, *self._passed_over, *notes))),
        )


def prompt_text(request: Request, terms: Terms, dialect: str) -> str:
    """The prompt, for a dialect that has raw text alone. Raises `Unsupported` for any other."""
    source = request.input
    if isinstance(source, ChatInput):
        raise Unsupported(
            f"{dialect} takes prompts, not conversations: the chat template of "
            f"{terms.model!r} is not known here.",
            param="messages",
        )
    if hasattr(source, "text"):
        return str(source.text)
    what = "text to fill in" if isinstance(source, InfillInput) else "token ids"
    raise Unsupported(f"{dialect} takes no prompts of {what}.", param="prompt")


def chat_input(request: Request, dialect: str) -> ChatInput:
    """The conversation, for a dialect that has nothing else. Raises `Unsupported`."""
    source = request.input
    if isinstance(source, ChatInput) and not source.prefix_ids:
        return source
    problem = (
        f"{dialect} takes conversations, not prompts of plain text or tokens: send messages "
        "(/v1/chat/completions, /v1/messages, /api/chat), or choose a model whose backend takes "
        "prompts."
    )
    raise Unsupported(problem, param="prompt")


def _unsupported(name: str, model: str) -> Unsupported:
    return Unsupported(f"The server of {model!r} does not support '{name}'.", param=name)


def text_of(message: Message) -> str:
    """All text of a message; blocks are lines of their own."""
    return "\n".join(texts_of(message))


def texts_of(message: Message) -> list[str]:
    """The text blocks of a message that are not empty."""
    content = message.content
    if content is None or isinstance(content, str):
        return [content] if content else []
    return [part.text for part in content if part.text]


def arguments_of(call: Json) -> Json:
    """The arguments of a tool call as an object; what is none becomes {"input": ...}."""
    text = call["function"].get("arguments") or "{}"
    if isinstance(text, dict):
        return text
    try:
        return _schema.decode(text)
    except msgspec.DecodeError:
        return {"input": text}


def schema_of(grammar: Grammar) -> Json:
    """The schema of a json_schema, less what our own grammar compiler is told in it.

    Raises `InvalidRequest` where it is no object.
    """
    try:
        schema: Json = _schema.decode(grammar.value)
    except msgspec.DecodeError as error:
        problem = f"The JSON schema is not a JSON object: {error}"
        raise InvalidRequest(problem, param="response_format") from error
    schema.pop("x-guidance", None)
    return schema


def _reasoning(variables: Json) -> tuple[Reasoning | None, Json]:
    """What template variables say of thinking, in any of their spellings; and the others."""
    others = dict(variables)
    switches = [others.pop(name, None) for name in ("enable_thinking", "thinking")]
    effort = others.pop("reasoning_effort", None)
    budget = others.pop("thinking_budget", None)
    if not isinstance(budget, int):
        budget = None
    enabled = next((bool(one) for one in switches if one is not None), None)
    if enabled is None and effort is None and budget is None:
        return None, others
    return Reasoning(enabled, None if effort is None else str(effort), budget), others


def _asks(request: Request) -> dict[str, Any]:
    """All that is not neutral, by field; hints (priority, cache_salt) are no demands."""
    sampling = request.sampling
    found: dict[str, Any] = {}
    for name in sampling.__struct_fields__:
        value = getattr(sampling, name)
        if value != getattr(_NEUTRAL, name) or name in request.explicit:
            found[name] = value
    if request.stop:
        found["stop"] = list(request.stop)
        if request.include_stop:
            found["include_stop"] = True
    for name, neutral in (
        ("n", 1),
        ("grammar", None),
        ("skip_special_tokens", True),
        ("truncate_prompt", None),
        ("show_prompt", False),
        ("prompt_logprobs", None),
    ):
        value = getattr(request, name)
        if value != neutral:
            found[name] = value
    found |= dict.fromkeys(request.beyond, True)
    source = request.input
    if isinstance(source, ChatInput):
        found |= _chat_asks(request, source)
    return found


def _neutral(request: Request) -> list[str]:
    """What the client gave although it changes nothing."""
    given = request.explicit
    return [name for name in given if getattr(request.sampling, name) == getattr(_NEUTRAL, name)]


def _chat_asks(request: Request, source: ChatInput) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if source.continue_final_message:
        found["continue_final_message"] = True
    reasoning, others = _reasoning(source.template_kwargs)
    if reasoning is not None:
        found["reasoning"] = reasoning
    if others:
        found["chat_template_kwargs"] = others
    if source.tools:
        found["tools"] = source.tools
        if request.tool_choice != "auto":
            found["tool_choice"] = request.tool_choice
        if not request.parallel_tool_calls:
            found["parallel_tool_calls"] = False
    return found
