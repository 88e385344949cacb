"""What a request asks for, ticked off as a speaker finds a place for it.

So nothing is lost unnoticed: what is left at the end is refused by name, or left out and told.
"""

from __future__ import annotations

from typing import Any

import msgspec

from trunkline.core.errors import Unsupported
from trunkline.core.types import ChatInput, InfillInput, Json, Request, SamplingParams
from trunkline.wire.client import Feature, Outgoing, Terms

_NEUTRAL = SamplingParams()
_encoder = msgspec.json.Encoder()


class Asked:
    """One request on its way to one server."""

    def __init__(self, request: Request, terms: Terms) -> None:
        self.terms = terms
        self._left = _asks(request)

    def has(self, *features: Feature) -> bool:
        """Whether the server has all of them."""
        return self.terms.features.issuperset(features)

    def take(self, name: str, *features: Feature) -> Any:
        """The value of the field `name`, where it was asked for and the server has `features`.

        Else None, and the field stays to be refused or left out.
        """
        return self._left.pop(name, None) if self.has(*features) else None

    def place(self, body: Json, name: str, key: str, *features: Feature) -> None:
        """`take`, and put the value at `key` of `body`."""
        value = self.take(name, *features)
        if value is not None:
            body[key] = value

    def outgoing(
        self, path: str, body: Json, headers: tuple[tuple[str, str], ...] = ()
    ) -> Outgoing:
        """The finished request. Raises `Unsupported`, naming the first field without a place."""
        dropped = tuple(self._left)
        if dropped and self.terms.unsupported == "refuse":
            raise _unsupported(dropped[0], self.terms.model)
        return Outgoing(
            path=path,
            body=_encoder.encode(body | dict(self.terms.extra_body)),
            headers=(("content-type", "application/json"), *headers),
            dropped=dropped,
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
    problem = f"{dialect} takes conversations, not prompts of plain text or tokens."
    raise Unsupported(problem, param="prompt")


def _unsupported(name: str, model: str) -> Unsupported:
    return Unsupported(f"The server of {model!r} does not support '{name}'.", param=name)


def _asks(request: Request) -> dict[str, Any]:
    """All that is not neutral, by field; hints (priority, cache_salt) are no demands."""
    sampling = request.sampling
    found: dict[str, Any] = {}
    for name in sampling.__struct_fields__:
        value = getattr(sampling, name)
        if value != getattr(_NEUTRAL, name):
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
    source = request.input
    if isinstance(source, ChatInput):
        found |= _chat_asks(request, source)
    return found


def _chat_asks(request: Request, source: ChatInput) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if source.continue_final_message:
        found["continue_final_message"] = True
    if source.template_kwargs:
        found["template_kwargs"] = source.template_kwargs
    if source.tools:
        found["tools"] = source.tools
        if request.tool_choice != "auto":
            found["tool_choice"] = request.tool_choice
        if not request.parallel_tool_calls:
            found["parallel_tool_calls"] = False
    return found
