#define _GNU_SOURCE
#include "common.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE_SECONDS = 180 };
enum { MAGNITUDE = 11, HALF = 1 << (MAGNITUDE - 1), LONGEST_BITS = 40, SLOTS = (LONGEST_BITS - MAGNITUDE + 2) * HALF };

static const int64_t SECOND = 1000000000, LONGEST = 600 * 1000000000LL;

struct load load = {.kind = "", .topics = 1, .partitions = 1, .replicas = 1, .producers = 1, .record_size = 1024, .window = 1};

_Noreturn void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    // Not `exit`: other threads are in the middle of a library whose handlers would run.
    _exit(1);
}

static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count, size);
    if (!memory) fail("out of memory");
    return memory;
}

// MARK: The load

static void read_servers(char *text) {
    for (char *each = strtok(text, ","); each; each = strtok(NULL, ",")) {
        load.servers = realloc(load.servers, sizeof *load.servers * (size_t)(load.server_count + 1));
        if (!load.servers) fail("out of memory");
        load.servers[load.server_count++] = each;
    }
}

static void read_setting(const char *name, char *value) {
    double number = atof(value);
    if (!strcmp(name, "servers")) read_servers(value);
    else if (!strcmp(name, "name")) load.name = value;
    else if (!strcmp(name, "kind")) load.kind = value;
    else if (!strcmp(name, "topics")) load.topics = (int)number;
    else if (!strcmp(name, "partitions")) load.partitions = (int)number;
    else if (!strcmp(name, "replicas")) load.replicas = (int)number;
    else if (!strcmp(name, "producers")) load.producers = (int)number;
    else if (!strcmp(name, "groups")) load.groups = (int)number;
    else if (!strcmp(name, "record-size")) load.record_size = (size_t)number;
    else if (!strcmp(name, "payload")) load.is_json = !strcmp(value, "json");
    else if (!strcmp(name, "rate")) load.rate = number;
    else if (!strcmp(name, "window")) load.window = (int)number;
    else if (!strcmp(name, "backlog")) load.backlog = (int64_t)number;
    else if (!strcmp(name, "retained")) load.retained = (int64_t)number;
    else if (!strcmp(name, "warmup")) load.warmup = number;
    else if (!strcmp(name, "seconds")) load.seconds = number;
    else if (!strcmp(name, "drain")) load.drain = number;
    else if (!strcmp(name, "linger")) load.linger = number;
    else if (!strcmp(name, "batch-size")) load.batch_size = (size_t)number;
    else if (!strcmp(name, "in-flight")) load.in_flight = (int)number;
    else fail("%s: no such setting", name);
}

static void read_load(int count, char **arguments) {
    for (int each = 1; each < count; each++) {
        char *value = strchr(arguments[each], '=');
        if (!value) fail("%s: an argument is NAME=VALUE", arguments[each]);
        *value++ = 0;
        read_setting(arguments[each], value);
    }
    if (!load.server_count || !load.name || load.seconds < 1 || load.window < 1 || load.record_size < 1)
        fail("servers, name, seconds, window and record-size are needed");
}

int stream_count(void) {
    return load.topics * load.partitions;
}

int read_ahead(void) {
    size_t fitting = ((size_t)64 << 20) / load.record_size;
    return fitting > 1000 ? 1000 : fitting < 1 ? 1 : (int)fitting;
}

const char *server_host(int index, int *port) {
    static _Thread_local char host[256];
    snprintf(host, sizeof host, "%s", load.servers[index % load.server_count]);
    char *colon = strrchr(host, ':');
    if (!colon) fail("%s: a server is HOST:PORT", host);
    *colon = 0;
    *port = atoi(colon + 1);
    return host;
}

// MARK: Time

static int64_t begin_time, start_time, end_time;
// How long before a moment a thread stops to sleep and looks at the clock. Timers are late by tens of microseconds; but servers need
// the processors, too, so all looking together takes a twentieth of one at most.
static int64_t looking_time;

int64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * SECOND + time.tv_nsec;
}

void wait_readable(int descriptor, bool wants_write, int64_t until) {
    // poll leaves out a descriptor of -1.
    struct pollfd polled = {.fd = descriptor, .events = (short)(wants_write ? POLLIN | POLLOUT : POLLIN)};
    while (true) {
        int64_t rest = until - now_ns();
        if (rest <= 0) return;
        int64_t sleep = rest > looking_time ? rest - looking_time : 0;
        struct timespec time = {.tv_sec = sleep / SECOND, .tv_nsec = sleep % SECOND};
        if (ppoll(&polled, 1, &time, NULL) > 0) return;
    }
}

// MARK: Histograms

// HdrHistogram's layout with three digits, of nanoseconds up to ten minutes.
struct histogram {
    uint64_t count, sum, largest;
    uint32_t slots[SLOTS];
};

static int slot_of(uint64_t value) {
    int bits = 64 - __builtin_clzll(value | ((1u << MAGNITUDE) - 1));
    int bucket = bits - MAGNITUDE;
    return bucket * HALF + (int)(value >> bucket);
}

// The largest value that is counted in a slot.
static uint64_t value_of(int slot) {
    if (slot < 2 * HALF) return (uint64_t)slot;
    int bucket = slot / HALF - 1;
    uint64_t lowest = (uint64_t)(slot % HALF + HALF) << bucket;
    return lowest + ((uint64_t)1 << bucket) - 1;
}

// Several threads count into one histogram; each number is right by itself, and all are read when the threads are gone.
static void histogram_add(struct histogram *histogram, uint64_t value) {
    if (value > (uint64_t)LONGEST) value = (uint64_t)LONGEST;
    __atomic_fetch_add(&histogram->count, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&histogram->sum, value, __ATOMIC_RELAXED);
    __atomic_fetch_add(&histogram->slots[slot_of(value)], 1, __ATOMIC_RELAXED);
    uint64_t largest = __atomic_load_n(&histogram->largest, __ATOMIC_RELAXED);
    while (value > largest &&
           !__atomic_compare_exchange_n(&histogram->largest, &largest, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
}

static void histogram_merge(struct histogram *into, const struct histogram *from) {
    into->count += from->count;
    into->sum += from->sum;
    if (from->largest > into->largest) into->largest = from->largest;
    for (int slot = 0; slot < SLOTS; slot++) into->slots[slot] += from->slots[slot];
}

// The value, in microseconds, that a share of all values does not exceed.
static double percentile_us(const struct histogram *histogram, double percent) {
    uint64_t wanted = (uint64_t)(percent / 100 * (double)histogram->count + 0.5), seen = 0;
    if (wanted < 1) wanted = 1;
    for (int slot = 0; slot < SLOTS; slot++) {
        seen += histogram->slots[slot];
        if (seen < wanted) continue;
        uint64_t value = value_of(slot);
        return (double)(value < histogram->largest ? value : histogram->largest) / 1000;
    }
    return (double)histogram->largest / 1000;
}

// MARK: What was done

// One side of the run. Its first slot is what came before the measured time, the last what came after it.
struct side {
    uint64_t *counts;
    struct histogram *latencies;
    uint64_t done;
};

static struct side acknowledged, consumed;
static int second_count;
static uint64_t failure_count;
static char first_error[256];
static pthread_mutex_t error_lock = PTHREAD_MUTEX_INITIALIZER;
static bool is_produced;
static int64_t drain_end;

static void side_make(struct side *side) {
    side->counts = allocate((size_t)second_count + 2, sizeof *side->counts);
    side->latencies = allocate((size_t)second_count + 2, sizeof *side->latencies);
}

static void note(struct side *side, int64_t now, int64_t due) {
    int place = now < start_time ? 0 : now >= end_time ? second_count + 1 : (int)((now - start_time) / SECOND) + 1;
    __atomic_fetch_add(&side->counts[place], 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&side->done, 1, __ATOMIC_RELAXED);
    if (due >= start_time && due < end_time) histogram_add(&side->latencies[place], now > due ? (uint64_t)(now - due) : 0);
}

void note_acknowledged(int64_t now, int64_t due) {
    note(&acknowledged, now, due);
}

void note_consumed(int64_t now, const void *value, size_t size) {
    int64_t due = -1;
    if (size >= sizeof due) memcpy(&due, value, sizeof due);
    note(&consumed, now, due);
}

void note_failed(const char *reason) {
    pthread_mutex_lock(&error_lock);
    if (failure_count++ == 0) snprintf(first_error, sizeof first_error, "%s", reason);
    pthread_mutex_unlock(&error_lock);
}

void wait_for_backlog(void) {
    while ((int64_t)(__atomic_load_n(&acknowledged.done, __ATOMIC_RELAXED) * load.record_size) < load.backlog) {
        if (__atomic_load_n(&is_produced, __ATOMIC_ACQUIRE)) fail("the backlog of %ld bytes was not reached in time", load.backlog);
        wait_readable(-1, false, now_ns() + 2000000);
    }
}

bool is_drained(void) {
    if (!__atomic_load_n(&is_produced, __ATOMIC_ACQUIRE)) return false;
    return __atomic_load_n(&consumed.done, __ATOMIC_RELAXED) >= acknowledged.done * (uint64_t)load.groups || now_ns() > drain_end;
}

// MARK: Producers

static pthread_barrier_t connected, begun;
static char *pool;
static size_t pool_count;

// Values as our own bench makes them: together a MiB at least, so that no compressor's window holds a repeat.
static void fill_pool(void) {
    pool_count = ((size_t)1 << 20) / load.record_size;
    pool_count = pool_count < 16 ? 16 : pool_count > 4096 ? 4096 : pool_count;
    size_t size = pool_count * load.record_size, used = 0;
    pool = allocate(size, 1);
    uint64_t state = (uint64_t)now_ns();
    while (used < size) {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        uint32_t word = (uint32_t)(state >> 32);
        char part[192];
        size_t length = 4;
        if (load.is_json)
            length = (size_t)snprintf(part, sizeof part,
                                      "{\"id\":%u,\"number\":%zu,\"customer\":\"customer-%u\",\"state\":\"shipped\",\"amount\":%u.%u,"
                                      "\"currency\":\"EUR\",\"items\":[%u,%u]}",
                                      word, used / load.record_size, word % 5000, word % 100000, word % 100, word % 7, word % 11);
        else
            memcpy(part, &word, length);
        if (length > size - used) length = size - used;
        memcpy(pool + used, part, length);
        used += length;
    }
}

void wait_for_begin(void) {
    pthread_barrier_wait(&connected);
    pthread_barrier_wait(&begun);
}

bool is_over(int64_t now) {
    return now >= end_time;
}

int64_t next_due(const struct producer *producer, int64_t now) {
    if (producer->interval == 0) return now > begin_time ? now : begin_time;
    // Producers take turns, so that together they are as even as one would be.
    double turn = (double)producer->index / (double)(load.topics * load.producers);
    return begin_time + (int64_t)(((double)producer->sent + turn) * producer->interval);
}

int next_record(struct producer *producer, int64_t due) {
    memcpy(producer->record, pool + producer->sent % pool_count * load.record_size, load.record_size);
    if (load.record_size >= sizeof due) memcpy(producer->record, &due, sizeof due);
    int stream = producer->topic * load.partitions + (int)(producer->sent % (uint64_t)load.partitions);
    producer->sent++;
    return stream;
}

int64_t last_answer(void) {
    return end_time + 30 * SECOND;
}

void window_make(struct window *window) {
    uint64_t size = 1;
    while (size < (uint64_t)load.window) size *= 2;
    *window = (struct window){.due = allocate(size, sizeof *window->due), .is_open = allocate(size, sizeof *window->is_open),
                              .mask = size - 1, .limit = load.window};
}

bool window_is_full(const struct window *window) {
    return window->next - window->first >= (uint64_t)window->limit;
}

bool window_is_empty(const struct window *window) {
    return window->next == window->first;
}

uint64_t window_open(struct window *window, int64_t due) {
    uint64_t number = window->next++;
    window->due[number & window->mask] = due;
    window->is_open[number & window->mask] = true;
    return number;
}

int64_t window_close(struct window *window, uint64_t number) {
    uint64_t place = number & window->mask;
    if (number < window->first || number >= window->next || !window->is_open[place]) return -1;
    window->is_open[place] = false;
    while (window->first < window->next && !window->is_open[window->first & window->mask]) window->first++;
    return window->due[place];
}

void window_abandon(struct window *window, const char *reason) {
    for (uint64_t number = window->first; number < window->next; number++)
        if (window_close(window, number) >= 0) note_failed(reason);
}

// MARK: The report

static void print_text(const char *text) {
    putchar('"');
    for (const unsigned char *each = (const unsigned char *)text; *each; each++) {
        if (*each < ' ') printf("\\u%04x", *each);
        else if (*each == '"' || *each == '\\') printf("\\%c", *each);
        else putchar(*each);
    }
    putchar('"');
}

// Five ticks until half of the rest is reached, and so on, as HdrHistogram's plots have them.
static void print_percentiles(const struct histogram *histogram) {
    enum { TICKS = 5 };
    putchar('[');
    for (double rest = 100; rest / 100 * (double)histogram->count >= 1; rest /= 2)
        for (int tick = 0; tick < TICKS; tick++) {
            double percent = 100 - rest + rest / 2 * tick / TICKS;
            printf("[%.10g,%.1f],", percent, percentile_us(histogram, percent));
        }
    printf("[100,%.1f]]", (double)histogram->largest / 1000);
}

static void print_latencies(const struct side *side) {
    struct histogram *all = allocate(1, sizeof *all);
    for (int place = 0; place < second_count + 2; place++) histogram_merge(all, &side->latencies[place]);
    if (all->count == 0) {
        printf("null");
    } else {
        printf("{\"mean\":%.1f,\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"p9999\":%.1f,\"max\":%.1f,\"percentiles\":",
               (double)all->sum / (double)all->count / 1000, percentile_us(all, 50), percentile_us(all, 90), percentile_us(all, 99),
               percentile_us(all, 99.9), percentile_us(all, 99.99), (double)all->largest / 1000);
        print_percentiles(all);
        putchar('}');
    }
    free(all);
}

static void print_side(const struct side *side) {
    uint64_t records = 0;
    for (int place = 1; place <= second_count; place++) records += side->counts[place];
    double bytes = (double)records * (double)load.record_size;
    printf("\"records\":%lu,\"bytes\":%.0f,\"records_per_second\":%.1f,\"mb_per_second\":%.3f,", records, bytes,
           (double)records / load.seconds, bytes / load.seconds / 1e6);
}

static void print_second(const struct side *side, const char *name, int place) {
    const struct histogram *latencies = &side->latencies[place];
    if (latencies->count == 0) printf(",\"%s_p50_us\":null,\"%s_p99_us\":null", name, name);
    else printf(",\"%s_p50_us\":%.1f,\"%s_p99_us\":%.1f", name, percentile_us(latencies, 50), name, percentile_us(latencies, 99));
}

static void print_series(void) {
    printf("\"series\":[");
    uint64_t written = acknowledged.counts[0], read = consumed.counts[0];
    // A part of a second at the end has no line.
    for (int place = 1; place <= (int)load.seconds; place++) {
        written += acknowledged.counts[place];
        read += consumed.counts[place];
        uint64_t wanted = written * (uint64_t)load.groups;
        printf("%s{\"t\":%d,\"produced\":%lu,\"consumed\":%lu", place > 1 ? "," : "", place, acknowledged.counts[place], consumed.counts[place]);
        print_second(&acknowledged, "produce", place);
        print_second(&consumed, "consume", place);
        printf(",\"backlog\":%lu}", wanted > read ? wanted - read : 0);
    }
    putchar(']');
}

static void print_result(const struct driver *driver) {
    printf("{\"client\":");
    print_text(driver->client);
    printf(",\"produce\":{");
    print_side(&acknowledged);
    printf("\"failures\":%lu,\"first_error\":", failure_count);
    if (failure_count) print_text(first_error);
    else printf("null");
    printf(",\"latency_us\":");
    print_latencies(&acknowledged);
    printf("},\"consume\":");
    if (load.groups) {
        putchar('{');
        print_side(&consumed);
        printf("\"latency_us\":");
        print_latencies(&consumed);
        putchar('}');
    } else {
        printf("null");
    }
    // Of the whole run, so that whoever called can see whether all that was acknowledged was read.
    printf(",\"acknowledged\":%lu,\"consumed\":%lu,", acknowledged.done, consumed.done);
    print_series();
    printf("}\n");
}

// MARK: The run

static const struct driver *current;

static void *run_producer(void *opaque) {
    current->produce(opaque);
    return NULL;
}

static void *run_reader(void *opaque) {
    current->consume(opaque);
    return NULL;
}

static pthread_t start_thread(void *(*body)(void *), void *opaque) {
    pthread_t thread;
    int error = pthread_create(&thread, NULL, body, opaque);
    if (error) fail("no thread: %s", strerror(error));
    return thread;
}

static void start_time_now(void) {
    pthread_barrier_wait(&connected);
    begin_time = now_ns() + 50000000;
    start_time = begin_time + (int64_t)(load.warmup * 1e9);
    end_time = start_time + (int64_t)(load.seconds * 1e9);
    printf("{\"start\":%.6f}\n", (double)start_time / 1e9);
    fflush(stdout);
    pthread_barrier_wait(&begun);
}

int drive(int count, char **arguments, const struct driver *driver) {
    // Whoever started this may be killed; and timers are as exact as they can be.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_TIMERSLACK, 1);
    signal(SIGPIPE, SIG_IGN);
    read_load(count, arguments);
    // A node that does not answer must not keep us for ever, and not every call of every library has a limit.
    alarm((unsigned)(load.warmup + load.seconds + load.drain) + PATIENCE_SECONDS);
    current = driver;
    second_count = (int)(load.seconds + 0.999);
    side_make(&acknowledged);
    side_make(&consumed);
    fill_pool();
    driver->set_up();

    int producer_count = load.topics * load.producers, reader_count = stream_count() * load.groups;
    struct producer *producers = allocate((size_t)producer_count, sizeof *producers);
    struct reader *readers = allocate((size_t)reader_count + 1, sizeof *readers);
    pthread_t *threads = allocate((size_t)(producer_count + reader_count), sizeof *threads);
    pthread_barrier_init(&connected, NULL, (unsigned)(producer_count + reader_count + 1));
    pthread_barrier_init(&begun, NULL, (unsigned)(producer_count + reader_count + 1));
    for (int index = 0; index < producer_count; index++) {
        producers[index] = (struct producer){.index = index, .topic = index / load.producers, .record = allocate(load.record_size, 1),
                                             .interval = load.rate > 0 ? 1e9 / load.rate * producer_count : 0};
        threads[index] = start_thread(run_producer, &producers[index]);
    }
    for (int index = 0; index < reader_count; index++) {
        readers[index] = (struct reader){.index = index, .stream = index % stream_count(), .group = index / stream_count()};
        threads[producer_count + index] = start_thread(run_reader, &readers[index]);
    }
    looking_time = load.rate > 1000 ? (int64_t)(0.05e9 / load.rate) : load.rate > 0 ? 50000 : 0;
    start_time_now();
    for (int index = 0; index < producer_count; index++) pthread_join(threads[index], NULL);
    drain_end = now_ns() + (int64_t)(load.drain * 1e9);
    __atomic_store_n(&is_produced, true, __ATOMIC_RELEASE);
    for (int index = 0; index < reader_count; index++) pthread_join(threads[producer_count + index], NULL);
    driver->tear_down();
    print_result(driver);
    return 0;
}
