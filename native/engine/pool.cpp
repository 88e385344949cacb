#include "pool.h"

#include <stdexcept>
#include <string>

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#endif

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tl {

namespace {

// Looks at a barrier before a thread sleeps there: some 20 us. Phases of a step are shorter than
// that or end together; a thread that waits longer has lost its CPU's other half to somebody.
constexpr int kSpins = 600;

void relax() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Numbers too small to be normal count as zero: computing with them takes a hundred times as long.
void flush_denormals() {
#if defined(__x86_64__)
    constexpr unsigned flush_to_zero = 0x8000, denormals_are_zero = 0x40;
    _mm_setcsr(_mm_getcsr() | flush_to_zero | denormals_are_zero);
#elif defined(__aarch64__)
    uint64_t control;
    asm volatile("mrs %0, fpcr" : "=r"(control));
    asm volatile("msr fpcr, %0" : : "r"(control | uint64_t{1} << 24));
#endif
}

void bind(int cpu) {
#if defined(__linux__)
    if (cpu < 0 || cpu >= CPU_SETSIZE) return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    // Where it is refused the thread runs anywhere, which is slower and not wrong.
    (void)pthread_setaffinity_np(pthread_self(), sizeof set, &set);
#else
    (void)cpu;
#endif
}

}  // namespace

Pool::Pool(int threads, const int32_t* cpus) {
    threads_.reserve(static_cast<size_t>(threads));
    try {
        for (int id = 0; id < threads; ++id) {
            threads_.emplace_back([this, id, cpu = cpus ? cpus[id] : -1] { serve(id, cpu); });
        }
    } catch (const std::exception& error) {
        // The system has no more of them. Those that there are wait already, and have to be joined.
        const std::string which = std::to_string(threads_.size() + 1) + " of " + std::to_string(threads);
        end();
        throw std::runtime_error("thread " + which + " cannot be started: " + error.what());
    }
}

Pool::~Pool() { end(); }

void Pool::end() {
    ending_ = true;
    begun_.fetch_add(1, std::memory_order_release);
    begun_.notify_all();
    for (std::thread& thread : threads_) thread.join();
}

void Pool::start_and_wait() {
    running_.store(static_cast<uint32_t>(size()), std::memory_order_relaxed);
    next_.store(0, std::memory_order_relaxed);
    begun_.fetch_add(1, std::memory_order_release);
    begun_.notify_all();
    for (uint32_t left; (left = running_.load(std::memory_order_acquire)) != 0;) {
        running_.wait(left, std::memory_order_acquire);
    }
}

void Pool::serve(int id, int cpu) {
    bind(cpu);
    flush_denormals();
    Crew crew(*this, id);
    uint32_t seen = 0;
    for (;;) {
        begun_.wait(seen, std::memory_order_acquire);
        seen = begun_.load(std::memory_order_acquire);
        if (ending_) return;
        job_(context_, crew);
        if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) running_.notify_all();
    }
}

void Pool::meet() {
    const uint32_t before = passed_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<uint32_t>(size())) {
        arrived_.store(0, std::memory_order_relaxed);
        next_.store(0, std::memory_order_relaxed);
        passed_.fetch_add(1, std::memory_order_release);
        passed_.notify_all();
        return;
    }
    for (int spin = 0; spin < kSpins; ++spin) {
        if (passed_.load(std::memory_order_acquire) != before) return;
        relax();
    }
    passed_.wait(before, std::memory_order_acquire);
}

}  // namespace tl
