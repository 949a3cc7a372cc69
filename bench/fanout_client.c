/* The readers and the sender of bench/fanout.py: one thread, epoll; it reads as fast as anything writes.
 *
 *     fanout_client PORT [--name value]...
 *
 *     --path P          of the WebSocket
 *     --prologue FILE   what each connection says first: text messages, 0x1e between them
 *     --message FILE    what the sender says again and again: 19 times @ is replaced by the time, 8 times # by a
 *                       number that grows
 *     --readers N       connections that read; the first of them sends too
 *     --stalled N       connections that do not, besides
 *     --listen 1        it only reads: another client sends
 *     --rate R          messages a second; 0: as many as come back, --flight at a time
 *     --seconds S       how long is measured, after --warm S; or --total N messages
 *     --pid N           the server: its CPU time is told
 *     --limit S         ends it, whatever happens
 *
 * A delivery is a message with "T=" and a time that a reader has got. One line of JSON on stdout: deliveries,
 * rate (a second), p50 and p99 (milliseconds from sending to getting), used (the
 * server's CPU seconds). On failure a line on stderr, status 1.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SAMPLE = 512, READ = 1 << 18, SAMPLES = 1 << 23, TIME = 19, NUMBER = 8 };
static const uint8_t MASK[4] = {0x12, 0xa7, 0x5c, 0xe9};

struct connection {
    int fd, have, opcode;
    uint8_t header[10];
    uint64_t left;          /* of the payload */
    int sampled;
    char sample[SAMPLE];    /* its beginning */
    uint64_t got;           /* deliveries */
};

static long readers = 1, stalled, total, flight = 32, listening, pid;
static double rate, seconds = 2, warm = 0.5, limit = 60, started;
static const char *path = "/", *prologue_file, *message_file;
static int port, poller;
static struct connection *all;
static uint8_t buffer[READ];
static char *prologue, *message;
static long prologue_size, message_size;
static uint32_t *delays;
static uint64_t delayed, deliveries, sent, number = 10000000;
static int measuring;

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static int64_t nanoseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static double now(void) { return nanoseconds() / 1e9; }

/* CPU seconds of the server; 0 if it was not named. */
static double used(void) {
    char name[64], line[1024];
    unsigned long user = 0, system = 0;
    if (!pid) return 0;
    snprintf(name, sizeof name, "/proc/%ld/stat", pid);
    FILE *file = fopen(name, "r");
    if (!file || !fgets(line, sizeof line, file)) fail("the server is gone");
    fclose(file);
    char *at = strrchr(line, ')');
    if (!at || sscanf(at + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
        fail("%s cannot be read", name);
    return (double)(user + system) / sysconf(_SC_CLK_TCK);
}

static char *contents(const char *name, long *size) {
    FILE *file = fopen(name, "rb");
    if (!file) fail("%s: %s", name, strerror(errno));
    char *data = calloc(1, 1 << 20);
    *size = fread(data, 1, (1 << 20) - 1, file);
    fclose(file);
    return data;
}

static void write_all(int fd, const uint8_t *data, long size) {
    while (size > 0) {
        ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            fd_set set;
            FD_ZERO(&set);
            usleep(100);
            continue;
        }
        if (n <= 0) fail("writing: %s", strerror(errno));
        data += n, size -= n;
    }
}

static void say(int fd, int opcode, const char *text, long size) {
    static uint8_t frame[(1 << 20) + 16];
    int head = 2;
    frame[0] = 0x80 | opcode;
    if (size < 126) frame[1] = 0x80 | size;
    else if (size < 65536) frame[1] = 0x80 | 126, frame[2] = size >> 8, frame[3] = size, head = 4;
    else fail("a message that is too long");
    memcpy(frame + head, MASK, 4);
    for (long i = 0; i < size; i++) frame[head + 4 + i] = text[i] ^ MASK[i & 3];
    write_all(fd, frame, head + 4 + size);
}

static void say_prologue(int fd) {
    char *at = prologue, *end = prologue + prologue_size;
    while (at < end) {
        char *next = memchr(at, 0x1e, end - at);
        if (!next) next = end;
        say(fd, 1, at, next - at);
        at = next + 1;
    }
}

static int open_one(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    if (fd < 0) fail("socket: %s", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (void *)&where, sizeof where)) fail("connecting: %s", strerror(errno));
    char request[1024], head[4096];
    int size = snprintf(request, sizeof request,
        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", path, port);
    write_all(fd, (uint8_t *)request, size);
    int have = 0;
    while (have < 4 || memcmp(head + have - 4, "\r\n\r\n", 4)) {
        ssize_t n = recv(fd, head + have, 1, 0);
        if (n <= 0 || ++have == sizeof head) fail("no handshake");
    }
    if (strncmp(head, "HTTP/1.1 101", 12)) fail("refused: %.40s", head);
    say_prologue(fd);
    return fd;
}

static void delivered(struct connection *c) {
    char *token = memmem(c->sample, c->sampled, "T=", 2);
    if (!token || token + 2 + TIME > c->sample + c->sampled) return;
    c->got++;
    if (!measuring) return;
    deliveries++;
    int64_t at = 0;
    for (int i = 0; i < TIME; i++) at = at * 10 + token[2 + i] - '0';
    if (delayed < SAMPLES) delays[delayed++] = (nanoseconds() - at) / 1000;
}

static void parse(struct connection *c, const uint8_t *data, long size) {
    while (size > 0) {
        if (!c->left && !(c->have && c->opcode < 0)) {
            /* A header: 2, 4 or 10 bytes. */
            c->header[c->have++] = *data++, size--;
            int length = c->have < 2 ? 2 : c->header[1] == 126 ? 4 : c->header[1] == 127 ? 10 : 2;
            if (c->have < length) continue;
            c->left = length == 2 ? c->header[1] : 0;
            for (int i = 2; i < length; i++) c->left = c->left << 8 | c->header[i];
            c->opcode = c->header[0] & 15;
            c->have = 0;
            c->sampled = 0;
            if (c->opcode == 8) fail("a reader was closed after %lu deliveries", c->got);
            if (c->left) continue;
        }
        uint64_t n = c->left < (uint64_t)size ? c->left : (uint64_t)size;
        int keep = SAMPLE - c->sampled < (int64_t)n ? SAMPLE - c->sampled : (int)n;
        memcpy(c->sample + c->sampled, data, keep);
        c->sampled += keep;
        data += n, size -= n, c->left -= n;
        if (!c->left) {
            if (c->opcode == 9) say(c->fd, 10, c->sample, c->sampled);
            else if (c->opcode < 3) delivered(c);
        }
    }
}

static void turn(int milliseconds) {
    struct epoll_event events[256];
    int n = epoll_wait(poller, events, 256, milliseconds);
    for (int i = 0; i < n; i++) {
        struct connection *c = events[i].data.ptr;
        ssize_t got = recv(c->fd, buffer, READ, MSG_DONTWAIT);
        if (got < 0 && errno == EAGAIN) continue;
        if (got <= 0) fail("a reader's connection ended after %lu deliveries", c->got);
        parse(c, buffer, got);
    }
    if (now() - started > limit) fail("not done within %g s: %lu sent, %lu delivered", limit, sent, deliveries);
}

static void send_one(void) {
    char digits[32], *at;
    if ((at = strstr(message, "########")) || number > 10000000) {
        static char *place;
        if (!place) place = at;
        if (place) {
            snprintf(digits, sizeof digits, "%08lu", ++number);
            memcpy(place, digits, NUMBER);
        }
    }
    static char *time_place;
    if (!time_place) time_place = strstr(message, "@@@@@@@@@@@@@@@@@@@");
    if (!time_place) fail("the message has no place for the time");
    snprintf(digits, sizeof digits, "%019ld", (long)nanoseconds());
    memcpy(time_place, digits, TIME);
    say(all[0].fd, 1, message, message_size);
    sent++;
}

static int ascending(const void *a, const void *b) {
    uint32_t x = *(uint32_t *)a, y = *(uint32_t *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv) {
    if (argc < 2) fail("usage: fanout_client PORT [--name value]...");
    port = atoi(argv[1]);
    for (int i = 2; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        if (!strcmp(name, "--path")) path = value;
        else if (!strcmp(name, "--prologue")) prologue_file = value;
        else if (!strcmp(name, "--message")) message_file = value;
        else if (!strcmp(name, "--readers")) readers = atol(value);
        else if (!strcmp(name, "--pid")) pid = atol(value);
        else if (!strcmp(name, "--listen")) listening = atol(value);
        else if (!strcmp(name, "--stalled")) stalled = atol(value);
        else if (!strcmp(name, "--rate")) rate = atof(value);
        else if (!strcmp(name, "--flight")) flight = atol(value);
        else if (!strcmp(name, "--seconds")) seconds = atof(value);
        else if (!strcmp(name, "--warm")) warm = atof(value);
        else if (!strcmp(name, "--total")) total = atol(value);
        else if (!strcmp(name, "--limit")) limit = atof(value);
        else fail("unknown option %s", name);
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    started = now();
    prologue = contents(prologue_file, &prologue_size);
    message = contents(message_file, &message_size);
    delays = malloc(SAMPLES * sizeof *delays);
    all = calloc(readers, sizeof *all);
    poller = epoll_create1(0);
    for (long i = 0; i < readers; i++) {
        all[i].fd = open_one();
        struct epoll_event event = {.events = EPOLLIN, .data = {.ptr = &all[i]}};
        epoll_ctl(poller, EPOLL_CTL_ADD, all[i].fd, &event);
        turn(0);
    }
    for (long i = 0; i < stalled; i++) open_one();
    /* Everybody has to have got something before it begins. */
    double probed = 0;
    for (long ready = 0; ready < readers;) {
        if (!listening && now() - probed > 0.1) probed = now(), send_one();
        turn(10);
        while (ready < readers && all[ready].got) ready++;
    }
    for (double quiet = now(), seen = -1; !listening && now() - quiet < 0.3;) {
        double got = 0;
        turn(10);
        for (long i = 0; i < readers; i++) got += all[i].got;
        if (got != seen) seen = got, quiet = now();
    }
    uint64_t base = 0, got = 0, first = sent;
    for (long i = 0; i < readers; i++) base += all[i].got;
    double begin = now(), clock = begin, server = used();
    measuring = warm <= 0;
    for (;;) {
        double t = now();
        got = all[0].got;
        /* The slowest of a few stands for all: counting 2,000 each time would be the work itself. */
        for (long i = 1; i < readers; i += readers / 16 + 1) if (all[i].got < got) got = all[i].got;
        uint64_t back = got > base / readers ? got - base / readers : 0, gone = sent - first;
        if (total && gone >= (uint64_t)total && back >= (uint64_t)total) break;
        if (!measuring && t - begin >= warm) measuring = 1, clock = t, server = used();
        if (!total && measuring && t - clock >= seconds) break;
        if (!listening && (!total || gone < (uint64_t)total)) {
            if (rate > 0) {
                while (sent - first < (uint64_t)((t - begin) * rate)) send_one();
            } else {
                while (sent - first < back + flight && (!total || sent - first < (uint64_t)total)) send_one();
            }
        }
        turn(rate > 0 ? 1 : 20);
    }
    double elapsed = now() - clock;
    server = used() - server;
    qsort(delays, delayed, sizeof *delays, ascending);
    printf("{\"deliveries\": %lu, \"rate\": %.1f, \"p50\": %.3f, \"p99\": %.3f, \"seconds\": %.3f, "
           "\"used\": %.3f}\n", deliveries,
           deliveries / elapsed, delayed ? delays[delayed / 2] / 1e3 : 0,
           delayed ? delays[delayed * 99 / 100] / 1e3 : 0, elapsed, server);
    return 0;
}
