"""Which endpoints and parameters of vLLM's are supported that OpenAI's API does not have."""

from __future__ import annotations

from trunkline.wire.reference import Body, Page, yes
from trunkline.wire.vllm.lookups import DETOKENIZE, TOKENIZE, DetokenizeFields, TokenizeFields

_MESSAGES = [{"role": "user", "content": "Hi"}]

_TOKENIZE = (
    yes("prompt", "Bye", "A text."),
    yes("messages", _MESSAGES, "A body of chat completions.", instead_of="prompt"),
    yes("model", "other", "Name or alias."),
    yes("add_special_tokens", False, "Whether BOS and the like are added; of messages, never."),
    yes("return_token_strs", True, "What each token says."),
)

_DETOKENIZE = (
    yes("tokens", [2], "Token ids."),
    yes("model", "other", "Name or alias."),
)

PAGE = Page(
    name="vllm",
    title="vLLM: further endpoints",
    about="What vLLM's server has beside [OpenAI's API](openai.md), whose page lists its further "
    "parameters.",
    endpoints={
        "tokenize": "The tokens of `prompt` or `messages`.",
        "detokenize": "The text of `tokens`, under the names of all who share this path.",
        "vllm_load": "How many requests are under way.",
        "version": "Our version.",
        "health": "Whether a model can answer; `/ping` is the same.",
        "metrics": "Prometheus' text format, with vLLM's names as aliases.",
    },
    bodies=(
        Body(
            title="Tokenize",
            codec=TOKENIZE,
            fields=TokenizeFields,
            least={"prompt": "Hi"},
            parameters=_TOKENIZE,
        ),
        Body(
            title="Detokenize",
            codec=DETOKENIZE,
            fields=DetokenizeFields,
            least={"tokens": [1]},
            parameters=_DETOKENIZE,
        ),
    ),
)
