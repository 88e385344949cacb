"""Parameters of calls that an entry of LiteLLM's list has: what holds for all of its requests.

LiteLLM gives them to each call as if the client had, and what the client says itself wins. So they
become `default_body`, which has fields of the body that is sent, by its dialect's names, at its top
level or in an object for such (`wire.raw.HOLDERS`); a parameter for which that dialect has no such
field is noted.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping as Names
from typing import Any, cast

import msgspec

from trunkline.backends.kind import Kind
from trunkline.server.file.section import Section


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Parameters of OpenAI's chat completions.
_OPENAI = _words(
    "temperature top_p n stop max_tokens max_completion_tokens presence_penalty frequency_penalty "
    "logit_bias user seed logprobs top_logprobs response_format tools tool_choice functions "
    "function_call parallel_tool_calls reasoning_effort service_tier modalities audio prediction "
    "store prompt_cache_key prompt_cache_retention safety_identifier verbosity stream_options "
    "web_search_options"
)
# What some of those who speak that dialect take besides, and other dialects have too.
_OTHERS = _words("thinking top_k min_p repetition_penalty chat_template_kwargs num_ctx keep_alive")
_KNOWN = _OPENAI | _OTHERS
# LiteLLM's own parameters, which it sends to nobody (`all_litellm_params` in its types/utils.py and
# GenericLiteLLMParams): all others it sends as they are, by OpenAI's dialect.
_KEPT = _words(
    "additional_drop_params allow_client_keepalive_override allowed_model_region "
    "allowed_openai_params api_base api_key api_version assistant_continue_message base_model "
    "base_url bos_token bucket_name budget_duration client client_id client_secret "
    "configurable_clientside_auth_params context_window_fallback_dict cooldown_time "
    "custom_llm_provider custom_prompt_dict data_residency "
    "disable_add_transform_inline_image_block drop_params enable_json_schema_validation "
    "enable_prompt_caching enable_tag_filtering ensure_alternating_roles eos_token extra_body "
    "extra_headers fallbacks fastest_response final_prompt_value fireworks_forward_user_id "
    "force_timeout guardrails headers hf_model_name id initial_prompt_value input_type "
    "keepalive_seconds max_agentic_loops max_budget max_fallbacks max_file_size_mb "
    "max_parallel_requests max_retries merge_reasoning_content_in_choices messages metadata model "
    "model_config model_id model_info model_list no-log num_retries order organization "
    "output_vector_size project_id prompt_environment prompt_id prompt_label prompt_variables "
    "prompt_version provider_affinity_header provider_specific_header region_name "
    "request_timeout retry_policy retry_strategy roles routing_strategy rust search_tool_name "
    "silent_model ssl_verify stream tag_regex tags tenant_id text_completion tiered_pricing ttl "
    "turn_off_message_logging user_continue_message verbose weight"
)
_KEPT_BEGIN = (
    *("_", "adaptive_router_", "anthropic_", "arize_", "auto_router_", "aws_", "azure_"),
    *("bedrock_", "cach", "complexity_router_", "cost_", "dd_", "gcs_", "health_check"),
    *("humanloop_", "langfuse_", "langsmith_", "litellm_", "milvus_", "mock_", "newrelic_"),
    *("openai_", "posthog_", "quality_router_", "regional_", "s3_", "signoz_", "stream_"),
    *("supports_", "timeout", "use_", "valkey_", "vector_store_", "vertex_", "wandb_"),
    *("watsonx_", "weave_"),
)
_KEPT_END = ("tpm", "rpm", "_rpm_limit", "_tpm_limit", "_limit")

# Makes the value of a field; None where it has none that means the same.
_Maker = Callable[[Any], Any]


def _same(value: Any) -> Any:
    return value


def _list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


# Operation -> parameter -> field of its body, or behind a dot that of an object; what its value is.
_FIELDS: Names[str, Names[str, tuple[str, _Maker]]] = {
    "anthropic.messages": {
        "temperature": ("temperature", _same),
        "top_p": ("top_p", _same),
        "top_k": ("top_k", _same),
        "max_tokens": ("max_tokens", _same),
        "max_completion_tokens": ("max_tokens", _same),
        "stop": ("stop_sequences", _list),
        "thinking": ("thinking", _same),
        "user": ("metadata", lambda user: {"user_id": str(user)}),
        "service_tier": ("service_tier", _same),
    },
    "cohere.chat": {
        "temperature": ("temperature", _same),
        "top_p": ("p", _same),
        "top_k": ("k", _same),
        "max_tokens": ("max_tokens", _same),
        "max_completion_tokens": ("max_tokens", _same),
        "stop": ("stop_sequences", _list),
        "seed": ("seed", _same),
        "presence_penalty": ("presence_penalty", _same),
        "frequency_penalty": ("frequency_penalty", _same),
    },
    "gemini.generate": {
        "temperature": ("generationConfig.temperature", _same),
        "top_p": ("generationConfig.topP", _same),
        "top_k": ("generationConfig.topK", _same),
        "max_tokens": ("generationConfig.maxOutputTokens", _same),
        "max_completion_tokens": ("generationConfig.maxOutputTokens", _same),
        "stop": ("generationConfig.stopSequences", _list),
        "seed": ("generationConfig.seed", _same),
        "presence_penalty": ("generationConfig.presencePenalty", _same),
        "frequency_penalty": ("generationConfig.frequencyPenalty", _same),
    },
    "bedrock.converse": {
        "temperature": ("inferenceConfig.temperature", _same),
        "top_p": ("inferenceConfig.topP", _same),
        "max_tokens": ("inferenceConfig.maxTokens", _same),
        "max_completion_tokens": ("inferenceConfig.maxTokens", _same),
        "stop": ("inferenceConfig.stopSequences", _list),
    },
    "ollama.chat": {
        "keep_alive": ("keep_alive", _same),
        "temperature": ("options.temperature", _same),
        "top_p": ("options.top_p", _same),
        "top_k": ("options.top_k", _same),
        "min_p": ("options.min_p", _same),
        "seed": ("options.seed", _same),
        "max_tokens": ("options.num_predict", _same),
        "max_completion_tokens": ("options.num_predict", _same),
        "stop": ("options.stop", _list),
        "repetition_penalty": ("options.repeat_penalty", _same),
        "presence_penalty": ("options.presence_penalty", _same),
        "frequency_penalty": ("options.frequency_penalty", _same),
        "num_ctx": ("options.num_ctx", _same),
    },
}
# These mean the same in bodies of OpenAI's and Anthropic's dialect.
_COMMON = frozenset({"temperature", "top_p", "top_k", "max_tokens"})


class CallDefaults(msgspec.Struct, frozen=True):
    """What an entry says of all its calls."""

    # As in `BackendConfig`.
    body: dict[str, object] = {}
    # The dialect that must be spoken for them to arrive; "" = any that the kind speaks.
    dialect: str = ""


def call_defaults(params: Section, kind: Kind, model: str) -> CallDefaults:
    """The defaults for a model of one kind of server; what cannot be one there is noted."""
    given = [name for name in params.names() if _is_sent(name)]
    kind = _of_model(kind, model)
    openai = "openai.chat" in kind.paths
    operation = kind.preferred[0]
    own = _FIELDS.get(operation, {})
    if kind.only:
        openai, own = False, {name: (name, _same) for name in _COMMON}
    if openai and (not own or any(name not in own for name in given)):
        return _of_openai(params, kind, given)
    body: dict[str, object] = {}
    for name in given:
        field, make = own.get(name, ("", _same))
        if not field:
            _note(params, name, kind)
        elif (value := params.plain(name)) is not None:
            holder, _, inner = field.rpartition(".")
            place = cast(dict[str, object], body.setdefault(holder, {})) if holder else body
            place.setdefault(inner, make(value))
    return CallDefaults(body, operation.partition(".")[0] if body and openai else "")


def _of_model(kind: Kind, model: str) -> Kind:
    """The kind as `model` knows it; where `only` is left, the model may be any."""
    if not kind.only or "*" in model:
        return kind
    own = [operation for operation, part in kind.only.items() if part in model.lower()]
    spoken = own or [operation for operation in kind.paths if operation not in kind.only]
    return msgspec.structs.replace(
        kind,
        paths={operation: kind.paths[operation] for operation in spoken},
        preferred=tuple(spoken),
        only={},
    )


def _is_sent(name: str) -> bool:
    """Whether LiteLLM gives a parameter to its calls."""
    if name in _KNOWN or name in _KEPT:
        return name in _KNOWN
    return "_cost_" not in name and not (name.startswith(_KEPT_BEGIN) or name.endswith(_KEPT_END))


def _of_openai(params: Section, kind: Kind, given: list[str]) -> CallDefaults:
    """Fields have the parameters' own names; other dialects of the server are not spoken then."""
    body: dict[str, object] = {}
    for name in given:
        if name in ("keep_alive", "num_ctx") and kind.name == "ollama":
            # Its own dialect alone has a place for them.
            _note(params, name, kind)
        elif (value := params.plain(name)) is not None:
            body[name] = value
            if name not in _KNOWN:
                params.report.note(params.place_of(name), "not known; sent with each request")
    dialects = {operation.partition(".")[0] for operation in kind.paths}
    alike = dialects <= {"openai", "anthropic"} and body.keys() <= _COMMON
    # A server of anybody's may be found to speak more than its kind is known to.
    alone = dialects == {"openai"} and kind.hosted
    return CallDefaults(body, "" if not body or alike or alone else "openai")


def _note(params: Section, name: str, kind: Kind) -> None:
    if params.take(name) is not None:
        message = f"cannot be set for all requests to {kind.title}; left out"
        params.report.note(params.place_of(name), message)
