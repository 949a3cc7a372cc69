/* A masking key laid over bytes (RFC 6455, 5.3): eight at a time, or as many as the compiler can. */
#ifndef KIRSCH_LAY_H
#define KIRSCH_LAY_H

#include <stdint.h>
#include <string.h>

/* Two functions: a compiler makes a loop wide only where it sees that nothing overlaps, or all does. */
static void kirsch_lay_here(unsigned char *at, size_t size, uint32_t key)
{
    uint64_t wide = (uint64_t)key << 32 | key, word;
    size_t rest;

    for (; size >= 8; size -= 8, at += 8) {
        memcpy(&word, at, 8);
        word ^= wide;
        memcpy(at, &word, 8);
    }
    for (rest = 0; rest < size; rest++)
        at[rest] ^= ((const unsigned char *)&wide)[rest];
}

static void kirsch_lay_there(
    unsigned char *restrict to, const unsigned char *restrict from, size_t size, uint32_t key)
{
    uint64_t wide = (uint64_t)key << 32 | key, word;
    size_t rest;

    for (; size >= 8; size -= 8, to += 8, from += 8) {
        memcpy(&word, from, 8);
        word ^= wide;
        memcpy(to, &word, 8);
    }
    for (rest = 0; rest < size; rest++)
        to[rest] = from[rest] ^ ((const unsigned char *)&wide)[rest];
}

static void kirsch_lay(unsigned char *target, const unsigned char *source, Py_ssize_t size, uint32_t key)
{
    if (target == source)
        kirsch_lay_here(target, (size_t)size, key);
    else
        kirsch_lay_there(target, source, (size_t)size, key);
}

#endif
