"""Which endpoints and parameters of TGI's API are supported."""

from __future__ import annotations

from trunkline.wire.reference import Body, Page, ignored, refused_here, yes
from trunkline.wire.tgi.fields import GenerateFields, Parameters
from trunkline.wire.tgi.generate import ROOT

_BODY = (
    yes("inputs", "Bye", "The prompt."),
    yes("parameters", {"top_k": 5}, "See below. Without it tokens are drawn."),
    yes("stream", True, "Counts on `POST /` alone."),
    yes("model", "other", "Ours: name or alias, where several models are served."),
    ignored("options", {"use_cache": False}, "The hosted API's."),
)

_PARAMETERS = (
    yes("max_new_tokens", 5, "More than the context leaves is an error."),
    yes("do_sample", True, "Without it and any other word about sampling: the best token."),
    yes("temperature", 0.5, "1.0 alone does not turn sampling on, as in TGI."),
    yes("top_k", 5, "The k most probable tokens."),
    yes("top_p", 0.5, "Nucleus sampling."),
    yes("typical_p", 0.5, "Locally typical sampling."),
    yes("repetition_penalty", 1.5, "Over prompt and answer."),
    yes("frequency_penalty", 0.5, "Subtracted for each time that the answer holds a token."),
    yes("seed", 1, "The same seed gives the same answer on the same server."),
    yes("stop", ["x"], "Up to 16; the answer ends behind the first of them."),
    yes("truncate", 5, "Only the prompt's last so many tokens are used."),
    yes("return_full_text", False, "The prompt before the answer; the default on `POST /`."),
    yes("best_of", 2, "So many are computed, the best is answered.", do_sample=True),
    yes("details", True, "Tokens, why it ended, the seed."),
    yes("top_n_tokens", 2, "Alternatives for each token, up to 20.", details=True),
    yes("grammar", {"type": "regex", "value": "a+"}, "`json`, `json_schema`, `regex`."),
    yes("decoder_input_details", True, "The prompt's tokens; not in a stream.", details=True),
    refused_here("watermark", True),
    refused_here("adapter_id", "x"),
)

PAGE = Page(
    name="tgi",
    title="TGI: text-generation-inference",
    about="As TGI's own API: its server-sent events, headers, statuses and `error_type`s. Its "
    "Messages API is [OpenAI's](openai.md).",
    endpoints={
        "tgi": "As the hosted API: a list, or a stream where `stream` is true.",
        "generate": "One answer, where the body has `inputs`.",
        "tgi_generate_stream": "One answer, as server-sent events.",
        "tgi_info": "The model and its limits.",
        "tokenize": "The tokens of `inputs`.",
        "tgi_chat_tokenize": "The prompt of a conversation, and its tokens.",
        "health": "Whether a model can answer.",
    },
    bodies=(
        Body(
            title="Generate",
            codec=ROOT,
            fields=GenerateFields,
            least={"inputs": "Hi"},
            parameters=_BODY,
        ),
        Body(
            title="Parameters",
            codec=ROOT,
            fields=Parameters,
            least={"inputs": "Hi", "parameters": {}},
            parameters=_PARAMETERS,
            inside="parameters",
        ),
    ),
)
