"""Which endpoints and parameters of KServe's generate extension are supported."""

from __future__ import annotations

from trunkline.wire.kserve.fields import Parameters
from trunkline.wire.kserve.generate import GENERATE
from trunkline.wire.reference import Body, Page, ignored, refused, refused_here, yes

_GENERATE = (
    yes("text_input", "Bye", "The prompt, also as a list of one."),
    yes("id", "x", "Sent back."),
    yes("exclude_input_in_output", True, "Whether the answer leaves the prompt out."),
    yes("return_finish_reason", True, "Why it ended."),
    yes("return_num_input_tokens", True, "Tokens of the prompt."),
    yes("return_num_output_tokens", True, "Tokens of the answer."),
    yes("max_tokens", 5, "Most tokens; 16 where it is not given. Capped by the context."),
    yes("min_tokens", 2, "No end before so many tokens."),
    yes("temperature", 0.5, "0 takes the best token."),
    yes("top_p", 0.5, "Nucleus sampling."),
    yes("top_k", 5, "The k most probable tokens."),
    yes("min_p", 0.1, "Drops tokens below this share of the best one's probability."),
    yes("presence_penalty", 0.5, "Subtracted once from tokens that the answer holds."),
    yes("frequency_penalty", 0.5, "Subtracted for each time that the answer holds a token."),
    yes("repetition_penalty", 1.5, "Over prompt and answer."),
    yes("seed", 1, "The same seed gives the same answer on the same server."),
    yes("random_seed", 1, "TensorRT-LLM's name of it."),
    yes("stop", ["x"], "The answer ends before the first of them."),
    yes("stop_words", ["x"], "TensorRT-LLM's name of it."),
    yes("stop_token_ids", [3], "The answer ends after one of these tokens."),
    yes("ignore_eos", True, "Goes on past the end of text."),
    yes("skip_special_tokens", False, "Whether special tokens are left out of the text."),
    yes("include_stop_str_in_output", True, "The stop string stays in the text."),
    yes("min_length", 2, "TensorRT-LLM's name of `min_tokens`."),
    ignored("stream", True, "The path decides; `false` on `generate_stream`: one event."),
    ignored("unknown_field", 1, "So is every parameter that nobody knows."),
    refused("n", 2),
    refused("best_of", 2),
    refused("beam_width", 2),
    refused_here("bad_words", ["a"]),
    refused("image", ["x"]),
    refused_here("return_logprobs", True),
    refused_here("return_cumulative_logprob", True),
    refused_here("return_log_probs", True),
    refused_here("return_context_logits", True),
    refused_here("return_generation_logits", True),
    refused_here("lora", "x"),
    refused_here("use_beam_search", True),
)

PAGE = Page(
    name="kserve",
    title="KServe v2: the generate extension",
    about="As Triton's generate extension, with the parameters of its vLLM backend and of "
    "TensorRT-LLM's ensemble. They stand at the top, in `parameters`, or as JSON text in "
    "`sampling_parameters`. Models have the one version `1`. Inference with tensors, and gRPC, are "
    "not there yet.",
    endpoints={
        "kserve_server": "Name, version and extensions of the server.",
        "kserve_live": "This process answers.",
        "kserve_ready": "A model can answer.",
        "kserve_model": "What a model takes and gives.",
        "kserve_model_ready": "It can answer.",
        "kserve_generate": "One answer.",
        "kserve_generate_stream": "One answer, as server-sent events.",
    },
    bodies=(
        Body(
            title="Generate",
            codec=GENERATE,
            fields=Parameters,
            least={"text_input": "Hi"},
            parameters=_GENERATE,
            path={"model": "m"},
        ),
    ),
)
