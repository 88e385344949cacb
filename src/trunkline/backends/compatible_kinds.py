"""Further hosts of OpenAI's dialect, as rows: what they take is not told by each in detail.

Addresses and the variables of keys are those that LiteLLM knows the hosts by, too (litellm 1.106.2,
llms/openai_like/providers.json and litellm_core_utils/get_llm_provider_logic.py; read 2026-11).
"""

from __future__ import annotations

from trunkline.backends.engine_kinds import OPENAI_COMPATIBLE, OPENAI_PATHS, RESPONSES
from trunkline.backends.hosted_kinds import host
from trunkline.backends.kind import Kind

_CHAT = {"openai.chat": OPENAI_PATHS["openai.chat"]}
# Where the base URL has the version, or there is none.
_BARE = {"openai.chat": "/chat/completions"}

# Name, title, base URL, variables of the key.
_HOSTS = (
    ("abliteration", "Abliteration", "https://api.abliteration.ai", "ABLITERATION_API_KEY"),
    ("aihubmix", "AIHubMix", "https://aihubmix.com", "AIHUBMIX_API_KEY"),
    ("aiml", "AI/ML API", "https://api.aimlapi.com", "AIML_API_KEY"),
    ("amazon_nova", "Amazon Nova", "https://api.nova.amazon.com", "AMAZON_NOVA_API_KEY"),
    ("apertis", "Apertis", "https://api.stima.tech", "APERTIS_API_KEY STIMA_API_KEY"),
    ("assemblyai", "AssemblyAI", "https://llm-gateway.assemblyai.com", "ASSEMBLYAI_API_KEY"),
    ("chutes", "Chutes", "https://llm.chutes.ai", "CHUTES_API_KEY"),
    ("codestral", "Codestral", "https://codestral.mistral.ai", "CODESTRAL_API_KEY"),
    ("cognition", "Cognition", "https://api.cognition.ai", "COGNITION_API_KEY"),
    ("cometapi", "CometAPI", "https://api.cometapi.com", "COMETAPI_API_KEY COMETAPI_KEY"),
    ("compactifai", "CompactifAI", "https://api.compactif.ai", "COMPACTIFAI_API_KEY"),
    ("cortecs", "Cortecs", "https://api.cortecs.ai", "CORTECS_API_KEY"),
    (
        "crusoe",
        "Crusoe",
        "https://managed-inference-api-proxy.crusoecloud.com",
        "CRUSOE_API_KEY",
    ),
    ("darkbloom", "Darkbloom", "https://api.darkbloom.dev", "DARKBLOOM_API_KEY"),
    ("empiriolabs", "EmpirioLabs", "https://api.empiriolabs.ai", "EMPIRIOLABS_API_KEY"),
    ("empower", "Empower", "https://app.empower.dev/api", "EMPOWER_API_KEY"),
    (
        "featherless_ai",
        "Featherless",
        "https://api.featherless.ai",
        "FEATHERLESS_AI_API_KEY FEATHERLESS_API_KEY",
    ),
    (
        "friendliai",
        "FriendliAI",
        "https://api.friendli.ai/serverless",
        "FRIENDLIAI_API_KEY FRIENDLI_TOKEN",
    ),
    ("galadriel", "Galadriel", "https://api.galadriel.com", "GALADRIEL_API_KEY"),
    ("gmi", "GMI Cloud", "https://api.gmi-serving.com", "GMI_API_KEY"),
    ("inception", "Inception", "https://api.inceptionlabs.ai", "INCEPTION_API_KEY"),
    ("lambda_ai", "Lambda", "https://api.lambda.ai", "LAMBDA_API_KEY"),
    ("libertai", "LibertAI", "https://api.libertai.io", "LIBERTAI_API_KEY"),
    ("llamagate", "LlamaGate", "https://api.llamagate.dev", "LLAMAGATE_API_KEY"),
    ("meta", "Meta", "https://api.meta.ai", "META_API_KEY"),
    ("meta_llama", "Meta Llama", "https://api.llama.com/compat", "LLAMA_API_KEY"),
    ("modelscope", "ModelScope", "https://api-inference.modelscope.cn", "MODELSCOPE_API_KEY"),
    ("morph", "Morph", "https://api.morphllm.com", "MORPH_API_KEY"),
    ("nano-gpt", "NanoGPT", "https://nano-gpt.com/api", "NANOGPT_API_KEY"),
    ("neosantara", "Neosantara", "https://api.neosantara.xyz", "NEOSANTARA_API_KEY"),
    ("nscale", "Nscale", "https://inference.api.nscale.com", "NSCALE_API_KEY"),
    (
        "ovhcloud",
        "OVHcloud AI Endpoints",
        "https://oai.endpoints.kepler.ai.cloud.ovh.net",
        "OVHCLOUD_API_KEY",
    ),
    ("parasail", "Parasail", "https://api.parasail.io", "PARASAIL_API_KEY"),
    ("pinstripes", "Pinstripes", "https://pinstripes.io", "PINSTRIPES_API_KEY"),
    ("poe", "Poe", "https://api.poe.com", "POE_API_KEY"),
    ("prism", "Prism", "https://api.prisminference.com", "PRISM_API_KEY"),
    ("publicai", "Public AI", "https://api.publicai.co", "PUBLICAI_API_KEY"),
    ("reka", "Reka", "https://api.reka.ai", "REKA_API_KEY"),
    ("sail", "Sail Research", "https://api.sailresearch.com", "SAIL_API_KEY"),
    ("sarvam", "Sarvam", "https://api.sarvam.ai", "SARVAM_API_KEY"),
    ("scx-ai", "SCX.ai", "https://api.scx.ai", "SCX_API_KEY"),
    ("synthetic", "Synthetic", "https://api.synthetic.new/openai", "SYNTHETIC_API_KEY"),
    ("tencent", "Tencent", "https://tokenhub-intl.tencentcloudmaas.com", "TENCENT_API_KEY"),
    (
        "tensormesh",
        "Tensormesh",
        "https://serverless.tensormesh.ai",
        "TENSORMESH_INFERENCE_API_KEY",
    ),
    ("v0", "Vercel v0", "https://api.v0.dev", "V0_API_KEY"),
    ("veniceai", "Venice.ai", "https://api.venice.ai/api", "VENICE_AI_API_KEY"),
    (
        "vercel_ai_gateway",
        "Vercel AI Gateway",
        "https://ai-gateway.vercel.sh",
        "VERCEL_AI_GATEWAY_API_KEY VERCEL_OIDC_TOKEN",
    ),
    ("wandb", "W&B Inference", "https://api.inference.wandb.ai", "WANDB_API_KEY"),
    ("xiaomi_mimo", "Xiaomi MiMo", "https://api.xiaomimimo.com", "XIAOMI_MIMO_API_KEY"),
)
_BARE_HOSTS = (
    (
        "charity_engine",
        "Charity Engine",
        "https://api.charityengine.services/remotejobs/v2/inference",
        "CHARITY_ENGINE_API_KEY",
    ),
    # Each customer has a host of its own: https://HOST/serving-endpoints.
    ("databricks", "Databricks", "", "DATABRICKS_API_KEY"),
    ("edenai", "Eden AI", "https://api.edenai.run/v3", "EDENAI_API_KEY"),
    ("helicone", "Helicone AI Gateway", "https://ai-gateway.helicone.ai", "HELICONE_API_KEY"),
)


def _host(name: str, title: str, url: str, variables: str, paths: dict[str, str]) -> Kind:
    keys = tuple(variables.split())
    return host(
        name,
        title,
        url,
        keys,
        OPENAI_COMPATIBLE.features,
        paths=paths,
        models=None,
        url_variables=(keys[0].removesuffix("_KEY") + "_BASE",),
    )


# A server of anybody's whose models are asked by OpenAI's newer operation.
RESPONSES_COMPATIBLE = Kind(
    name="responses-compatible",
    title="a server that speaks OpenAI's Responses",
    reading="api",
    anybodys=True,
    paths=RESPONSES,
    preferred=("openai.responses",),
    health=OPENAI_COMPATIBLE.health,
    models=OPENAI_COMPATIBLE.models,
    features=OPENAI_COMPATIBLE.features,
)

COMPATIBLE = (
    RESPONSES_COMPATIBLE,
    *(_host(*host, paths=_CHAT) for host in _HOSTS),
    *(_host(*host, paths=_BARE) for host in _BARE_HOSTS),
)
