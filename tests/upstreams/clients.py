"""The vendors' own clients behind one interface, without retries."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import anthropic
import boto3
import cohere
import huggingface_hub
import ollama
import openai
from botocore.config import Config
from botocore.exceptions import ClientError
from cohere.core.api_error import ApiError as CohereError
from google import genai
from google.genai import errors as genai_errors
from google.genai import types as genai_types
from huggingface_hub.errors import TextGenerationError
from mistralai.client import Mistral
from mistralai.client.errors import MistralError

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
MESSAGES: Any = [{"role": "user", "content": "Hello"}]
TOOLS: Any = [
    {
        "type": "function",
        "function": {"name": "get_weather", "description": "Weather", "parameters": SCHEMA},
    }
]
TIMEOUT = 10.0


class Answer(NamedTuple):
    """What a client made of an answer."""

    text: str
    # Name and arguments of each call.
    calls: list[tuple[str, Any]]
    reasoning: str = ""
    # Prompt and output tokens, where the client tells them.
    usage: tuple[int, int] | None = None


class Client(NamedTuple):
    """One vendor's client."""

    # (base URL, whether with tools) -> answer.
    whole: Callable[[str, bool], Answer]
    # (base URL, whether with tools) -> pieces of text, then the answer.
    stream: Callable[[str, bool], Iterator[str | Answer]]
    # What it raises for an error of the server, and that error's status.
    error: type[Exception]
    status: Callable[[Any], int] | None


def _openai(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0, timeout=TIMEOUT)


def _openai_whole(url: str, tools: bool) -> Answer:
    more: Any = {"tools": TOOLS} if tools else {}
    with _openai(url) as client:
        done = client.chat.completions.create(model="m", messages=MESSAGES, **more)
    message = done.choices[0].message
    calls: Any = message.tool_calls or []
    assert done.usage is not None
    return Answer(
        message.content or "",
        [(call.function.name, json.loads(call.function.arguments)) for call in calls],
        usage=(done.usage.prompt_tokens, done.usage.completion_tokens),
    )


def _openai_stream(url: str, tools: bool) -> Iterator[str | Answer]:
    arguments: Any = {"model": "m", "messages": MESSAGES} | ({"tools": TOOLS} if tools else {})
    with _openai(url) as client, client.chat.completions.stream(**arguments) as stream:
        for event in stream:
            if event.type == "content.delta":
                yield event.delta
        message = stream.get_final_completion().choices[0].message
    calls: Any = message.tool_calls or []
    found = [(call.function.name, json.loads(call.function.arguments)) for call in calls]
    yield Answer(message.content or "", found)


def _anthropic(url: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=url, api_key="k", max_retries=0, timeout=TIMEOUT)


def _vertex(url: str) -> anthropic.AnthropicVertex:
    return anthropic.AnthropicVertex(
        region="us-east5",
        project_id="p",
        access_token="t",
        base_url=f"{url}/v1",
        max_retries=0,
        timeout=TIMEOUT,
    )


def _vertex_whole(url: str, tools: bool) -> Answer:
    with _vertex(url) as client:
        return _anthropic_answer(client.messages.create(**_anthropic_arguments(tools)))


def _vertex_stream(url: str, tools: bool) -> Iterator[str | Answer]:
    with _vertex(url) as client, client.messages.stream(**_anthropic_arguments(tools)) as stream:
        yield from stream.text_stream
        yield _anthropic_answer(stream.get_final_message())


def _anthropic_arguments(tools: bool) -> Any:
    more = [{"name": "get_weather", "input_schema": SCHEMA}] if tools else []
    return {"model": "m", "max_tokens": 99, "messages": MESSAGES, "tools": more}


def _anthropic_answer(message: Any) -> Answer:
    blocks = message.content
    return Answer(
        "".join(block.text for block in blocks if block.type == "text"),
        [(block.name, block.input) for block in blocks if block.type == "tool_use"],
        "".join(block.thinking for block in blocks if block.type == "thinking"),
        (message.usage.input_tokens, message.usage.output_tokens),
    )


def _anthropic_whole(url: str, tools: bool) -> Answer:
    with _anthropic(url) as client:
        return _anthropic_answer(client.messages.create(**_anthropic_arguments(tools)))


def _anthropic_stream(url: str, tools: bool) -> Iterator[str | Answer]:
    arguments = _anthropic_arguments(tools)
    with _anthropic(url) as client, client.messages.stream(**arguments) as stream:
        yield from stream.text_stream
        yield _anthropic_answer(stream.get_final_message())


def _gemini(url: str) -> genai.Client:
    options = genai_types.HttpOptions(base_url=url, timeout=int(TIMEOUT * 1000))
    return genai.Client(api_key="k", http_options=options)


def _gemini_config(tools: bool) -> genai_types.GenerateContentConfig:
    declared = genai_types.FunctionDeclaration(name="get_weather", parameters_json_schema=SCHEMA)
    offered: Any = [genai_types.Tool(function_declarations=[declared])] if tools else None
    return genai_types.GenerateContentConfig(tools=offered)


def _gemini_parts(response: Any) -> list[Any]:
    return [part for one in response.candidates for part in one.content.parts]


def _gemini_answer(parts: list[Any], usage: Any) -> Answer:
    called = [part.function_call for part in parts if part.function_call]
    return Answer(
        "".join(part.text for part in parts if part.text and not part.thought),
        [(call.name, call.args) for call in called],
        "".join(part.text for part in parts if part.text and part.thought),
        (usage.prompt_token_count, usage.candidates_token_count),
    )


def _gemini_whole(url: str, tools: bool) -> Answer:
    with _gemini(url) as client:
        response = client.models.generate_content(
            model="m", contents="Hello", config=_gemini_config(tools)
        )
        return _gemini_answer(_gemini_parts(response), response.usage_metadata)


def _gemini_stream(url: str, tools: bool) -> Iterator[str | Answer]:
    parts: list[Any] = []
    usage: Any = None
    with _gemini(url) as client:
        for chunk in client.models.generate_content_stream(
            model="m", contents="Hello", config=_gemini_config(tools)
        ):
            more = _gemini_parts(chunk)
            parts += more
            usage = chunk.usage_metadata
            yield "".join(part.text for part in more if part.text and not part.thought)
    yield _gemini_answer(parts, usage)


def _cohere(url: str) -> cohere.ClientV2:
    return cohere.ClientV2(api_key="k", base_url=url, timeout=TIMEOUT)


def _cohere_arguments(tools: bool) -> Any:
    more: Any = {"tools": TOOLS} if tools else {}
    return {"model": "m", "messages": MESSAGES, "request_options": {"max_retries": 0}} | more


def _cohere_whole(url: str, tools: bool) -> Answer:
    done: Any
    with _cohere(url) as client:
        done = client.chat(**_cohere_arguments(tools))
    blocks = done.message.content or []
    calls = done.message.tool_calls or []
    tokens = done.usage.tokens
    return Answer(
        "".join(block.text for block in blocks if block.type == "text"),
        [(call.function.name, json.loads(call.function.arguments)) for call in calls],
        "".join(block.thinking for block in blocks if block.type == "thinking")
        or (done.message.tool_plan or ""),
        (int(tokens.input_tokens), int(tokens.output_tokens)),
    )


def _cohere_stream(url: str, tools: bool) -> Iterator[str | Answer]:
    text, thoughts, names, arguments, usage = "", "", [], [], None
    event: Any
    with _cohere(url) as client:
        for event in client.chat_stream(**_cohere_arguments(tools)):
            match event.type:
                case "content-delta":
                    content = event.delta.message.content
                    text += content.text or ""
                    thoughts += content.thinking or ""
                    yield content.text or ""
                case "tool-plan-delta":
                    thoughts += event.delta.message.tool_plan
                case "tool-call-start":
                    names.append(event.delta.message.tool_calls.function.name)
                    arguments.append("")
                case "tool-call-delta":
                    arguments[-1] += event.delta.message.tool_calls.function.arguments
                case "message-end":
                    tokens = event.delta.usage.tokens
                    usage = (int(tokens.input_tokens), int(tokens.output_tokens))
    found = list(zip(names, map(json.loads, arguments), strict=True))
    yield Answer(text, found, thoughts, usage)


def _mistral(url: str) -> Mistral:
    return Mistral(api_key="k", server_url=url, timeout_ms=int(TIMEOUT * 1000))


def _mistral_arguments(tools: bool) -> Any:
    return {"model": "m", "messages": MESSAGES} | ({"tools": TOOLS} if tools else {})


def _mistral_whole(url: str, tools: bool) -> Answer:
    with _mistral(url) as client:
        done: Any = client.chat.complete(**_mistral_arguments(tools))
    message = done.choices[0].message
    calls = [
        (one.function.name, json.loads(one.function.arguments)) for one in message.tool_calls or []
    ]
    usage = (done.usage.prompt_tokens, done.usage.completion_tokens)
    return Answer(message.content or "", calls, usage=usage)


def _mistral_stream(url: str, tools: bool) -> Iterator[str | Answer]:
    text, names, arguments, usage = "", [], [], None
    with _mistral(url) as client, client.chat.stream(**_mistral_arguments(tools)) as events:
        for event in events:
            chunk: Any = event.data
            delta = chunk.choices[0].delta
            text += delta.content or ""
            yield delta.content or ""
            for call in delta.tool_calls or []:
                if call.function.name:
                    names.append(call.function.name)
                    arguments.append("")
                arguments[-1] += call.function.arguments
            if chunk.usage:
                usage = (chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
    yield Answer(text, list(zip(names, map(json.loads, arguments), strict=True)), usage=usage)


def _bedrock(url: str) -> Any:
    config = Config(retries={"total_max_attempts": 1}, read_timeout=TIMEOUT)
    return boto3.client(
        "bedrock-runtime",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="secret",
        config=config,
    )


def _bedrock_arguments(tools: bool) -> Any:
    sent: Any = {
        "modelId": "amazon.nova-micro-v1:0",
        "messages": [{"role": "user", "content": [{"text": "Hello"}]}],
    }
    if tools:
        tool = {"toolSpec": {"name": "get_weather", "inputSchema": {"json": SCHEMA}}}
        sent["toolConfig"] = {"tools": [tool]}
    return sent


def _bedrock_whole(url: str, tools: bool) -> Answer:
    with contextlib.closing(_bedrock(url)) as client:
        done = client.converse(**_bedrock_arguments(tools))
    blocks = done["output"]["message"]["content"]
    uses = [block["toolUse"] for block in blocks if "toolUse" in block]
    thoughts = [block["reasoningContent"] for block in blocks if "reasoningContent" in block]
    return Answer(
        "".join(block.get("text", "") for block in blocks),
        [(use["name"], use["input"]) for use in uses],
        "".join(thought["reasoningText"]["text"] for thought in thoughts),
        (done["usage"]["inputTokens"], done["usage"]["outputTokens"]),
    )


def _bedrock_stream(url: str, tools: bool) -> Iterator[str | Answer]:
    text, thoughts, names, arguments, usage = "", "", [], [], None
    arguments_ = _bedrock_arguments(tools)
    with (
        contextlib.closing(_bedrock(url)) as client,
        contextlib.closing(client.converse_stream(**arguments_)["stream"]) as stream,
    ):
        for event in stream:
            if "contentBlockStart" in event:
                names.append(event["contentBlockStart"]["start"]["toolUse"]["name"])
                arguments.append("")
            elif "contentBlockDelta" in event:
                delta = event["contentBlockDelta"]["delta"]
                if "toolUse" in delta:
                    arguments[-1] += delta["toolUse"]["input"]
                thoughts += delta.get("reasoningContent", {}).get("text", "")
                text += delta.get("text", "")
                yield delta.get("text", "")
            elif "metadata" in event:
                told = event["metadata"]["usage"]
                usage = (told["inputTokens"], told["outputTokens"])
    yield Answer(text, list(zip(names, map(json.loads, arguments), strict=True)), thoughts, usage)


def _ollama_arguments(tools: bool) -> Any:
    return {"model": "m", "messages": MESSAGES, "tools": TOOLS if tools else None}


def _ollama_answer(parts: list[Any]) -> Answer:
    calls = [call.function for part in parts for call in part.message.tool_calls or []]
    last = parts[-1]
    return Answer(
        "".join(part.message.content or "" for part in parts),
        [(call.name, dict(call.arguments)) for call in calls],
        "".join(part.message.thinking or "" for part in parts),
        (last.prompt_eval_count, last.eval_count),
    )


def _ollama_whole(url: str, tools: bool) -> Answer:
    with ollama.Client(host=url, timeout=TIMEOUT) as client:
        return _ollama_answer([client.chat(**_ollama_arguments(tools))])


def _ollama_stream(url: str, tools: bool) -> Iterator[str | Answer]:
    parts: list[Any] = []
    with ollama.Client(host=url, timeout=TIMEOUT) as client:
        for part in client.chat(**_ollama_arguments(tools), stream=True):
            parts.append(part)
            yield part.message.content or ""
    yield _ollama_answer(parts)


def _tgi_whole(url: str, tools: bool) -> Answer:
    with huggingface_hub.InferenceClient(url, timeout=TIMEOUT) as client:
        done = client.text_generation("Hello", details=True)
    return Answer(done.generated_text, [])


def _tgi_stream(url: str, tools: bool) -> Iterator[str | Answer]:
    text = ""
    with huggingface_hub.InferenceClient(url, timeout=TIMEOUT) as client:
        for one in client.text_generation("Hello", details=True, stream=True):
            text = one.generated_text or text
            yield one.token.text
    yield Answer(text, [])


CLIENTS = {
    "openai": Client(
        _openai_whole, _openai_stream, openai.APIStatusError, lambda e: int(e.status_code)
    ),
    "anthropic": Client(
        _anthropic_whole,
        _anthropic_stream,
        anthropic.APIStatusError,
        lambda e: int(e.status_code),
    ),
    "vertex-claude": Client(
        _vertex_whole, _vertex_stream, anthropic.APIStatusError, lambda e: int(e.status_code)
    ),
    "gemini": Client(_gemini_whole, _gemini_stream, genai_errors.APIError, lambda e: int(e.code)),
    "cohere": Client(_cohere_whole, _cohere_stream, CohereError, lambda e: int(e.status_code)),
    "mistral": Client(_mistral_whole, _mistral_stream, MistralError, lambda e: int(e.status_code)),
    "bedrock": Client(
        _bedrock_whole,
        _bedrock_stream,
        ClientError,
        lambda e: int(e.response["ResponseMetadata"]["HTTPStatusCode"]),
    ),
    "ollama": Client(
        _ollama_whole, _ollama_stream, ollama.ResponseError, lambda e: int(e.status_code)
    ),
    # It goes by the kind of an error, not by its status.
    "tgi": Client(_tgi_whole, _tgi_stream, TextGenerationError, None),
}
