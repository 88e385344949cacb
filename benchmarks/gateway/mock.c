// An OpenAI-compatible server that costs next to nothing: one thread, epoll, loopback only.
//
//   mock PORT
//
// POST .../completions answers about 600 bytes, or server-sent events where the body has
// "stream":true. The prompt says how it streams, since it gets through every gateway:
// "@mock n=200 interval=20@" is 200 chunks, 20 ms apart (0 = as fast as they are taken, one write
// per chunk, all streams in turn). Each chunk carries "@T<nanoseconds of CLOCK_MONOTONIC>@". With
// "include_usage":true a chunk with the usage comes before the end.
// GET /stats is a JSON object of counters; any other GET lists the model "mock".
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS = 8192, REQUEST_BYTES = 262144 };

typedef struct {
    int fd;
    // The request as far as it has come.
    char *in;
    int length;
    // The stream that is being written, if any.
    int streaming, chunks, interval_ms, usage, sent;
    long long next;
    // What the socket did not take; nothing more is written until it has.
    char out[1024];
    int pending, written;
} Connection;

static Connection *connections[CONNECTIONS];
static int streams[CONNECTIONS], stream_count, poller;
static long long whole, streamed, aborted;

static const char ANSWER[] =
    "{\"id\":\"chatcmpl-mock0123456789abcdef\",\"object\":\"chat.completion\","
    "\"created\":1760000000,\"model\":\"mock\",\"choices\":[{\"index\":0,\"message\":{"
    "\"role\":\"assistant\",\"content\":\"The quick brown fox jumps over the lazy dog. Pack my box "
    "with five dozen liquor jugs. How vexingly quick daft zebras jump! Sphinx of black quartz, "
    "judge my vow. The five boxing wizards jump quickly at dawn.\",\"refusal\":null},"
    "\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":180,"
    "\"completion_tokens\":48,\"total_tokens\":228},\"system_fingerprint\":\"fp_mock\"}";
static const char STREAM_HEAD[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    "Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n";
static const char STREAM_END[] = "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";
#define CHUNK_HEAD                                                                               \
    "{\"id\":\"chatcmpl-mock0123456789abcdef\",\"object\":\"chat.completion.chunk\","             \
    "\"created\":1760000000,\"model\":\"mock\","
static const char MODELS[] =
    "{\"object\":\"list\",\"data\":[{\"id\":\"mock\",\"object\":\"model\",\"created\":1,"
    "\"owned_by\":\"mock\"}]}";
// What routers ask a worker about itself before they send it anything.
static const char SELF[] =
    "{\"status\":\"ok\",\"model_path\":\"mock\",\"model_id\":\"mock\","
    "\"served_model_name\":\"mock\",\"is_generation\":true,\"dp_size\":1,\"version\":\"0.0\"}";

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void watch(Connection *c, int operation, int writing) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | (writing ? EPOLLOUT : 0),
                                .data.fd = c->fd};
    epoll_ctl(poller, operation, c->fd, &event);
}

static void end_stream(Connection *c) {
    for (int i = 0; i < stream_count; i++)
        if (streams[i] == c->fd) {
            streams[i] = streams[--stream_count];
            break;
        }
    c->streaming = 0;
}

static int drop(Connection *c) {
    if (c->streaming) {
        aborted++;
        end_stream(c);
    }
    connections[c->fd] = NULL;
    close(c->fd);
    free(c->in);
    free(c);
    return -1;
}

// Writes, or keeps what the socket does not take. -1 where the connection is broken.
static int put(Connection *c, const char *bytes, int length) {
    int sent = (int)send(c->fd, bytes, length, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) return -1;
    if (sent < 0) sent = 0;
    if (sent == length) return 0;
    if (length - sent > (int)sizeof c->out) return -1;
    c->pending = length - sent;
    c->written = 0;
    memcpy(c->out, bytes + sent, c->pending);
    watch(c, EPOLL_CTL_MOD, 1);
    return 0;
}

static int respond(Connection *c, const char *status, const char *body) {
    char text[2048];
    int length = snprintf(text, sizeof text,
                          "HTTP/1.1 %s\r\nContent-Type: application/json\r\n"
                          "Content-Length: %zu\r\n\r\n%s",
                          status, strlen(body), body);
    return put(c, text, length);
}

static int has(const char *body, int length, const char *text) {
    return memmem(body, length, text, strlen(text)) != NULL;
}

static int flag(const char *body, int length, const char *name) {
    char tight[64], spaced[64];
    snprintf(tight, sizeof tight, "\"%s\":true", name);
    snprintf(spaced, sizeof spaced, "\"%s\": true", name);
    return has(body, length, tight) || has(body, length, spaced);
}

static int begin_stream(Connection *c, const char *body, int length) {
    const char *order = memmem(body, length, "@mock n=", 8);
    c->chunks = 200;
    c->interval_ms = 0;
    if (order) sscanf(order, "@mock n=%d interval=%d@", &c->chunks, &c->interval_ms);
    c->usage = flag(body, length, "include_usage");
    c->sent = 0;
    c->streaming = 1;
    c->next = now();
    streams[stream_count++] = c->fd;
    streamed++;
    return put(c, STREAM_HEAD, sizeof STREAM_HEAD - 1);
}

static int answer(Connection *c, const char *body, int length) {
    if (!memcmp(c->in, "POST", 4)) {
        const char *line = memchr(c->in, '\n', c->length);
        if (!memmem(c->in, line - c->in, "completions ", 12))
            return respond(c, "404 Not Found", "{\"error\":\"not found\"}");
        if (flag(body, length, "stream")) return begin_stream(c, body, length);
        whole++;
        return respond(c, "200 OK", ANSWER);
    }
    if (!memcmp(c->in, "GET /stats", 10)) {
        char counters[200];
        snprintf(counters, sizeof counters,
                 "{\"whole\":%lld,\"streams\":%lld,\"aborted\":%lld,\"open_streams\":%d}", whole,
                 streamed, aborted, stream_count);
        return respond(c, "200 OK", counters);
    }
    const char *line = memchr(c->in, '\n', c->length);
    return respond(c, "200 OK", memmem(c->in, line - c->in, "/models", 7) ? MODELS : SELF);
}

// Answers the requests that are there, up to a stream or to what the socket does not take.
static int serve(Connection *c) {
    while (!c->streaming && !c->pending) {
        char *end = memmem(c->in, c->length, "\r\n\r\n", 4);
        if (!end) return 0;
        char *body = end + 4;
        int head = (int)(body - c->in), length = 0, total;
        end[2] = 0;
        char *field = strcasestr(c->in, "\ncontent-length:");
        if (field) length = atoi(field + 16);
        int chunked = strcasestr(c->in, "\ntransfer-encoding: chunked") != NULL;
        end[2] = '\r';
        if (chunked) {
            char *last = memmem(body, c->length - head, "0\r\n\r\n", 5);
            if (!last) return 0;
            length = (int)(last - body);
            total = head + length + 5;
        } else {
            total = head + length;
            if (c->length < total) return 0;
        }
        if (answer(c, body, length) < 0) return -1;
        c->length -= total;
        memmove(c->in, c->in + total, c->length);
    }
    return 0;
}

static int put_event(Connection *c, const char *data, int length) {
    char framed[800];
    int size = snprintf(framed, sizeof framed, "%x\r\ndata: %.*s\n\n\r\n", length + 8, length, data);
    return put(c, framed, size);
}

// The next event of a stream.
static int advance(Connection *c, long long time) {
    char data[700];
    int length;
    if (c->sent < c->chunks) {
        length = snprintf(data, sizeof data,
                          CHUNK_HEAD "\"choices\":[{\"index\":0,\"delta\":{%s\"content\":"
                                     "\" @T%lld@\"},\"logprobs\":null,\"finish_reason\":%s}]}",
                          c->sent ? "" : "\"role\":\"assistant\",", time,
                          c->sent == c->chunks - 1 ? "\"stop\"" : "null");
        c->sent++;
        c->next += c->interval_ms * 1000000LL;
        return put_event(c, data, length);
    }
    if (c->usage) {
        c->usage = 0;
        length = snprintf(data, sizeof data,
                          CHUNK_HEAD "\"choices\":[],\"usage\":{\"prompt_tokens\":20,"
                                     "\"completion_tokens\":%d,\"total_tokens\":%d}}",
                          c->chunks, c->chunks + 20);
        return put_event(c, data, length);
    }
    end_stream(c);
    if (put(c, STREAM_END, sizeof STREAM_END - 1) < 0) return -1;
    return serve(c);
}

static void accept_all(int listener) {
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= CONNECTIONS) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        Connection *c = calloc(1, sizeof *c);
        c->in = malloc(REQUEST_BYTES);
        c->fd = fd;
        connections[fd] = c;
        watch(c, EPOLL_CTL_ADD, 0);
    }
}

static int flush(Connection *c) {
    int sent = (int)send(c->fd, c->out + c->written, c->pending, MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN ? 0 : -1;
    c->written += sent;
    c->pending -= sent;
    if (c->pending) return 0;
    watch(c, EPOLL_CTL_MOD, 0);
    return serve(c);
}

static int take(Connection *c) {
    int room = REQUEST_BYTES - 1 - c->length;
    int got = room > 0 ? (int)recv(c->fd, c->in + c->length, room, 0) : 0;
    if (got < 0 && errno == EAGAIN) return 0;
    if (got <= 0) return -1;
    c->length += got;
    c->in[c->length] = 0;
    return serve(c);
}

// Milliseconds until a stream has something to say; -1 = none has.
static int pause_ms(void) {
    long long first = -1, time = now();
    for (int i = 0; i < stream_count; i++) {
        Connection *c = connections[streams[i]];
        if (!c->pending && (first < 0 || c->next < first)) first = c->next;
    }
    if (first < 0) return -1;
    return first <= time ? 0 : (int)((first - time + 999999) / 1000000);
}

static void advance_streams(void) {
    static int snapshot[CONNECTIONS];
    int count = stream_count;
    long long time = now();
    memcpy(snapshot, streams, sizeof(int) * count);
    for (int i = 0; i < count; i++) {
        Connection *c = connections[snapshot[i]];
        if (!c || !c->streaming || c->pending || c->next > time) continue;
        if (advance(c, c->interval_ms ? time : now()) < 0) drop(c);
    }
}

int main(int count, char **arguments) {
    if (count != 2) return fprintf(stderr, "usage: mock PORT\n"), 2;
    signal(SIGPIPE, SIG_IGN);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(arguments[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (void *)&address, sizeof address) || listen(listener, 1024))
        return perror("mock"), 1;
    poller = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[512];
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(poller, events, 512, pause_ms());
        for (int i = 0; i < ready; i++) {
            if (events[i].data.fd == listener) {
                accept_all(listener);
                continue;
            }
            Connection *c = connections[events[i].data.fd];
            if (!c) continue;
            if (events[i].events & EPOLLOUT && flush(c) < 0) {
                drop(c);
                continue;
            }
            if (events[i].events & ~EPOLLOUT && take(c) < 0) drop(c);
        }
        advance_streams();
    }
}
