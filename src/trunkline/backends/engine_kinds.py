"""Engines that people run themselves, as rows.

Sources, read 2026-11: each engine's documentation of its server; metrics: vLLM
``docs/usage/metrics.md``, SGLang ``docs/references/production_metrics.md``, TGI
``docs/source/reference/metrics.md``, llama.cpp ``tools/server/README.md``, Triton
``docs/user_guide/metrics.md``, LMDeploy ``lmdeploy/metrics/loggers.py``, TensorRT-LLM
``tensorrt_llm/executor`` (IterationStats).
"""

from __future__ import annotations

from trunkline.backends.kind import HealthCheck, Kind, MetricNames, ModelList
from trunkline.wire.client import NOTES, Feature

OPENAI_PATHS = {"openai.chat": "/v1/chat/completions", "openai.completions": "/v1/completions"}
RESPONSES = {"openai.responses": "/v1/responses"}
MESSAGES = {"anthropic.messages": "/v1/messages"}
_OPENAI = ("openai.chat", "openai.completions")

# Takes part in almost every engine's chat completions.
_COMMON: frozenset[Feature] = frozenset(
    (
        "stream",
        "stream_usage",
        "tools",
        "json_object",
        "json_schema",
        "logprobs",
        "seed",
        "penalties",
    )
)
_SAMPLING: frozenset[Feature] = frozenset(("top_k", "min_p", "repetition_penalty", "logit_bias"))
# Taken by some servers in their own dialect alone, and ignored without a word in OpenAI's.
_OWN_SAMPLING: frozenset[Feature] = frozenset(("top_k", "min_p", "typical_p", "repetition_penalty"))
# What OpenAI's own API takes besides.
EVERY_NOTE: frozenset[Feature] = frozenset(NOTES)
_VLLM: frozenset[Feature] = frozenset(
    (
        *_COMMON,
        *_SAMPLING,
        "tool_choice",
        "parallel_tool_calls",
        "grammar",
        "n",
        "reasoning",
        "continue_final_message",
        "min_tokens",
        "ignore_eos",
        "token_ids",
        "template_kwargs",
        "stop_token_ids",
        "include_stop",
        "special_tokens",
        "truncate_prompt",
        "cache_salt",
        "priority",
    )
)

_VLLM_METRICS = MetricNames(
    running=("vllm:num_requests_running",),
    waiting=("vllm:num_requests_waiting",),
    kv_usage=("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
    cache_info="vllm:cache_config_info",
    prompt_tokens=("vllm:prompt_tokens",),
    output_tokens=("vllm:generation_tokens",),
    ttft=("vllm:time_to_first_token_seconds",),
    prefix_queries=("vllm:prefix_cache_queries", "vllm:gpu_prefix_cache_queries"),
    prefix_hits=("vllm:prefix_cache_hits", "vllm:gpu_prefix_cache_hits"),
    preemptions=("vllm:num_preemptions",),
)

VLLM = Kind(
    name="vllm",
    title="vLLM",
    port=8000,
    paths={**OPENAI_PATHS, **RESPONSES, **MESSAGES},
    preferred=_OPENAI,
    key_variables=("VLLM_API_KEY", "HOSTED_VLLM_API_KEY"),
    health=HealthCheck("/health"),
    metrics=_VLLM_METRICS,
    models=ModelList(),
    tokens="vllm",
    version_path="/version",
    features=_VLLM,
)

SGLANG = Kind(
    name="sglang",
    title="SGLang",
    port=30000,
    paths={**OPENAI_PATHS, **MESSAGES},
    preferred=_OPENAI,
    key_variables=("SGLANG_API_KEY",),
    # /health_generate would generate a token.
    health=HealthCheck("/health"),
    metrics=MetricNames(
        running=("sglang:num_running_reqs",),
        waiting=("sglang:num_queue_reqs",),
        kv_usage=("sglang:token_usage",),
        kv_in_use=("sglang:num_used_tokens",),
        kv_total=("sglang:max_total_num_tokens",),
        prompt_tokens=("sglang:prompt_tokens",),
        output_tokens=("sglang:generation_tokens",),
        throughput=("sglang:gen_throughput",),
        ttft=("sglang:time_to_first_token_seconds",),
        prefix_queries=("sglang:prompt_tokens",),
        prefix_hits=("sglang:cached_tokens",),
        preemptions=("sglang:num_retracted_requests",),
    ),
    models=ModelList(),
    tokens="vllm",
    version_path="/get_server_info",
    features=_VLLM - {"truncate_prompt", "cache_salt"} | {"ebnf_fields"},
)

TGI = Kind(
    name="tgi",
    title="Text Generation Inference",
    port=3000,
    paths={**OPENAI_PATHS, "tgi.generate": ""},
    preferred=("openai.chat", "tgi.generate", "openai.completions"),
    # Not HF_TOKEN: a token of the hub is not for any server at any address.
    key_variables=("TGI_API_KEY",),
    health=HealthCheck("/health"),
    metrics=MetricNames(
        running=("tgi_batch_current_size",),
        waiting=("tgi_queue_size",),
        prompt_tokens=("tgi_request_input_length_sum",),
        output_tokens=("tgi_request_generated_tokens_sum",),
    ),
    models=ModelList("/info", "tgi"),
    tokens="tgi",
    features=_COMMON
    | {"tool_choice", "grammar", "top_k", "typical_p", "repetition_penalty", "truncate_prompt"},
    without=dict.fromkeys(_OPENAI, _OWN_SAMPLING | {"truncate_prompt"}),
)

TENSORRT_LLM = Kind(
    name="tensorrt-llm",
    title="TensorRT-LLM",
    port=8000,
    paths={**OPENAI_PATHS, **RESPONSES},
    preferred=_OPENAI,
    health=HealthCheck("/health"),
    metrics=MetricNames(shape="trtllm"),
    models=ModelList(),
    version_path="/version",
    features=_COMMON
    | _SAMPLING
    | {
        "tool_choice",
        "n",
        "reasoning",
        "min_tokens",
        "ignore_eos",
        "token_ids",
        "template_kwargs",
        "stop_token_ids",
        "include_stop",
        "special_tokens",
        "truncate_prompt",
        "cache_salt",
    },
)

LMDEPLOY = Kind(
    name="lmdeploy",
    title="LMDeploy",
    port=23333,
    paths={**OPENAI_PATHS, **RESPONSES, **MESSAGES},
    preferred=_OPENAI,
    key_variables=("LMDEPLOY_API_KEY",),
    health=HealthCheck("/health"),
    metrics=MetricNames(
        running=("lmdeploy:num_requests_running",),
        waiting=("lmdeploy:num_requests_waiting",),
        kv_usage=("lmdeploy:gpu_cache_usage_perc",),
        prompt_tokens=("lmdeploy:prompt_tokens",),
        output_tokens=("lmdeploy:generation_tokens",),
        ttft=("lmdeploy:time_to_first_token_seconds",),
    ),
    models=ModelList(),
    # Presence and frequency penalties are accepted there and do nothing.
    features=_COMMON - {"penalties"}
    | _SAMPLING
    | {"tool_choice", "n", "reasoning", "ignore_eos", "special_tokens"},
)

TRITON = Kind(
    name="triton",
    title="Triton Inference Server",
    port=8000,
    paths={"kserve.generate": ""},
    preferred=("kserve.generate",),
    auth="none",
    health=HealthCheck("/v2/health/ready", starting=frozenset((400, 503))),
    metrics=MetricNames(
        port=8002,
        # Triton's vLLM backend tells vLLM's own names on the same page.
        running=("vllm:num_requests_running",),
        waiting=("vllm:num_requests_waiting", "nv_inference_pending_request_count"),
        kv_usage=("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
        prompt_tokens=("vllm:prompt_tokens",),
        output_tokens=("vllm:generation_tokens",),
        ttft=("vllm:time_to_first_token_seconds",),
    ),
    models=ModelList("/v2/repository/index", "kserve", "POST"),
    features=frozenset(
        (
            "stream",
            "seed",
            "penalties",
            "top_k",
            "min_p",
            "repetition_penalty",
            "min_tokens",
            "ignore_eos",
        )
    ),
)

OLLAMA = Kind(
    name="ollama",
    title="Ollama",
    url="http://127.0.0.1:11434",
    url_variables=("OLLAMA_API_BASE", "OLLAMA_HOST"),
    port=11434,
    paths={**OPENAI_PATHS, **RESPONSES, **MESSAGES, "ollama.chat": "", "ollama.generate": ""},
    # Its own dialect takes more than the others: top_k, min_p, typical_p, repetition penalties.
    preferred=("ollama.chat", "ollama.generate", "openai.chat", "openai.completions"),
    key_variables=("OLLAMA_API_KEY",),
    health=HealthCheck("/api/version"),
    metrics=MetricNames(path="/api/ps", shape="ollama"),
    models=ModelList("/api/tags", "ollama"),
    version_path="/api/version",
    probe=False,
    features=_COMMON | {"top_k", "min_p", "typical_p", "repetition_penalty", "reasoning"},
    without=dict.fromkeys((*_OPENAI, "openai.responses"), _OWN_SAMPLING),
)

LLAMACPP = Kind(
    name="llamacpp",
    title="llama.cpp",
    port=8080,
    paths={
        **OPENAI_PATHS,
        **RESPONSES,
        **MESSAGES,
        "llamacpp.completion": "",
    },
    preferred=("openai.chat", "llamacpp.completion", "openai.completions"),
    key_variables=("LLAMA_API_KEY",),
    # 503 while it loads.
    health=HealthCheck("/health"),
    metrics=MetricNames(
        running=("llamacpp:requests_processing",),
        waiting=("llamacpp:requests_deferred",),
        kv_usage=("llamacpp:kv_cache_usage_ratio",),
        prompt_tokens=("llamacpp:prompt_tokens",),
        output_tokens=("llamacpp:tokens_predicted",),
        prefix_queries=("llamacpp:prompt_tokens",),
        prefix_hits=("llamacpp:prompt_tokens_cached",),
    ),
    models=ModelList(),
    tokens="llamacpp",
    features=_COMMON
    | _SAMPLING
    | {
        "tool_choice",
        "parallel_tool_calls",
        "grammar",
        "n",
        "typical_p",
        "repeat_penalty",
        "reasoning",
        "continue_final_message",
        "ignore_eos",
        "token_ids",
        "template_kwargs",
    },
)

MLC = Kind(
    name="mlc",
    title="MLC-LLM",
    port=8000,
    paths=OPENAI_PATHS,
    preferred=_OPENAI,
    auth="none",
    health=HealthCheck("/v1/models"),
    models=ModelList(),
    features=_COMMON | {"tool_choice", "n", "logit_bias", "ignore_eos"},
)

LMSTUDIO = Kind(
    name="lmstudio",
    title="LM Studio",
    url="http://127.0.0.1:1234",
    url_variables=("LM_STUDIO_API_BASE",),
    port=1234,
    paths={**OPENAI_PATHS, **RESPONSES, **MESSAGES},
    preferred=_OPENAI,
    key_variables=("LM_STUDIO_API_KEY", "LM_API_TOKEN"),
    probe=False,
    health=HealthCheck("/v1/models"),
    models=ModelList(),
    # It refuses `json_object`, and tells no log probabilities of a chat.
    features=_COMMON - {"json_object", "logprobs"}
    | {"tool_choice", "top_k", "repetition_penalty", "repeat_penalty", "logit_bias", "reasoning"},
)

RAY_SERVE = Kind(
    name="ray-serve",
    title="Ray Serve LLM",
    port=8000,
    paths=OPENAI_PATHS,
    preferred=_OPENAI,
    # Of Ray's HTTP proxy. Its engines' metrics are exported by Ray, not by this port.
    health=HealthCheck("/-/healthz"),
    models=ModelList(),
    features=_VLLM,
)

TRUNKLINE = Kind(
    name="trunkline",
    title="Trunkline",
    port=8000,
    paths={
        **OPENAI_PATHS,
        **RESPONSES,
        **MESSAGES,
        "ollama.chat": "",
        "ollama.generate": "",
        "tgi.generate": "",
        "llamacpp.completion": "",
        "kserve.generate": "",
    },
    preferred=_OPENAI,
    key_variables=("TRUNKLINE_API_KEY",),
    health=HealthCheck("/health/ready"),
    # It tells vLLM's names beside its own.
    metrics=_VLLM_METRICS,
    models=ModelList(),
    tokens="vllm",
    version_path="/version",
    # It passes on what it has no use for itself.
    features=_VLLM | EVERY_NOTE | {"typical_p"},
    without={
        "openai.completions": EVERY_NOTE - {"user"},
        "openai.responses": frozenset(("prediction",)),
    },
)

OPENAI_COMPATIBLE = Kind(
    name="openai-compatible",
    title="a server that speaks OpenAI's dialect",
    reading="api",
    anybodys=True,
    paths={**OPENAI_PATHS},
    preferred=_OPENAI,
    health=HealthCheck("/v1/models"),
    models=ModelList(),
    features=_COMMON | {"tool_choice", "n", "logit_bias", "reasoning"},
)

ANTHROPIC_COMPATIBLE = Kind(
    name="anthropic-compatible",
    title="a server that speaks Anthropic's dialect",
    anybodys=True,
    paths={**MESSAGES},
    preferred=("anthropic.messages",),
    auth="x-api-key",
    headers={"anthropic-version": "2023-06-01"},
    models=ModelList(),
    features=frozenset(("stream", "stream_usage", "tools", "tool_choice", "top_k", "reasoning")),
)

GEMINI_COMPATIBLE = Kind(
    name="gemini-compatible",
    title="a server that speaks Gemini's dialect",
    anybodys=True,
    paths={"gemini.generate": ""},
    preferred=("gemini.generate",),
    auth="x-goog-api-key",
    features=frozenset(("stream", "stream_usage", "tools", "tool_choice", "top_k", "json_schema")),
)

KSERVE = Kind(
    name="kserve",
    title="a server that speaks KServe's generate extension",
    paths={"kserve.generate": ""},
    preferred=("kserve.generate",),
    health=HealthCheck("/v2/health/ready", starting=frozenset((400, 503))),
    features=TRITON.features,
)

ENGINES = (
    VLLM,
    SGLANG,
    TGI,
    TENSORRT_LLM,
    LMDEPLOY,
    TRITON,
    OLLAMA,
    LLAMACPP,
    MLC,
    LMSTUDIO,
    RAY_SERVE,
    TRUNKLINE,
    OPENAI_COMPATIBLE,
    ANTHROPIC_COMPATIBLE,
    GEMINI_COMPATIBLE,
    KSERVE,
)
