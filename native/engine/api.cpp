// The C interface: no exception leaves it.
#include <cstdlib>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "draw.h"
#include "forward.h"
#include "model.h"
#include "trunkline_native.h"

struct tln_model {
    tl::Model model;
    std::optional<tl::Forward> forward;
    std::optional<tl::Drawing> drawing;
    // One call at a time, whichever thread it comes from; aborting and looking need no turn.
    std::mutex turn;
};

namespace {

std::string& last_error() {
    thread_local std::string text;
    return text;
}

template <typename Work>
int32_t guarded(Work&& work) {
    try {
        return work();
    } catch (const tl::Invalid& error) {
        last_error() = error.what();
        return TLN_INVALID;
    } catch (const std::bad_alloc&) {
        last_error() = "memory could not be had";
        return TLN_MEMORY;
    } catch (const std::exception& error) {
        last_error() = error.what();
        return TLN_FAILED;
    }
}

}  // namespace

int32_t tln_abi() { return TLN_ABI; }

const char* tln_cpu() {
    const tl::Kernels* kernels = tl::select(nullptr);
    if (kernels == nullptr) last_error() = "no variant of the kernels runs on this CPU";
    return kernels != nullptr ? kernels->name : "";
}

int32_t tln_block() { return tl::kBlock; }

int32_t tln_supports(int32_t type, int64_t rows, int64_t cols) {
    return tl::packed_bytes(static_cast<tl::Type>(type), rows, cols) != 0;
}

const char* tln_error() { return last_error().c_str(); }

tln_model* tln_model_new(const tln_shape* shape, const tln_layer* layers, const float* frequencies,
                         int32_t threads, const int32_t* cpus) {
    tln_model* made = nullptr;
    guarded([&] {
        if (shape == nullptr || layers == nullptr || frequencies == nullptr) throw tl::Invalid("a null pointer");
        if (threads < 1 || threads > 1024) throw tl::Invalid("threads");
        made = new tln_model{tl::Model(*shape, layers, frequencies, threads, cpus), std::nullopt, std::nullopt, {}};
        return TLN_OK;
    });
    return made;
}

void tln_model_free(tln_model* model) {
    if (model == nullptr) return;
    model->turn.lock();
    model->turn.unlock();
    delete model;
}

int32_t tln_model_put(tln_model* model, int32_t kind, int32_t layer, int32_t expert, const tln_tensor* tensor) {
    return guarded([&] {
        if (model == nullptr || tensor == nullptr) throw tl::Invalid("a null pointer");
        const std::lock_guard lock(model->turn);
        model->model.put(static_cast<tln_kind>(kind), layer, expert, *tensor);
        return TLN_OK;
    });
}

int32_t tln_model_pack(tln_model* model) {
    return guarded([&] {
        if (model == nullptr) throw tl::Invalid("a null pointer");
        const std::lock_guard lock(model->turn);
        model->model.pack();
        return TLN_OK;
    });
}

float tln_model_progress(const tln_model* model) { return model->model.progress(); }

uint64_t tln_model_bytes(const tln_model* model) { return model->model.packed_size; }

uint64_t tln_model_block_bytes(const tln_model* model) {
    return uint64_t{model->model.kv_stride} * static_cast<uint64_t>(model->model.shape.layers);
}

int32_t tln_model_reserve(tln_model* model, int32_t blocks) {
    return guarded([&] {
        if (model == nullptr) throw tl::Invalid("a null pointer");
        const std::lock_guard lock(model->turn);
        model->model.reserve(blocks);
        model->forward.emplace(model->model);
        model->drawing.emplace(model->model);
        return TLN_OK;
    });
}

int32_t tln_model_step(tln_model* model, const tln_step* step) {
    return guarded([&] {
        if (model == nullptr || step == nullptr) throw tl::Invalid("a null pointer");
        const std::lock_guard lock(model->turn);
        if (!model->forward) throw tl::Invalid("no KV blocks are reserved");
        return model->forward->run(*step) ? TLN_OK : TLN_ABORTED;
    });
}

int32_t tln_model_draw(tln_model* model, tln_draw* draws, int32_t count) {
    return guarded([&] {
        if (model == nullptr || draws == nullptr) throw tl::Invalid("a null pointer");
        const std::lock_guard lock(model->turn);
        if (!model->drawing || count < 0) throw tl::Invalid("nothing to draw with");
        model->drawing->run(draws, count);
        return TLN_OK;
    });
}

void tln_model_abort(tln_model* model) { model->model.aborting = true; }
