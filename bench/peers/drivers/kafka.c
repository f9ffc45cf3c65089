// Our own brokers through librdkafka, the client that most others are made of: idempotent producers with acks=all, and readers of
// whole topics. Batches and linger are the workload's.

#define _GNU_SOURCE
#include "common.h"

#include <fcntl.h>
#include <librdkafka/rdkafka.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATIENCE_MS = 60000, BATCH = 1000 };

// MARK: Clients

static void set(rd_kafka_conf_t *configuration, const char *name, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void set(rd_kafka_conf_t *configuration, const char *name, const char *format, ...) {
    char value[4096], error[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(value, sizeof value, format, arguments);
    va_end(arguments);
    if (rd_kafka_conf_set(configuration, name, value, error, sizeof error)) fail("librdkafka: %s", error);
}

static rd_kafka_conf_t *make_configuration(void) {
    char servers[4096] = "";
    for (int index = 0; index < load.server_count; index++) {
        size_t length = strlen(servers);
        snprintf(servers + length, sizeof servers - length, "%s%s", index ? "," : "", load.servers[index]);
    }
    rd_kafka_conf_t *configuration = rd_kafka_conf_new();
    set(configuration, "bootstrap.servers", "%s", servers);
    return configuration;
}

static rd_kafka_t *make_client(rd_kafka_type_t type, rd_kafka_conf_t *configuration) {
    char error[512];
    rd_kafka_t *client = rd_kafka_new(type, configuration, error, sizeof error);
    if (!client) fail("librdkafka: %s", error);
    return client;
}

static void topic_name(char *name, size_t room, int topic) {
    snprintf(name, room, "%s-%d", load.name, topic);
}

// MARK: Topics

// Waits for what was asked of the cluster; each topic has to be as wanted.
static void expect_answer(rd_kafka_queue_t *queue) {
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, PATIENCE_MS);
    if (!event) fail("librdkafka: no answer about topics");
    if (rd_kafka_event_error(event)) fail("librdkafka: %s", rd_kafka_event_error_string(event));
    size_t count = 0;
    const rd_kafka_topic_result_t **results = NULL;
    if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_CREATETOPICS_RESULT)
        results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count);
    else
        results = rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(event), &count);
    for (size_t each = 0; each < count; each++)
        if (rd_kafka_topic_result_error(results[each]))
            fail("librdkafka: %s: %s", rd_kafka_topic_result_name(results[each]), rd_kafka_topic_result_error_string(results[each]));
    rd_kafka_event_destroy(event);
}

static void create_topics(void) {
    rd_kafka_t *client = make_client(RD_KAFKA_PRODUCER, make_configuration());
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    rd_kafka_NewTopic_t **topics = calloc((size_t)load.topics, sizeof *topics);
    if (!topics) fail("out of memory");
    for (int topic = 0; topic < load.topics; topic++) {
        char name[256], error[512];
        topic_name(name, sizeof name, topic);
        topics[topic] = rd_kafka_NewTopic_new(name, load.partitions, load.replicas, error, sizeof error);
        if (!topics[topic]) fail("librdkafka: %s", error);
        // What producers send stays as it is, which is all that others can do.
        rd_kafka_NewTopic_set_config(topics[topic], "compression.type", "producer");
    }
    rd_kafka_CreateTopics(client, topics, (size_t)load.topics, NULL, queue);
    expect_answer(queue);
    rd_kafka_NewTopic_destroy_array(topics, (size_t)load.topics);
    free(topics);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(client);
}

static void delete_topics(void) {
    rd_kafka_t *client = make_client(RD_KAFKA_PRODUCER, make_configuration());
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    for (int topic = 0; topic < load.topics; topic++) {
        char name[256];
        topic_name(name, sizeof name, topic);
        rd_kafka_DeleteTopic_t *deletion = rd_kafka_DeleteTopic_new(name);
        rd_kafka_DeleteTopics(client, &deletion, 1, NULL, queue);
        expect_answer(queue);
        rd_kafka_DeleteTopic_destroy(deletion);
    }
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(client);
}

// MARK: Producing

// The records of a producer that have no report yet.
static _Thread_local int open_count;

static void take_report(rd_kafka_t *client, const rd_kafka_message_t *message, void *opaque) {
    (void)client, (void)opaque;
    open_count--;
    if (message->err) note_failed(rd_kafka_err2str(message->err));
    else note_acknowledged(now_ns(), (int64_t)(intptr_t)message->_private);
}

// A descriptor that is readable when reports have come, so that a thread can wait for them and for the time alike.
static int report_descriptor(rd_kafka_t *client, int ends[2]) {
    if (pipe2(ends, O_NONBLOCK | O_CLOEXEC)) fail("no pipe");
    rd_kafka_queue_t *queue = rd_kafka_queue_get_main(client);
    rd_kafka_queue_io_event_enable(queue, ends[1], "1", 1);
    rd_kafka_queue_destroy(queue);
    return ends[0];
}

static void take_reports(rd_kafka_t *client, int descriptor) {
    char bytes[256];
    while (read(descriptor, bytes, sizeof bytes) > 0) {
    }
    rd_kafka_poll(client, 0);
}

// Hands a record over; whether the library took it.
static bool hand_over(struct producer *producer, rd_kafka_topic_t *topic, int64_t due) {
    int partition = next_record(producer, due) % load.partitions;
    if (!rd_kafka_produce(topic, partition, RD_KAFKA_MSG_F_COPY, producer->record, load.record_size, NULL, 0, (void *)(intptr_t)due)) {
        open_count++;
        return true;
    }
    if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL) fail("librdkafka: %s", rd_kafka_err2str(rd_kafka_last_error()));
    producer->sent--;
    return false;
}

static void produce(struct producer *producer) {
    rd_kafka_conf_t *configuration = make_configuration();
    rd_kafka_conf_set_dr_msg_cb(configuration, take_report);
    set(configuration, "enable.idempotence", "true");
    set(configuration, "linger.ms", "%g", load.linger * 1000);
    set(configuration, "batch.size", "%zu", load.batch_size);
    // Of a request, with all that is around the largest record.
    set(configuration, "message.max.bytes", "%zu", load.record_size + (1 << 20));
    set(configuration, "batch.num.messages", "%d", 1000000);
    set(configuration, "max.in.flight.requests.per.connection", "%d", load.in_flight < 5 ? load.in_flight : 5);
    set(configuration, "queue.buffering.max.messages", "%d", load.window + 1);
    set(configuration, "queue.buffering.max.kbytes", "%d", 1 << 20);
    rd_kafka_t *client = make_client(RD_KAFKA_PRODUCER, configuration);
    char name[256];
    topic_name(name, sizeof name, producer->topic);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(client, name, NULL);
    int ends[2], descriptor = report_descriptor(client, ends);
    wait_for_begin();
    while (true) {
        int64_t now = now_ns(), due = next_due(producer, now);
        if (is_over(now) && open_count == 0) break;
        if (now > last_answer()) {
            rd_kafka_purge(client, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
            rd_kafka_flush(client, PATIENCE_MS);
            break;
        }
        bool has_room = open_count < load.window;
        for (int count = 0; count < BATCH && has_room && !is_over(now) && due <= now; count++) {
            has_room = hand_over(producer, topic, due) && open_count < load.window;
            due = next_due(producer, now);
        }
        take_reports(client, descriptor);
        bool can_send = open_count < load.window && !is_over(now);
        if (!can_send || due > now_ns()) wait_readable(descriptor, false, can_send ? due : now_ns() + 10000000);
    }
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(client);
    close(ends[0]);
    close(ends[1]);
}

// MARK: Consuming

// One reader has all partitions of a topic, as a member of a group alone would; the threads of the others have nothing to do.
static void consume(struct reader *reader) {
    if (reader->stream % load.partitions) {
        wait_for_begin();
        return;
    }
    rd_kafka_conf_t *configuration = make_configuration();
    set(configuration, "group.id", "%s-%d", load.name, reader->group);
    set(configuration, "enable.auto.commit", "false");
    rd_kafka_t *client = make_client(RD_KAFKA_CONSUMER, configuration);
    rd_kafka_poll_set_consumer(client);
    char name[256];
    topic_name(name, sizeof name, reader->stream / load.partitions);
    rd_kafka_topic_partition_list_t *partitions = rd_kafka_topic_partition_list_new(load.partitions);
    for (int partition = 0; partition < load.partitions; partition++)
        rd_kafka_topic_partition_list_add(partitions, name, partition)->offset = RD_KAFKA_OFFSET_BEGINNING;
    wait_for_begin();
    wait_for_backlog();
    rd_kafka_resp_err_t problem = rd_kafka_assign(client, partitions);
    if (problem) fail("librdkafka: %s", rd_kafka_err2str(problem));
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(client);
    rd_kafka_message_t *messages[BATCH];
    while (!is_drained()) {
        ssize_t count = rd_kafka_consume_batch_queue(queue, 100, messages, BATCH);
        int64_t now = now_ns();
        for (ssize_t each = 0; each < count; each++) {
            if (messages[each]->err) fail("librdkafka: %s", rd_kafka_message_errstr(messages[each]));
            note_consumed(now, messages[each]->payload, messages[each]->len);
            rd_kafka_message_destroy(messages[each]);
        }
    }
    rd_kafka_queue_destroy(queue);
    rd_kafka_topic_partition_list_destroy(partitions);
    rd_kafka_consumer_close(client);
    rd_kafka_destroy(client);
}

int main(int count, char **arguments) {
    char name[64];
    snprintf(name, sizeof name, "librdkafka %s", rd_kafka_version_str());
    const struct driver driver = {
        .client = name, .set_up = create_topics, .produce = produce, .consume = consume, .tear_down = delete_topics};
    return drive(count, arguments, &driver);
}
