/* What this machine can do at most: int8 products out of registers, and bytes read from memory.
 *
 *   roof THREADS     prints {"int8_gops": ..., "read_gbs": ...}
 *
 * A product and its addition count as two operations. Best of several rounds. Needs AVX-512 VNNI
 * or AVX-VNNI for the first figure, which is 0 otherwise.
 */
#define _GNU_SOURCE
#include <immintrin.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 8, STEPS = 4000000, SUMS = 12 };
static const size_t BYTES = (size_t)384 << 20;

struct work {
    pthread_barrier_t *barrier;
    const char *memory;
    size_t size;
    double products, bytes;
    int64_t kept;
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

/* Operations of one call: independent sums, so that latency is hidden. */
static double products(int64_t *kept) {
#if defined(__AVX512VNNI__)
    __m512i sums[SUMS], a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(5);
    for (int i = 0; i < SUMS; i++) sums[i] = _mm512_set1_epi32(i);
    for (int step = 0; step < STEPS; step++) {
        for (int i = 0; i < SUMS; i++) {
            /* The compiler must not see that all steps are alike. */
            __asm__ volatile("vpdpbusd %2, %1, %0" : "+v"(sums[i]) : "v"(a), "v"(b));
        }
    }
    for (int i = 0; i < SUMS; i++) *kept += _mm512_reduce_add_epi32(sums[i]);
    return (double)STEPS * SUMS * 64 * 2;
#elif defined(__AVXVNNI__)
    __m256i sums[SUMS], a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(5);
    for (int i = 0; i < SUMS; i++) sums[i] = _mm256_set1_epi32(i);
    for (int step = 0; step < STEPS; step++) {
        for (int i = 0; i < SUMS; i++) {
            __asm__ volatile("{vex} vpdpbusd %2, %1, %0" : "+x"(sums[i]) : "x"(a), "x"(b));
        }
    }
    for (int i = 0; i < SUMS; i++) *kept += _mm256_extract_epi32(sums[i], 0);
    return (double)STEPS * SUMS * 32 * 2;
#else
    (void)kept;
    return 0;
#endif
}

static void read_all(struct work *w) {
    int64_t sums[8] = {0};
    for (size_t at = 0; at + 64 <= w->size; at += 64) {
        int64_t words[8];
        memcpy(words, w->memory + at, 64);
        for (int i = 0; i < 8; i++) sums[i] += words[i];
    }
    for (int i = 0; i < 8; i++) w->kept += sums[i];
}

static void *run(void *argument) {
    struct work *w = argument;
    for (int round = 0; round < ROUNDS; round++) {
        pthread_barrier_wait(w->barrier);
        double begun = now(), done = products(&w->kept);
        pthread_barrier_wait(w->barrier);
        double rate = done / (now() - begun);
        if (rate > w->products) w->products = rate;
        pthread_barrier_wait(w->barrier);
        begun = now();
        read_all(w);
        pthread_barrier_wait(w->barrier);
        rate = w->size / (now() - begun);
        if (rate > w->bytes) w->bytes = rate;
    }
    return NULL;
}

int main(int argc, char **argv) {
    int threads = argc == 2 ? atoi(argv[1]) : 0;
    if (threads < 1 || threads > 1024) {
        fprintf(stderr, "usage: roof THREADS\n");
        return 2;
    }
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, threads);
    pthread_t *handles = calloc(threads, sizeof *handles);
    struct work *works = calloc(threads, sizeof *works);
    char *memory = malloc(BYTES);
    if (!handles || !works || !memory) return 1;
    memset(memory, 1, BYTES);
    for (int i = 0; i < threads; i++) {
        size_t size = BYTES / threads;
        works[i] = (struct work){&barrier, memory + i * size, size, 0, 0, 0};
        if (pthread_create(&handles[i], NULL, run, &works[i])) return 1;
    }
    double rate[2] = {0, 0};
    int64_t kept = 0;
    for (int i = 0; i < threads; i++) {
        pthread_join(handles[i], NULL);
        rate[0] += works[i].products;
        rate[1] += works[i].bytes;
        kept += works[i].kept;
    }
    /* What was summed up is used, so that it is computed. */
    fprintf(stderr, "%lld\n", (long long)kept);
    printf("{\"int8_gops\": %.1f, \"read_gbs\": %.2f}\n", rate[0] * 1e-9, rate[1] * 1e-9);
    return 0;
}
