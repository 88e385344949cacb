"""The functions of libllama that Trunkline calls, with their prototypes (llama.h at b11549)."""

from __future__ import annotations

import ctypes as c

from trunkline.libllama.structs import (
    Batch,
    ContextParams,
    LogCallback,
    ModelParams,
    SamplerChainParams,
)

_P = c.c_void_p
_I = c.c_int32

Prototype = tuple[str, object, tuple[object, ...]]

# (name, result type, argument types). Pointers to opaque structs are void pointers.
PROTOTYPES: tuple[Prototype, ...] = (
    ("llama_backend_init", None, ()),
    ("llama_version", c.c_char_p, ()),
    ("llama_log_set", None, (LogCallback, _P)),
    # model
    ("llama_model_default_params", ModelParams, ()),
    ("llama_model_load_from_file", _P, (c.c_char_p, ModelParams)),
    ("llama_model_free", None, (_P,)),
    ("llama_model_get_vocab", _P, (_P,)),
    ("llama_model_has_encoder", c.c_bool, (_P,)),
    ("llama_model_has_decoder", c.c_bool, (_P,)),
    ("llama_model_is_recurrent", c.c_bool, (_P,)),
    ("llama_model_is_hybrid", c.c_bool, (_P,)),
    ("llama_model_is_diffusion", c.c_bool, (_P,)),
    # vocabulary
    ("llama_vocab_n_tokens", _I, (_P,)),
    ("llama_vocab_get_attr", c.c_int, (_P, _I)),
    ("llama_vocab_is_eog", c.c_bool, (_P, _I)),
    ("llama_vocab_bos", _I, (_P,)),
    ("llama_vocab_get_add_bos", c.c_bool, (_P,)),
    ("llama_vocab_fim_pre", _I, (_P,)),
    ("llama_vocab_fim_suf", _I, (_P,)),
    ("llama_vocab_fim_mid", _I, (_P,)),
    ("llama_vocab_fim_rep", _I, (_P,)),
    ("llama_vocab_fim_sep", _I, (_P,)),
    ("llama_tokenize", _I, (_P, c.c_char_p, _I, _P, _I, c.c_bool, c.c_bool)),
    ("llama_token_to_piece", _I, (_P, _I, _P, _I, _I, c.c_bool)),
    # context and memory
    ("llama_context_default_params", ContextParams, ()),
    ("llama_init_from_model", _P, (_P, ContextParams)),
    ("llama_free", None, (_P,)),
    ("llama_n_ctx", c.c_uint32, (_P,)),
    ("llama_n_batch", c.c_uint32, (_P,)),
    ("llama_get_memory", _P, (_P,)),
    ("llama_set_abort_callback", None, (_P, _P, _P)),
    ("llama_memory_clear", None, (_P, c.c_bool)),
    ("llama_memory_seq_rm", c.c_bool, (_P, _I, _I, _I)),
    ("llama_memory_seq_cp", None, (_P, _I, _I, _I, _I)),
    ("llama_memory_seq_pos_min", _I, (_P, _I)),
    ("llama_memory_seq_pos_max", _I, (_P, _I)),
    # passes and outputs
    ("llama_decode", _I, (_P, Batch)),
    ("llama_get_logits", _P, (_P,)),
    # a witness of the build, and a C function that reads a flag (see `context`)
    ("llama_sampler_chain_default_params", SamplerChainParams, ()),
    ("ggml_is_empty", c.c_bool, (_P,)),
)


def bind(dll: c.CDLL) -> list[str]:
    """Give every function of `PROTOTYPES` its types; returns the names that are missing."""
    missing = []
    for name, result, arguments in PROTOTYPES:
        try:
            function = getattr(dll, name)
        except AttributeError:
            missing.append(name)
            continue
        function.restype = result
        function.argtypes = arguments
    return missing
