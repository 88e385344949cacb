"""`trunkline serve` with the flags of other servers."""

from __future__ import annotations

import os

import pytest

from trunkline.cli.errors import UsageError
from trunkline.cli.models import FROM_MODEL
from trunkline.cli.options import read_options
from trunkline.cli.serve import new_serve_parser, server_config
from trunkline.cli.spellings import translate
from trunkline.engine.config import EngineConfig


def translated(text: str) -> str:
    return " ".join(translate(text.split(), new_serve_parser()))


@pytest.mark.parametrize(
    ("given", "ours"),
    [
        # vLLM
        ("m --max-model-len 4096 --max-num-seqs 8", "m --ctx-size 4096 --max-num-seqs 8"),
        ("m --max_model_len=4096", "m --ctx-size 4096"),
        ("--model m --no-enable-prefix-caching", "m --no-prefix-cache"),
        ("m --enable-chunked-prefill --enable-auto-tool-choice", "m"),
        ("m --kv-cache-memory-bytes 1G", "m --kv-memory 1G"),
        # SGLang
        (
            "--model-path m --max-running-requests 3 --disable-radix-cache",
            ("m --max-num-seqs 3 --no-prefix-cache"),
        ),
        ("--model-path m --max-queued-requests 5", "m --max-queue 5"),
        # TGI
        (
            "--model-id m --hostname 0.0.0.0 -p 80 --max-total-tokens 9",
            ("m --host 0.0.0.0 --port 80 --ctx-size 9"),
        ),
        ("m --max-concurrent-requests 128", "m --max-num-seqs 64 --max-queue 64"),
        ("m --max-concurrent-requests=2", "m --max-num-seqs 2 --max-queue 0"),
        (
            "m --max-num-seqs 8 --max-concurrent-requests 10",
            ("m --max-num-seqs 8 --max-num-seqs 8 --max-queue 2"),
        ),
        # llama.cpp
        (
            "-m m -c 4096 -np 4 -t 8 -cb --jinja --metrics",
            ("m --ctx-size 4096 --max-num-seqs 4 --threads 8"),
        ),
        (
            "-m m -a wagon --chat-template-file t --no-cache-prompt",
            ("m --served-model-name wagon --chat-template t --no-prefix-cache"),
        ),
        # LMDeploy, TensorRT-LLM
        ("m --session-len 9 --server-port 1", "m --ctx-size 9 --port 1"),
        (
            "m --max_seq_len 9 --max_batch_size 2 --tool_parser hermes",
            ("m --ctx-size 9 --max-num-seqs 2 --tool-call-parser hermes"),
        ),
        # Ours, and what nobody knows, stay.
        ("m --ctx-size 9 --port 1 --no-prefix-cache", "m --ctx-size 9 --port 1 --no-prefix-cache"),
        ("m --unheard-of 3", "m --unheard-of 3"),
        ("m -- -c", "m -- -c"),
    ],
)
def test_flags_of_other_servers(given: str, ours: str) -> None:
    assert translated(given) == ours


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("m --tensor-parallel-size 2", "--tensor-parallel-size: the built-in engine computes on"),
        ("m --num-shard=2", "--num-shard: the built-in engine computes on the CPU"),
        ("m --gpu-memory-utilization .9", "--gpu-memory-utilization: set --kv-memory, in bytes"),
        ("m --max-num-batched-tokens 9", "--max-num-batched-tokens: set --max-step-ms"),
        ("m --trust-remote-code", "--trust-remote-code: no code of a model is ever run"),
        ("m --no-cont-batching", "--no-cont-batching: cannot be turned off here"),
        ("m --enable-chunked-prefill=false", "--enable-chunked-prefill: cannot be turned off"),
        ("m --enable-chunked-prefill=maybe", "--enable-chunked-prefill: expected true or false"),
        ("m --max-model-len", "--max-model-len: expected one argument"),
        ("m --max-concurrent-requests 0", "--max-concurrent-requests: expected a whole number of"),
        (
            "m --max-concurrent-requests 9 --max-queue 3",
            "--max-concurrent-requests: --max-queue is given as well; leave one of them out",
        ),
        ("m --num_workers 4", "--num_workers: one process serves all connections"),
    ],
)
def test_what_we_do_not_have_says_what_to_use(given: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        translated(given)
    assert str(caught.value).startswith(message)


def test_a_command_line_of_llama_cpp_configures_the_engine() -> None:
    parser = new_serve_parser()
    argv = [
        "-m",
        "caboose",
        "-c",
        "512",
        "-np",
        "2",
        "--host",
        "0.0.0.0",
        "--api-key",
        "k",
        "--no-cache-prompt",
    ]
    arguments = parser.parse_args(translate(argv, parser))
    assert arguments.model == "caboose"
    engine = read_options(EngineConfig, arguments, {}, name="x", model="x")
    assert engine == EngineConfig(
        name="x", model="x", ctx_size=512, max_num_seqs=2, prefix_cache=False
    )
    server = server_config(arguments, {})
    assert (server.host, server.api_key) == ("0.0.0.0", ("k",))
    assert FROM_MODEL == ("name", "model")


def test_litellms_master_key_is_the_servers_where_there_is_no_other() -> None:
    def keys(*argv: str, **environ: str) -> tuple[str, ...]:
        return server_config(new_serve_parser().parse_args(argv), environ).api_key

    assert keys(LITELLM_MASTER_KEY="sk-1") == ("sk-1",)
    assert keys("--api-key", "a", LITELLM_MASTER_KEY="sk-1") == ("a",)
    assert keys(TRUNKLINE_API_KEY="b", LITELLM_MASTER_KEY="sk-1") == ("b",)
    assert keys(LITELLM_MASTER_KEY=" ") == ()
    assert os.environ.get("LITELLM_MASTER_KEY") is None
