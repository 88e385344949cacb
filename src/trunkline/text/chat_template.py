"""A model's Jinja chat template, rendered as transformers renders it, in a sandbox.

The template comes out of a model file and is therefore untrusted. This module keeps it from
reaching Python (`ImmutableSandboxedEnvironment`) and refuses the cheap ways to fill memory: long
ranges, repeated strings, endless output. It cannot bound time: no in-process means stops a nested
loop, or one call into C that takes a minute. `engine.front.template_worker` therefore renders in
a process of its own, which the kernel ends when a rendering has used up its processor time.

Environment, extensions and globals follow transformers/utils/chat_template_utils.py.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import uuid
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import msgspec
from jinja2 import Environment, TemplateError, TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from trunkline.core.errors import InvalidRequest
from trunkline.core.types import ChatInput, Json, Message, TextPart
from trunkline.text.content_format import content_format
from trunkline.text.conversation import (
    developer_as_system,
    knows_developer,
    marked,
    other_forms,
    plain_text,
    shows_instructions,
)

# Elements of a range; as in jinja2.sandbox.
MAX_RANGE = 100_000
# Characters (or list elements) that one multiplication, or one whole prompt, may give.
MAX_OUTPUT = 16 * 1024 * 1024

# Variables that the conversation itself fills.
_RESERVED = frozenset({"messages", "tools"})


class TemplateRefused(TemplateError):
    """The template called `raise_exception`."""


class ChatTemplate:
    """A compiled template. Raises `InvalidRequest` when `source` does not compile."""

    def __init__(self, source: str, *, bos_token: str = "", eos_token: str = "") -> None:
        environment = _environment()
        try:
            tree = environment.parse(source)
            # First: compiling folds lists of constants into one.
            self._knows_developer = knows_developer(tree)
            self._template = environment.from_string(tree)
        except TemplateSyntaxError as error:
            raise InvalidRequest(
                f"the chat template is malformed: line {error.lineno}: {error.message}"
            ) from error
        except (TemplateError, RecursionError, OverflowError, MemoryError, SyntaxError) as error:
            raise InvalidRequest(f"the chat template cannot be compiled: {error}") from error
        # Which form of message content the template takes.
        self.content_format = content_format(tree)
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}

    def render(self, chat: ChatInput) -> str:
        """The prompt of a conversation.

        With `continue_final_message` the prompt ends with the last message's text and
        `add_generation_prompt` is without effect. What the template cannot take is said in another
        way where there is one (`text.conversation`). Raises `InvalidRequest`, with the template's
        own words where it refuses the conversation.
        """
        if not chat.messages:
            raise InvalidRequest("messages must not be empty", param="messages")
        reserved = _RESERVED.intersection(chat.template_kwargs)
        if reserved:
            raise InvalidRequest(
                f"template variables may not replace {', '.join(sorted(reserved))}",
                param="chat_template_kwargs",
            )
        if not self._knows_developer:
            chat = msgspec.structs.replace(chat, messages=developer_as_system(chat.messages))
        refusal: TemplateRefused | None = None
        prompt = ""
        probe, marks = marked(chat.messages)
        try:
            prompt = self._said(chat)
            if shows_instructions(chat.messages, prompt) or self._shows(chat, probe, marks):
                return prompt
        except TemplateRefused as refused:
            refusal = refused
        for form, twin in zip(other_forms(chat.messages), other_forms(probe), strict=True):
            with contextlib.suppress(TemplateRefused):
                if self._shows(chat, twin, marks):
                    return self._said(msgspec.structs.replace(chat, messages=form))
        if refusal is None:
            return prompt
        raise InvalidRequest(
            f"the model's chat template refuses this conversation: {refusal.message}",
            param="messages",
        ) from refusal

    def _shows(self, chat: ChatInput, probe: tuple[Message, ...], marks: Iterable[str]) -> bool:
        """Whether the template shows all `marks`, which stand for the instructions."""
        prompt = self._said(msgspec.structs.replace(chat, messages=probe))
        return all(mark in prompt for mark in marks)

    def _said(self, chat: ChatInput) -> str:
        if chat.continue_final_message:
            return self._continued(chat)
        return self._rendered(chat, [self._message(message) for message in chat.messages])

    def _continued(self, chat: ChatInput) -> str:
        """Mark the end of the last message, render, and cut at the mark.

        The space behind the mark shows whether the template trims; if it does, what the prompt
        ends with is trimmed likewise (as transformers does).
        """
        mark = uuid.uuid4().hex
        last = chat.messages[-1]
        if last.role != "assistant":
            raise InvalidRequest(
                "continue_final_message wants an assistant message at the end of messages",
                param="messages",
            )
        marked = msgspec.structs.replace(last, content=plain_text(last.content) + mark + " ")
        messages = [self._message(message) for message in (*chat.messages[:-1], marked)]
        chat = msgspec.structs.replace(chat, add_generation_prompt=False)
        prompt = self._rendered(chat, messages)
        cut = prompt.rfind(mark)
        if cut < 0:
            raise InvalidRequest(
                "the model's chat template does not show the last message, so it cannot be "
                "continued",
                param="continue_final_message",
            )
        trimmed = not prompt.startswith(mark + " ", cut)
        return prompt[:cut].rstrip() if trimmed else prompt[:cut]

    def _rendered(self, chat: ChatInput, messages: list[Json]) -> str:
        variables: Json = {
            **self._tokens,
            "documents": None,
            "add_generation_prompt": chat.add_generation_prompt,
            **chat.template_kwargs,
            "messages": messages,
            "tools": list(chat.tools) or None,
        }
        try:
            return _bounded(self._template.generate(variables))
        except TemplateRefused:
            raise
        except SecurityError as error:
            raise InvalidRequest(f"the model's chat template is not safe: {error}") from error
        # Whatever a template trips over: an undefined name, a wrong type, a bound of ours.
        except Exception as error:
            raise InvalidRequest(
                "the model's chat template fails on this conversation: "
                f"{type(error).__name__}: {error}",
                param="messages",
            ) from error

    def _message(self, message: Message) -> Json:
        fields: Json = {"role": message.role, "content": self._content(message.content)}
        if message.name is not None:
            fields["name"] = message.name
        if message.tool_calls is not None:
            fields["tool_calls"] = [_call(call) for call in message.tool_calls]
        if message.tool_call_id is not None:
            fields["tool_call_id"] = message.tool_call_id
        if message.reasoning_content is not None:
            fields["reasoning_content"] = message.reasoning_content
        return fields

    def _content(self, content: str | tuple[TextPart, ...] | None) -> str | list[Json]:
        if self.content_format == "text" or content is None:
            return plain_text(content)
        if isinstance(content, str):
            if self.content_format == "either":
                return content
            return [{"type": "text", "text": content}]
        return [{"type": "text", "text": part.text} for part in content]


def _call(call: Json) -> Json:
    """A tool call with its arguments as an object: OpenAI has them as text, templates do not."""
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"] or "{}")
    except (ValueError, RecursionError):
        return call
    if not isinstance(arguments, dict):
        return call
    return {**call, "function": {**function, "arguments": arguments}}


def _bounded(pieces: Iterable[str]) -> str:
    taken: list[str] = []
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > MAX_OUTPUT:
            raise OverflowError(f"the prompt is longer than {MAX_OUTPUT} characters")
        taken.append(piece)
    return "".join(taken)


class _Generation(Extension):
    """`{% generation %}` marks the assistant's text for training; here it is just its body."""

    tags = {"generation"}  # noqa: RUF012 - the base class declares it so

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class _Sandbox(ImmutableSandboxedEnvironment):
    """transformers' sandbox, plus bounds on what one operation may allocate."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """`*` and `**`, unless the result would be huge."""
        if operator == "*":
            for many, times in ((left, right), (right, left)):
                if hasattr(many, "__len__") and isinstance(times, int):
                    _check(len(many) * times)
        elif isinstance(left, int) and isinstance(right, int):
            _check(left.bit_length() * right)
        return super().call_binop(context, operator, left, right)


def _check(size: int) -> None:
    if size > MAX_OUTPUT:
        raise OverflowError(f"a result of {size} elements is above the limit of {MAX_OUTPUT}")


def _raise_exception(message: object) -> NoReturn:
    raise TemplateRefused(str(message))


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes HTML, which models were not trained on.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _now(form: str) -> str:
    return dt.datetime.now().astimezone().strftime(form)


def _environment() -> Environment:
    # Prompts are no HTML: escaping would change what the model was trained on.
    environment = _Sandbox(
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
        extensions=[_Generation, loopcontrols],
    )
    environment.filters["tojson"] = _to_json
    functions: dict[str, Callable[..., Any]] = {
        "raise_exception": _raise_exception,
        "strftime_now": _now,
    }
    environment.globals.update(functions)
    return environment
