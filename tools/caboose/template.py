"""The chat template, and the same text built turn by turn for training.

`CHAT_TEMPLATE` is what the GGUF carries. `render` must give the same text (a test compares them);
it also says which parts the model writes itself, for only those are trained.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from caboose.corpus.base import Example, Message

END_OF_TEXT = "<|endoftext|>"
TURN, TURN_END = "<|im_start|>", "<|im_end|>"
CONTROL_TOKENS = (END_OF_TEXT, TURN, TURN_END)
TEXT_TOKENS = ("<tool_call>", "</tool_call>", "<think>", "</think>")
# This line at the end of the system turn asks for a think block.
THINK_MARKER = "/think"

TOOLS_INTRO = "# Tools\n\nYou may call these functions:\n<tools>"
TOOLS_OUTRO = (
    "\n</tools>\n\nTo call one, answer:\n<tool_call>\n"
    '{"name": <name>, "arguments": <arguments>}\n</tool_call>'
)

CHAT_TEMPLATE = (
    r"""{%- macro text_of(content) %}
    {%- if content is string %}
        {{- content }}
    {%- elif content %}
        {%- for part in content %}
            {%- if part.type == 'text' %}
                {{- part.text }}
            {%- endif %}
        {%- endfor %}
    {%- endif %}
{%- endmacro %}
{%- set think = enable_thinking is defined and enable_thinking %}
{%- set has_system = messages and messages[0].role in ['system', 'developer'] %}
{%- if has_system or tools or think %}
    {{- '<|im_start|>system' }}
    {%- if has_system %}
        {{- '\n' + text_of(messages[0].content) }}
    {%- endif %}
    {%- if tools %}
        {%- if has_system %}
            {{- '\n' }}
        {%- endif %}
        {{- '\n' + """
    + json.dumps(TOOLS_INTRO).replace("'", r"\'")
    + r""" }}
        {%- for tool in tools %}
            {{- '\n' + (tool | tojson) }}
        {%- endfor %}
        {{- """
    + "'"
    + TOOLS_OUTRO.replace("\n", r"\n")
    + "'"
    + r""" }}
    {%- endif %}
    {%- if think %}
        {{- '\n/think' }}
    {%- endif %}
    {{- '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if loop.first and has_system %}
    {%- elif message.role == 'tool' %}
        {%- if loop.first or loop.previtem.role != 'tool' %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\n<tool_response>\n' + text_of(message.content) + '\n</tool_response>' }}
        {%- if loop.last or loop.nextitem.role != 'tool' %}
            {{- '<|im_end|>\n' }}
        {%- endif %}
    {%- elif message.role == 'assistant' %}
        {%- set text = text_of(message.content) %}
        {%- if '</think>' in text %}
            {%- set text = text.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\n' + text }}
        {%- if message.tool_calls %}
            {%- for call in message.tool_calls %}
                {%- set function = call.function if call.function else call %}
                {%- if text or not loop.first %}
                    {{- '\n' }}
                {%- endif %}
                {{- '<tool_call>\n{"name": "' + function.name + '", "arguments": ' }}
                {%- if function.arguments is string %}
                    {{- function.arguments }}
                {%- else %}
                    {{- function.arguments | tojson }}
                {%- endif %}
                {{- '}\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\n' + text_of(message.content) + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""
)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _system(example: Example) -> str:
    has_system = bool(example.messages) and example.messages[0]["role"] == "system"
    if not (has_system or example.tools or example.thinking):
        return ""
    text = f"{TURN}system"
    if has_system:
        text += f"\n{example.messages[0]['content']}"
    if example.tools:
        text += "\n" if has_system else ""
        text += f"\n{TOOLS_INTRO}"
        text += "".join(f"\n{_json(tool)}" for tool in example.tools) + TOOLS_OUTRO
    if example.thinking:
        text += f"\n{THINK_MARKER}"
    return f"{text}{TURN_END}\n"


def answer_text(message: Message) -> str:
    """What the model writes for an assistant message, without the end of the turn."""
    text: str = message["content"]
    for position, call in enumerate(message.get("tool_calls", ())):
        function = call["function"]
        # After a think block the blank line is already there.
        newline = "\n" if position or (text and not text.endswith("\n")) else ""
        text += f'{newline}<tool_call>\n{{"name": "{function["name"]}", "arguments": '
        text += f"{_json(function['arguments'])}}}\n</tool_call>"
    return text


def render(example: Example) -> Iterator[tuple[str, bool]]:
    """The training text in pieces; True marks what the model is to learn to write."""
    if example.text:
        yield example.text + END_OF_TEXT, True
        return
    yield _system(example), False
    for message in example.messages:
        role = message["role"]
        if role == "assistant":
            yield f"{TURN}assistant\n", False
            yield answer_text(message) + TURN_END, True
            yield "\n", False
        elif role == "tool":
            content = f"\n<tool_response>\n{message['content']}\n</tool_response>"
            yield f"{TURN}user{content}{TURN_END}\n", False
        elif role == "user":
            yield f"{TURN}user\n{message['content']}{TURN_END}\n", False


def prompt(example: Example) -> str:
    """The text before the last assistant message."""
    pieces = list(render(example))
    return "".join(text for text, _ in pieces[:-2])
