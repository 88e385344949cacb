"""Which endpoints and parameters of Ollama's API are supported."""

from __future__ import annotations

from trunkline.wire.ollama.chat import CHAT, ChatFields
from trunkline.wire.ollama.generate import GENERATE, GenerateFields
from trunkline.wire.ollama.options import NAMES
from trunkline.wire.reference import Body, Page, amended, handed_on, ignored, refused, yes

_TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
_FORMAT = {"type": "object"}

_COMMON = (
    yes("model", "other", "Name or alias, with or without `:latest`."),
    yes("stream", False, "True unless it says no: one JSON object a line."),
    yes("format", _FORMAT, '`"json"`, or a JSON schema.'),
    yes("options", {"top_k": 5}, "See below."),
    yes("think", True, "A variable of the chat template; a level or a boolean."),
    yes("logprobs", True, "Log probabilities of the tokens of the answer."),
    yes("top_logprobs", 2, "Alternatives for each token, up to 20.", logprobs=True),
    ignored("truncate", True, "A prompt that does not fit is an error, and is never cut."),
    ignored("shift", True, "An answer ends where the context is full."),
    refused("_debug_render_only", True),
)

_CHAT = amended(
    _COMMON,
    yes("messages", [{"role": "user", "content": "Bye"}], "None at all: load, or unload."),
    yes("tools", [_TOOL], "Functions."),
    yes("keep_alive", 0, "Of models on demand; what is always loaded stays so.", messages=[]),
)

_GENERATE = amended(
    _COMMON,
    yes("prompt", "Bye", "Empty: load, or unload."),
    yes("system", "Be brief.", "A system turn before the prompt."),
    yes("context", [1, 2], "Token ids of an earlier answer, to go on from."),
    yes("raw", True, "The prompt as it is, without the chat template."),
    yes("keep_alive", 0, "Of models on demand; what is always loaded stays so.", prompt=""),
    refused("template", "x", "It is the model's own that is used."),
    yes("suffix", "x", "What comes behind the answer; refused where the model cannot fill in."),
    refused("images", ["aGk="], "They pass where the server behind is an Ollama itself."),
)

_OPTIONS = (
    yes("temperature", 0.5, "0.8 where it is not given."),
    yes("top_k", 5, "40 where it is not given."),
    yes("top_p", 0.5, "0.9 where it is not given."),
    yes("min_p", 0.1, "Drops tokens below this share of the best one's probability."),
    yes("typical_p", 0.5, "Locally typical sampling."),
    yes("repeat_penalty", 1.5, "Over prompt and answer."),
    yes("presence_penalty", 0.5, "Subtracted once from tokens that the answer holds."),
    yes("frequency_penalty", 0.5, "Subtracted for each time that the answer holds a token."),
    yes("repeat_last_n", 0, "0 turns penalties off; else they look at all.", repeat_penalty=1.5),
    yes("seed", 1, "The same seed gives the same answer on the same server."),
    yes("num_predict", 5, "Most tokens of the answer; 0 and less: what the context leaves."),
    yes("stop", ["x"], "Up to 64; the answer ends before the first of them."),
    handed_on("num_ctx", 16, "More than a model here is served with is refused."),
    handed_on("num_keep", 1, "What runs here is loaded as it was told."),
    handed_on("num_batch", 1, "Likewise."),
    handed_on("num_gpu", 1, "Likewise."),
    handed_on("main_gpu", 1, "Likewise."),
    handed_on("num_thread", 1, "Likewise."),
    handed_on("draft_num_predict", 1, "Likewise."),
    handed_on("use_mmap", True, "Likewise."),
)

_LEAST_CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
_LEAST_GENERATE = {"model": "m", "prompt": "Hi"}

PAGE = Page(
    name="ollama",
    title="Ollama",
    about="As Ollama's API, for models that are served already. Most tokens are capped by what "
    "the context leaves. Calls that change the store, and embeddings, are not there yet.",
    endpoints={
        "ollama_chat": "One answer to a conversation.",
        "ollama_generate": "One answer to a prompt.",
        "ollama_tags": "The models that there are.",
        "ollama_ps": "Those that are loaded, and when they go.",
        "ollama_show": "What one of them is; takes `model`, or its older name `name`.",
        "ollama_version": "A version that clients of Ollama accept.",
        "root": '"Ollama is running", for programs that wait for it.',
    },
    bodies=(
        Body(
            title="Chat",
            codec=CHAT,
            fields=ChatFields,
            least=_LEAST_CHAT,
            parameters=_CHAT,
        ),
        Body(
            title="Generate",
            codec=GENERATE,
            fields=GenerateFields,
            least=_LEAST_GENERATE,
            parameters=_GENERATE,
        ),
        Body(
            title="Options of both",
            codec=GENERATE,
            fields=NAMES,
            least=_LEAST_GENERATE,
            parameters=_OPTIONS,
            inside="options",
        ),
    ),
)
