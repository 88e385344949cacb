/* The C interface of Trunkline's native engine: what Python calls through ctypes.
 *
 * Nothing here parses files or trusts its caller: sizes and indices are checked, and what is wrong
 * comes back as a status, with words in tln_error. No function throws, aborts or prints.
 * src/trunkline/libnative/structs.py repeats the structs; `size` is the first field of those that
 * may grow, and tln_abi changes with every incompatible change.
 */
#ifndef TRUNKLINE_NATIVE_H
#define TRUNKLINE_NATIVE_H

#include <stdint.h>

#if defined(_WIN32)
#define TLN_API __declspec(dllexport)
#else
#define TLN_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define TLN_ABI 3

/* Statuses. */
#define TLN_OK 0
#define TLN_INVALID (-1)  /* an argument is wrong; nothing was done */
#define TLN_MEMORY (-2)   /* memory could not be had */
#define TLN_FAILED (-3)   /* anything else */
#define TLN_ABORTED 2     /* tln_abort was called during the step */

/* Element types have the numbers of ggml_type: F32 0, F16 1, Q4_0 2, Q8_0 8, Q4_K 12, Q5_K 13,
 * Q6_K 14, BF16 30. */

/* Kinds of weights; those marked * are matrices, the others vectors. */
enum tln_kind {
    TLN_TOKEN_EMBEDDING,  /* * read by rows; [vocab, embedding] */
    TLN_OUTPUT,           /* * [vocab, embedding] */
    TLN_OUTPUT_NORM,
    /* of each layer: */
    TLN_ATTENTION_NORM,
    TLN_Q,  /* * [heads * head, embedding] */
    TLN_K,  /* * */
    TLN_V,  /* * */
    TLN_O,  /* * [embedding, heads * head] */
    TLN_Q_BIAS,
    TLN_K_BIAS,
    TLN_V_BIAS,
    TLN_O_BIAS,
    TLN_Q_NORM,  /* of each head; [head] */
    TLN_K_NORM,
    TLN_POST_ATTENTION_NORM,
    TLN_FFN_NORM,
    TLN_GATE,  /* * [feed_forward, embedding]; of mixtures: one per expert, as the next two */
    TLN_UP,    /* * */
    TLN_DOWN,  /* * [embedding, feed_forward] */
    TLN_POST_FFN_NORM,
    TLN_ROUTER, /* * [experts, embedding] */
    TLN_KINDS
};

/* How rotary pairs lie: 0 with each other (2i, 2i + 1), 1 in halves (i, i + size / 2). */
#define TLN_ROPE_PAIRS 0
#define TLN_ROPE_HALVES 1

#define TLN_SILU 0
#define TLN_GELU_TANH 1

/* Elements of the KV cache. int8: each key and each value of a head has a scale of its own. */
#define TLN_KV_F16 0
#define TLN_KV_BF16 1
#define TLN_KV_INT8 2

typedef struct tln_shape {
    uint32_t size;  /* of this struct */
    int32_t layers;
    int32_t vocab;
    int32_t embedding;
    int32_t feed_forward; /* of one expert, in mixtures */
    int32_t heads;
    int32_t kv_heads;
    int32_t head;      /* elements of one head, for keys and values alike */
    int32_t rope_size; /* elements of a head that turn; even */
    int32_t rope_style;
    int32_t rope_tables; /* how many sets of frequencies follow in tln_model_new */
    int32_t activation;
    int32_t experts; /* 0: no mixture */
    int32_t experts_used;
    int32_t experts_renormalized; /* weights of the chosen experts are divided by their sum */
    float norm_eps;
    float embedding_scale; /* 1: none; as the other scales */
    float residual_scale;  /* of what each block adds */
    float attention_scale; /* of query x key */
    float logit_scale;
    float attention_softcap; /* 0: none; else s -> cap * tanh(s / cap) */
    float logit_softcap;
    float rope_scale; /* of cosines and sines (longrope, yarn) */
    int32_t kv_type;
} tln_shape;

typedef struct tln_layer {
    int32_t window; /* positions that a token sees, itself included; 0: all */
    int32_t rope;   /* which set of frequencies */
} tln_layer;

typedef struct tln_tensor {
    int32_t type;
    int32_t unused;
    int64_t rows; /* 1 for vectors */
    int64_t cols; /* elements of a row */
    const void* data;
    uint64_t bytes;
} tln_tensor;

typedef struct tln_step {
    uint32_t size; /* of this struct */
    int32_t chunks;
    int32_t tokens; /* of all chunks */
    int32_t outputs;
    int32_t copies;
    int32_t table_size; /* entries of `tables` */
    const int32_t* ids;          /* [tokens] */
    const int32_t* chunk_tokens; /* [chunks]; each at least 1 */
    const int32_t* chunk_start;  /* [chunks]: position of the first token */
    const int32_t* chunk_table;  /* [chunks]: where its block table begins in `tables` */
    const int32_t* tables;       /* block ids */
    const int32_t* output_tokens; /* [outputs]: places of tokens whose logits are wanted, rising */
    const int32_t* copy_from;    /* [copies]: blocks that are copied before the pass, in order */
    const int32_t* copy_to;
    float* logits; /* [outputs, vocab] */
} tln_step;

/* A token to be drawn from the softmax of a row of logits. */
typedef struct tln_draw {
    const float* logits;        /* [vocab] */
    float inverse_temperature;  /* 0: the most probable token is taken */
    float top_p;                /* above 0; from 1 on: off */
    float min_p;                /* 0: off */
    int32_t token;              /* the answer; -1: the logits are no numbers */
    double first;               /* two random numbers in [0, 1): the second is used where the */
    double second;              /* first leads outside top_p or min_p */
    double normalizer;          /* answer, unless told is below 0: log(sum(exp(logits))) */
    int32_t* told_tokens;       /* [told]: the most probable tokens, falling */
    int32_t told;               /* how many of them are wanted, then how many there are; -1: neither */
    int32_t unused;
} tln_draw;

typedef struct tln_model tln_model;

/* The version of this interface, and the name of the CPU variant that is used. */
TLN_API int32_t tln_abi(void);
TLN_API const char* tln_cpu(void);
/* Positions in a block of the KV cache. */
TLN_API int32_t tln_block(void);
/* 1 where matrices of this type and these sizes can be multiplied. */
TLN_API int32_t tln_supports(int32_t type, int64_t rows, int64_t cols);
/* Why the last call on this thread failed; never NULL. */
TLN_API const char* tln_error(void);

/* A model without weights; NULL: see tln_error. `layers` has shape->layers entries, `frequencies`
 * rope_tables * rope_size / 2 (radians per position). `cpus`: CPU of each thread, or NULL. */
TLN_API tln_model* tln_model_new(const tln_shape* shape, const tln_layer* layers,
                                 const float* frequencies, int32_t threads, const int32_t* cpus);
TLN_API void tln_model_free(tln_model* model);
/* Give a weight. `layer` and `expert` are 0 where they mean nothing. `tensor->data` must stay
 * readable until tln_model_pack has returned; that of TLN_TOKEN_EMBEDDING until the end. */
TLN_API int32_t tln_model_put(tln_model* model, int32_t kind, int32_t layer, int32_t expert,
                              const tln_tensor* tensor);
/* Bring all weights into the layout that the kernels read. */
TLN_API int32_t tln_model_pack(tln_model* model);
/* 0..1, from any thread while tln_model_pack runs. */
TLN_API float tln_model_progress(const tln_model* model);
/* Bytes of packed weights. */
TLN_API uint64_t tln_model_bytes(const tln_model* model);
/* Bytes of one block of the KV cache, over all layers. */
TLN_API uint64_t tln_model_block_bytes(const tln_model* model);
/* Take memory for `blocks` KV blocks; once, after tln_model_pack. */
TLN_API int32_t tln_model_reserve(tln_model* model, int32_t blocks);
/* Compute. The caller's thread sleeps meanwhile. */
TLN_API int32_t tln_model_step(tln_model* model, const tln_step* step);
/* Draw tokens, on the threads of the model; not during a step. */
TLN_API int32_t tln_model_draw(tln_model* model, tln_draw* draws, int32_t count);
/* Make a step that runs, or the next one, end with TLN_ABORTED; from any thread. */
TLN_API void tln_model_abort(tln_model* model);

#ifdef __cplusplus
}
#endif

#endif
