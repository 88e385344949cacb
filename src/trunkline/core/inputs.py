"""What a request asks with: conversations, texts, tokens. Part of `core.types`."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Json = dict[str, Any]


class Grammar(msgspec.Struct, frozen=True):
    """A constraint on the text of each answer."""

    # json_schema: `value` is a schema; json_object: any JSON object, `value` is "";
    # regex, gbnf, lark: `value` is one; choice: `value` is a JSON list of strings.
    kind: Literal["json_schema", "json_object", "regex", "gbnf", "lark", "choice"]
    value: str = ""
    # What the client calls it and says of it, for servers that ask for that. It constrains nothing.
    name: str = ""
    description: str = ""


class TextPart(msgspec.Struct, frozen=True, tag="text", tag_field="type"):
    """One text block of a message."""

    text: str


class Thought(msgspec.Struct, frozen=True, array_like=True):
    """Reasoning as its provider sealed it, who wants it back as it was; nobody else looks at it."""

    text: str
    # The provider's signature of `text`.
    signature: str = ""
    # What only the provider can read, in place of a text.
    sealed: str = ""


class CachePoint(msgspec.Struct, frozen=True, array_like=True):
    """A mark that the prompt up to its end is worth keeping: as Anthropic's `cache_control`."""

    # "tools": behind all tools; "message": in or behind `message`, an index of the conversation.
    place: Literal["tools", "message"]
    message: int = 0
    # "5m" or "1h"; "" = not said.
    ttl: str = ""
    # Behind this text block of the message's content, from 0 (a text alone is block 0);
    # -1: behind all of the message.
    part: int = -1


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One turn of a conversation, as the chat template sees it."""

    # "system", "developer", "user", "assistant" or "tool".
    role: str
    # Text, blocks in order, or None (an assistant turn that only calls tools).
    content: str | tuple[TextPart, ...] | None = None
    # The author's name, where the dialect has one.
    name: str | None = None
    # Assistant turns: the calls made, as OpenAI spells them ({"id", "type", "function"}).
    tool_calls: tuple[Json, ...] | None = None
    # Tool turns: the call that this answers.
    tool_call_id: str | None = None
    # Assistant turns: the reasoning that preceded the answer.
    reasoning_content: str | None = None
    # The same where its provider sealed it. No template sees them.
    thoughts: tuple[Thought, ...] = ()


class ChatInput(msgspec.Struct, frozen=True, tag="chat"):
    """A conversation; the model's chat template turns it into a prompt."""

    messages: tuple[Message, ...]
    # Tool definitions, as OpenAI spells them.
    tools: tuple[Json, ...] = ()
    # Variables handed to the template besides messages and tools.
    template_kwargs: Json = {}
    # True: end the prompt with the opening of an assistant turn.
    add_generation_prompt: bool = True
    # True: the last message is an assistant turn to be continued, not closed.
    continue_final_message: bool = False
    # Tokens before the rendered conversation (Ollama's `context`).
    prefix_ids: tuple[int, ...] = ()
    # Hints, for providers that keep prompts only where they are told to.
    cache_points: tuple[CachePoint, ...] = ()


class TextInput(msgspec.Struct, frozen=True, tag="text"):
    """A raw prompt."""

    text: str
    # Add BOS and the like where the model wants them.
    add_special_tokens: bool = True
    # Names of special tokens in the text are those tokens, not plain text.
    parse_special_tokens: bool = True


class TokensInput(msgspec.Struct, frozen=True, tag="tokens"):
    """A prompt that is tokenized already."""

    token_ids: tuple[int, ...]


class MixedInput(msgspec.Struct, frozen=True, tag="mixed"):
    """A raw prompt of texts and tokens in turn."""

    parts: tuple[str | tuple[int, ...], ...]
    # As of `TextInput`; special tokens are added to a text in front, nowhere else.
    add_special_tokens: bool = True
    parse_special_tokens: bool = True


class SourceFile(msgspec.Struct, frozen=True):
    """A file beside the one that is filled in."""

    text: str
    name: str = "tmp"


class InfillInput(msgspec.Struct, frozen=True, tag="infill"):
    """What comes before and behind the text that is wanted; the model's own tokens mark them."""

    # Texts and tokens in turn.
    prefix: tuple[str | tuple[int, ...], ...]
    suffix: tuple[str | tuple[int, ...], ...]
    # Begins what is filled in.
    prompt: str = ""
    extra: tuple[SourceFile, ...] = ()
    # True: of prefix, suffix and extra is taken what fits, nearest to the gap first.
    fit: bool = False
    # True: llama.cpp's names of project and file come before the prefix, where the model has
    # tokens for them.
    repository: bool = False


Input = ChatInput | TextInput | TokensInput | MixedInput | InfillInput
