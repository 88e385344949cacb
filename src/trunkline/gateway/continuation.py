"""An answer that broke off: what of it has gone out, and the request that asks for the rest.

A stream of deltas is known as it passes. Of a relayed stream only the bytes are kept, as references
and without looking into them; they are read once, when it has broken off. So a relayed stream costs
nothing more until then.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from trunkline.core.errors import TrunklineError
from trunkline.core.types import (
    ChatInput,
    Completed,
    Delta,
    Event,
    Message,
    Relayed,
    Request,
    Resumed,
    RowFinished,
    TextInput,
    TextPart,
    Timing,
    Usage,
)
from trunkline.gateway.ask import Ask
from trunkline.gateway.reading import read
from trunkline.wire.client import Speaker

# Longest answer that is kept to be continued, in bytes or characters.
_MOST = 1 << 20

# As `Request` calls what a target must be able to do, and how it says that it left it out.
CONTINUING = "continue_final_message"


class Partial:
    """What has gone out of one answer."""

    __slots__ = (
        "_ask",
        "_before",
        "_bytes",
        "_given",
        "_lost",
        "_reasoning",
        "_relayed",
        "_size",
        "_speaker",
        "_tail",
        "_text",
        "_tokens",
        "continued",
    )

    def __init__(self, ask: Ask, speaker: Speaker | None) -> None:
        self._ask = ask
        self._speaker = speaker
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._bytes: list[bytes] = []
        # The same together, once they have been read.
        self._relayed = b""
        self._size = 0
        # Output tokens, as far as deltas tell: one each where they do not; and those of them that
        # came before the one who goes on now, and are part of the prompt for that one.
        self._tokens = 0
        self._before = 0
        self._given = 0
        # True: it cannot be continued any more.
        self._lost = False
        # White space that has gone out and that the rest may begin with once more.
        self._tail = ""
        # True: another target is giving the rest.
        self.continued = False

    def pass_on(self, events: Sequence[Event]) -> Sequence[Event]:
        """Take note of `events`; what is to go out of them."""
        if self.continued:
            events = [self._shape(event) for event in events]
        if not self._lost:
            for event in events:
                self._note(event)
        return events

    def rest(self) -> Request | None:
        """The request for what is missing; None: nobody can go on, or nothing is missing."""
        if self._bytes and not self._read():
            return None
        try:
            request = self._ask.request()
        except TrunklineError:
            return None
        if self._lost or not continuable(request):
            return None
        text = "".join(self._text)
        kept = text.rstrip()
        self._tail = text[len(kept) :]
        self._before = self._tokens
        self._given = self._before if kept else 0
        sampling = request.sampling
        left = None if sampling.max_tokens is None else sampling.max_tokens - self._tokens
        if left is not None and left <= 0:
            return None
        sampling = replace(
            sampling, max_tokens=left, min_tokens=max(0, sampling.min_tokens - self._tokens)
        )
        given = request.input
        if kept and isinstance(given, ChatInput):
            given = _continued_chat(given, kept, "".join(self._reasoning))
        elif kept and isinstance(given, TextInput):
            given = replace(given, text=given.text + kept)
        elif self._reasoning:
            # Thinking was under way; nothing can go on in the middle of it.
            return None
        # What was out already would be part of the prompt.
        return replace(request, input=given, sampling=sampling, return_prompt_ids=False)

    def used_up(self) -> bool:
        """Whether as many tokens as were asked for are out; after `rest` was None."""
        if self._lost or not self._text or not continuable(self._ask.request()):
            return False
        most = self._ask.request().sampling.max_tokens
        return most is not None and self._tokens >= most

    def end(self) -> Sequence[Event]:
        """The end of an answer that is `used_up`; its prompt was not counted by anybody."""
        row = RowFinished(self._ask.id, 0, "length")
        usage = Usage(0, self._tokens)
        return (*self.resume(), row, Completed(self._ask.id, usage, Timing()))

    def resume(self) -> Sequence[Event]:
        """Another target begins to give the rest; what is to go out before it."""
        self.continued = True
        if self._speaker is None:
            return ()
        # What follows is known as it passes.
        self._speaker = None
        sent = Delta(self._ask.id, 0, "".join(self._text), reasoning="".join(self._reasoning))
        relayed, self._relayed = self._relayed, b""
        return (Resumed(self._ask.id, sent, relayed),)

    def _note(self, event: Event) -> None:
        if isinstance(event, Relayed):
            self._bytes.append(event.data)
            self._size += len(event.data)
        elif isinstance(event, Delta):
            self._text.append(event.text)
            self._size += len(event.text) + len(event.reasoning)
            self._tokens += len(event.token_ids) or bool(event.text or event.reasoning)
            if event.reasoning:
                self._reasoning.append(event.reasoning)
            if event.tool_calls or event.logprobs or event.row:
                self._lost = True
        elif isinstance(event, RowFinished):
            self._lost = True
        if self._size > _MOST or self._lost:
            self._lost = True
            self._bytes.clear()
            self._text.clear()

    def _read(self) -> bool:
        """Find out what the relayed bytes said; False: they cannot be read."""
        assert self._speaker is not None
        self._relayed, self._bytes, self._size = b"".join(self._bytes), [], 0
        events = read(self._ask, self._speaker, self._relayed, ended=False)
        if events is None:
            self._lost = True
            return False
        for event in events:
            self._note(event)
        return not self._lost

    def _shape(self, event: Event) -> Event:
        """`event` of the one who goes on, as part of the whole answer."""
        if isinstance(event, Delta):
            return self._without_tail(event) if self._tail else event
        if isinstance(event, Completed):
            usage = event.usage
            prompt = max(0, usage.prompt_tokens - self._given)
            cached = min(usage.cached_tokens, prompt)
            usage = replace(
                usage,
                prompt_tokens=prompt,
                completion_tokens=usage.completion_tokens + self._before,
                cached_tokens=cached,
                cache_write_tokens=min(usage.cache_write_tokens, prompt - cached),
            )
            return replace(event, usage=usage)
        return event

    def _without_tail(self, delta: Delta) -> Delta:
        """Templates cut white space at the end, and models begin with it again: it is out."""
        text, tail = delta.text, self._tail
        same = 0
        while same < len(text) and same < len(tail) and text[same] == tail[same]:
            same += 1
        self._tail = tail[same:] if same == len(text) else ""
        return replace(delta, text=text[same:]) if same else delta


def continuable(request: Request) -> bool:
    """Whether the rest of an answer to `request` can be asked for, as far as the request goes."""
    sampling, given = request.sampling, request.input
    if request.n != 1 or request.grammar is not None:
        return False
    if sampling.logprobs is not None and "logprobs" not in request.implied:
        return False
    if request.show_prompt or request.prompt_logprobs is not None:
        return False
    if request.return_prompt_ids and "return_prompt_ids" not in request.implied:
        return False
    if request.tool_choice not in ("auto", "none") or request.truncate_prompt is not None:
        return False
    if isinstance(given, ChatInput):
        return not given.prefix_ids
    return isinstance(given, TextInput)


def _continued_chat(given: ChatInput, text: str, reasoning: str) -> ChatInput:
    messages = given.messages
    if given.continue_final_message and messages:
        last = messages[-1]
        content = last.content or ""
        longer = content + text if isinstance(content, str) else (*content, TextPart(text))
        messages = (*messages[:-1], replace(last, content=longer))
    else:
        answer = Message("assistant", text, reasoning_content=reasoning or None)
        messages = (*messages, answer)
    return replace(
        given, messages=messages, add_generation_prompt=False, continue_final_message=True
    )
