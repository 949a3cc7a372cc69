/* The load of bench/websocket.py: one thread, epoll, frames that are made and masked before the clock starts.
 *
 *     websocket_client MODE PORT [--name value]...
 *
 *     echo       --size N | --payload FILE, --flight N, --seconds S, --warm S, [--raw 1] [--deflate 1 | 2]
 *     large      --size N, --fragment N          one message, then the time until one message came back
 *     idle       --connections N                 opens them, holds them until stdin ends
 *     broadcast  --connections N, --size N, --flight N, --seconds S, --warm S
 *     awake                                      keeps its core from sleeping, whenever nobody else wants it
 *
 * With --deflate the payload is compressed already; 1: no context is kept on either side, 2: the server may.
 * All: --limit S ends it, whatever happens; --pid N is the server, whose CPU time is told. One line of JSON on
 * stdout: rate (a second), busy (this program's share of its core, polls in vain left out), used (the server's CPU seconds for `count`).
 * On failure one line on stderr, status 1.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { TEXT = 0x1, BINARY = 0x2, FIN = 0x80, RSV1 = 0x40, READ = 1 << 20, HEAD = 4096, OPENING = 64 };
static const uint8_t MASK[4] = {0x12, 0xa7, 0x5c, 0xe9};

struct options {
    long size, flight, fragment, connections, raw, deflate, pid;
    double seconds, warm, limit;
    const char *payload;
};

/* What comes back, frame by frame: headers are read, payloads passed over. */
struct reader {
    uint8_t header[10];
    int have;           /* bytes of an unfinished header */
    int first;          /* its first byte, once known */
    uint64_t left;      /* payload bytes still to come */
    uint64_t messages;  /* complete ones, control frames left out */
    uint64_t bytes;     /* of their payload */
    uint64_t wrong;     /* of them not as long as expected */
    uint64_t compressed;
    uint64_t expected;  /* bytes of a message's payload; 0 takes any */
    uint64_t message;   /* bytes of the current one */
    uint8_t *sample;    /* where the first message's payload is kept, or NULL */
    uint64_t sampled, room;
};

struct connection {
    int fd;
    int open;
    uint32_t events;    /* what is waited for */
    int have;
    char head[HEAD];
    struct reader reader;
};

static struct options opt = {.size = 64, .flight = 1, .connections = 1, .seconds = 1, .warm = 0.2, .limit = 60};
static uint8_t buffer[READ];
static int port, poller;
static double started;

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static double cpu(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

/* CPU seconds the server has used: clock_getcpuclockid(3), without asking whether we may. */
static double used(void) {
    struct timespec t;
    if (!opt.pid || clock_gettime(~(clockid_t)opt.pid << 3 | 2, &t)) return 0;
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void in_time(void) {
    if (now() - started > opt.limit) fail("not done within %g s", opt.limit);
}

static void *allocate(size_t size) {
    void *memory = calloc(1, size);
    if (!memory) fail("no memory for %zu bytes", size);
    return memory;
}

/* ---- frames ---- */

static size_t frame_header(uint8_t *out, int first, uint64_t size) {
    size_t n = 2;
    out[0] = first;
    if (size < 126) {
        out[1] = 0x80 | size;
    } else if (size < 65536) {
        out[1] = 0x80 | 126, out[2] = size >> 8, out[3] = size, n = 4;
    } else {
        out[1] = 0x80 | 127, n = 10;
        for (int i = 0; i < 8; i++) out[2 + i] = size >> (56 - 8 * i);
    }
    memcpy(out + n, MASK, 4);
    return n + 4;
}

static void mask(uint8_t *data, size_t size) {
    for (size_t i = 0; i < size; i++) data[i] ^= MASK[i & 3];
}

static void complete(struct reader *r) {
    int opcode = r->first & 15;
    if (opcode == 8) fail("the server closed: code %d", r->header[0] << 8 | r->header[1]);
    if (opcode > 8 || !(r->first & FIN)) return;
    r->messages++;
    if (r->expected && r->message != r->expected) r->wrong++;
    r->message = 0;
    if (r->room) r->room = r->sampled; /* the first message is all that is kept */
}

static void frames(struct reader *r, const uint8_t *data, size_t size) {
    while (size) {
        if (r->left) {
            size_t part = r->left < size ? r->left : size;
            if ((r->first & 15) < 8) {
                r->bytes += part, r->message += part;
                size_t keep = r->room - r->sampled < part ? r->room - r->sampled : part;
                if (keep) memcpy(r->sample + r->sampled, data, keep), r->sampled += keep;
            } else if ((r->first & 15) == 8 && part >= 2) {
                memcpy(r->header, data, 2);
            }
            data += part, size -= part, r->left -= part;
            if (!r->left) complete(r);
            continue;
        }
        r->header[r->have++] = *data++, size--;
        if (r->have < 2) continue;
        int length = r->header[1] & 127, need = length < 126 ? 2 : length == 126 ? 4 : 10;
        if (r->header[1] & 128) fail("the server masked a frame");
        if (r->have < need) continue;
        if (need == 2) r->left = length;
        else for (int i = 2; i < need; i++) r->left = r->left << 8 | r->header[i];
        r->first = r->header[0], r->have = 0;
        if (r->first & RSV1) r->compressed++;
        if (!r->left) complete(r);
    }
}

/* ---- connections ---- */

static void watch(struct connection *c, int action, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (c->events == events) return;
    c->events = events;
    if (epoll_ctl(poller, action, c->fd, &event)) fail("epoll_ctl: %s", strerror(errno));
}

static void begin(struct connection *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) fail("socket: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
        fail("connect: %s", strerror(errno));
    watch(c, EPOLL_CTL_ADD, EPOLLOUT);
}

static void request(struct connection *c) {
    char head[HEAD];
    int n = snprintf(head, sizeof head,
        "GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n", port,
        !opt.deflate ? "" : opt.deflate == 1
            ? "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"
            : "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n");
    if (send(c->fd, head, n, MSG_NOSIGNAL) != n) fail("the request was not taken: %s", strerror(errno));
    watch(c, EPOLL_CTL_MOD, EPOLLIN);
}

/* Whether the connection is open now: what the server says to the request is read up to its empty line. */
static int response(struct connection *c) {
    ssize_t n = recv(c->fd, c->head + c->have, HEAD - 1 - c->have, 0);
    if (n < 0 && errno == EAGAIN) return 0;
    if (n <= 0) fail("no handshake: %s", n ? strerror(errno) : "the server ended the connection");
    c->have += n;
    c->head[c->have] = 0;
    char *end = strstr(c->head, "\r\n\r\n");
    if (!end) return c->have < HEAD - 1 ? 0 : (fail("a very long response"), 0);
    if (strncmp(c->head, "HTTP/1.1 101", 12) && strncmp(c->head, "HTTP/1.0 101", 12))
        fail("no handshake: %.*s", (int)strcspn(c->head, "\r\n"), c->head);
    if (!strcasestr(c->head, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")) fail("a wrong Sec-WebSocket-Accept");
    if (opt.deflate && !strcasestr(c->head, "permessage-deflate")) fail("no permessage-deflate");
    if (opt.deflate == 1 && !strcasestr(c->head, "server_no_context_takeover"))
        fail("it keeps its context from one message to the next: server_no_context_takeover was not agreed on");
    frames(&c->reader, (uint8_t *)end + 4, c->have - (end + 4 - c->head));
    return c->open = 1;
}

/* All of them, OPENING at a time; the seconds it took. */
static double open_all(struct connection *all, long count) {
    struct epoll_event events[OPENING];
    double since = now();
    for (long asked = 0, done = 0; done < count;) {
        while (asked < count && asked - done < OPENING) begin(&all[asked++]);
        int n = epoll_wait(poller, events, OPENING, 100);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (c->open) continue;
            if (events[i].events & EPOLLOUT) {
                int error = 0;
                socklen_t size = sizeof error;
                getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
                if (error) fail("connect: %s", strerror(error));
                if (opt.raw) watch(c, EPOLL_CTL_MOD, EPOLLIN), c->open = 1, done++;
                else request(c);
            } else {
                done += response(c);
            }
        }
        in_time();
    }
    return now() - since;
}

/* Reads what is there; 0 once nothing is. */
static ssize_t receive(struct connection *c) {
    ssize_t n = recv(c->fd, buffer, READ, 0);
    if (n < 0 && errno == EAGAIN) return 0;
    if (n <= 0) fail("%s", n ? strerror(errno) : "the server ended the connection");
    if (!opt.raw) frames(&c->reader, buffer, n);
    else c->reader.bytes += n;
    return n;
}

/* ---- modes ---- */

/* The same frame over and over: `block` holds whole ones, `sent` and `allowed` count bytes. `polled`: nobody
 * waits for epoll, but tries again. */
struct stream {
    int polled;
    uint8_t *block;
    size_t frame, size;
    uint64_t sent, allowed;
};

static void prepare(struct stream *s, int first, const uint8_t *payload, size_t size) {
    uint8_t header[14];
    size_t n = frame_header(header, first, size);
    s->frame = n + size;
    size_t count = s->frame < (256 << 10) ? (256 << 10) / s->frame : 1;
    s->size = count * s->frame;
    s->block = allocate(s->size);
    memcpy(s->block, header, n);
    memcpy(s->block + n, payload, size);
    mask(s->block + n, size);
    for (size_t i = 1; i < count; i++) memcpy(s->block + i * s->frame, s->block, s->frame);
}

static void transmit(struct connection *c, struct stream *s) {
    while (s->sent < s->allowed) {
        size_t offset = s->sent % s->frame, part = s->size - offset;
        if (part > s->allowed - s->sent) part = s->allowed - s->sent;
        ssize_t n = send(c->fd, s->block + offset, part, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) fail("send: %s", strerror(errno));
        if (n > 0) s->sent += n;
        if (n < (ssize_t)part) break;
    }
    if (!s->polled) watch(c, EPOLL_CTL_MOD, s->sent < s->allowed ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static uint8_t *read_payload(long *size) {
    if (!opt.payload) {
        uint8_t *data = allocate(*size + 1);
        for (long i = 0; i < *size; i++) data[i] = 'a' + i % 23;
        return data;
    }
    FILE *file = fopen(opt.payload, "rb");
    if (!file) fail("%s: %s", opt.payload, strerror(errno));
    uint8_t *data = allocate(READ);
    *size = fread(data, 1, READ, file);
    fclose(file);
    return data;
}

static void echo(void) {
    struct connection *c = allocate(sizeof *c);
    struct stream s = {.polled = 1};
    long size = opt.size;
    uint8_t *payload = read_payload(&size);
    open_all(c, 1);
    prepare(&s, FIN | (opt.deflate ? RSV1 | TEXT : BINARY), payload, size);
    c->reader.expected = opt.deflate ? 0 : size;
    c->reader.room = opt.raw ? 0 : size + 4096;
    c->reader.sample = allocate(size + 4096);
    s.allowed = opt.flight * s.frame;
    double begin = now(), clock = 0, idle = 0, server = 0, last = begin;
    uint64_t before = 0, done = 0;
    transmit(c, &s);
    for (;;) {
        /* It never sleeps: to wake it up would take the server's time, and longer than a hundred messages. */
        ssize_t got = receive(c);
        for (int turns = 1; turns < 4 && got == READ; turns++) got = receive(c);
        done = opt.raw ? c->reader.bytes / s.frame : c->reader.messages;
        s.allowed = (done + opt.flight) * s.frame;
        if (s.sent < s.allowed) transmit(c, &s);
        double t = now();
        if (!got) idle += t - last;
        last = t;
        if (!clock && t - begin >= opt.warm) clock = t, before = done, idle = 0, server = used();
        /* On a busy machine the server may not have had its turn yet. */
        if (clock && t - clock >= opt.seconds && done > before && (!opt.pid || used() > server)) break;
        if (t - started > opt.limit) fail("not done within %g s: %lu answered", opt.limit, done);
    }
    double elapsed = now() - clock;
    server = used() - server;
    if (c->reader.wrong) fail("%lu answers of another length", c->reader.wrong);
    if (opt.deflate && !c->reader.compressed) fail("the answers are not compressed");
    if (!opt.raw && !opt.deflate && done && memcmp(c->reader.sample, payload, size))
        fail("the answer is not what was sent");
    printf("{\"rate\": %.1f, \"busy\": %.3f, \"count\": %lu, \"used\": %.6f, \"sample\": \"",
           (done - before) / elapsed, 1 - idle / elapsed, done - before, server);
    for (uint64_t i = 0; opt.deflate && i < c->reader.sampled; i++) printf("%02x", c->reader.sample[i]);
    printf("\"}\n");
}

static void large(void) {
    struct connection *c = allocate(sizeof *c);
    size_t block = 1 << 20; /* a multiple of the mask's length, so that it may be repeated */
    uint8_t *payload = allocate(block), header[14];
    memset(payload, 'k', block);
    mask(payload, block);
    open_all(c, 1);
    uint64_t left = opt.size, fragment = opt.fragment ? opt.fragment : opt.size, in_frame = 0, total = 0;
    size_t in_header = 0, header_size = 0;
    double begin = now();
    watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    while (!c->reader.messages) {
        struct epoll_event event;
        int n = epoll_wait(poller, &event, 1, 100);
        if (n > 0 && event.events & EPOLLIN) receive(c);
        while (left || in_frame || in_header < header_size) {
            if (!in_frame && in_header == header_size) {
                in_frame = left < fragment ? left : fragment;
                left -= in_frame;
                header_size = frame_header(header, (left ? 0 : FIN) | (total ? 0 : BINARY), in_frame);
                in_header = 0, total = in_frame;
            }
            size_t offset = (total - in_frame) % block, part = block - offset;
            struct iovec parts[2] = {{header + in_header, header_size - in_header},
                                     {payload + offset, part < in_frame ? part : in_frame}};
            ssize_t sent = writev(c->fd, parts, 2);
            if (sent < 0 && errno == EAGAIN) break;
            if (sent < 0) fail("send: %s", strerror(errno));
            size_t of_header = (size_t)sent < parts[0].iov_len ? (size_t)sent : parts[0].iov_len;
            in_header += of_header, in_frame -= sent - of_header;
        }
        if (!left && !in_frame) watch(c, EPOLL_CTL_MOD, EPOLLIN);
        in_time();
    }
    printf("{\"seconds\": %.4f, \"answered\": %lu}\n", now() - begin, c->reader.bytes);
}

static void idle(void) {
    struct connection *all = allocate(opt.connections * sizeof *all);
    double server = used(), elapsed = open_all(all, opt.connections);
    printf("{\"rate\": %.1f, \"busy\": %.3f, \"count\": %ld, \"used\": %.6f}\n", opt.connections / elapsed,
           cpu() / elapsed, opt.connections, used() - server);
    fflush(stdout);
    while (read(0, buffer, READ) > 0) {}
}

static void broadcast(void) {
    struct connection *all = allocate(opt.connections * sizeof *all);
    struct epoll_event events[256];
    struct stream s = {0};
    long size = opt.size;
    uint8_t *payload = read_payload(&size);
    open_all(all, opt.connections);
    for (long i = 0; i < opt.connections; i++) all[i].reader.expected = size;
    prepare(&s, FIN | BINARY, payload, size);
    s.allowed = opt.flight * s.frame;
    transmit(all, &s);
    double begin = now(), clock = 0, spent = 0, server = 0;
    uint64_t done = 0, before = 0;
    for (;;) {
        int n = epoll_wait(poller, events, 256, 100);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (!(events[i].events & EPOLLIN)) continue;
            uint64_t had = c->reader.messages;
            receive(c);
            done += c->reader.messages - had;
        }
        s.allowed = (done / opt.connections + opt.flight) * s.frame;
        if (s.sent < s.allowed) transmit(all, &s);
        double t = now();
        if (!clock && t - begin >= opt.warm) clock = t, before = done, spent = cpu(), server = used();
        /* On a busy machine the server may not have had its turn yet. */
        if (clock && t - clock >= opt.seconds && done > before && (!opt.pid || used() > server)) break;
        if (t - started > opt.limit) fail("not done within %g s: %lu received", opt.limit, done);
    }
    double elapsed = now() - clock;
    server = used() - server;
    for (long i = 0; i < opt.connections; i++) {
        if (all[i].reader.wrong) fail("a message of another length");
        long ahead = (long)all[i].reader.messages - (long)(done / opt.connections);
        if (labs(ahead) > opt.flight + 1) fail("a connection is %ld messages from the others", ahead);
    }
    printf("{\"rate\": %.1f, \"busy\": %.3f, \"count\": %lu, \"used\": %.6f}\n", (done - before) / elapsed,
           (cpu() - spent) / elapsed, done - before, server);
}

static void take(const char *name, const char *value) {
    struct { const char *name; long *whole; double *real; } known[] = {
        {"--size", &opt.size, 0}, {"--flight", &opt.flight, 0}, {"--fragment", &opt.fragment, 0},
        {"--connections", &opt.connections, 0}, {"--raw", &opt.raw, 0}, {"--deflate", &opt.deflate, 0},
        {"--pid", &opt.pid, 0},
        {"--seconds", 0, &opt.seconds}, {"--warm", 0, &opt.warm}, {"--limit", 0, &opt.limit},
    };
    if (!strcmp(name, "--payload")) { opt.payload = value; return; }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(name, known[i].name)) continue;
        if (known[i].whole) *known[i].whole = atol(value);
        else *known[i].real = atof(value);
        return;
    }
    fail("unknown option %s", name);
}

/* A core that sleeps takes its time to wake up, in a virtual machine as long as a round trip. */
static void awake(void) {
    struct sched_param lowest = {0};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (sched_setscheduler(0, SCHED_IDLE, &lowest)) fail("sched_setscheduler: %s", strerror(errno));
    for (;;) __asm__ volatile("");
}

int main(int argc, char **argv) {
    if (argc < 3 || argc % 2 == 0) fail("usage: websocket_client MODE PORT [--name value]...");
    for (int i = 3; i < argc; i += 2) take(argv[i], argv[i + 1]);
    port = atoi(argv[2]);
    started = now();
    poller = epoll_create1(0);
    if (!strcmp(argv[1], "echo")) echo();
    else if (!strcmp(argv[1], "large")) large();
    else if (!strcmp(argv[1], "idle")) idle();
    else if (!strcmp(argv[1], "broadcast")) broadcast();
    else if (!strcmp(argv[1], "awake")) awake();
    else fail("unknown mode %s", argv[1]);
    return 0;
}
