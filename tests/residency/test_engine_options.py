"""Engine options: launching every engine, and reading every engine's spelling."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from trunkline.backends.kinds import KINDS
from trunkline.cli.serve import ServeOptions, new_serve_parser
from trunkline.cli.spellings import translate
from trunkline.engine.config import EngineConfig
from trunkline.residency.engine_options import (
    ENGINES,
    UnknownOption,
    arguments,
    canonical,
    check_options,
    variables,
)
from trunkline.residency.engine_table import ALWAYS, OPTIONS, PROGRAMS

# Flags as the engines' own documentation has them (vLLM docs/configuration/engine_args and
# cli/serve; SGLang docs/advanced_features/server_arguments; TGI docs/source/reference/launcher;
# llama.cpp tools/server/README; LMDeploy lmdeploy/cli/utils.py and serve.py; TensorRT-LLM
# tensorrt_llm/commands/serve.py; Ollama envconfig/config.go; LiteLLM litellm/proxy/proxy_cli.py).
DOCUMENTED = {
    "vllm": "--model --host --port --api-key --served-model-name --max-model-len --max-num-seqs "
    "--enable-prefix-caching --no-enable-prefix-caching --kv-cache-memory-bytes --chat-template "
    "--tool-call-parser --reasoning-parser --uvicorn-log-level --enable-chunked-prefill "
    "--no-enable-chunked-prefill --enable-auto-tool-choice --max-num-batched-tokens "
    "--gpu-memory-utilization --tensor-parallel-size -tp --pipeline-parallel-size -pp "
    "--data-parallel-size -dp --dtype --quantization -q --kv-cache-dtype --load-format --revision "
    "--tokenizer --download-dir --trust-remote-code --no-trust-remote-code --enforce-eager "
    "--no-enforce-eager --lora-modules --enable-lora --no-enable-lora --speculative-config --seed "
    "--api-server-count",
    "sglang": "--model-path --model --host --port --api-key --served-model-name --context-length "
    "--max-running-requests --max-queued-requests --disable-radix-cache --chat-template "
    "--tool-call-parser --reasoning-parser --log-level --enable-metrics --max-total-tokens "
    "--chunked-prefill-size --mem-fraction-static --tp-size --tp --tensor-parallel-size --pp-size "
    "--pipeline-parallel-size --dp-size --dp --data-parallel-size --ep-size --ep "
    "--expert-parallel-size --dtype --quantization --kv-cache-dtype --load-format --revision "
    "--tokenizer-path --download-dir --trust-remote-code --disable-cuda-graph --lora-paths "
    "--enable-lora --speculative-draft-model-path --speculative-algorithm --random-seed",
    "tgi": "--model-id --hostname --port -p --api-key --max-total-tokens --max-batch-size "
    "--max-concurrent-requests --max-batch-total-tokens --max-input-tokens --max-input-length "
    "--max-batch-prefill-tokens --cuda-memory-fraction --num-shard --dtype --quantize "
    "--kv-cache-dtype --revision --huggingface-hub-cache --trust-remote-code --lora-adapters "
    "--speculate PREFIX_CACHING PREFILL_CHUNKING",
    "llamacpp": "--model -m --host --port --api-key --api-key-file --alias -a --ctx-size -c "
    "--parallel -np --cache-prompt --no-cache-prompt --threads -t --chat-template-file "
    "--cont-batching -cb --no-cont-batching -nocb --jinja --no-jinja --metrics --slots --no-slots "
    "--batch-size -b --n-gpu-layers -ngl --gpu-layers --flash-attn -fa --lora --seed -s",
    "lmdeploy": "--server-name --server-port --api-keys --model-name --session-len "
    "--max-batch-size --max-concurrent-requests --enable-prefix-caching --chat-template "
    "--tool-call-parser --reasoning-parser --log-level --disable-metrics --max-prefill-token-num "
    "--cache-max-entry-count --tp --dp --ep --dtype --model-format --quant-policy --revision "
    "--download-dir --trust-remote-code --eager-mode --adapters --speculative-draft-model "
    "--speculative-algorithm",
    "tensorrt-llm": "--host --port --max_seq_len --max_batch_size --chat_template --tool_parser "
    "--reasoning_parser --log_level --enable_chunked_prefill --max_num_tokens "
    "--free_gpu_memory_fraction --kv_cache_free_gpu_memory_fraction --tp_size "
    "--tensor_parallel_size --pp_size --pipeline_parallel_size --ep_size "
    "--moe_expert_parallel_size --revision --tokenizer --trust_remote_code",
    "ollama": "OLLAMA_CONTEXT_LENGTH OLLAMA_NUM_PARALLEL OLLAMA_MAX_QUEUE OLLAMA_KV_CACHE_TYPE "
    "OLLAMA_MODELS OLLAMA_FLASH_ATTENTION OLLAMA_KEEP_ALIVE OLLAMA_MAX_LOADED_MODELS",
    "litellm": "--model -m --host --port --alias --limit_concurrency --drop_params --num_workers "
    "--request_timeout",
    "trunkline": "--host --port --api-key --api-key-file --served-model-name --ctx-size "
    "--max-num-seqs --max-concurrent-requests --max-queue --prefix-cache --no-prefix-cache "
    "--kv-memory --kv-cache-dtype --threads --chat-template --tool-call-parser "
    "--reasoning-parser --log-level",
}


@pytest.mark.parametrize("engine", ENGINES)
def test_the_table_has_flags_that_the_engine_documents(engine: str) -> None:
    spelt = {
        name.removeprefix("!")
        for option in OPTIONS
        for name in option.spellings.get(engine, "").split()
    }
    assert spelt == set(DOCUMENTED[engine].split())


def test_the_engines_of_the_table_are_kinds() -> None:
    assert set(ENGINES) - {"litellm"} <= set(KINDS)
    assert {engine for option in OPTIONS for engine in option.spellings} <= set(PROGRAMS)


def test_every_option_is_ours_or_says_what_to_use_instead() -> None:
    fields = {
        *(field.name for field in msgspec.structs.fields(EngineConfig)),
        *(field.name for field in msgspec.structs.fields(ServeOptions)),
        "max_concurrent_requests",
        ALWAYS,
    }
    for option in OPTIONS:
        assert (option.ours in fields) != bool(option.instead), option.name
        assert option.description.endswith("."), option.name
    assert len({option.name for option in OPTIONS}) == len(OPTIONS)


@pytest.mark.parametrize(
    ("flag", "name", "contrary"),
    [
        ("--max-model-len", "ctx_size", False),
        ("--max_model_len", "ctx_size", False),
        ("--max_seq_len", "ctx_size", False),
        ("--context-length", "ctx_size", False),
        ("-c", "ctx_size", False),
        # SGLang calls the size of its KV cache so; the context is what TGI means.
        ("--max-total-tokens", "ctx_size", False),
        ("-np", "max_num_seqs", False),
        ("--max-concurrent-requests", "max_concurrent_requests", False),
        ("--alias", "served_model_name", False),
        ("--hostname", "host", False),
        ("--num-shard", "tensor_parallel", False),
        ("--disable-radix-cache", "prefix_cache", True),
        ("--no-enable-prefix-caching", "prefix_cache", True),
    ],
)
def test_a_flag_of_any_engine_is_understood(flag: str, name: str, contrary: bool) -> None:
    spelling = canonical(flag)
    assert spelling is not None
    assert (spelling.option.name, spelling.contrary) == (name, contrary)


@pytest.mark.parametrize("flag", ["--nothing", "OLLAMA_NUM_PARALLEL", "ctx_size", ""])
def test_what_is_no_flag_is_none(flag: str) -> None:
    assert canonical(flag) is None


def test_our_own_server_takes_what_it_is_launched_with() -> None:
    options = {
        "ctx_size": 4096,
        "prefix_cache": False,
        "kv_memory": 2**28,
        "threads": 2,
        "served_model_name": "one",
    }
    parser = new_serve_parser()
    read = parser.parse_args(translate(["m", *arguments("trunkline", options)], parser))
    assert read.ctx_size == "4096"
    assert read.served_model_name == ["one"]
    assert read.prefix_cache in (False, "false")


OURS: dict[str, Any] = {"ctx_size": 4096, "max_num_seqs": 4}


@pytest.mark.parametrize(
    ("engine", "options", "expected"),
    [
        ("vllm", OURS, "--max-model-len 4096 --max-num-seqs 4"),
        ("trunkline", OURS, "--ctx-size 4096 --max-num-seqs 4"),
        ("sglang", OURS, "--context-length 4096 --max-running-requests 4"),
        ("tgi", OURS, "--max-total-tokens 4096 --max-batch-size 4"),
        # Its context is divided among the slots.
        ("llamacpp", OURS, "--ctx-size 16384 --parallel 4"),
        ("llamacpp", {"ctx_size": 4096}, "--ctx-size 4096"),
        ("lmdeploy", OURS, "--session-len 4096 --max-batch-size 4"),
        ("tensorrt-llm", OURS, "--max_seq_len 4096 --max_batch_size 4"),
        ("vllm", {"prefix_cache": False}, "--no-enable-prefix-caching"),
        ("sglang", {"prefix_cache": False}, "--disable-radix-cache"),
        ("sglang", {"prefix_cache": True}, ""),
        ("vllm", {"adapters": ["a=b", "c=d"]}, "--lora-modules a=b c=d"),
        (
            "vllm",
            {"gpu_memory": 0.5, "tensor_parallel": 2, "dtype": "bfloat16"},
            "--gpu-memory-utilization 0.5 --tensor-parallel-size 2 --dtype bfloat16",
        ),
        ("ollama", OURS, ""),
    ],
)
def test_arguments(engine: str, options: dict[str, Any], expected: str) -> None:
    assert " ".join(arguments(engine, options)) == expected


def test_variables() -> None:
    options = {**OURS, "flash_attention": "1"}
    assert variables("ollama", options) == {
        "OLLAMA_CONTEXT_LENGTH": "4096",
        "OLLAMA_NUM_PARALLEL": "4",
        "OLLAMA_FLASH_ATTENTION": "1",
    }
    assert variables("tgi", {"prefix_cache": False, "ctx_size": 9}) == {"PREFIX_CACHING": "0"}


@pytest.mark.parametrize(
    ("engine", "options", "message"),
    [
        ("vllm", {"ctxsize": 1}, "no option is called 'ctxsize'; did you mean 'ctx_size'?"),
        ("vllm", {"max_model_len": 1}, "'max_model_len' is called 'ctx_size' here"),
        ("ollama", {"tensor_parallel": 2}, "ollama has no 'tensor_parallel'; there are: ctx_size"),
        ("triton", {"ctx_size": 2}, "no options are known for 'triton'; write them in `launch."),
        ("vllm", {"ctx_size": True}, "ctx_size expects a whole number, not True"),
        ("vllm", {"prefix_cache": "yes"}, "prefix_cache expects true or false, not 'yes'"),
        ("vllm", {"gpu_memory": "all"}, "gpu_memory expects a number, not 'all'"),
        ("vllm", {"adapters": [1]}, r"adapters expects a list of texts, not [1]"),
    ],
)
def test_what_an_engine_cannot_have_is_refused(
    engine: str, options: dict[str, Any], message: str
) -> None:
    for function in (check_options, arguments, variables):
        with pytest.raises(UnknownOption) as caught:
            function(engine, options)
        assert str(caught.value).startswith(message)
