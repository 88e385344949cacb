"""Which endpoints and parameters of llama.cpp's server are supported."""

from __future__ import annotations

from trunkline.wire.llamacpp.completion import COMPLETION, INFILL
from trunkline.wire.llamacpp.fields import CompletionFields
from trunkline.wire.llamacpp.infill import InfillFields
from trunkline.wire.llamacpp.lookups import TOKENIZE, TokenizeFields
from trunkline.wire.reference import Body, Page, amended, ignored, refused_here, yes

_COMPLETION = (
    yes("prompt", "Bye", "A text, token ids, both in turn, or a list of these."),
    yes("model", "other", "Name or alias, where several models are served."),
    yes("stream", True, "Server-sent events, without `[DONE]`."),
    yes("n_predict", 5, "Most tokens; -1: what the context leaves. Capped by that."),
    yes("max_tokens", 5, "The same."),
    yes("max_completion_tokens", 5, "The same."),
    yes("n_cmpl", 2, "Answers to one prompt."),
    yes("n", 2, "The same."),
    yes("stop", ["x"], "Up to 64; the answer ends before the first of them."),
    yes("n_indent", 2, "The answer ends before a line with fewer spaces or tabs in front."),
    yes("t_max_predict_ms", 100, "From then on the answer ends with the next line end."),
    yes("ignore_eos", True, "No end of text."),
    yes("logit_bias", [[7, 5.0]], "By token id; `false` forbids. Texts are refused."),
    yes("grammar", 'root ::= "a"', "GBNF."),
    yes("json_schema", {"type": "object"}, "A JSON schema."),
    yes("cache_prompt", False, "Whether the prompt's prefix may come from the cache."),
    yes("return_tokens", True, "Token ids of the answer."),
    yes("response_fields", ["content"], "Only these fields are answered."),
    yes(
        "samplers",
        ["top_k"],
        "Which are on, in the default order, `infill` last; another is refused.",
    ),
    yes("seed", 1, "-1 draws one."),
    yes("temperature", 0.5, "0.8 where it is not given."),
    yes("top_k", 5, "40 where it is not given."),
    yes("top_p", 0.5, "0.95 where it is not given."),
    yes("min_p", 0.1, "0.05 where it is not given."),
    yes("typical_p", 0.5, "Locally typical sampling."),
    yes("repeat_penalty", 1.5, "Over prompt and answer."),
    yes("repeat_last_n", 0, "0 turns penalties off; else they look at all.", repeat_penalty=1.5),
    yes("presence_penalty", 0.5, "Subtracted once from tokens that the answer holds."),
    yes("frequency_penalty", 0.5, "Subtracted for each time that the answer holds a token."),
    yes("n_probs", 2, "Log probabilities, with so many alternatives."),
    yes("logprobs", 2, "The same."),
    ignored("id_slot", 1, "The scheduler chooses."),
    ignored("n_keep", 1, "Nothing is ever cut out of a context."),
    ignored("n_discard", 1, "Likewise."),
    ignored("n_cache_reuse", 1, "Likewise."),
    ignored("timings_per_token", True),
    ignored("return_progress", True),
    ignored("sse_ping_interval", 1),
    ignored("backend_sampling", True),
    ignored("preserved_tokens", []),
    ignored("verbose", True),
    ignored("t_max_prompt_ms", 500, "Nor does that server heed it."),
    ignored("xtc_threshold", 0.3, "`xtc_probability` is what asks for something."),
    refused_here("post_sampling_probs", True),
    refused_here("dynatemp_range", 0.5),
    refused_here("top_n_sigma", 1.0),
    refused_here("xtc_probability", 0.5),
    refused_here("dry_multiplier", 0.5),
    refused_here("mirostat", 1),
    refused_here("adaptive_target", 0.5),
    refused_here("min_keep", 2),
    refused_here("reasoning_budget_tokens", 10),
    refused_here("lora", [{"id": 0, "scale": 1.0}]),
    refused_here("grammar_lazy", True),
    refused_here("grammar_triggers", [{"type": 0, "value": "x"}]),
)

_INFILL = amended(
    _COMPLETION,
    yes("input_prefix", "Bye", "What comes before the gap."),
    yes("input_suffix", "bye", "What comes behind it."),
    yes("input_extra", [{"filename": "a.py", "text": "x"}], "Other files."),
    yes("prompt", "Bye", "Goes behind the prefix; a text alone."),
)

_TOKENIZE = (
    yes("content", "Bye", "A text, or texts and token ids in turn."),
    yes("model", "other", "Name or alias, where several models are served."),
    yes("add_special", True, "Whether BOS and the like are added."),
    yes("parse_special", False, "Whether names of special tokens are those tokens."),
    yes("with_pieces", True, "What each token says."),
)

PAGE = Page(
    name="llamacpp",
    title="llama.cpp: llama-server",
    about="As llama.cpp's own API, b11549. Its chat completions are [OpenAI's](openai.md), its "
    "messages [Anthropic's](anthropic.md).",
    endpoints={
        "llamacpp_completion": "One answer or several to one prompt or several.",
        "llamacpp_infill": "Fills a gap; refused where the model has no tokens for that.",
        "llamacpp_apply_template": "The prompt of a conversation.",
        "tokenize": "The tokens of `content`.",
        "detokenize": "The text of `tokens`.",
        "llamacpp_props": "The model, its template and the defaults.",
        "llamacpp_slots": "What each place in the batch does.",
        "metrics": "Prometheus' text format.",
        "health": "Whether a model can answer.",
    },
    bodies=(
        Body(
            title="Completion",
            codec=COMPLETION,
            fields=CompletionFields,
            least={"prompt": "Hi"},
            parameters=_COMPLETION,
        ),
        Body(
            title="Infill",
            codec=INFILL,
            fields=InfillFields,
            least={"input_prefix": "a", "input_suffix": "b"},
            parameters=_INFILL,
        ),
        Body(
            title="Tokenize",
            codec=TOKENIZE,
            fields=TokenizeFields,
            least={"content": "Hi"},
            parameters=_TOKENIZE,
        ),
    ),
)
