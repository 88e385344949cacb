// A model's weights, its KV cache and its threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "memory.h"
#include "pool.h"
#include "trunkline_kernels.h"
#include "trunkline_native.h"

namespace tl {

// An argument is wrong; becomes TLN_INVALID.
struct Invalid : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct Matrix {
    // `data` is set by Model::pack.
    Packed packed{};
    const void* source = nullptr;
    size_t source_bytes = 0;

    bool present() const { return source_bytes != 0; }
};

// Empty where the model has none.
using Vector = std::vector<float>;

struct Expert {
    Matrix gate, up, down;
};

struct Layer {
    int64_t window = 0;
    int32_t rope = 0;
    Vector attention_norm, q_bias, k_bias, v_bias, o_bias, q_norm, k_norm, post_attention_norm;
    Vector ffn_norm, post_ffn_norm;
    Matrix q, k, v, o, router;
    // One, where there is no mixture.
    std::vector<Expert> experts;
};

class Model {
 public:
    Model(const tln_shape& shape, const tln_layer* layers, const float* frequencies, int threads,
          const int32_t* cpus);

    void put(tln_kind kind, int layer, int expert, const tln_tensor& tensor);
    void pack();
    void reserve(int32_t blocks);

    const Matrix& output() const { return output_.present() ? output_ : embedding_; }
    // Row `token` of the embedding, not scaled; `scratch` has embedding_scratch() bytes.
    void embed(int32_t token, float* out, void* scratch) const;
    size_t embedding_scratch() const;

    size_t layer_bytes() const { return kv_stride * static_cast<size_t>(blocks); }
    std::byte* kv(int layer) const { return kv_.data() + layer_bytes() * static_cast<size_t>(layer); }
    float progress() const;

    const Kernels& kernels;
    const tln_shape shape;
    std::vector<Layer> layers;
    Vector output_norm;
    // [tables][rope_size / 2]
    std::vector<float> frequencies;
    KvLayout kv_layout{};
    // Bytes of one block of one layer.
    size_t kv_stride = 0;
    int32_t blocks = 0;
    size_t packed_size = 0;
    Pool pool;
    std::atomic<bool> aborting{false};

 private:
    Matrix* matrix(tln_kind kind, int layer, int expert);
    Vector* vector(tln_kind kind, int layer);
    void require() const;
    std::vector<Matrix*> packable();

    Matrix embedding_, output_;
    Mapping weights_, kv_;
    bool ready_ = false;
    std::atomic<int64_t> packed_units_{0};
    std::atomic<int64_t> all_units_{1};
};

// Positions in a block of the KV cache: small, so that short prefixes are shared, and a multiple of
// what the attention kernel takes at once.
constexpr int32_t kBlock = 32;

}  // namespace tl
