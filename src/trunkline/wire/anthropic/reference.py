"""Which endpoints and parameters of Anthropic's API are supported."""

from __future__ import annotations

from trunkline.wire.anthropic.fields import MessagesFields
from trunkline.wire.anthropic.messages import MESSAGES
from trunkline.wire.reference import Body, Page, handed_on, refused, yes

_TOOL = {"name": "f", "input_schema": {"type": "object"}}
_FORMAT = {"type": "json_schema", "schema": {"type": "object"}}

_MESSAGES = (
    yes(
        "messages",
        [{"role": "user", "content": "Bye"}],
        "Text, tool use and results, thinking; images and files are refused.",
    ),
    yes("model", "other", "Name or alias."),
    yes("max_tokens", 5, "Capped by what the context leaves. 0 only fills the prefix cache."),
    yes("stream", True, "Events in the documented order."),
    yes("system", "Be brief.", "A text, or blocks; turns with the role `system` count as well."),
    yes("tools", [_TOOL], "Those with a schema; what only Anthropic can run is left out."),
    yes("tool_choice", {"type": "any"}, "`auto`, `any`, `tool`, `none`.", tools=[_TOOL]),
    yes(
        "thinking",
        {"type": "disabled"},
        "A variable of the chat template, and so is the budget: `thinking_budget`.",
    ),
    yes("output_config", {"effort": "low"}, "`effort`, and `format` with a JSON schema."),
    yes("output_format", _FORMAT, "What `output_config.format` was before."),
    yes("stop_sequences", ["x"], "Up to 64; the one that matched is named."),
    yes("temperature", 0.5, "0 takes the best token."),
    yes("top_k", 5, "The k most probable tokens."),
    yes("top_p", 0.5, "Nucleus sampling."),
    yes(
        "cache_control",
        {"type": "ephemeral"},
        "Every prompt goes through the prefix cache; this decides how usage is told, and marks the "
        "prompt for backends that want marks.",
    ),
    refused("compaction", {"type": "summary"}, "Conversations are not summarized."),
    refused(
        "thread",
        {"type": "continue", "previous_message_id": "msg_1"},
        "Conversations are not kept; `create` is ignored.",
    ),
    handed_on("metadata", {"user_id": "x"}, "`user_id` alone."),
    handed_on("service_tier", "standard_only"),
    handed_on("container", "x"),
    handed_on("mcp_servers", [{"type": "url", "name": "x"}], "They are called at Anthropic alone."),
    handed_on("context_management", {"edits": [{"type": "clear_thinking_20251015"}]}),
    handed_on("inference_geo", "us"),
    handed_on("speed", "fast"),
    handed_on("diagnostics", {"previous_message_id": "msg_1"}),
    handed_on("fallbacks", "default"),
    handed_on("fallback_credit_token", "x"),
    handed_on("billing_policy", {"type": "billing_policy", "bill_to": "user_profile"}),
)

PAGE = Page(
    name="anthropic",
    title="Anthropic: Messages",
    about="As Anthropic's API. Errors have its body; the headers `anthropic-version` and "
    "`anthropic-beta` may have any value.",
    endpoints={
        "messages": "One answer.",
        "messages_count_tokens": "How many tokens its prompt would have; takes the same body.",
        "models": "The models that there are, in Anthropic's shape where its version header is.",
        "model": "One of them, likewise.",
        "root": "`HEAD /` answers, as agents ask before they begin.",
    },
    bodies=(
        Body(
            title="Messages",
            codec=MESSAGES,
            fields=MessagesFields,
            least={"max_tokens": 10, "messages": [{"role": "user", "content": "Hi"}]},
            parameters=_MESSAGES,
        ),
    ),
)
