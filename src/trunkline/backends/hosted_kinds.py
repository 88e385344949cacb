"""Hosted APIs, as rows. Features are what each one's API reference lists (read 2026-11)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from trunkline.backends.engine_kinds import EVERY_NOTE, MESSAGES, OPENAI_PATHS, RESPONSES
from trunkline.backends.kind import Kind, ModelList, Value
from trunkline.wire.client import Feature

_CHAT = {"openai.chat": OPENAI_PATHS["openai.chat"]}
# Where the base URL holds the version already, or there is none.
_BARE = {"openai.chat": "/chat/completions"}
_DEPLOYMENT = "/openai/deployments/{deployment}"
# The version of Azure OpenAI's API where nobody says another.
AZURE_VERSION = "2024-10-21"
_BARE_BOTH = {**_BARE, "openai.completions": "/completions"}

_TOOLS: frozenset[Feature] = frozenset(("stream", "stream_usage", "tools", "tool_choice"))
_JSON: frozenset[Feature] = frozenset(("json_object", "json_schema"))
_OPENAI: frozenset[Feature] = frozenset(
    (
        *_TOOLS,
        *_JSON,
        "parallel_tool_calls",
        "logprobs",
        "n",
        "seed",
        "logit_bias",
        "penalties",
        "reasoning",
    )
)
_FOUNDRY_CHAT: frozenset[Feature] = _TOOLS - {"stream_usage"} | _JSON | {"seed", "penalties"}
# The older operation keeps the older name; Responses predict nothing.
_WITHOUT: Mapping[str, frozenset[Feature]] = {
    "openai.completions": EVERY_NOTE - {"user"} | {"max_completion_tokens"},
    "openai.responses": frozenset(("prediction",)),
}
# What hosts of open models take, which run vLLM, SGLang or the like.
_OPEN: frozenset[Feature] = _OPENAI | {"top_k", "min_p", "repetition_penalty"}
_MISTRAL: frozenset[Feature] = frozenset(
    (
        "parallel_tool_calls",
        "n",
        "penalties",
        "reasoning",
        "short_call_ids",
        "bare_turns",
        "metadata",
        "prompt_cache_key",
        "prediction",
    )
)
_OPENROUTER: frozenset[Feature] = frozenset(
    (*(_OPEN - {"n"}), "any_effort", "user", "verbosity", "prediction")
)


def host(
    name: str,
    title: str,
    url: str,
    variables: tuple[str, ...],
    features: Iterable[Feature],
    *,
    paths: Mapping[str, str] = OPENAI_PATHS,
    models: ModelList | None = ModelList(),  # noqa: B008 - frozen
    values: tuple[Value, ...] = (),
    url_variables: tuple[str, ...] = (),
) -> Kind:
    """A host of OpenAI's dialect. `variables` may hold its key, `url_variables` its base URL."""
    return Kind(
        name=name,
        title=title,
        hosted=True,
        url=url,
        url_variables=url_variables,
        reading="api",
        paths=paths,
        preferred=tuple(op for op in ("openai.chat", "openai.completions") if op in paths),
        key_variables=variables,
        values=values,
        models=models,
        features=frozenset(features),
    )


OPENAI = Kind(
    name="openai",
    title="OpenAI",
    hosted=True,
    url="https://api.openai.com",
    reading="api",
    url_variables=("OPENAI_BASE_URL", "OPENAI_API_BASE"),
    paths={**OPENAI_PATHS, **RESPONSES},
    # Responses for what is left out in chat: thinking together with tools.
    preferred=("openai.chat", "openai.completions", "openai.responses"),
    key_variables=("OPENAI_API_KEY",),
    models=ModelList(),
    features=_OPENAI | EVERY_NOTE | {"max_completion_tokens", "token_ids"},
    without=_WITHOUT,
)

AZURE = Kind(
    name="azure",
    title="Azure OpenAI",
    hosted=True,
    reading="azure",
    url_variables=("AZURE_API_BASE", "AZURE_OPENAI_ENDPOINT"),
    paths={
        "openai.chat": _DEPLOYMENT + "/chat/completions?api-version={api_version}",
        "openai.completions": _DEPLOYMENT + "/completions?api-version={api_version}",
        "openai.responses": "/openai/v1/responses",
    },
    preferred=("openai.chat", "openai.completions"),
    key_variables=("AZURE_API_KEY", "AZURE_OPENAI_API_KEY"),
    auth="api-key",
    # A deployment is what Azure calls a model's name.
    values=(
        Value("deployment", (), "{model}"),
        Value("api_version", ("AZURE_API_VERSION", "OPENAI_API_VERSION"), AZURE_VERSION),
    ),
    features=_OPENAI | EVERY_NOTE | {"max_completion_tokens", "token_ids"},
    # The API version is older than most of them, and refuses what it does not know.
    without={**_WITHOUT, "openai.chat": EVERY_NOTE - {"user"}},
)

ANTHROPIC = Kind(
    name="anthropic",
    title="Anthropic",
    hosted=True,
    url="https://api.anthropic.com",
    url_variables=("ANTHROPIC_BASE_URL", "ANTHROPIC_API_BASE"),
    paths=MESSAGES,
    preferred=("anthropic.messages",),
    key_variables=("ANTHROPIC_API_KEY",),
    auth="x-api-key",
    headers={"anthropic-version": "2023-06-01"},
    models=ModelList("/v1/models?limit=1000"),
    tokens="anthropic",
    features=_TOOLS
    | {"parallel_tool_calls", "json_schema", "top_k", "reasoning", "continue_final_message"},
)

# Its models take what AI Model Inference lists (learn.microsoft.com/rest/api/aifoundry/
# modelinference) and refuse what they do not know; Claude is spoken to as Anthropic's own API is.
AZURE_AI = Kind(
    name="azure-ai",
    title="Azure AI Foundry",
    hosted=True,
    reading="foundry",
    url_variables=("AZURE_AI_API_BASE",),
    paths={**_BARE, "anthropic.messages": "/anthropic/v1/messages"},
    preferred=("openai.chat", "anthropic.messages"),
    only={"anthropic.messages": "claude"},
    key_variables=("AZURE_AI_API_KEY",),
    headers=ANTHROPIC.headers,
    features=_FOUNDRY_CHAT | ANTHROPIC.features,
    without={
        "openai.chat": ANTHROPIC.features - _FOUNDRY_CHAT,
        "anthropic.messages": _FOUNDRY_CHAT - ANTHROPIC.features,
    },
)

BEDROCK = Kind(
    name="bedrock",
    title="Amazon Bedrock",
    hosted=True,
    url="https://bedrock-runtime.{region}.amazonaws.com",
    paths={"bedrock.converse": ""},
    preferred=("bedrock.converse",),
    # A key of Bedrock's own is sent as a bearer token; AWS credentials sign.
    key_variables=("AWS_BEARER_TOKEN_BEDROCK",),
    auth="sigv4",
    values=(Value("region", ("AWS_REGION_NAME", "AWS_REGION", "AWS_DEFAULT_REGION"), "us-east-1"),),
    # A schema is `outputConfig.textFormat` (API_runtime_OutputConfig); top_k is Claude's and
    # Nova's, by `additionalModelRequestFields`, and refused for other models.
    features=_TOOLS | {"json_schema", "top_k", "reasoning"},
)

# Not "n": Gemini 3 refuses more than one candidate.
_GEMINI: frozenset[Feature] = (
    _TOOLS | _JSON | {"logprobs", "seed", "penalties", "top_k", "reasoning"}
)

GEMINI = Kind(
    name="gemini",
    title="Google Gemini",
    hosted=True,
    url="https://generativelanguage.googleapis.com",
    paths={"gemini.generate": ""},
    preferred=("gemini.generate",),
    key_variables=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    auth="x-goog-api-key",
    models=ModelList("/v1beta/models?pageSize=1000", "gemini"),
    tokens="gemini",
    features=_GEMINI,
)

_VERTEX = "/v1/projects/{project}/locations/{location}/publishers"

VERTEX = Kind(
    name="vertex",
    title="Google Vertex AI",
    hosted=True,
    url="https://{location}-aiplatform.googleapis.com",
    paths={
        "gemini.generate": f"{_VERTEX}/google{{tail}}",
        "anthropic.messages": f"{_VERTEX}/anthropic{{tail}}",
    },
    platforms={"anthropic.messages": "vertex"},
    preferred=("gemini.generate", "anthropic.messages"),
    only={"anthropic.messages": "claude"},
    auth="gcp",
    values=(
        Value("project", ("VERTEXAI_PROJECT", "GOOGLE_CLOUD_PROJECT")),
        Value("location", ("VERTEXAI_LOCATION", "GOOGLE_CLOUD_LOCATION"), "us-central1"),
    ),
    features=_GEMINI | ANTHROPIC.features,
    without={
        "gemini.generate": ANTHROPIC.features - _GEMINI,
        "anthropic.messages": _GEMINI - ANTHROPIC.features,
    },
)

COHERE = Kind(
    name="cohere",
    title="Cohere",
    hosted=True,
    url="https://api.cohere.com",
    paths={"cohere.chat": ""},
    preferred=("cohere.chat",),
    key_variables=("COHERE_API_KEY", "CO_API_KEY"),
    models=ModelList("/v1/models?page_size=1000&endpoint=chat", "cohere"),
    features=_TOOLS | _JSON | {"logprobs", "seed", "penalties", "top_k", "reasoning"},
)

# Name, title, base URL, variables, features: what is like OpenAI needs no more.
_COMPATIBLE = (
    host(
        "mistral",
        "Mistral",
        "https://api.mistral.ai",
        ("MISTRAL_API_KEY",),
        # Fields that it does not know are refused there, `stream_options` and `seed` among them;
        # usage comes without being asked for. Fields: the official client's
        # `models/chatcompletionrequest.py` (mistralai 2, read 2026-11-22).
        _TOOLS - {"stream_usage"} | _JSON | _MISTRAL,
        paths=_CHAT,
    ),
    host(
        "groq",
        "Groq",
        "https://api.groq.com/openai",
        ("GROQ_API_KEY",),
        _TOOLS | _JSON | {"parallel_tool_calls", "seed", "reasoning", "user", "bare_turns"},
        paths={**_CHAT, **RESPONSES},
    ),
    host(
        "together",
        "Together AI",
        "https://api.together.xyz",
        ("TOGETHER_API_KEY", "TOGETHERAI_API_KEY", "TOGETHER_AI_API_KEY"),
        _OPEN,
    ),
    host(
        "fireworks",
        "Fireworks AI",
        "https://api.fireworks.ai/inference",
        ("FIREWORKS_API_KEY", "FIREWORKS_AI_API_KEY"),
        _OPEN | {"ignore_eos", "token_ids"},
    ),
    host(
        "deepseek",
        "DeepSeek",
        "https://api.deepseek.com",
        ("DEEPSEEK_API_KEY",),
        _TOOLS | {"json_object", "logprobs", "penalties", "reasoning", "past_reasoning"},
        paths={**_CHAT, "anthropic.messages": "/anthropic/v1/messages"},
    ),
    host(
        "openrouter",
        "OpenRouter",
        "https://openrouter.ai/api",
        ("OPENROUTER_API_KEY", "OR_API_KEY"),
        _OPENROUTER,
        paths={**OPENAI_PATHS, **RESPONSES, **MESSAGES},
    ),
    host(
        "xai",
        "xAI",
        "https://api.x.ai",
        ("XAI_API_KEY",),
        _OPENAI - {"logit_bias"} | {"user"},
        paths={**_CHAT, **RESPONSES},
    ),
    host(
        "perplexity",
        "Perplexity",
        "https://api.perplexity.ai",
        ("PERPLEXITY_API_KEY", "PERPLEXITYAI_API_KEY"),
        ("stream", "stream_usage", "json_schema", "penalties", "top_k", "reasoning"),
        paths=_BARE,
        models=None,
    ),
    host(
        "cerebras",
        "Cerebras",
        "https://api.cerebras.ai",
        ("CEREBRAS_API_KEY",),
        _TOOLS | _JSON | {"parallel_tool_calls", "logprobs", "seed", "reasoning", "bare_turns"},
    ),
    host(
        "nvidia",
        "NVIDIA NIM",
        "https://integrate.api.nvidia.com",
        ("NVIDIA_API_KEY", "NVIDIA_NIM_API_KEY"),
        _TOOLS | _JSON | {"logprobs", "seed", "penalties", "reasoning"},
    ),
    host(
        "huggingface",
        "Hugging Face Inference Providers",
        "https://router.huggingface.co",
        ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_API_KEY"),
        _TOOLS | _JSON | {"logprobs", "seed", "penalties", "reasoning"},
        paths={**_CHAT, **RESPONSES},
    ),
    host(
        "sambanova",
        "SambaNova",
        "https://api.sambanova.ai",
        ("SAMBANOVA_API_KEY",),
        _TOOLS | _JSON | {"parallel_tool_calls", "top_k", "reasoning"},
        paths=_CHAT,
    ),
    host(
        "hyperbolic",
        "Hyperbolic",
        "https://api.hyperbolic.xyz",
        ("HYPERBOLIC_API_KEY",),
        _OPEN - {"parallel_tool_calls"},
    ),
    host(
        "deepinfra",
        "DeepInfra",
        "https://api.deepinfra.com/v1/openai",
        ("DEEPINFRA_API_KEY", "DEEPINFRA_TOKEN"),
        _OPEN - {"logit_bias"},
        paths=_BARE_BOTH,
        models=ModelList("/models"),
    ),
    host(
        "nebius",
        "Nebius Token Factory",
        "https://api.tokenfactory.nebius.com",
        ("NEBIUS_API_KEY",),
        _OPEN,
    ),
    host("novita", "Novita AI", "https://api.novita.ai/openai", ("NOVITA_API_KEY",), _OPEN),
    host(
        "moonshot",
        "Moonshot AI",
        "https://api.moonshot.ai",
        ("MOONSHOT_API_KEY",),
        _TOOLS | _JSON | {"n", "penalties", "reasoning"},
        paths=_CHAT,
    ),
    host(
        "zai",
        "Z.ai",
        "https://api.z.ai/api/paas/v4",
        ("ZAI_API_KEY",),
        _TOOLS | {"json_object", "reasoning"},
        paths=_BARE,
        models=ModelList("/models"),
    ),
    host(
        "zhipu",
        "Zhipu AI",
        "https://open.bigmodel.cn/api/paas/v4",
        ("ZHIPUAI_API_KEY",),
        _TOOLS | {"json_object", "reasoning"},
        paths=_BARE,
        models=ModelList("/models"),
    ),
    host(
        "dashscope",
        "Alibaba Cloud Model Studio",
        "https://dashscope-intl.aliyuncs.com/compatible-mode",
        ("DASHSCOPE_API_KEY",),
        _TOOLS
        | _JSON
        | {"parallel_tool_calls", "logprobs", "n", "seed", "penalties", "top_k", "reasoning"},
        paths=_CHAT,
    ),
    host(
        "minimax",
        "MiniMax",
        "https://api.minimax.io",
        ("MINIMAX_API_KEY",),
        _TOOLS | {"json_schema", "reasoning"},
        paths={**_CHAT, "anthropic.messages": "/anthropic/v1/messages"},
        models=None,
    ),
    host(
        "ai21",
        "AI21",
        "https://api.ai21.com/studio",
        ("AI21_API_KEY",),
        ("stream", "stream_usage", "tools", "json_object", "n"),
        paths=_CHAT,
        models=None,
    ),
    host(
        "github",
        "GitHub Models",
        "https://models.github.ai/inference",
        ("GITHUB_TOKEN", "GITHUB_API_KEY"),
        _TOOLS | _JSON | {"seed", "penalties", "reasoning"},
        paths=_BARE,
        models=None,
    ),
    host(
        "cloudflare",
        "Cloudflare Workers AI",
        "https://api.cloudflare.com/client/v4/accounts/{account}/ai",
        ("CLOUDFLARE_API_KEY", "CLOUDFLARE_API_TOKEN"),
        ("stream", "stream_usage", "tools", "json_object", "json_schema", "seed", "penalties"),
        paths=_CHAT,
        models=None,
        values=(Value("account", ("CLOUDFLARE_ACCOUNT_ID",)),),
    ),
    host(
        "baseten",
        "Baseten",
        "https://inference.baseten.co",
        ("BASETEN_API_KEY",),
        _OPEN,
        paths=_CHAT,
    ),
    host(
        "scaleway",
        "Scaleway",
        "https://api.scaleway.ai",
        ("SCW_SECRET_KEY", "SCALEWAY_API_KEY"),
        _TOOLS | _JSON | {"parallel_tool_calls", "logprobs", "seed", "penalties"},
    ),
    host(
        "siliconflow",
        "SiliconFlow",
        "https://api.siliconflow.com",
        ("SILICONFLOW_API_KEY",),
        _TOOLS | {"json_object", "n", "penalties", "top_k", "reasoning"},
        paths=_CHAT,
    ),
    host(
        "volcengine",
        "Volcano Engine Ark",
        "https://ark.cn-beijing.volces.com/api/v3",
        ("VOLCENGINE_API_KEY", "ARK_API_KEY"),
        _TOOLS | _JSON | {"logprobs", "logit_bias", "penalties", "reasoning"},
        paths=_BARE,
        models=ModelList("/models"),
    ),
)

HOSTED = (OPENAI, AZURE, AZURE_AI, ANTHROPIC, BEDROCK, GEMINI, VERTEX, COHERE, *_COMPATIBLE)
