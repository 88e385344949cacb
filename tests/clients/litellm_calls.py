"""Calls a server with litellm, as each of its providers, and prints what came back as JSON.

    litellm_calls.py URL MODEL BUNDLED

MODEL is a scripted one at URL; BUNDLED is the address of a server of the bundled model.

Runs in an environment of its own (scripts/setup_clients); tests/e2e/test_litellm.py judges.
"""

from __future__ import annotations

import faulthandler
import json
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

import litellm
import openai

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
SCHEMA = {
    "type": "object",
    "properties": {"left": {"type": "integer"}, "right": {"type": "integer"}},
    "required": ["left", "right"],
    "additionalProperties": False,
}


def said(text: str) -> list[Any]:
    """A conversation of one turn."""
    return [{"role": "user", "content": text}]


def tool_run(call: dict[str, Any]) -> dict[str, Any]:
    """Asks for the weather, answers the call, and takes the last word."""
    messages = said("What is the weather in Paris?")
    first = litellm.completion(messages=messages, tools=[TOOL], **call).choices[0]
    (made,) = first.message.tool_calls
    result = {
        "role": "tool",
        "tool_call_id": made.id,
        "name": "get_weather",
        "content": "18 degrees",
    }
    messages += [first.message.model_dump(), result]
    last = litellm.completion(messages=messages, tools=[TOOL], **call).choices[0]
    return {
        "reason": first.finish_reason,
        "name": made.function.name,
        "arguments": json.loads(made.function.arguments),
        "last": last.message.content,
    }


def streamed_tool(call: dict[str, Any]) -> dict[str, Any]:
    """One call, put together by litellm's own builder."""
    messages = said("What is the weather in Paris?")
    chunks = list(litellm.completion(messages=messages, tools=[TOOL], stream=True, **call))
    whole = litellm.stream_chunk_builder(chunks, messages=messages)
    assert whole is not None
    (made,) = whole.choices[0].message.tool_calls
    arguments = json.loads(made.function.arguments)
    return {"chunks": len(chunks), "name": made.function.name, "arguments": arguments}


def chat(call: dict[str, Any]) -> dict[str, Any]:
    """One answer."""
    answer = litellm.completion(messages=said("Hi"), max_tokens=64, **call)
    choice = answer.choices[0]
    usage = answer.usage
    return {
        "text": choice.message.content,
        "reason": choice.finish_reason,
        "sums": usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0,
    }


def stream(call: dict[str, Any]) -> dict[str, Any]:
    """One answer in pieces."""
    chunks = list(litellm.completion(messages=said("unicode"), stream=True, max_tokens=64, **call))
    deltas = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    return {"text": "".join(deltas), "reason": [one for one in reasons if one]}


def thinking(call: dict[str, Any]) -> dict[str, Any]:
    """Reasoning apart from the answer."""
    message = litellm.completion(messages=said("think"), **call).choices[0].message
    reasoning = getattr(message, "reasoning_content", None) or ""
    return {"text": (message.content or "").strip(), "reasoning": reasoning.strip()}


def structured(call: dict[str, Any]) -> Any:
    """An answer that follows a schema."""
    wanted = {
        "type": "json_schema",
        "json_schema": {"name": "sum", "strict": True, "schema": SCHEMA},
    }
    answer = litellm.completion(messages=said("a sum"), response_format=wanted, **call)
    return json.loads(answer.choices[0].message.content or "")


def responses(call: dict[str, Any]) -> dict[str, Any]:
    """The Responses API."""
    answer: Any = litellm.responses(input="Hi", **call)
    events: Any = litellm.responses(input="Hi", stream=True, **call)
    kinds = [event.type for event in events]
    text = "".join(
        part.text for item in answer.output if item.type == "message" for part in item.content
    )
    return {"text": text, "last": str(getattr(kinds[-1], "value", kinds[-1]))}


def structured_by_tool(call: dict[str, Any]) -> Any:
    """The same of Anthropic's API, where litellm asks for a call of a tool with that schema."""
    wanted = {
        "type": "json_schema",
        "json_schema": {"name": "sum", "strict": True, "schema": SCHEMA},
    }
    answer = litellm.completion(messages=said("by tool"), response_format=wanted, **call)
    return json.loads(answer.choices[0].message.content or "")


def too_long(call: dict[str, Any]) -> str:
    """The exception for a prompt beyond the context."""
    try:
        litellm.completion(messages=said("clackety " * 20_000), max_tokens=64, **call)
    except openai.APIError as error:
        return type(error).__name__
    return ""


def unknown_model(call: dict[str, Any]) -> Any:
    """The status that it sees for a model that there is not."""
    provider = call["model"].partition("/")[0]
    try:
        litellm.completion(messages=said("Hi"), **(call | {"model": f"{provider}/no-such-model"}))
    except openai.APIError as error:
        return getattr(error, "status_code", None)
    return None


Ask = Callable[[dict[str, Any]], Any]


def main(url: str, model: str, bundled: str) -> None:
    """Every provider, and of each what it can do."""
    litellm.suppress_debug_info = True
    most: tuple[Ask, ...] = (chat, stream, tool_run, streamed_tool, thinking)
    everything: tuple[Ask, ...] = (*most, structured, unknown_model, too_long)
    plans: dict[str, tuple[str, tuple[Ask, ...]]] = {
        "openai": (f"{url}/v1", (*everything, responses)),
        "hosted_vllm": (f"{url}/v1", everything),
        "anthropic": (url, (*most, structured_by_tool, unknown_model, too_long)),
        "ollama_chat": (url, everything),
        "ollama": (url, (chat, stream, unknown_model)),
        "huggingface": (f"{url}/v1", everything),
        "text-completion-openai": (f"{url}/v1", (chat, stream, unknown_model)),
        "triton": (f"{url}/v2/models/{model}/generate", (chat,)),
    }
    told = {
        provider: _ask(asks, f"{provider}/{model}", base)
        for provider, (base, asks) in plans.items()
    }
    told["bundled"] = _ask((chat, responses), "openai/caboose", f"{bundled}/v1")
    print(json.dumps(told))


def _stay_here() -> None:
    """Know no names of other machines.

    litellm looks its models up on their hub, as often as not: where there is no network, that lasts
    for as long as asking for a name there does.
    """
    real = socket.getaddrinfo

    def here(host: Any, *rest: Any, **more: Any) -> Any:
        if host not in ("127.0.0.1", "localhost", None):
            raise socket.gaierror(socket.EAI_NONAME, f"{host!r} is not asked for here")
        return real(host, *rest, **more)

    socket.getaddrinfo = here


def _ask(asks: tuple[Ask, ...], model: str, base: str) -> dict[str, Any]:
    call = {"model": model, "api_base": base, "api_key": "none", "max_retries": 0, "timeout": 30}
    told: dict[str, Any] = {}
    for ask in asks:
        try:
            told[ask.__name__] = ask(call)
        except Exception as error:  # noqa: BLE001 -- whoever judges sees it in place of an answer
            told[ask.__name__] = f"{type(error).__name__}: {error}"
    return told


if __name__ == "__main__":
    # Before whoever waits gives up: to tell where it hangs.
    faulthandler.dump_traceback_later(150, exit=True)
    _stay_here()
    main(*sys.argv[1:])
    sys.stdout.flush()
    # All is said: what litellm has left in threads of its own need not end first.
    os._exit(0)
