"""Which endpoints and parameters of chat completions and completions are supported."""

from __future__ import annotations

from trunkline.wire.openai.chat import CHAT, ChatFields
from trunkline.wire.openai.completions import COMPLETIONS, CompletionFields
from trunkline.wire.reference import (
    Body,
    Page,
    amended,
    handed_on,
    ignored,
    refused,
    refused_here,
    yes,
)

_SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
_TOOL = {"type": "function", "function": {"name": "f", "parameters": _SCHEMA}}
_FUNCTION = {"name": "f", "parameters": _SCHEMA}


COMMON = (
    yes("model", "other", "Name or alias; may be left out where one model is served."),
    yes("stream", True, "Server-sent events as the answer comes."),
    yes("stream_options", {"include_usage": True}, "`include_usage` alone counts.", stream=True),
    yes("n", 2, "Answers to one prompt, which is computed once; at most 128."),
    yes("max_tokens", 5, "Most tokens of each answer."),
    yes("temperature", 0.5, "0 takes the best token."),
    yes("top_p", 0.5, "Nucleus sampling."),
    yes("stop", ["\n"], "Up to 16 strings; the answer ends before the first of them."),
    yes("presence_penalty", 0.5, "Subtracted once from tokens that the answer holds."),
    yes("frequency_penalty", 0.5, "Subtracted for each time that the answer holds a token."),
    yes("logit_bias", {"7": 5}, "Added to the logits of token ids."),
    yes("response_format", {"type": "json_object"}, "`json_object`, `json_schema`, `text`."),
    yes("seed", 1, "The same seed gives the same answer on the same server."),
    yes("top_k", 5, "vLLM's. The k most probable tokens."),
    yes("min_p", 0.1, "vLLM's. Drops tokens below this share of the best one's probability."),
    yes("typical_p", 0.5, "vLLM's. Locally typical sampling."),
    yes("repetition_penalty", 1.5, "vLLM's. Over prompt and answer."),
    yes("min_tokens", 2, "vLLM's. No end before so many tokens."),
    yes("ignore_eos", True, "vLLM's. Goes on past the end of text."),
    yes("stop_token_ids", [3], "vLLM's. The answer ends after one of these tokens."),
    yes("include_stop_str_in_output", True, "vLLM's. The stop string stays in the text."),
    yes("skip_special_tokens", False, "vLLM's. Whether special tokens are left out of the text."),
    yes("truncate_prompt_tokens", 5, "vLLM's. Only the prompt's last so many tokens are used."),
    yes("priority", 1, "vLLM's. Lower runs earlier."),
    yes("cache_salt", "x", "vLLM's. Prefixes are shared only where this is equal."),
    yes("structured_outputs", {"choice": ["a"]}, "vLLM's. Constrains the answer."),
    yes("guided_json", _SCHEMA, "vLLM's older name of a schema."),
    yes("guided_regex", "a+", "vLLM's older name of a regular expression."),
    yes("guided_choice", ["a"], "vLLM's older name of a choice."),
    yes("guided_grammar", 'root ::= "a"', "vLLM's older name of a grammar, GBNF or Lark."),
    yes("json_schema", _SCHEMA, "llama.cpp's and SGLang's name of a schema."),
    yes("regex", "a+", "SGLang's name of a regular expression."),
    yes("ebnf", 'root ::= "a"', "SGLang's name of a grammar, GBNF."),
    yes("grammar", 'root ::= "a"', "llama.cpp's name of a grammar, GBNF."),
    yes("prompt_logprobs", 1, "vLLM's. Log probabilities of the prompt; not in a stream."),
    yes("return_token_ids", True, "vLLM's. Token ids of prompt and answer."),
    handed_on("user", "me"),
    ignored("unknown_field", 1, "So is every field that nobody knows."),
    refused_here("use_beam_search", True, "vLLM's."),
    refused_here("allowed_token_ids", [1], "vLLM's."),
    refused_here("bad_words", ["a"], "vLLM's."),
    refused_here("logits_processors", ["x"], "vLLM's."),
    refused_here("return_tokens_as_token_ids", True, "vLLM's."),
)

_CHAT = amended(
    COMMON,
    yes("messages", [{"role": "user", "content": "Bye"}], "Text only; `developer` as `system`."),
    yes("max_completion_tokens", 5, "Newer name of `max_tokens`; it counts where both are given."),
    yes("logprobs", True, "Log probabilities of the tokens of the answer."),
    yes("top_logprobs", 2, "Alternatives for each token, up to 20.", logprobs=True),
    yes("tools", [_TOOL], "Functions and custom tools; other types are refused."),
    yes(
        "tool_choice",
        "required",
        "`none`, `auto`, `required`, a named function, `allowed_tools`. What is required is "
        "enforced by a grammar.",
        tools=[_TOOL],
    ),
    yes("parallel_tool_calls", False, "At most one call.", tools=[_TOOL]),
    yes("functions", [_FUNCTION], "What tools were before."),
    yes("function_call", {"name": "f"}, "What `tool_choice` was before.", functions=[_FUNCTION]),
    yes("reasoning_effort", "low", "A variable of the chat template; `none` turns thinking off."),
    yes("chat_template_kwargs", {"x": 1}, "vLLM's. Further variables of the chat template."),
    yes("add_generation_prompt", False, "vLLM's. Whether the prompt opens the answer's turn."),
    yes(
        "continue_final_message",
        True,
        "vLLM's. The last message is an assistant's, to be gone on with.",
        messages=[{"role": "assistant", "content": "One,"}],
    ),
    ignored("modalities", ["text"], "Any other than text is refused."),
    yes(
        "cache_control",
        {"type": "ephemeral"},
        "OpenRouter's; on parts, messages and tools, too. "
        "For a provider that keeps prompts where it is told to.",
    ),
    handed_on("prediction", {"type": "content", "content": "x"}),
    handed_on("store", True),
    handed_on("metadata", {"a": "b"}),
    handed_on("service_tier", "flex"),
    handed_on("verbosity", "low"),
    handed_on("prompt_cache_key", "x"),
    handed_on("prompt_cache_retention", "24h"),
    handed_on("prompt_cache_options", {"ttl": "30m"}),
    handed_on("safety_identifier", "x"),
    refused_here("audio", {"voice": "x", "format": "wav"}),
    refused_here("web_search_options", {}),
    refused_here("moderation", {"model": "omni-moderation-latest"}),
    refused_here("documents", [{"text": "x"}], "vLLM's."),
    refused_here("chat_template", "x", "vLLM's. The server's operator chooses the template."),
    refused_here("mm_processor_kwargs", {"x": 1}, "vLLM's."),
    refused_here("echo", True, "vLLM's."),
)

_COMPLETIONS = amended(
    COMMON,
    yes("prompt", "Bye", "A text, texts, token ids or lists of them; up to 256 prompts."),
    yes("logprobs", 2, "Log probabilities, with so many alternatives."),
    yes("best_of", 2, "So many are computed, the best `n` are answered; not in a stream."),
    yes("echo", True, "The prompt before the answer."),
    yes("add_special_tokens", False, "vLLM's. Whether BOS and the like are added."),
    yes("suffix", "x", "What comes behind the answer; refused where the model cannot fill in."),
    refused("prompt_embeds", "x", "vLLM's."),
)

PAGE = Page(
    name="openai",
    title="OpenAI: chat completions, completions, models",
    about="As OpenAI's API, with the further fields of vLLM's, SGLang's and llama.cpp's servers. "
    "More tokens than the context leaves are an error. The Responses API has "
    "[a page of its own](responses.md). All but completions answer without `/v1` too, and below "
    "`/openai/v1`; chat completions and completions also below `/openai/deployments/{model}` and "
    "`/engines/{model}`, as clients of Azure OpenAI and of LiteLLM's proxy ask.",
    endpoints={
        "chat_completions": "One answer or several to a conversation.",
        "completions": "Goes on from a text.",
        "models": "The models that there are; in Anthropic's shape for its clients.",
        "model": "One of them.",
    },
    bodies=(
        Body(
            title="Chat completions",
            codec=CHAT,
            fields=ChatFields,
            least={"messages": [{"role": "user", "content": "Hi"}]},
            parameters=_CHAT,
        ),
        Body(
            title="Completions",
            codec=COMPLETIONS,
            fields=CompletionFields,
            least={"prompt": "Hi"},
            parameters=_COMPLETIONS,
        ),
    ),
)
