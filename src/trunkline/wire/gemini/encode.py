"""Requests in Gemini's words: contents and parts, function declarations, generationConfig.

Shapes: ai.google.dev/api/generate-content, .../gemini-api/docs/function-calling, .../thinking and
.../thought-signatures; the types of google-genai 3.4 (all read 2026-11-21). Thinking: see
`thinking`.

Thoughts of earlier turns have no place there (a call's signature has: see `signatures`), nor have
names of messages, nor `strict`. A model's top_k cannot be turned off.
"""

from __future__ import annotations

from trunkline.core.errors import InvalidRequest, Unsupported
from trunkline.core.types import ChatInput, Json, Message
from trunkline.wire.asked import Asked, arguments_of, schema_of, text_of, texts_of
from trunkline.wire.client import Feature
from trunkline.wire.gemini.signatures import SKIP, signature_of
from trunkline.wire.gemini.thinking import model_of, thinking_of

# Field of a request -> field of generationConfig.
_CONFIG = {
    "max_tokens": "maxOutputTokens",
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "stop": "stopSequences",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}
_MODES = {"none": "NONE", "required": "ANY", "named": "ANY"}
# Kind of a grammar -> what the model must be able to do.
_JSON: dict[str, Feature] = {"json_object": "json_object", "json_schema": "json_schema"}
# OpenAI's and Anthropic's words for `serviceTier`; what is not said is the project's default.
_TIERS = {"flex": "flex", "priority": "priority", "default": "standard", "standard": "standard"}
_TIERS |= {"standard_only": "standard"}


def body_of(asked: Asked, source: ChatInput, tool_name: str) -> Json:
    """The body. Raises `Unsupported` for turns that cannot be said, and as `_contents`."""
    system, contents = _contents(asked, source.messages)
    body: Json = {"contents": contents}
    if system:
        body["systemInstruction"] = {"parts": [{"text": text} for text in system]}
    _place_tools(asked, body, tool_name)
    config = _config(asked)
    if config:
        body["generationConfig"] = config
    # Where a model's turn is the last, the answer goes on from it.
    asked.take("continue_final_message", "continue_final_message")
    asked.pass_over("reasoning", "reasoning_effort")
    _place_tier(asked, body)
    return body


def _config(asked: Asked) -> Json:
    config: Json = {}
    top_k = asked.peek("top_k")
    if top_k is not None and top_k <= 0 and asked.has("top_k"):
        asked.pass_over("top_k")
    for name, field in _CONFIG.items():
        asked.put(config, name, field)
    logprobs = asked.take("logprobs", "logprobs")
    if logprobs is not None:
        config |= {"responseLogprobs": True, "logprobs": logprobs}
    grammar = asked.peek("grammar")
    if grammar is not None and grammar.kind in _JSON and asked.has(_JSON[grammar.kind]):
        asked.take("grammar")
        config["responseMimeType"] = "application/json"
        if grammar.kind == "json_schema":
            config["responseJsonSchema"] = schema_of(grammar)
    wanted = asked.reasoning()
    if asked.has("reasoning"):
        thinking, told = thinking_of(model_of(asked.terms.model), wanted)
        if thinking:
            config["thinkingConfig"] = thinking
        for name in told:
            asked.tell(name)
    return config


def _place_tier(asked: Asked, body: Json) -> None:
    tier = asked.note("service_tier")
    if tier in _TIERS:
        body["serviceTier"] = _TIERS[tier]
    elif tier not in (None, "auto"):
        asked.tell("service_tier")


def _place_tools(asked: Asked, body: Json, tool_name: str) -> None:
    tools = asked.take("tools", "tools")
    if not tools:
        return
    functions = [one["function"] for one in tools]
    body["tools"] = [{"functionDeclarations": [_declaration(one) for one in functions]}]
    if any(one.get("strict") for one in functions):
        asked.tell("tools.strict")
    choice = asked.take("tool_choice")
    if choice is not None:
        config: Json = {"mode": _MODES[choice]}
        if choice == "named":
            config["allowedFunctionNames"] = [tool_name]
        body["toolConfig"] = {"functionCallingConfig": config}


def _declaration(function: Json) -> Json:
    sent: Json = {"name": function["name"]}
    if function.get("description"):
        sent["description"] = function["description"]
    # Without parameters there must be none: an object without properties is refused.
    parameters = function.get("parameters")
    if parameters and parameters.get("properties"):
        sent["parametersJsonSchema"] = parameters
    return sent


def _contents(asked: Asked, messages: tuple[Message, ...]) -> tuple[list[str], list[Json]]:
    """System texts, and turns; results that follow one another are one turn.

    A system message has no place among the turns there: later ones join the first. Raises
    `InvalidRequest` where there is no turn, or one of the user has nothing in it.
    """
    system: list[str] = []
    contents: list[Json] = []
    names: dict[str, str] = {}
    for message in messages:
        if message.name is not None and message.role != "tool":
            asked.tell("messages.name")
        if message.reasoning_content or message.thoughts:
            asked.tell("reasoning_content")
        if message.role in ("system", "developer"):
            if contents:
                asked.tell("messages.system")
            system += texts_of(message)
            continue
        role = "model" if message.role == "assistant" else "user"
        parts = _parts(message, names)
        if contents and contents[-1]["role"] == role:
            contents[-1]["parts"] += parts
        elif parts or role == "user":
            contents.append({"role": role, "parts": parts})
    if not contents or not all(turn["parts"] for turn in contents):
        problem = (
            "Gemini takes no turn of the user without text: say something in it, or leave it out."
        )
        raise InvalidRequest(problem, param="messages")
    return system, contents


def _parts(message: Message, names: dict[str, str]) -> list[Json]:
    if message.role == "tool":
        return [_result(message, names)]
    parts: list[Json] = [{"text": text} for text in texts_of(message)]
    for number, call in enumerate(message.tool_calls or ()):
        names[call["id"]] = call["function"]["name"]
        part: Json = {
            "functionCall": {"name": call["function"]["name"], "args": arguments_of(call)}
        }
        signature = signature_of(call["id"])
        if signature is None and number == 0:
            # Gemini 3 refuses a turn whose first call has none.
            signature = SKIP
        if signature is not None:
            part["thoughtSignature"] = signature
        parts.append(part)
    return parts


def _result(message: Message, names: dict[str, str]) -> Json:
    name = names.get(message.tool_call_id or "", message.name)
    if name is None:
        problem = "A tool's result answers no call of this conversation."
        raise Unsupported(problem, param="messages")
    # An object is wanted there; any text can stand in one.
    return {"functionResponse": {"name": name, "response": {"result": text_of(message)}}}
