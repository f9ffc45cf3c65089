// What the drivers share: the load, the clock, histograms, what was done in each second, and the line of JSON.
//
// A driver is called with NAME=VALUE arguments (see `read_load`). It makes its streams, prints when the measured time
// starts, offers the load, reads until everything acknowledged was read or patience ends, and prints what it measured.
//
// Throughput is what was done within the measured time; latencies are those of the records that were due in it, however
// late they were done. Flat out, a record is due when it is handed over. That is how `flotilla bench` counts, too.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// What is offered. Streams are what the system under test calls streams or queues: one for each partition of each topic.
struct load {
    char **servers;  // HOST:PORT of each node
    int server_count;
    const char *name;  // streams are called NAME-0, NAME-1, ...
    const char *kind;  // what the system has several of, such as a quorum queue and a stream
    int topics, partitions, replicas;
    int producers, groups;  // of each topic
    size_t record_size;
    bool is_json;
    double rate;  // records a second of all producers; 0 is flat out
    int window;  // records of a producer that may be unacknowledged
    int64_t backlog;  // readers wait until so many bytes are acknowledged
    int64_t retained;  // bytes that all streams together may keep, so that neither disk nor memory fills up
    double warmup, seconds, drain;
    // Of clients that gather batches: how long, in seconds, up to which size, and how many of them are on their way.
    double linger;
    size_t batch_size;
    int in_flight;
};

// A thread that publishes to all streams of one topic, in turn.
struct producer {
    int index, topic;
    uint64_t sent;
    double interval;  // nanoseconds between two records; 0 is flat out
    char *record;  // the value of the record that is published next
};

// A thread that reads one stream for one group.
struct reader {
    int index, stream, group;
};

// How one system is spoken to. Each function ends the process where it cannot go on.
struct driver {
    const char *client;  // the library and its version
    void (*set_up)(void);  // makes the streams
    void (*produce)(struct producer *);
    void (*consume)(struct reader *);
    void (*tear_down)(void);  // deletes the streams
};

extern struct load load;

int drive(int count, char **arguments, const struct driver *driver);
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
int stream_count(void);
// How many records a reader asks for ahead of those that it has: a thousand, or fewer that are large.
int read_ahead(void);
// The host, and the port, of one of the nodes; threads take one after the other.
const char *server_host(int index, int *port);

// MARK: Time

int64_t now_ns(void);
// Waits until a descriptor is readable (or writable, if that is wanted) or the time has come; without a descriptor (-1) for the
// time alone.
void wait_readable(int descriptor, bool wants_write, int64_t until);

// MARK: Producers

// Called once, when connected: all threads begin together.
void wait_for_begin(void);
// Whether the measured time is over, and nothing more is to be sent.
bool is_over(int64_t now);
// When the next record is due.
int64_t next_due(const struct producer *producer, int64_t now);
// The stream of the next record, and its value, which carries `due`.
int next_record(struct producer *producer, int64_t due);
// Until when answers are waited for, once the measured time is over.
int64_t last_answer(void);

// When the records were due that are on their way; answers may come in another order.
struct window {
    int64_t *due;
    bool *is_open;
    uint64_t first, next, mask;
    int limit;
};

void window_make(struct window *window);
bool window_is_full(const struct window *window);
bool window_is_empty(const struct window *window);
uint64_t window_open(struct window *window, int64_t due);
// When the record was due; -1 where it was answered before.
int64_t window_close(struct window *window, uint64_t number);
// Notes as failed whatever is still open.
void window_abandon(struct window *window, const char *reason);

// MARK: What was done

void note_acknowledged(int64_t now, int64_t due);
void note_failed(const char *reason);
// Called for each record that a reader gets.
void note_consumed(int64_t now, const void *value, size_t size);
// Blocks a reader until the backlog lies there.
void wait_for_backlog(void);
// Whether a reader has nothing more to expect.
bool is_drained(void);
