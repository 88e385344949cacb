"""Options of engines: one canonical name each, and how every engine spells it.

`engine_options` launches engines from it and reads the spelling that a user already knows. The
spellings are those of vLLM's `EngineArgs`, SGLang's `ServerArgs`, TGI's launcher, llama.cpp's
server, LMDeploy's `api_server`, `trtllm-serve`, Ollama's `envconfig` and LiteLLM's `proxy_cli`.
`scripts/soak engine_options` compares it with the parsers that are installed (vLLM 0.32 and SGLang
0.5.23 on 2026-11-21).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

Type = Literal["int", "float", "text", "list", "switch"]

# What our own server does with an option that it has no field for.
ALWAYS = "always"


class Option(msgspec.Struct, frozen=True):
    """One option.

    `spellings`: engine -> its flags, the first of which is used to launch it. "!" before a flag:
    it is a switch that means the contrary. A name in capitals is an environment variable.
    """

    name: str
    type: Type
    description: str
    spellings: Mapping[str, str]
    # Field of our own configuration, `ALWAYS` for what our engine does anyway, or "".
    ours: str = ""
    # What to use instead where we have no such option.
    instead: str = ""

    def flags(self, engine: str) -> tuple[str, ...]:
        """The engine's flags that turn it on or set it."""
        names = self.spellings.get(engine, "").split()
        return tuple(name for name in names if name[0] == "-")

    def contrary(self, engine: str) -> tuple[str, ...]:
        """The engine's flags that turn it off."""
        names = self.spellings.get(engine, "").split()
        return tuple(name[1:] for name in names if name[0] == "!")

    def variable(self, engine: str) -> str:
        """The engine's environment variable, or ""."""
        names = self.spellings.get(engine, "").split()
        return next((name for name in names if name[0] not in "-!"), "")


# Engine -> how it is started, MODEL being what `launch.model` names.
PROGRAMS: Mapping[str, tuple[str, ...]] = {
    "vllm": ("vllm", "serve", "MODEL"),
    "sglang": ("python3", "-m", "sglang.launch_server", "--model-path", "MODEL"),
    "tgi": ("text-generation-launcher", "--model-id", "MODEL"),
    "llamacpp": ("llama-server", "--model", "MODEL"),
    "lmdeploy": ("lmdeploy", "serve", "api_server", "MODEL"),
    "tensorrt-llm": ("trtllm-serve", "MODEL"),
    "ollama": ("ollama", "serve"),
    "litellm": ("litellm", "--model", "MODEL"),
    "trunkline": ("trunkline", "serve", "MODEL"),
}

_LAUNCH = "an engine that has it can be started from the configuration file, with `launch`"
_CPU = f"the built-in engine computes on the CPU of one machine; {_LAUNCH}"
_GGUF = f"the built-in engine runs a GGUF file as it is; {_LAUNCH}"


def _row(
    name: str,
    kind: Type,
    description: str,
    spellings: str,
    *,
    ours: str = "",
    instead: str = "",
) -> Option:
    """An option; `spellings` is "engine FLAG FLAG; engine FLAG"."""
    by_engine = dict(text.split(" ", 1) for text in spellings.split("; "))
    if ours not in ("", ALWAYS, "model"):
        # Our own flags are the fields' names (`cli.options`); the model has none.
        flag = ours.replace("_", "-")
        by_engine["trunkline"] = f"--{flag} !--no-{flag}" if kind == "switch" else f"--{flag}"
    return Option(name, kind, description, by_engine, ours, instead)


OPTIONS: tuple[Option, ...] = (
    _row(
        "model",
        "text",
        "Model to load.",
        "vllm --model; sglang --model-path --model; tgi --model-id; llamacpp --model -m; "
        "litellm --model -m",
        ours="model",
    ),
    _row(
        "host",
        "text",
        "Address to listen on.",
        "vllm --host; sglang --host; tgi --hostname; llamacpp --host; lmdeploy --server-name; "
        "tensorrt-llm --host; litellm --host",
        ours="host",
    ),
    _row(
        "port",
        "int",
        "Port to listen on.",
        "vllm --port; sglang --port; tgi --port -p; llamacpp --port; lmdeploy --server-port; "
        "tensorrt-llm --port; litellm --port",
        ours="port",
    ),
    _row(
        "api_key",
        "text",
        "Key that its clients must send.",
        "vllm --api-key; sglang --api-key; tgi --api-key; llamacpp --api-key; lmdeploy --api-keys",
        ours="api_key",
    ),
    _row(
        "api_key_file",
        "text",
        "File with keys, one on each line.",
        "llamacpp --api-key-file",
        ours="api_key_file",
    ),
    _row(
        "served_model_name",
        "text",
        "Name under which clients know the model.",
        "vllm --served-model-name; sglang --served-model-name; llamacpp --alias -a; "
        "lmdeploy --model-name; litellm --alias",
        ours="served_model_name",
    ),
    _row(
        "ctx_size",
        "int",
        "Longest prompt plus output of one request, in tokens.",
        "vllm --max-model-len; sglang --context-length; tgi --max-total-tokens; "
        "llamacpp --ctx-size -c; lmdeploy --session-len; tensorrt-llm --max_seq_len; "
        "ollama OLLAMA_CONTEXT_LENGTH",
        ours="ctx_size",
    ),
    _row(
        "max_num_seqs",
        "int",
        "Answers that are computed together.",
        "vllm --max-num-seqs; sglang --max-running-requests; tgi --max-batch-size; "
        "llamacpp --parallel -np; lmdeploy --max-batch-size; tensorrt-llm --max_batch_size; "
        "ollama OLLAMA_NUM_PARALLEL",
        ours="max_num_seqs",
    ),
    _row(
        "max_concurrent_requests",
        "int",
        "Requests at a time, waiting ones included; more are refused.",
        "tgi --max-concurrent-requests; lmdeploy --max-concurrent-requests; "
        "litellm --limit_concurrency",
        ours="max_concurrent_requests",
    ),
    _row(
        "max_queue",
        "int",
        "Requests that may wait; more are refused.",
        "sglang --max-queued-requests; ollama OLLAMA_MAX_QUEUE",
        ours="max_queue",
    ),
    _row(
        "prefix_cache",
        "switch",
        "Prompts that begin alike share the work already done.",
        "vllm --enable-prefix-caching !--no-enable-prefix-caching; "
        "sglang !--disable-radix-cache; tgi PREFIX_CACHING; "
        "llamacpp --cache-prompt !--no-cache-prompt; lmdeploy --enable-prefix-caching",
        ours="prefix_cache",
    ),
    _row(
        "kv_memory",
        "int",
        "Memory for the KV cache, in bytes.",
        "vllm --kv-cache-memory-bytes",
        ours="kv_memory",
    ),
    _row(
        "threads",
        "int",
        "Computing threads.",
        "llamacpp --threads -t",
        ours="threads",
    ),
    _row(
        "chat_template",
        "text",
        "Path of a Jinja chat template that replaces the model's own.",
        "vllm --chat-template; sglang --chat-template; llamacpp --chat-template-file; "
        "lmdeploy --chat-template; tensorrt-llm --chat_template",
        ours="chat_template",
    ),
    _row(
        "tool_call_parser",
        "text",
        "How the model writes tool calls.",
        "vllm --tool-call-parser; sglang --tool-call-parser; lmdeploy --tool-call-parser; "
        "tensorrt-llm --tool_parser",
        ours="tool_call_parser",
    ),
    _row(
        "reasoning_parser",
        "text",
        "How the model marks its thinking.",
        "vllm --reasoning-parser; sglang --reasoning-parser; lmdeploy --reasoning-parser; "
        "tensorrt-llm --reasoning_parser",
        ours="reasoning_parser",
    ),
    _row(
        "log_level",
        "text",
        "Least severe messages to log.",
        "vllm --uvicorn-log-level; sglang --log-level; lmdeploy --log-level; "
        "tensorrt-llm --log_level",
        ours="log_level",
    ),
    _row(
        "chunked_prefill",
        "switch",
        "Long prompts are read in pieces between the steps of other answers.",
        "vllm --enable-chunked-prefill !--no-enable-chunked-prefill; "
        "tensorrt-llm --enable_chunked_prefill; tgi PREFILL_CHUNKING",
        ours=ALWAYS,
    ),
    _row(
        "continuous_batching",
        "switch",
        "Requests join and leave the batch at every step.",
        "llamacpp --cont-batching -cb !--no-cont-batching !-nocb",
        ours=ALWAYS,
    ),
    _row(
        "auto_tool_choice",
        "switch",
        "The model may call tools on its own.",
        "vllm --enable-auto-tool-choice",
        ours=ALWAYS,
    ),
    _row(
        "jinja",
        "switch",
        "Chat templates are run by a Jinja engine.",
        "llamacpp --jinja !--no-jinja",
        ours=ALWAYS,
    ),
    _row(
        "metrics",
        "switch",
        "Prometheus metrics are served.",
        "llamacpp --metrics; sglang --enable-metrics; lmdeploy !--disable-metrics",
        ours=ALWAYS,
    ),
    _row(
        "slots_endpoint",
        "switch",
        "GET /slots is served.",
        "llamacpp --slots !--no-slots",
        ours=ALWAYS,
    ),
    _row(
        "drop_params",
        "switch",
        "Parameters that a backend does not know are left out.",
        "litellm --drop_params",
        instead="set `unsupported: drop` for the backend, in the configuration file",
    ),
    _row(
        "workers",
        "int",
        "Processes that take requests.",
        "litellm --num_workers; vllm --api-server-count",
        instead="one process serves all connections; leave it out",
    ),
    _row(
        "request_timeout",
        "float",
        "Seconds that a request to a backend may take.",
        "litellm --request_timeout",
        instead="set `timeouts` for the backend, in the configuration file",
    ),
    _row(
        "kv_tokens",
        "int",
        "Tokens that the KV cache holds, all requests together.",
        "sglang --max-total-tokens; tgi --max-batch-total-tokens",
        instead="set --kv-memory, in bytes",
    ),
    _row(
        "max_input_tokens",
        "int",
        "Longest prompt, in tokens.",
        "tgi --max-input-tokens --max-input-length",
        instead="set --ctx-size, which bounds prompt and output together",
    ),
    _row(
        "max_batch_tokens",
        "int",
        "Tokens that one step computes at most.",
        "vllm --max-num-batched-tokens; sglang --chunked-prefill-size; "
        "tgi --max-batch-prefill-tokens; llamacpp --batch-size -b; "
        "lmdeploy --max-prefill-token-num; tensorrt-llm --max_num_tokens",
        instead="set --max-step-ms: a step is bounded by its time, not its tokens",
    ),
    _row(
        "gpu_memory",
        "float",
        "Share of the GPU's memory to use; each engine counts it in its own way.",
        "vllm --gpu-memory-utilization; sglang --mem-fraction-static; "
        "tgi --cuda-memory-fraction; lmdeploy --cache-max-entry-count; "
        "tensorrt-llm --free_gpu_memory_fraction --kv_cache_free_gpu_memory_fraction",
        instead="set --kv-memory, in bytes",
    ),
    _row(
        "gpu_layers",
        "text",
        "Layers that are computed on the GPU.",
        "llamacpp --n-gpu-layers -ngl --gpu-layers",
        instead=_CPU,
    ),
    _row(
        "tensor_parallel",
        "int",
        "GPUs that share each layer.",
        "vllm --tensor-parallel-size -tp; sglang --tp-size --tp --tensor-parallel-size; "
        "tgi --num-shard; lmdeploy --tp; tensorrt-llm --tp_size --tensor_parallel_size",
        instead=_CPU,
    ),
    _row(
        "pipeline_parallel",
        "int",
        "Stages of layers, one after the other.",
        "vllm --pipeline-parallel-size -pp; sglang --pp-size --pipeline-parallel-size; "
        "tensorrt-llm --pp_size --pipeline_parallel_size",
        instead=_CPU,
    ),
    _row(
        "data_parallel",
        "int",
        "Copies of the model.",
        "vllm --data-parallel-size -dp; sglang --dp-size --dp --data-parallel-size; lmdeploy --dp",
        instead="name several engines or backends as targets of one route",
    ),
    _row(
        "expert_parallel",
        "int",
        "Groups that share the experts.",
        "sglang --ep-size --ep --expert-parallel-size; lmdeploy --ep; "
        "tensorrt-llm --ep_size --moe_expert_parallel_size",
        instead=_CPU,
    ),
    _row(
        "dtype",
        "text",
        "Type of weights and activations.",
        "vllm --dtype; sglang --dtype; tgi --dtype; lmdeploy --dtype",
        instead=_GGUF,
    ),
    _row(
        "quantization",
        "text",
        "How the weights are quantized.",
        "vllm --quantization -q; sglang --quantization; tgi --quantize; lmdeploy --model-format",
        instead=_GGUF,
    ),
    _row(
        "kv_dtype",
        "text",
        "Type of the KV cache's entries.",
        "vllm --kv-cache-dtype; sglang --kv-cache-dtype; tgi --kv-cache-dtype; "
        "lmdeploy --quant-policy; ollama OLLAMA_KV_CACHE_TYPE",
        ours="kv_cache_dtype",
    ),
    _row(
        "load_format",
        "text",
        "Format of the weights on disk.",
        "vllm --load-format; sglang --load-format",
        instead=_GGUF,
    ),
    _row(
        "revision",
        "text",
        "Revision of the model in its hub.",
        "vllm --revision; sglang --revision; tgi --revision; lmdeploy --revision; "
        "tensorrt-llm --revision",
        instead=_GGUF,
    ),
    _row(
        "tokenizer",
        "text",
        "Tokenizer, where it is not the model's.",
        "vllm --tokenizer; sglang --tokenizer-path; tensorrt-llm --tokenizer",
        instead="a GGUF file has its tokenizer in it; leave it out",
    ),
    _row(
        "download_dir",
        "text",
        "Where downloaded weights are kept.",
        "vllm --download-dir; sglang --download-dir; tgi --huggingface-hub-cache; "
        "lmdeploy --download-dir; ollama OLLAMA_MODELS",
        instead="set TRUNKLINE_HOME",
    ),
    _row(
        "trust_remote_code",
        "switch",
        "Run Python code that comes with the model.",
        "vllm --trust-remote-code !--no-trust-remote-code; sglang --trust-remote-code; "
        "tgi --trust-remote-code; lmdeploy --trust-remote-code; "
        "tensorrt-llm --trust_remote_code",
        instead="no code of a model is ever run; leave it out",
    ),
    _row(
        "eager",
        "switch",
        "Compute without captured GPU graphs.",
        "vllm --enforce-eager !--no-enforce-eager; sglang --disable-cuda-graph; "
        "lmdeploy --eager-mode",
        instead=_CPU,
    ),
    _row(
        "flash_attention",
        "text",
        "Flash attention: on, off or auto.",
        "llamacpp --flash-attn -fa; ollama OLLAMA_FLASH_ATTENTION",
        instead="the built-in engine chooses its attention itself; leave it out",
    ),
    _row(
        "adapters",
        "list",
        "LoRA adapters, as the engine writes them.",
        "vllm --lora-modules; sglang --lora-paths; tgi --lora-adapters; llamacpp --lora; "
        "lmdeploy --adapters",
        instead=_LAUNCH,
    ),
    _row(
        "lora",
        "switch",
        "LoRA adapters may be used.",
        "vllm --enable-lora !--no-enable-lora; sglang --enable-lora",
        instead=_LAUNCH,
    ),
    _row(
        "draft_model",
        "text",
        "Small model whose guesses the large one checks.",
        "sglang --speculative-draft-model-path; lmdeploy --speculative-draft-model",
        instead=_LAUNCH,
    ),
    _row(
        "speculation",
        "text",
        "Speculative decoding, as the engine writes it.",
        "vllm --speculative-config; sglang --speculative-algorithm; tgi --speculate; "
        "lmdeploy --speculative-algorithm",
        instead=_LAUNCH,
    ),
    _row(
        "seed",
        "int",
        "Seed of the random stream.",
        "vllm --seed; sglang --random-seed; llamacpp --seed -s",
        instead="send `seed` with the request",
    ),
    _row(
        "keep_alive",
        "text",
        "How long an idle model stays loaded.",
        "ollama OLLAMA_KEEP_ALIVE",
        instead="set `launch.keep_alive` in the configuration file",
    ),
    _row(
        "max_loaded_models",
        "int",
        "Models that are loaded together.",
        "ollama OLLAMA_MAX_LOADED_MODELS",
        instead="name each model in the configuration file",
    ),
)
