"""ctypes mirrors of the C structs of llama.h at build b11549 (x86-64 and arm64, 64-bit pointers).

The layout changes between builds of llama.cpp, so `library` accepts tested shared objects only and
reads the defaults of every struct back. Each default that is known is written beside its struct;
fields that are not listed in `DEFAULTS` of a struct default to zero or null.
"""

from __future__ import annotations

import ctypes as c
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

ProgressCallback = c.CFUNCTYPE(c.c_bool, c.c_float, c.c_void_p)
LogCallback = c.CFUNCTYPE(None, c.c_int, c.c_char_p, c.c_void_p)

# llama_token_attr bits
ATTR_UNKNOWN, ATTR_CONTROL, ATTR_USER_DEFINED, ATTR_LSTRIP = 2, 8, 16, 128
# Most sequences of one context (LLAMA_MAX_SEQ); the function that tells is not exported.
MAX_SEQUENCES = 256


class ModelParams(c.Structure):
    """struct llama_model_params, 80 bytes."""

    SIZE: ClassVar[int] = 80
    DEFAULTS: ClassVar[Mapping[str, int | float]] = MappingProxyType(
        {"n_gpu_layers": -1, "split_mode": 1, "load_mode": -1, "lazy_mode": 1, "use_extra_bufts": 1}
    )
    _fields_ = (
        ("devices", c.c_void_p),
        ("tensor_buft_overrides", c.c_void_p),
        ("n_gpu_layers", c.c_int32),
        ("split_mode", c.c_int),
        ("load_mode", c.c_int),
        ("lazy_mode", c.c_int),
        ("main_gpu", c.c_int32),
        ("tensor_split", c.c_void_p),
        ("progress_callback", ProgressCallback),
        ("progress_callback_user_data", c.c_void_p),
        ("kv_overrides", c.c_void_p),
        ("vocab_only", c.c_bool),
        ("check_tensors", c.c_bool),
        ("use_extra_bufts", c.c_bool),
        ("no_host", c.c_bool),
        ("no_alloc", c.c_bool),
        ("load_mtp", c.c_bool),
    )


class ContextParams(c.Structure):
    """struct llama_context_params, 168 bytes."""

    SIZE: ClassVar[int] = 168
    DEFAULTS: ClassVar[Mapping[str, int | float]] = MappingProxyType(
        {
            "n_ctx": 512,
            "n_batch": 2048,
            "n_ubatch": 512,
            "n_seq_max": 1,
            "n_outputs_max_per_seq": 1,
            "n_threads": 4,
            "n_threads_batch": 4,
            "rope_scaling_type": -1,
            "pooling_type": -1,
            "attention_type": -1,
            "flash_attn_type": -1,
            "yarn_ext_factor": -1.0,
            "yarn_attn_factor": -1.0,
            "yarn_beta_fast": -1.0,
            "yarn_beta_slow": -1.0,
            "defrag_thold": -1.0,
            "type_k": 1,
            "type_v": 1,
            "offload_kqv": 1,
            "no_perf": 1,
            "op_offload": 1,
            "swa_full": 1,
        }
    )
    _fields_ = (
        ("n_ctx", c.c_uint32),
        ("n_batch", c.c_uint32),
        ("n_ubatch", c.c_uint32),
        ("n_seq_max", c.c_uint32),
        ("n_rs_seq", c.c_uint32),
        ("n_outputs_max", c.c_uint32),
        ("n_outputs_max_per_seq", c.c_uint32),
        ("n_threads", c.c_int32),
        ("n_threads_batch", c.c_int32),
        ("ctx_type", c.c_int),
        ("rope_scaling_type", c.c_int),
        ("pooling_type", c.c_int),
        ("attention_type", c.c_int),
        ("flash_attn_type", c.c_int),
        ("rope_freq_base", c.c_float),
        ("rope_freq_scale", c.c_float),
        ("yarn_ext_factor", c.c_float),
        ("yarn_attn_factor", c.c_float),
        ("yarn_beta_fast", c.c_float),
        ("yarn_beta_slow", c.c_float),
        ("yarn_orig_ctx", c.c_uint32),
        ("defrag_thold", c.c_float),
        ("cb_eval", c.c_void_p),
        ("cb_eval_user_data", c.c_void_p),
        ("type_k", c.c_int),
        ("type_v", c.c_int),
        ("moe_cache_size", c.c_size_t),
        ("abort_callback", c.c_void_p),
        ("abort_callback_data", c.c_void_p),
        ("embeddings", c.c_bool),
        ("offload_kqv", c.c_bool),
        ("no_perf", c.c_bool),
        ("op_offload", c.c_bool),
        ("swa_full", c.c_bool),
        ("kv_unified", c.c_bool),
        ("samplers", c.c_void_p),
        ("n_samplers", c.c_size_t),
        ("ctx_other", c.c_void_p),
    )


class SamplerChainParams(c.Structure):
    """struct llama_sampler_chain_params, 1 byte. Only read back: a witness of the build."""

    SIZE: ClassVar[int] = 1
    DEFAULTS: ClassVar[Mapping[str, int | float]] = MappingProxyType({"no_perf": 1})
    _fields_ = (("no_perf", c.c_bool),)


class Batch(c.Structure):
    """struct llama_batch, 56 bytes. The arrays belong to Python: never `llama_batch_free` it."""

    SIZE: ClassVar[int] = 56
    _fields_ = (
        ("n_tokens", c.c_int32),
        ("token", c.c_void_p),
        ("embd", c.c_void_p),
        ("pos", c.c_void_p),
        ("n_seq_id", c.c_void_p),
        ("seq_id", c.c_void_p),
        ("logits", c.c_void_p),
    )
