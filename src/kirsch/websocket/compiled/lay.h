/* A masking key laid over bytes (RFC 6455, 5.3): eight at a time, as wide as the processor can. */
#ifndef KIRSCH_LAY_H
#define KIRSCH_LAY_H

#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__GLIBC__)
#define KIRSCH_WIDE __attribute__((target_clones("avx2", "default")))
#else
#define KIRSCH_WIDE
#endif

/* Two loops: a compiler makes one wide only where it sees that nothing overlaps, or all does. */
#define KIRSCH_LOOP(source)                                                         \
    uint64_t wide = (uint64_t)key << 32 | key, word;                                \
    Py_ssize_t at = 0;                                                              \
    for (; at + 8 <= size; at += 8) {                                               \
        memcpy(&word, (source) + at, 8);                                            \
        word ^= wide;                                                               \
        memcpy(target + at, &word, 8);                                              \
    }                                                                               \
    for (; at < size; at++)                                                         \
        target[at] = (source)[at] ^ ((const unsigned char *)&wide)[at & 7];

KIRSCH_WIDE static void kirsch_lay_here(unsigned char *target, Py_ssize_t size, uint32_t key)
{
    KIRSCH_LOOP(target)
}

KIRSCH_WIDE static void kirsch_lay_there(
    unsigned char *restrict target, const unsigned char *restrict source, Py_ssize_t size, uint32_t key)
{
    KIRSCH_LOOP(source)
}

static void kirsch_lay(unsigned char *target, const unsigned char *source, Py_ssize_t size, uint32_t key)
{
    if (target == source)
        kirsch_lay_here(target, size, key);
    else
        kirsch_lay_there(target, source, size, key);
}

#endif
