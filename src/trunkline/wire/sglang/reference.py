"""Which endpoints and parameters of SGLang's own API are supported."""

from __future__ import annotations

from trunkline.wire.reference import Body, Page, ignored, refused, refused_here, yes
from trunkline.wire.sglang.fields import GenerateFields, Sampling
from trunkline.wire.sglang.generate import GENERATE

_LEAST = {"text": "Hi"}

_BODY = (
    yes("text", "Bye", "The prompt, or a list of prompts."),
    yes(
        "input_ids",
        [1, 2],
        "Token ids instead of a text, or a list of such lists.",
        instead_of="text",
    ),
    yes("sampling_params", {"top_k": 5}, "See below; one for all prompts or one for each."),
    yes("rid", "x", "Sent back."),
    yes("return_logprob", True, "Log probabilities of the tokens of the answer."),
    yes("top_logprobs_num", 2, "Alternatives for each token.", return_logprob=True),
    yes("logprob_start_len", 0, "From which token of the prompt on.", return_logprob=True),
    yes("return_text_in_logprobs", True, "The text of each token.", return_logprob=True),
    yes("stream", True, "Server-sent events, each with all the text so far."),
    yes("priority", 1, "Higher runs earlier."),
    yes("cache_salt", "x", "Prefixes are shared only where this is equal."),
    yes("model", "other", "Ours: name or alias, where several models are served."),
    ignored("unknown_field", 1, "So is every field that nobody knows."),
    refused("input_embeds", [[0.5]]),
    refused("image_data", ["x"]),
    refused("video_data", ["x"]),
    refused("audio_data", ["x"]),
    refused_here("token_ids_logprob", [1]),
    refused_here("return_hidden_states", True),
    refused("session_params", {"id": "x"}),
    refused_here("lora_path", "x"),
    refused_here("custom_logit_processor", "x"),
)

_SAMPLING = (
    yes("max_new_tokens", 5, "Most tokens; 128 where it is not given."),
    yes("min_new_tokens", 2, "No end before so many tokens."),
    yes("stop", ["x"], "Up to 16; the answer ends before the first of them."),
    yes("stop_token_ids", [3], "The answer ends after one of these tokens."),
    yes("temperature", 0.5, "0 takes the best token."),
    yes("top_p", 0.5, "Nucleus sampling."),
    yes("top_k", 5, "The k most probable tokens."),
    yes("min_p", 0.1, "Drops tokens below this share of the best one's probability."),
    yes("frequency_penalty", 0.5, "Subtracted for each time that the answer holds a token."),
    yes("presence_penalty", 0.5, "Subtracted once from tokens that the answer holds."),
    yes("repetition_penalty", 1.5, "Over prompt and answer."),
    yes("n", 2, "Answers to one prompt."),
    yes("json_schema", '{"type": "object"}', "A JSON schema."),
    yes("regex", "a+", "A regular expression."),
    yes("ebnf", 'root ::= "a"', "A grammar, GBNF."),
    yes("ignore_eos", True, "Goes on past the end of text."),
    yes("skip_special_tokens", False, "Whether special tokens are left out of the text."),
    yes("no_stop_trim", True, "The stop string stays in the text."),
    yes("logit_bias", {"7": 5}, "Added to the logits of token ids."),
    yes("sampling_seed", 1, "The same seed gives the same answer on the same server."),
    ignored("spaces_between_special_tokens", True),
    refused_here("stop_regex", ["x"]),
    refused_here("structural_tag", "x"),
    refused_here("custom_params", {"x": 1}),
)

PAGE = Page(
    name="sglang",
    title="SGLang: /generate",
    about="As SGLang's own API. Its other routes are [OpenAI's](openai.md).",
    endpoints={"generate": "Answers, where the body has `text` or `input_ids`."},
    bodies=(
        Body(
            title="Generate",
            codec=GENERATE,
            fields=GenerateFields,
            least=_LEAST,
            parameters=_BODY,
        ),
        Body(
            title="Sampling parameters",
            codec=GENERATE,
            fields=Sampling,
            least={**_LEAST, "sampling_params": {}},
            parameters=_SAMPLING,
            inside="sampling_params",
        ),
    ),
)
