// Redis streams through hiredis: pipelined XADD, each answer an acknowledgement, and XREAD COUNT 1000 that blocks.

#include "common.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_OF(value) #value
#define TEXT(value) TEXT_OF(value)

// Commands that are handed to the library before it writes.
enum { CHUNK = 64 };

static redisContext *connect_to(int index, bool blocks) {
    int port;
    const char *host = server_host(index, &port);
    redisContext *context = blocks ? redisConnect(host, port) : redisConnectNonBlock(host, port);
    if (!context || context->err) fail("redis: %s", context ? context->errstr : "out of memory");
    return context;
}

// What the streams are called, and how many entries each keeps.
static char (*keys)[128], limit[32];

static void delete_streams(void) {
    redisContext *context = connect_to(0, true);
    for (int stream = 0; stream < stream_count(); stream++) {
        redisReply *reply = redisCommand(context, "DEL %s-%d", load.name, stream);
        if (!reply || reply->type == REDIS_REPLY_ERROR) fail("redis: DEL: %s", reply ? reply->str : context->errstr);
        freeReplyObject(reply);
    }
    redisFree(context);
}

static void set_up(void) {
    keys = calloc((size_t)stream_count(), sizeof *keys);
    if (!keys) fail("out of memory");
    for (int stream = 0; stream < stream_count(); stream++) snprintf(keys[stream], sizeof *keys, "%s-%d", load.name, stream);
    int64_t retained = load.retained / stream_count() / (int64_t)load.record_size;
    snprintf(limit, sizeof limit, "%ld", retained > 1000 ? retained : 1000);
    delete_streams();
}

// MARK: Producing

// XADD makes a stream; it drops the oldest entries where they would fill the memory. "~" lets it drop whole nodes only.
static void append(redisContext *context, int stream, const char *record) {
    const char *parts[] = {"XADD", keys[stream], "MAXLEN", "~", limit, "*", "v", record};
    const size_t sizes[] = {4, strlen(keys[stream]), 6, 1, strlen(limit), 1, 1, load.record_size};
    if (redisAppendCommandArgv(context, 8, parts, sizes) != REDIS_OK) fail("redis: XADD: %s", context->errstr);
}

static void take_answers(redisContext *context, struct window *window) {
    if (redisBufferRead(context) != REDIS_OK) fail("redis: %s", context->errstr);
    int64_t now = now_ns();
    while (true) {
        redisReply *reply = NULL;
        if (redisGetReplyFromReader(context, (void **)&reply) != REDIS_OK) fail("redis: %s", context->errstr);
        if (!reply) return;
        int64_t due = window_close(window, window->first);
        if (reply->type == REDIS_REPLY_ERROR) note_failed(reply->str);
        else note_acknowledged(now, due);
        freeReplyObject(reply);
    }
}

static void produce(struct producer *producer) {
    redisContext *context = connect_to(producer->index, false);
    struct window window;
    window_make(&window);
    wait_for_begin();
    int is_written = 1;
    while (true) {
        int64_t now = now_ns(), due = next_due(producer, now);
        if (is_over(now) && window_is_empty(&window)) break;
        if (now > last_answer()) {
            window_abandon(&window, "no answer");
            break;
        }
        for (int count = 0; count < CHUNK && is_written && !is_over(now) && due <= now && !window_is_full(&window); count++) {
            int stream = next_record(producer, due);
            window_open(&window, due);
            append(context, stream, producer->record);
            due = next_due(producer, now);
        }
        if (redisBufferWrite(context, &is_written) != REDIS_OK) fail("redis: %s", context->errstr);
        take_answers(context, &window);
        bool can_send = is_written && !window_is_full(&window) && !is_over(now);
        if (!can_send || due > now_ns()) wait_readable(context->fd, !is_written, can_send ? due : now_ns() + 10000000);
    }
    redisFree(context);
}

// MARK: Consuming

// Notes the entries of [[stream, [[id, [field, value]], ...]]] and keeps the last id.
static void take_entries(const redisReply *reply, char *last, size_t room) {
    const redisReply *entries = reply->element[0]->element[1];
    int64_t now = now_ns();
    for (size_t index = 0; index < entries->elements; index++) {
        const redisReply *value = entries->element[index]->element[1]->element[1];
        note_consumed(now, value->str, (size_t)value->len);
    }
    if (entries->elements) snprintf(last, room, "%s", entries->element[entries->elements - 1]->element[0]->str);
}

static void consume(struct reader *reader) {
    redisContext *context = connect_to(reader->index, true);
    char last[64] = "0-0";
    wait_for_begin();
    wait_for_backlog();
    while (!is_drained()) {
        redisReply *reply =
            redisCommand(context, "XREAD COUNT %d BLOCK 100 STREAMS %s-%d %s", read_ahead(), load.name, reader->stream, last);
        if (!reply || reply->type == REDIS_REPLY_ERROR) fail("redis: XREAD: %s", reply ? reply->str : context->errstr);
        if (reply->type == REDIS_REPLY_ARRAY) take_entries(reply, last, sizeof last);
        freeReplyObject(reply);
    }
    redisFree(context);
}

int main(int count, char **arguments) {
    static const struct driver driver = {
        .client = "hiredis " TEXT(HIREDIS_MAJOR) "." TEXT(HIREDIS_MINOR) "." TEXT(HIREDIS_PATCH),
        .set_up = set_up, .produce = produce, .consume = consume, .tear_down = delete_streams};
    return drive(count, arguments, &driver);
}
