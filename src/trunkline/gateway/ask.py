"""What a client wants, in the form it came in; the other form is made when somebody needs it."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from trunkline.core.types import (
    ChatInput,
    InfillInput,
    MixedInput,
    RawRequest,
    Request,
    TextInput,
    TokensInput,
)

# Top-level fields that hold the prompt, in the order in which templates render them.
_PROMPT_FIELDS = (
    *("tools", "system", "systemInstruction", "system_instruction", "instructions"),
    *("messages", "contents", "prompt", "input", "inputs", "text_input"),
)


class Ask(msgspec.Struct, eq=False):
    """One request, raw or decoded: `Ask(request)` or `Ask(raw, raw)`."""

    given: Request | RawRequest
    # The same where it is raw, else None.
    raw: RawRequest | None = None
    _request: Request | None = None

    @property
    def id(self) -> str:
        """The request's."""
        return self.given.id

    def request(self) -> Request:
        """It decoded. Raises `InvalidRequest`."""
        if self._request is None:
            given = self.given
            self._request = given.translate() if isinstance(given, RawRequest) else given
        return self._request

    def holder(self) -> str:
        """Whom to keep in one place: what the client gave, else the key's holder; "" = nobody."""
        return self.given.affinity or self.given.tenant

    def prompt(self) -> bytes:
        """The prompt, about as a model would see it: equal beginnings mean equal beginnings."""
        if self.raw is not None:
            fields = self.raw.fields
            return b"".join(bytes(fields[name]) for name in _PROMPT_FIELDS if name in fields)
        return "".join(_texts(self.request())).encode("utf-8", "surrogatepass")

    def prompt_size(self) -> int:
        """Bytes of `prompt`, about."""
        if self.raw is None:
            return sum(map(len, _texts(self.request())))
        fields = self.raw.fields
        return sum(memoryview(fields[name]).nbytes for name in _PROMPT_FIELDS if name in fields)


def _texts(request: Request) -> Iterator[str]:
    match request.input:
        case ChatInput() as chat:
            if chat.tools:
                yield repr(chat.tools)
            for message in chat.messages:
                yield message.role
                if isinstance(message.content, str):
                    yield message.content
                elif message.content is not None:
                    yield from (part.text for part in message.content)
        case TextInput(text=text):
            yield text
        case TokensInput(token_ids=token_ids):
            yield repr(token_ids)
        case MixedInput(parts=parts):
            yield from (part if isinstance(part, str) else repr(part) for part in parts)
        case InfillInput(prefix=parts):
            yield from (part if isinstance(part, str) else repr(part) for part in parts)
