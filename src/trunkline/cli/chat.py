"""A conversation: its options, its history, one question at a time."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta

from trunkline.cli.engine import Answer
from trunkline.core.types import ChatInput, Message, Request, SamplingParams


class ChatOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a person may set, as a flag of ``trunkline run`` or with ``/set`` while chatting."""

    system: Annotated[
        str | None, Meta(description="System message: how the model shall behave.")
    ] = None
    temperature: Annotated[
        float, Meta(ge=0, description="Randomness; 0 = always the most probable token.")
    ] = 0.7
    top_p: Annotated[
        float,
        Meta(gt=0, le=1, description="Choose among the likeliest tokens that have this mass."),
    ] = 1.0
    top_k: Annotated[
        int, Meta(ge=0, description="Choose among this many likeliest tokens; 0 = all.")
    ] = 0
    max_tokens: Annotated[
        int, Meta(ge=0, description="Longest answer, in tokens; 0 = what the context leaves.")
    ] = 0
    seed: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(description="Seed of the random stream; unset = a new one each time."),
    ] = None

    def sampling(self) -> SamplingParams:
        """The same as parameters of a request."""
        return SamplingParams(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            max_tokens=self.max_tokens or None,
            seed=self.seed,
        )


class Engine(Protocol):
    """What answers."""

    def ask(self, request: Request, write: Callable[[str], None]) -> Answer:
        """Stream the text of the answer to `write`. Raises `TrunklineError`."""


class Chat:
    """The turns so far. A question that failed leaves no trace in them."""

    def __init__(self, engine: Engine, model: str, options: ChatOptions) -> None:
        self.model = model
        self.options = options
        self.turns: list[Message] = []
        self._engine = engine

    def ask(self, prompt: str, write: Callable[[str], None]) -> Answer:
        """One more turn of the user and of the model. Raises `TrunklineError`."""
        question = Message("user", prompt)
        system = self.options.system
        answer = self._engine.ask(
            Request(
                id=f"run-{uuid.uuid4().hex}",
                model=self.model,
                input=ChatInput(
                    (*([Message("system", system)] if system else []), *self.turns, question)
                ),
                sampling=self.options.sampling(),
                overflow="cap",
            ),
            write,
        )
        self.turns += [question, Message("assistant", answer.text)]
        return answer

    def clear(self) -> None:
        """Forget what was said; the options stay."""
        self.turns.clear()
