// Load on an HTTP/1.1 server of this machine: one thread, epoll. Prints one line of JSON.
//
//   load requests PORT CONNECTIONS SECONDS FILE
//       The request in FILE over and over on so many kept connections (what wrk does, where it is
//       not installed).
//   load streams PORT CONNECTIONS TOTAL SECONDS CHUNKS STAGGER_MS FILE
//       TOTAL streams, so many at a time, each on a connection of its own; the first ones begin
//       STAGGER_MS apart, so that paced ones do not beat together. A stream is good when it has
//       status 200 and CHUNKS events with "@T<nanoseconds>@" in them; that time, on the clock of
//       this machine, says how long an event travelled.
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_BYTES = 16384, LINE_BYTES = 8192, EVENTS = 256 };

typedef struct {
    int fd;
    long long begun, first;
    // The request: how much of it is sent.
    size_t sent;
    // The response's head, then the state of its body.
    char head[HEAD_BYTES];
    int head_length, in_body, status, chunked;
    long long left;
    enum { SIZE, DATA, TAIL } part;
    char size[32];
    int size_length;
    // The event that is being read.
    char line[LINE_BYTES];
    int line_length, events, usage, done;
} Connection;

// Times in nanoseconds.
typedef struct {
    long long *values;
    size_t count, room;
} Times;

static int poller, port, want_events;
static char *request;
static size_t request_length;
static Times latencies, first_events, transits;
static long long ok, bad, failed, events, with_usage, without_done, last_event;

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void note(Times *times, long long value) {
    if (times->count == times->room) {
        times->room = times->room ? times->room * 2 : 4096;
        times->values = realloc(times->values, times->room * sizeof *times->values);
    }
    times->values[times->count++] = value;
}

static int compare(const void *a, const void *b) {
    long long x = *(const long long *)a, y = *(const long long *)b;
    return (x > y) - (x < y);
}

// In microseconds; the times must be sorted.
static double percentile(const Times *times, double share) {
    if (!times->count) return -1;
    return times->values[(size_t)(share * (times->count - 1) + 0.5)] / 1e3;
}

static void sort(Times *times) {
    if (times->count) qsort(times->values, times->count, sizeof *times->values, compare);
}

// Sends what is left of the request; asks to be woken where the socket takes no more.
static int send_rest(Connection *c) {
    while (c->sent < request_length) {
        ssize_t count = send(c->fd, request + c->sent, request_length - c->sent,
                             MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count < 0 && errno != EAGAIN) return -1;
        if (count < 0) break;
        c->sent += count;
    }
    struct epoll_event event = {.data.ptr = c,
                                .events = EPOLLIN | (c->sent < request_length ? EPOLLOUT : 0)};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event);
    return 0;
}

static int ask(Connection *c) {
    int fd = c->fd;
    memset(c, 0, sizeof *c);
    c->fd = fd;
    c->begun = now();
    return send_rest(c);
}

static void open_connection(Connection *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (void *)&address, sizeof address)) {
        perror("load: connect");
        exit(1);
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    c->fd = fd;
}

static void read_line(Connection *c, long long time) {
    c->line[c->line_length] = 0;
    if (strncmp(c->line, "data:", 5)) return;
    char *data = c->line + 5 + strspn(c->line + 5, " ");
    if (!strncmp(data, "[DONE]", 6)) c->done = 1;
    if (strstr(data, "\"completion_tokens\"")) c->usage = 1;
    char *written = strstr(data, "@T");
    if (!written) return;
    if (!c->events++) c->first = time;
    events++;
    last_event = time;
    note(&transits, time - atoll(written + 2));
}

static void read_body(Connection *c, const char *bytes, long long length, long long time) {
    while (want_events && length > 0) {
        const char *end = memchr(bytes, '\n', length);
        long long size = end ? end - bytes : length;
        if (c->line_length + size < LINE_BYTES) {
            memcpy(c->line + c->line_length, bytes, size);
            c->line_length += (int)size;
        }
        if (!end) return;
        read_line(c, time);
        c->line_length = 0;
        bytes = end + 1;
        length -= size + 1;
    }
}

static int read_chunked(Connection *c, const char *bytes, int length, long long time) {
    for (int i = 0; i < length;) {
        if (c->part == SIZE) {
            char byte = bytes[i++];
            if (byte != '\n') {
                if (c->size_length < 30) c->size[c->size_length++] = byte;
                continue;
            }
            c->size[c->size_length] = 0;
            c->left = strtoll(c->size, NULL, 16);
            c->size_length = 0;
            if (!c->left) return 1;
            c->part = DATA;
        } else if (c->part == DATA) {
            long long size = length - i < c->left ? length - i : c->left;
            read_body(c, bytes + i, size, time);
            i += (int)size;
            c->left -= size;
            if (!c->left) c->part = TAIL;
        } else if (bytes[i++] == '\n') {
            c->part = SIZE;
        }
    }
    return 0;
}

// 1 when the response is complete, -1 when its head is too long.
static int read_response(Connection *c, const char *bytes, int length, long long time) {
    if (!c->in_body) {
        // Much of the body may come with the head.
        int before = c->head_length, room = HEAD_BYTES - 1 - before;
        int copied = length < room ? length : room;
        memcpy(c->head + before, bytes, copied);
        c->head_length += copied;
        c->head[c->head_length] = 0;
        char *end = strstr(c->head, "\r\n\r\n");
        if (!end) return copied < length ? -1 : 0;
        int used = (int)(end + 4 - c->head) - before;
        bytes += used;
        length -= used;
        end[2] = 0;
        c->in_body = 1;
        c->status = atoi(c->head + 9);
        c->chunked = strcasestr(c->head, "\ntransfer-encoding: chunked") != NULL;
        char *field = strcasestr(c->head, "\ncontent-length:");
        c->left = field ? atoll(field + 16) : c->chunked ? 0 : 1LL << 62;
    }
    if (c->chunked) return read_chunked(c, bytes, length, time);
    read_body(c, bytes, length, time);
    c->left -= length;
    return c->left <= 0;
}

// 1 when the response is complete, -1 when the connection broke, else 0.
static int proceed(Connection *c, const struct epoll_event *event) {
    static char bytes[262144];
    if (event->events & EPOLLOUT && send_rest(c) < 0) return -1;
    if (!(event->events & ~EPOLLOUT)) return 0;
    ssize_t count = recv(c->fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (count < 0 && errno == EAGAIN) return 0;
    return count <= 0 ? -1 : read_response(c, bytes, (int)count, now());
}

static void requests(int count, double seconds) {
    Connection *connections = calloc(count, sizeof *connections);
    struct epoll_event ready[EVENTS];
    for (int i = 0; i < count; i++) {
        open_connection(&connections[i]);
        if (ask(&connections[i])) failed++;
    }
    long long begun = now(), end = begun + (long long)(seconds * 1e9), time = begun;
    while (time < end) {
        int number = epoll_wait(poller, ready, EVENTS, 100);
        time = now();
        for (int i = 0; i < number; i++) {
            Connection *c = ready[i].data.ptr;
            int state = proceed(c, &ready[i]);
            if (!state) continue;
            if (state > 0) {
                c->status == 200 ? ok++ : bad++;
                note(&latencies, now() - c->begun);
                state = ask(c);
            }
            if (state < 0) {
                failed++;
                close(c->fd);
                open_connection(c);
                if (ask(c)) exit(1);
            }
        }
    }
    sort(&latencies);
    printf("{\"requests\":%lld,\"seconds\":%.4f,\"errors\":%lld,\"p50_us\":%.1f,\"p99_us\":%.1f}\n",
           ok, (now() - begun) / 1e9, bad + failed, percentile(&latencies, 0.5),
           percentile(&latencies, 0.99));
}

static void finish_stream(Connection *c, int chunks) {
    if (c->status == 200 && c->events == chunks) {
        ok++;
        note(&first_events, c->first - c->begun);
    } else {
        bad++;
    }
    with_usage += c->usage;
    without_done += !c->done;
    close(c->fd);
}

static void stream(int count, int total, double seconds, int chunks, int stagger_ms) {
    Connection *connections = calloc(count, sizeof *connections);
    struct epoll_event ready[EVENTS];
    int begun = 0, open = 0;
    long long start = now(), end = start + (long long)(seconds * 1e9);
    want_events = 1;
    last_event = start;
    int at_once = count < total ? count : total;
    while ((open || begun < at_once) && now() < end) {
        for (; begun < at_once && now() >= start + begun * stagger_ms * 1000000LL; begun++, open++) {
            open_connection(&connections[begun]);
            if (ask(&connections[begun])) exit(1);
        }
        int number = epoll_wait(poller, ready, EVENTS, begun < at_once ? 1 : 100);
        for (int i = 0; i < number; i++) {
            Connection *c = ready[i].data.ptr;
            if (!proceed(c, &ready[i])) continue;
            finish_stream(c, chunks);
            open--;
            if (at_once <= begun && begun < total && now() < end) {
                open_connection(c);
                if (ask(c)) exit(1);
                begun++;
                open++;
            }
        }
    }
    sort(&first_events);
    sort(&transits);
    printf("{\"streams\":%lld,\"bad\":%lld,\"unfinished\":%d,\"with_usage\":%lld,"
           "\"without_done\":%lld,\"chunks\":%lld,\"seconds\":%.4f,\"first_p50_us\":%.1f,"
           "\"first_p99_us\":%.1f,\"transit_p50_us\":%.1f,\"transit_p99_us\":%.1f}\n",
           ok, bad, open, with_usage, without_done, events, (last_event - start) / 1e9,
           percentile(&first_events, 0.5), percentile(&first_events, 0.99),
           percentile(&transits, 0.5), percentile(&transits, 0.99));
}

static void read_request(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror("load");
        exit(2);
    }
    fseek(file, 0, SEEK_END);
    request_length = ftell(file);
    rewind(file);
    request = malloc(request_length);
    if (fread(request, 1, request_length, file) != request_length) exit(2);
    fclose(file);
}

int main(int count, char **arguments) {
    if (count != 6 && count != 9)
        return fprintf(stderr, "usage: load requests|streams PORT CONNECTIONS ... FILE\n"), 2;
    read_request(arguments[count - 1]);
    poller = epoll_create1(0);
    port = atoi(arguments[2]);
    int connections = atoi(arguments[3]);
    if (!strcmp(arguments[1], "requests"))
        requests(connections, atof(arguments[4]));
    else
        stream(connections, atoi(arguments[4]), atof(arguments[5]), atoi(arguments[6]),
               atoi(arguments[7]));
    return 0;
}
