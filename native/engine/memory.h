// Large memory from the system: zeroed, aligned to pages, in huge pages where that is possible.
#pragma once

#include <cstddef>
#include <new>
#include <utility>

#include <sys/mman.h>

namespace tl {

class Mapping {
 public:
    Mapping() = default;
    // Throws std::bad_alloc.
    explicit Mapping(size_t bytes) : bytes_(bytes) {
        if (bytes == 0) return;
        void* found = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (found == MAP_FAILED) throw std::bad_alloc();
        data_ = static_cast<std::byte*>(found);
#if defined(MADV_HUGEPAGE)
        // Weights are streamed: a TLB miss every 4 KiB costs a tenth of the bandwidth.
        (void)madvise(data_, bytes, MADV_HUGEPAGE);
#endif
    }
    Mapping(Mapping&& other) noexcept { swap(other); }
    Mapping& operator=(Mapping&& other) noexcept {
        swap(other);
        return *this;
    }
    ~Mapping() {
        if (data_ != nullptr) munmap(data_, bytes_);
    }

    std::byte* data() const { return data_; }
    size_t bytes() const { return bytes_; }

    template <typename T>
    T* as() const {
        return reinterpret_cast<T*>(data_);
    }

 private:
    void swap(Mapping& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(bytes_, other.bytes_);
    }

    std::byte* data_ = nullptr;
    size_t bytes_ = 0;
};

// What one thread has for kernels; aligned to 64 bytes.
constexpr size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace tl
