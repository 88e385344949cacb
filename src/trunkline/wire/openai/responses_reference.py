"""Which endpoints and parameters of the Responses API are supported."""

from __future__ import annotations

from trunkline.wire.openai.reference import COMMON
from trunkline.wire.openai.responses import RESPONSES, ResponsesFields
from trunkline.wire.reference import (
    Body,
    Page,
    amended,
    handed_on,
    ignored,
    refused,
    refused_here,
    yes,
)

_TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}}

_RESPONSES = amended(
    COMMON,
    yes("input", "Bye", "A text, or items: messages, calls and their results, reasoning."),
    yes("instructions", "Be brief.", "A system turn before the input; not kept for later."),
    yes("max_output_tokens", 5, "Most tokens of the answer; capped by what the context leaves."),
    yes("previous_response_id", "resp_1", "Goes on from a stored response."),
    yes("store", False, "Whether the response is kept; it is, unless this says no."),
    yes(
        "tools",
        [_TOOL],
        "Functions and custom tools. What only OpenAI can run is left out; where another server "
        "answers, a `warning` names it.",
    ),
    yes("tool_choice", "required", "As in chat completions.", tools=[_TOOL]),
    yes("parallel_tool_calls", False, "At most one call.", tools=[_TOOL]),
    yes("text", {"format": {"type": "json_object"}}, "`format` as `response_format` in chat."),
    yes(
        "reasoning",
        {"effort": "low"},
        "`effort` is a variable of the chat template; `summary` shows it all.",
    ),
    yes("top_logprobs", 2, "Log probabilities, with so many alternatives."),
    yes("include", ["reasoning.encrypted_content"], "That, and `message.output_text.logprobs`."),
    yes("metadata", {"a": "b"}, "Sent back."),
    yes("max_tool_calls", 3, "Sent back; it is about tools that run at OpenAI."),
    yes("prompt_cache_key", "x", "Sent back."),
    yes("safety_identifier", "x", "Sent back."),
    yes("user", "me", "Sent back."),
    yes("max_tokens", 5, "As `max_output_tokens`."),
    ignored("truncation", "auto", "Nothing is dropped: an input that is too long is an error."),
    ignored("background_options", {"completion_window": "soonest"}),
    ignored("image", {"context_compression": "auto"}),
    handed_on("service_tier", "flex"),
    handed_on("prompt_cache_retention", "24h"),
    handed_on("prompt_cache_options", {"ttl": "12h"}),
    handed_on("context_management", [{"type": "compaction"}]),
    ignored("stream_options", {"include_obfuscation": False}, "", stream=True),
    ignored("response_format", {"type": "text"}, "`text.format` has its place."),
    ignored("include_stop_str_in_output", True),
    ignored("skip_special_tokens", False),
    ignored("prompt_logprobs", 1),
    ignored("return_token_ids", True),
    refused("n", 2, "A response has one answer."),
    refused("background", True),
    refused("conversation", "conv_1"),
    refused("prompt", {"id": "pmpt_1"}, "Prompt templates live at OpenAI alone."),
    refused_here("moderation", {"x": 1}),
    refused_here("access_programs", ["x"]),
)

PAGE = Page(
    name="responses",
    title="OpenAI: Responses",
    about="As OpenAI's API. Responses are stored on this server's disk until they are deleted or "
    "too old; those that a backend with this API gave are kept there, and it is asked for them and "
    "for what goes on from them. The fields of other servers are those of "
    "[chat completions](openai.md).",
    endpoints={
        "responses": "An answer; with `stream`, its events in the documented order.",
        "responses_input_tokens": "How many tokens an input has; takes the same body.",
        "response": "A stored response.",
        "response_delete": "Deletes it.",
        "response_cancel": "Refused where this server made it: nothing runs in the background.",
        "response_input_items": "What was said to a stored response.",
    },
    bodies=(
        Body(
            title="Responses",
            codec=RESPONSES,
            fields=ResponsesFields,
            least={"input": "Hi"},
            parameters=_RESPONSES,
        ),
    ),
)
