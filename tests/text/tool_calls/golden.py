"""Raw outputs as models write them, and what they say. The comments name where the form is from."""

from __future__ import annotations

from typing import Any, NamedTuple

Call = tuple[str, dict[str, Any]]

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string"},
                    "days": {"type": "integer"},
                    "unit": {"type": "string", "enum": ["c", "f"]},
                },
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "store",
            "parameters": {
                "type": "object",
                "properties": {
                    "tags": {"type": "array", "items": {"type": "string"}},
                    "meta": {"type": "object"},
                    "exact": {"type": "boolean"},
                    "ratio": {"type": "number"},
                },
                "additionalProperties": False,
            },
        },
    },
    {"type": "function", "function": {"name": "ping"}},
]

PARIS: Call = ("get_weather", {"city": "Paris", "days": 3})
ROME: Call = ("get_weather", {"city": "Rome"})
PING: Call = ("ping", {})
STORE: Call = ("store", {"tags": ["a", "b"], "meta": {"k": {"n": 1}}, "exact": True, "ratio": 0.5})


class Golden(NamedTuple):
    """One raw output of a dialect."""

    dialect: str
    raw: str
    calls: tuple[Call, ...]
    text: str = ""
    reasoning: str = ""
    ids: tuple[str | None, ...] = ()
    # The dialect's own grammar for tool_choice "required" accepts it.
    grammatical: bool = True


GOLDEN: tuple[Golden, ...] = (
    # Chat template of Qwen/Qwen3-0.6B.
    Golden(
        "hermes",
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}\n'
        "</tool_call>",
        (PARIS,),
    ),
    Golden(
        "hermes",
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "ping", "arguments": {}}\n</tool_call>',
        (ROME, PING),
    ),
    # Text around; no line breaks; the object of Granite 4 (vLLM, granite4_tool_parser.py).
    Golden(
        "hermes",
        'Let me look.\n<tool_call>{"name":"get_weather","arguments":{"city":"Rome"}}</tool_call>'
        "\nDone.",
        (ROME,),
        "Let me look.\nDone.",
        grammatical=False,
    ),
    # Arguments first, another key, no arguments, a list (seen with Hermes 2 Pro).
    Golden(
        "hermes",
        '<tool_call>[{"arguments": {"city": "Rome"}, "type": "function", "name": "get_weather"},'
        ' {"name": "ping"}]</tool_call>',
        (ROME, PING),
        grammatical=False,
    ),
    # vLLM, tests/tool_parsers/test_granite_tool_parser.py: token and string forms.
    Golden(
        "granite",
        '<|tool_call|>[{"name": "get_weather", "arguments": {"city": "Rome"}}, '
        '{"name": "ping", "arguments": {}}]',
        (ROME, PING),
    ),
    Golden(
        "granite",
        '<tool_call>[{"name": "get_weather", "arguments": {"city": "Rome"}}]',
        (ROME,),
        grammatical=False,
    ),
    Golden(
        "granite4",
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>',
        (ROME,),
    ),
    # vLLM, granite_20b_fc_tool_parser.py.
    Golden(
        "granite-20b-fc",
        '<function_call> {"name": "get_weather", "arguments": {"city": "Rome"}}',
        (ROME,),
    ),
    # vLLM, phi4mini_tool_parser.py; llama.cpp, Phi-4-mini-instruct.jinja.
    Golden(
        "phi4_mini_json",
        'functools[{"name": "get_weather", "arguments": {"city": "Rome"}}]',
        (ROME,),
        grammatical=False,
    ),
    Golden(
        "phi4_mini_json",
        '<|tool_call|>[{"name": "get_weather", "arguments": {"city": "Rome"}}, '
        '{"name": "ping", "arguments": {}}]<|/tool_call|>',
        (ROME, PING),
    ),
    Golden(
        "phi4_mini_json",
        '<|tool_call|>{"name": "get_weather", "arguments": {"city": "Rome"}}<|/tool_call|>',
        (ROME,),
        grammatical=False,
    ),
    # Llama 3.1 prompt format; vLLM, llama_tool_parser.py for ";".
    Golden(
        "llama3_json",
        '{"name": "get_weather", "parameters": {"city": "Rome"}}; '
        '{"name": "ping", "parameters": {}}',
        (ROME, PING),
    ),
    Golden(
        "llama3_json",
        '<|python_tag|>{"type": "function", "name": "get_weather", "parameters": '
        '{"city": "Paris", "days": 3}}',
        (PARIS,),
        grammatical=False,
    ),
    # Llama 3.2 prompt format; Llama 4 with tags (vLLM, llama4_pythonic_tool_parser.py).
    Golden(
        "pythonic", "[get_weather(city='Paris', days=3), ping()]", (PARIS, PING), "", "", (), False
    ),
    Golden("pythonic", '[get_weather(city="Paris", days=3), ping()]', (PARIS, PING)),
    Golden(
        "pythonic",
        '<|python_start|>[store(tags=["a", "b"], meta={"k": {"n": 1}}, exact=True, ratio=0.5)]'
        "<|python_end|>",
        (STORE,),
        grammatical=False,
    ),
    # LiquidAI/LFM2 model card.
    Golden(
        "lfm2",
        '<|tool_call_start|>[get_weather(city="Rome")]<|tool_call_end|>Checking.',
        (ROME,),
        "Checking.",
        grammatical=False,
    ),
    Golden("lfm2", '<|tool_call_start|>[get_weather(city="Rome")]<|tool_call_end|>', (ROME,)),
    # Mistral-Small-3.1 template; vLLM, mistral_tool_parser.py.
    Golden(
        "mistral",
        '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Rome"}}, '
        '{"name": "ping", "arguments": {}}]',
        (ROME, PING),
        grammatical=False,
    ),
    Golden(
        "mistral",
        '[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Rome"}}]',
        (ROME,),
    ),
    # Mistral-Small-3.2 (v11) as mistral-common renders it; Magistral (v13).
    Golden(
        "mistral_v11",
        '[TOOL_CALLS]get_weather[CALL_ID]abcDEF123[ARGS]{"city": "Paris", "days": 3}'
        "[TOOL_CALLS]ping[CALL_ID]xyzXYZ789[ARGS]{}",
        (PARIS, PING),
        ids=("abcDEF123", "xyzXYZ789"),
        grammatical=False,
    ),
    Golden(
        "mistral_v11",
        '[TOOL_CALLS]get_weather[ARGS]{"city": "Rome"}[TOOL_CALLS]ping[ARGS]{}',
        (ROME, PING),
    ),
    Golden(
        "mistral_v11",
        'Sure.[TOOL_CALLS]get_weather{"city": "Rome"}',
        (ROME,),
        "Sure.",
        grammatical=False,
    ),
    # vLLM, deepseekv3_tool_parser.py.
    Golden(
        "deepseek_v3",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n"
        '{"city": "Rome"}\n```<｜tool▁call▁end｜>\n'
        "<｜tool▁call▁begin｜>function<｜tool▁sep｜>ping\n"
        "```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        (ROME, PING),
    ),
    # Chat template of DeepSeek-V3.1.
    Golden(
        "deepseek_v31",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>"
        '{"city": "Paris", "days": 3}<｜tool▁call▁end｜><｜tool▁call▁begin｜>ping<｜tool▁sep｜>{}'
        "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        (PARIS, PING),
    ),
    # vLLM, deepseekv32_tool_parser.py (docstring) and deepseekv4_tool_parser.py.
    Golden(
        "deepseek_v32",
        '<｜DSML｜function_calls>\n<｜DSML｜invoke name="get_weather">\n'
        '<｜DSML｜parameter name="city" string="true">Paris</｜DSML｜parameter>\n'
        '<｜DSML｜parameter name="days" string="false">3</｜DSML｜parameter>\n'
        '</｜DSML｜invoke>\n<｜DSML｜invoke name="ping">\n</｜DSML｜invoke>\n'
        "</｜DSML｜function_calls>",
        (PARIS, PING),
    ),
    Golden(
        "deepseek_v4",
        '<｜DSML｜tool_calls>\n<｜DSML｜invoke name="store">\n'
        '<｜DSML｜parameter name="tags" string="false">["a", "b"]</｜DSML｜parameter>\n'
        '<｜DSML｜parameter name="meta" string="false">{"k": {"n": 1}}</｜DSML｜parameter>\n'
        '<｜DSML｜parameter name="exact" string="false">true</｜DSML｜parameter>\n'
        '<｜DSML｜parameter name="ratio" string="false">0.5</｜DSML｜parameter>\n'
        "</｜DSML｜invoke>\n</｜DSML｜tool_calls>",
        (STORE,),
    ),
    # docs/tool_call_guidance.md of moonshotai/Kimi-K2-Instruct.
    Golden(
        "kimi_k2",
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0"
        '<|tool_call_argument_begin|>{"city": "Rome"}<|tool_call_end|><|tool_call_begin|>'
        "functions.ping:1<|tool_call_argument_begin|>{}<|tool_call_end|>"
        "<|tool_calls_section_end|>",
        (ROME, PING),
        ids=("functions.get_weather:0", "functions.ping:1"),
    ),
    # Chat template of Qwen3-Coder-30B-A3B-Instruct.
    Golden(
        "qwen3_coder",
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n"
        "<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>\n"
        "<tool_call>\n<function=ping>\n</function>\n</tool_call>",
        (PARIS, PING),
    ),
    Golden(
        "qwen3_coder",
        '<function=store>\n<parameter=tags>\n["a", "b"]\n</parameter>\n<parameter=meta>\n'
        '{"k": {"n": 1}}\n</parameter>\n<parameter=exact>\nTrue\n</parameter>\n'
        "<parameter=ratio>\n0.5\n</parameter>\n</function>\n</tool_call>",
        (STORE,),
        grammatical=False,
    ),
    # Chat templates of GLM-4.6 and, without line breaks, GLM-4.7.
    Golden(
        "glm45",
        "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n"
        "<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>\n"
        "<tool_call>ping\n</tool_call>",
        (PARIS, PING),
    ),
    Golden(
        "glm45",
        "<tool_call>get_weather<arg_key>city</arg_key><arg_value>Rome</arg_value></tool_call>",
        (ROME,),
        grammatical=False,
    ),
    # vLLM, functiongemma_tool_parser.py.
    Golden(
        "functiongemma",
        "<start_function_call>call:get_weather{city:<escape>Paris<escape>,days:3}"
        "<end_function_call><start_function_call>call:ping{}<end_function_call>",
        (PARIS, PING),
    ),
    # vLLM, gemma4_tool_parser.py; llama.cpp, gemma4.jinja.
    Golden(
        "gemma4",
        '<|tool_call>call:get_weather{city:<|"|>Rome<|"|>}<tool_call|>'
        '<|tool_call>call:store{tags:[<|"|>a<|"|>,<|"|>b<|"|>],meta:{k:{n:1}},exact:true,'
        "ratio:0.5}<tool_call|>",
        (ROME, STORE),
    ),
    # https://cookbook.openai.com/articles/openai-harmony.
    Golden(
        "openai",
        "<|channel|>analysis<|message|>Need the weather.<|end|><|start|>assistant<|channel|>"
        "commentary to=functions.get_weather <|constrain|>json<|message|>"
        '{"city": "Rome"}<|call|>',
        (ROME,),
        reasoning="Need the weather.",
    ),
    Golden(
        "openai",
        "<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>"
        '{"city": "Rome"}<|call|><|start|>assistant<|channel|>commentary to=functions.ping '
        "<|constrain|>json<|message|>{}<|call|>",
        (ROME, PING),
    ),
    Golden(
        "openai",
        ' to=functions.get_weather<|channel|>commentary json<|message|>{"city": "Rome"}',
        (ROME,),
        grammatical=False,
    ),
    Golden(
        "openai",
        "<|channel|>analysis<|message|>Easy.<|end|><|start|>assistant<|channel|>commentary"
        "<|message|>First this.<|end|><|start|>assistant<|channel|>final<|message|>Hello!"
        "<|return|>",
        (),
        "First this.Hello!",
        "Easy.",
        grammatical=False,
    ),
)
