// Threads that compute one step together: all of them run the same function and meet at barriers.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace tl {

class Pool;

// What a thread of the pool sees while a job runs.
class Crew {
 public:
    Crew(Pool& pool, int id) : pool_(pool), id_(id) {}

    int id() const { return id_; }
    int size() const;

    // Calls work(unit) for each unit in [0, units), each on one thread, and returns when all are
    // done. Who computes which unit is not fixed: results must not depend on it.
    template <typename Work>
    void share(int64_t units, Work&& work);

    // As `share`, for work of one unit that nobody waits for in between: thread 0 does it.
    template <typename Work>
    void alone(Work&& work);

    // All threads have come this far.
    void meet();

 private:
    Pool& pool_;
    int id_;
};

class Pool {
 public:
    // `cpus`: one per thread, to which it is bound; nullptr: threads go where the system puts them.
    Pool(int threads, const int32_t* cpus);
    ~Pool();
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    int size() const { return static_cast<int>(threads_.size()); }

    // Runs job(crew) on every thread, and returns when all have returned. One caller at a time.
    template <typename Job>
    void run(Job&& job) {
        job_ = [](void* context, Crew& crew) { (*static_cast<std::remove_reference_t<Job>*>(context))(crew); };
        context_ = &job;
        start_and_wait();
    }

 private:
    friend class Crew;

    void start_and_wait();
    void end();
    void serve(int id, int cpu);
    void meet();

    void (*job_)(void*, Crew&) = nullptr;
    void* context_ = nullptr;
    bool ending_ = false;
    // Counts jobs begun; threads sleep on it between jobs.
    alignas(64) std::atomic<uint32_t> begun_{0};
    // Threads that have not finished the job; the caller sleeps on it.
    alignas(64) std::atomic<uint32_t> running_{0};
    // The barrier: how many have come, and how many times all have.
    alignas(64) std::atomic<uint32_t> arrived_{0};
    alignas(64) std::atomic<uint32_t> passed_{0};
    // The next unit of the work that is shared out.
    alignas(64) std::atomic<int64_t> next_{0};
    std::vector<std::thread> threads_;
};

inline int Crew::size() const { return pool_.size(); }

inline void Crew::meet() { pool_.meet(); }

template <typename Work>
void Crew::share(int64_t units, Work&& work) {
    for (;;) {
        const int64_t unit = pool_.next_.fetch_add(1, std::memory_order_relaxed);
        if (unit >= units) break;
        work(unit);
    }
    pool_.meet();
}

template <typename Work>
void Crew::alone(Work&& work) {
    if (id_ == 0) work();
    pool_.meet();
}

}  // namespace tl
