from __future__ import annotations

import datetime as dt

import pytest

from trunkline.core.errors import InvalidRequest
from trunkline.core.types import ChatInput, Json, Message, TextPart
from trunkline.text.byte_tokenizer import CHATML
from trunkline.text.chat_template import ChatTemplate

# Meta's Llama 3 template, without tools.
LLAMA3 = """{% set loop_messages = messages %}{% for message in loop_messages %}
{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'
 + message['content'] | trim + '<|eot_id|>' %}
{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}
{{ content }}{% endfor %}
{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}
"""

# The shape of Qwen2.5's and Qwen3's: tools in the system turn, calls and answers as tags.
QWEN = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {{- "# Tools\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- endif %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if message.role == "user" %}
        {{- '<|im_start|>user\\n' + content + '<|im_end|>\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>assistant\\n' + content }}
        {%- if message.reasoning_content is string %}
            {{- '(' + message.reasoning_content + ')' }}
        {%- endif %}
        {%- for tool_call in message.tool_calls or [] %}
            {{- '\\n<tool_call>\\n{"name": "' + tool_call.function.name + '", "arguments": ' }}
            {%- if tool_call.function.arguments is string %}
                {{- 'STRING' }}
            {%- else %}
                {{- tool_call.function.arguments | tojson }}
            {%- endif %}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {{- '<tool_response>\\n' + content + '\\n</tool_response>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""

MISTRAL = """{{ bos_token }}{% for message in messages %}
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
{% endif %}
{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}
{% else %}{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}
{% endif %}{% endfor %}"""

PARTS_ONLY = (
    "{% for m in messages %}{{ m.role }}:"
    "{% for part in m.content %}{% if part.type == 'text' %}[{{ part.text }}]{% endif %}"
    "{% endfor %}{% endfor %}"
)
EITHER = (
    "{%- macro show(content) -%}{%- if content is string -%}{{ content }}{%- else -%}"
    "{%- for item in content -%}<{{ item.text }}>{%- endfor -%}{%- endif -%}{%- endmacro -%}"
    "{%- for message in messages[1:] -%}{{ show(message.content) }}{%- endfor -%}"
)

NAMESPACE = (
    "{% set ns = namespace(rest=messages) %}{% for m in ns.rest %}"
    "{{ m['content'] | map(attribute='text') | join('+') }}{% endfor %}"
)

PARTS = (TextPart("a"), TextPart("b"))


def user(text: str = "Hi") -> Message:
    return Message("user", text)


def render(source: str, *messages: Message, **options: object) -> str:
    template = ChatTemplate(source, bos_token="<s>", eos_token="</s>")
    return template.render(ChatInput(messages or (user(),), **options))  # type: ignore[arg-type]


def test_chatml() -> None:
    prompt = render(CHATML, Message("system", "Be <kind> & brief."), user("Größe?"))
    assert prompt == (
        "<|im_start|>system\nBe <kind> & brief.<|im_end|>\n"
        "<|im_start|>user\nGröße?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert render(CHATML, add_generation_prompt=False).endswith("Hi<|im_end|>\n")


def test_llama3() -> None:
    assert render(LLAMA3, user("  Hi "), Message("assistant", "Yes"), user("Go")) == (
        "<s><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nYes<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nGo<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_qwen_with_tools() -> None:
    tool: Json = {"type": "function", "function": {"name": "wetter", "description": "Für <Ort>"}}
    function: Json = {"name": "wetter", "arguments": '{"ort": "Köln", "tage": 2}'}
    prompt = render(
        QWEN,
        user(),
        Message("assistant", None, tool_calls=({"id": "1", "function": function},)),
        Message("tool", "sonnig", tool_call_id="1"),
        tools=(tool,),
        template_kwargs={"enable_thinking": False},
    )
    assert prompt == (
        "<|im_start|>system\n# Tools\n<tools>\n"
        '{"type": "function", "function": {"name": "wetter", "description": "Für <Ort>"}}'
        "\n</tools><|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        '<|im_start|>assistant\n\n<tool_call>\n{"name": "wetter", "arguments": '
        '{"ort": "Köln", "tage": 2}}\n</tool_call><|im_end|>\n'
        "<tool_response>\nsonnig\n</tool_response>"
        "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )
    assert "STRING" in render(
        QWEN, Message("assistant", "", tool_calls=({"function": {"name": "f", "arguments": "{"}},))
    )
    assert "(why)" in render(QWEN, Message("assistant", "x", reasoning_content="why"))


# As Qwen3.5's and others: one system turn, in front.
SYSTEM_FIRST = (
    "{% for m in messages %}{% if m.role == 'system' and not loop.first %}"
    "{{ raise_exception('System message must be at the beginning.') }}{% endif %}"
    "<{{ m.role }}>{{ m.content }}{% endfor %}"
)
# As Gemma 2's.
NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "<{{ m.role }}>{{ m.content }}{% endfor %}"
)
# As gpt-oss's.
DEVELOPER = (
    "{% for m in messages %}{% if m.role in ['developer', 'system'] %}<told>{% endif %}"
    "<{{ m.role }}>{{ m.content }}{% endfor %}"
)


def test_developer_is_system_where_the_template_does_not_know_it() -> None:
    told = Message("developer", "Be brief.")
    assert render(CHATML, told, user()).startswith("<|im_start|>system\nBe brief.<|im_end|>")
    assert render(DEVELOPER, told, user()) == "<told><developer>Be brief.<user>Hi"


def test_later_system_turns_stay_where_the_template_takes_them() -> None:
    prompt = render(CHATML, user(), Message("system", "Now in French."), user("Go"))
    assert prompt.index("Hi") < prompt.index("<|im_start|>system\nNow in French.")


@pytest.mark.parametrize("role", ["system", "developer"])
def test_system_turns_move_to_where_the_template_takes_them(role: str) -> None:
    first, later = Message("system", (TextPart("One."),)), Message(role, "Two.")
    conversation = (first, user(), Message("assistant", "Yes"), later)
    prompt = render(SYSTEM_FIRST, *conversation)
    assert prompt == "<system>One.\n\nTwo.<user>Hi<assistant>Yes"
    assert render(NO_SYSTEM, *conversation) == "<user>One.\n\nTwo.\n\nHi<assistant>Yes"
    going_on = (first, user(), later, Message("assistant", "Yes"))
    assert render(SYSTEM_FIRST, *going_on, continue_final_message=True) == (
        "<system>One.\n\nTwo.<user>Hi<assistant>Yes"
    )


# As gpt-oss': instructions in front, and no word of those that come later.
FRONT_ONLY = (
    "{% if messages[0].role in ['developer', 'system'] %}<told>{{ messages[0].content | upper }}"
    "{% set rest = messages[1:] %}{% else %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}{% if m.role in ['user', 'assistant'] %}"
    "<{{ m.role }}>{{ m.content }}{% endif %}{% endfor %}"
)
# Those without any place for instructions.
NOWHERE = (
    "{% for m in messages %}{% if m.role != 'system' %}"
    "<{{ m.role }}>{{ m.content }}{% endif %}{% endfor %}"
)


@pytest.mark.parametrize("role", ["system", "developer"])
def test_instructions_that_a_template_passes_over_move_to_where_it_shows_them(role: str) -> None:
    first, later = Message("system", "One."), Message(role, "Two.")
    assert render(FRONT_ONLY, first, user()) == "<told>ONE.<user>Hi"
    assert render(FRONT_ONLY, first, user(), later) == "<told>ONE.\n\nTWO.<user>Hi"
    assert render(FRONT_ONLY, first, later, user()) == "<told>ONE.\n\nTWO.<user>Hi"
    assert render(NOWHERE, first, user(), later) == "<user>One.\n\nTwo.\n\nHi"


def test_what_no_form_helps_is_refused_in_the_words_of_the_first_try() -> None:
    with pytest.raises(InvalidRequest, match="System role not supported") as caught:
        render(NO_SYSTEM, Message("system", "Alone."))
    assert caught.value.param == "messages"
    both = SYSTEM_FIRST + "{{ raise_exception('Never.') }}"
    with pytest.raises(InvalidRequest, match="must be at the beginning"):
        render(both, user(), Message("system", "Later."))


def test_refusal_has_the_templates_words() -> None:
    assert render(MISTRAL, user(), Message("assistant", "Yes")) == "<s>[INST] Hi [/INST]\nYes</s>"
    with pytest.raises(InvalidRequest, match="roles must alternate") as caught:
        render(MISTRAL, user(), user())
    assert caught.value.param == "messages"


@pytest.mark.parametrize(
    ("source", "form", "from_text", "from_parts"),
    [
        (CHATML, "text", "user\nHi<", "user\na\nb<"),
        (PARTS_ONLY, "parts", "user:[Hi]", "user:[a][b]"),
        (EITHER, "either", "Hi", "<a><b>"),
        (LLAMA3, "text", "\n\nHi<", "\n\na\nb<"),
        ("{{ messages[0]['content'][0]['text'] }}", "parts", "Hi", "a"),
        (
            NAMESPACE,
            "parts",
            "Hi",
            "a+b",
        ),
    ],
)
def test_content_as_the_template_wants_it(
    source: str, form: str, from_text: str, from_parts: str
) -> None:
    assert ChatTemplate(source).content_format == form
    assert from_text in render(source, user(), user())
    assert from_parts in render(source, Message("user", PARTS), Message("user", PARTS))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (CHATML, "<|im_start|>assistant\nOne, two,  "),
        (LLAMA3, "<|start_header_id|>assistant<|end_header_id|>\n\nOne, two,"),
        (PARTS_ONLY, "assistant:[One, two,  "),
    ],
)
def test_continue_final_message(source: str, expected: str) -> None:
    last = Message("assistant", "One, two,  ")
    prompt = render(source, user(), last, continue_final_message=True)
    assert prompt.endswith(expected)


def test_continue_needs_an_assistant_message_that_shows() -> None:
    with pytest.raises(InvalidRequest, match="assistant message"):
        render(CHATML, user(), continue_final_message=True)
    with pytest.raises(InvalidRequest, match="does not show"):
        render("nothing", Message("assistant", "x"), continue_final_message=True)


def test_extensions_and_globals() -> None:
    assert (
        render("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}")
        == "01"
    )
    assert render("{{ strftime_now('%Y') }}") == str(dt.datetime.now().astimezone().year)
    assert render("{{ {'b': 'é<', 'a': 1} | tojson(indent=1) }}") == '{\n "b": "é<",\n "a": 1\n}'
    assert render("{{ tools is none }} {{ documents is none }}") == "True True"
    assert render("{{ x }}{{ documents }}", template_kwargs={"x": 1, "documents": 2}) == "12"
    assert render("  {% if true %}\na\n  {% endif %}\nb") == "a\nb"


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__class__.__base__ }}",
        "{{ raise_exception.__globals__.os }}",
        "{{ cycler.__init__.__globals__.os.system('id') }}",
        "{{ ''|attr('__class__') }}{{ (''|attr('__class__')).mro() }}",
        "{{ '{0.__class__.__mro__}'.format(1).x.y }}",
        "{% set _ = messages.append(1) %}",
        "{{ messages[0].update({'role': 'x'}) }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
    ],
)
def test_no_way_out_of_the_sandbox(source: str) -> None:
    with pytest.raises(InvalidRequest):
        render(source)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{% for i in range(10**9) %}x{% endfor %}", "OverflowError"),
        ("{{ 'x' * 10**9 }}", "OverflowError"),
        ("{{ 10**9 * [1] }}", "OverflowError"),
        ("{{ 9**(9**9) }}", "OverflowError"),
        (
            "{% for i in range(99999) %}{{ 'x' * 9999 }}{% endfor %}",
            "the prompt is longer than",
        ),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
        ("{{ messages[0].content.x.y }}", "UndefinedError"),
        ("{{ 1 + 'a' }}", "TypeError"),
    ],
)
def test_bounds_and_faults(source: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        render(source)


@pytest.mark.parametrize("source", ["{% if %}", "{{ 'x' ", "{% for %}", "{{ " + "(" * 5000])
def test_malformed(source: str) -> None:
    with pytest.raises(InvalidRequest, match="template"):
        ChatTemplate(source)


def test_what_a_request_may_not_set() -> None:
    with pytest.raises(InvalidRequest, match="messages"):
        render(CHATML, template_kwargs={"messages": []})
    with pytest.raises(InvalidRequest, match="empty"):
        ChatTemplate(CHATML).render(ChatInput(()))
