"""Pages of metrics as the engines' documentation shows them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.backends import scrape
from trunkline.backends.kind import MetricNames
from trunkline.backends.kinds import KINDS
from trunkline.backends.scrape import Rates, Reading
from trunkline.core.errors import UpstreamFailed
from trunkline.core.types import BackendStats

# vLLM, docs/usage/metrics.md and its exporter's output; two engines behind one port.
VLLM = b"""\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="meta-llama/Llama-3.1-8B-Instruct"} 8.0
vllm:num_requests_running{engine="1",model_name="meta-llama/Llama-3.1-8B-Instruct"} 4.0
vllm:num_requests_waiting{engine="0",model_name="meta-llama/Llama-3.1-8B-Instruct"} 3.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.75
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 1200.0
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 300.0
vllm:num_preemptions_total{engine="0",model_name="m"} 2.0
vllm:prompt_tokens_total{engine="0",model_name="m"} 5000.0
vllm:generation_tokens_total{engine="0",model_name="m"} 27453.0
vllm:generation_tokens_created{engine="0",model_name="m"} 1.75e+09
vllm:cache_config_info{block_size="16",cache_dtype="auto",num_gpu_blocks="1000"} 1.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="m"} 0.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="m"} 140.0
vllm:time_to_first_token_seconds_count{engine="0",model_name="m"} 140.0
vllm:time_to_first_token_seconds_sum{engine="0",model_name="m"} 7.0
"""

# SGLang, docs/references/production_metrics.md.
SGLANG = b"""\
# HELP sglang:prompt_tokens_total Number of prefill tokens processed.
# TYPE sglang:prompt_tokens_total counter
sglang:prompt_tokens_total{model_name="meta-llama/Llama-3.1-8B-Instruct"} 8.128902e+06
sglang:generation_tokens_total{model_name="meta-llama/Llama-3.1-8B-Instruct"} 7.557572e+06
# HELP sglang:token_usage The token usage
# TYPE sglang:token_usage gauge
sglang:token_usage{model_name="meta-llama/Llama-3.1-8B-Instruct"} 0.28
sglang:cache_hit_rate{model_name="meta-llama/Llama-3.1-8B-Instruct"} 0.007507552643049313
sglang:time_to_first_token_seconds_sum{model_name="meta-llama/Llama-3.1-8B-Instruct"} 2.3518e+06
sglang:time_to_first_token_seconds_count{model_name="meta-llama/Llama-3.1-8B-Instruct"} 11008.0
sglang:num_running_reqs{model_name="meta-llama/Llama-3.1-8B-Instruct"} 162.0
sglang:num_used_tokens{model_name="meta-llama/Llama-3.1-8B-Instruct"} 123859.0
sglang:gen_throughput{model_name="meta-llama/Llama-3.1-8B-Instruct"} 86.50814177726902
sglang:num_queue_reqs{model_name="meta-llama/Llama-3.1-8B-Instruct"} 2826.0
"""

# TGI, docs/source/reference/metrics.md.
TGI = b"""\
# TYPE tgi_queue_size gauge
tgi_queue_size 5
# TYPE tgi_batch_current_size gauge
tgi_batch_current_size 16
# TYPE tgi_request_generated_tokens histogram
tgi_request_generated_tokens_bucket{le="128"} 4
tgi_request_generated_tokens_sum 640
tgi_request_generated_tokens_count 5
tgi_request_input_length_sum 900
"""

# llama.cpp, tools/server/README.md.
LLAMACPP = b"""\
# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed.
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 1027
llamacpp:prompt_tokens_cached_total 27
llamacpp:tokens_predicted_total 4096
llamacpp:predicted_tokens_seconds 25.5
llamacpp:requests_processing 3
llamacpp:requests_deferred 2
"""

# Triton, docs/user_guide/metrics.md.
TRITON = b"""\
# TYPE nv_inference_pending_request_count gauge
nv_inference_pending_request_count{model="llm",version="1"} 6
nv_inference_pending_request_count{model="tokenizer",version="1"} 1
nv_inference_request_success{model="llm",version="1"} 100
nv_gpu_utilization{gpu_uuid="GPU-1"} 0.5
"""

LMDEPLOY = b"""\
lmdeploy:num_requests_running{engine="0",model_name="m"} 7.0
lmdeploy:num_requests_waiting{engine="0",model_name="m"} 1.0
lmdeploy:gpu_cache_usage_perc{engine="0",model_name="m"} 0.5
lmdeploy:generation_tokens_total{engine="0",model_name="m"} 1000.0
"""

# TensorRT-LLM: a list of IterationStats, emptied by reading.
TRTLLM = b"""[
{"iter": 1, "iterLatencyMS": 20.0, "numActiveRequests": 3, "numQueuedRequests": 0,
 "inflightBatchingStats": {"numGenRequests": 2, "avgNumDecodedTokensPerIter": 1.0}},
{"iter": 2, "iterLatencyMS": 20.0, "numActiveRequests": 5, "numQueuedRequests": 3,
 "kvCacheStats": {"maxNumBlocks": 1000, "freeNumBlocks": 400, "usedNumBlocks": 600,
                  "tokensPerBlock": 64, "reusedBlocks": 30, "missedBlocks": 70},
 "inflightBatchingStats": {"numGenRequests": 4, "avgNumDecodedTokensPerIter": 1.5}}
]"""

# Ollama, docs/api.md.
OLLAMA = b"""{"models": [{"name": "mistral:latest", "model": "mistral:latest",
"size": 5137025024, "digest": "2ae6", "details": {"family": "llama"},
"expires_at": "2024-06-04T14:38:31.83753-07:00", "size_vram": 5137025024}]}"""


def read(kind: str, page: bytes) -> Reading:
    names = KINDS[kind].metrics
    assert names is not None
    reading = scrape.read(names, page)
    assert reading is not None
    return reading


def test_vllm() -> None:
    reading = read("vllm", VLLM)
    assert reading.stats == BackendStats(
        running=12,
        waiting=3,
        kv_in_use=8000,
        kv_total=16000,
        kv_usage=0.5,
        prefix_queries=1200,
        prefix_hits=300,
        preemptions=2,
    )
    assert (reading.output_tokens, reading.ttft_sum, reading.ttft_count) == (27453.0, 7.0, 140.0)


def test_sglang() -> None:
    stats = read("sglang", SGLANG).stats
    assert (stats.running, stats.waiting, stats.kv_usage) == (162, 2826, 0.28)
    assert stats.kv_in_use == 123859
    assert stats.tokens_per_second == pytest.approx(86.508, abs=0.001)


def test_tgi() -> None:
    reading = read("tgi", TGI)
    assert (reading.stats.running, reading.stats.waiting) == (16, 5)
    assert reading.output_tokens == 640


def test_llamacpp() -> None:
    reading = read("llamacpp", LLAMACPP)
    assert (reading.stats.running, reading.stats.waiting) == (3, 2)
    assert (reading.stats.prefix_queries, reading.stats.prefix_hits) == (1027, 27)
    assert reading.output_tokens == 4096


def test_triton() -> None:
    assert read("triton", TRITON).stats.waiting == 7
    assert read("triton", VLLM).stats.waiting == 3


def test_lmdeploy() -> None:
    reading = read("lmdeploy", LMDEPLOY)
    stats = reading.stats
    assert (stats.running, stats.waiting, stats.kv_usage) == (7, 1, 0.5)
    assert reading.output_tokens == 1000


def test_tensorrt_llm() -> None:
    stats = read("tensorrt-llm", TRTLLM).stats
    assert (stats.running, stats.waiting) == (5, 3)
    assert (stats.kv_in_use, stats.kv_total, stats.kv_usage) == (38400, 64000, 0.6)
    assert (stats.prefix_queries, stats.prefix_hits) == (6400, 1920)
    assert stats.tokens_per_second == pytest.approx(8 / 0.04)
    names = KINDS["tensorrt-llm"].metrics
    assert names is not None
    assert scrape.read(names, b"[]") is None


def test_ollama() -> None:
    stats = read("ollama", OLLAMA).stats
    assert stats.resident_models == ("mistral:latest",)
    assert stats.resident_bytes == 5137025024


def test_rates_are_differences() -> None:
    rates = Rates()
    first = Reading(stats=BackendStats(), output_tokens=100, ttft_sum=1.0, ttft_count=10)
    later = Reading(stats=BackendStats(), output_tokens=600, ttft_sum=3.0, ttft_count=20)
    assert rates.take(first, 10.0).tokens_per_second == 0
    stats = rates.take(later, 20.0)
    assert stats.tokens_per_second == 50.0
    assert stats.ttft == pytest.approx(0.2)
    # Started again: nothing negative. Idle: nothing.
    stats = rates.take(first, 30.0)
    assert (stats.tokens_per_second, stats.ttft) == (0.0, 0.0)
    assert rates.take(first, 40.0).tokens_per_second == 0
    # Too long ago to be called recent.
    assert rates.take(later, 1000.0).tokens_per_second == 0


def test_what_is_not_a_number_does_not_count() -> None:
    page = (
        b"vllm:num_requests_running 2\nvllm:kv_cache_usage_perc NaN\nvllm:num_requests_waiting +Inf"
    )
    stats = read("vllm", page).stats
    assert (stats.running, stats.waiting, stats.kv_usage) == (2, 0, 0.0)


@pytest.mark.parametrize("shape", ["trtllm", "ollama"])
@pytest.mark.parametrize("page", [b"<html>", b'{"a": 1}', b'[{"a": 1}]', b"[1]", b'"x"'])
def test_pages_of_another_kind_are_refused(shape: str, page: bytes) -> None:
    with pytest.raises(UpstreamFailed, match="cannot be read"):
        scrape.read(MetricNames(shape=shape), page)  # type: ignore[arg-type]


@given(st.binary(max_size=200))
def test_no_page_breaks_the_parsers(page: bytes) -> None:
    for kind in ("vllm", "tensorrt-llm", "ollama"):
        names = KINDS[kind].metrics
        assert names is not None
        try:
            scrape.read(names, page)
        except UpstreamFailed:
            pass
