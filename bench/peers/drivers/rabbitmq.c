// RabbitMQ through librabbitmq: durable quorum queues or streams (`kind`), persistent messages, publisher confirms with up to
// `window` of them outstanding, consumers with a prefetch of 1000 that acknowledge several messages at once.
//
// Publishing to the default exchange reaches the queue of that name. A quorum queue gives each message to one reader, so several
// groups are as many queues behind a fanout exchange, and a confirm then means all of them; a stream is read by all groups.

#include "common.h"

#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

enum { CHANNEL = 1, FRAME_BYTES = 131072, CHUNK = 16, ACKNOWLEDGED_TOGETHER = 250, SET_UP_SECONDS = 60 };

static bool is_stream(void) {
    return !strcmp(load.kind, "stream");
}

// Whether each group has a queue of its own.
static bool has_fanout(void) {
    return !is_stream() && load.groups > 1;
}

static void name_queue(char *name, size_t room, int stream, int group) {
    if (has_fanout()) snprintf(name, room, "%s-%d-%d", load.name, stream, group);
    else snprintf(name, room, "%s-%d", load.name, stream);
}

static void fail_reply(const char *what, amqp_rpc_reply_t reply) {
    if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION) fail("rabbitmq: %s: %s", what, amqp_error_string2(reply.library_error));
    if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION && reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD) {
        const amqp_channel_close_t *close = reply.reply.decoded;
        fail("rabbitmq: %s: %.*s", what, (int)close->reply_text.len, (const char *)close->reply_text.bytes);
    }
    fail("rabbitmq: %s: the server closed the connection", what);
}

static void check(amqp_connection_state_t connection, const char *what) {
    amqp_rpc_reply_t reply = amqp_get_rpc_reply(connection);
    if (reply.reply_type != AMQP_RESPONSE_NORMAL) fail_reply(what, reply);
}

static void check_status(int status, const char *what) {
    if (status != AMQP_STATUS_OK) fail("rabbitmq: %s: %s", what, amqp_error_string2(status));
}

static amqp_connection_state_t connect_to(int index) {
    int port;
    const char *host = server_host(index, &port);
    amqp_connection_state_t connection = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(connection);
    if (!socket) fail("out of memory");
    check_status(amqp_socket_open(socket, host, port), "connect");
    amqp_rpc_reply_t reply = amqp_login(connection, "/", 0, FRAME_BYTES, 0, AMQP_SASL_METHOD_PLAIN, "guest", "guest");
    if (reply.reply_type != AMQP_RESPONSE_NORMAL) fail_reply("login", reply);
    amqp_channel_open(connection, CHANNEL);
    check(connection, "channel");
    return connection;
}

static void disconnect(amqp_connection_state_t connection) {
    amqp_connection_close(connection, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(connection);
}

// MARK: Queues

static amqp_table_entry_t text_entry(const char *key, const char *value) {
    return (amqp_table_entry_t){.key = amqp_cstring_bytes(key),
                                .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes(value)}};
}

static amqp_table_entry_t number_entry(const char *key, int64_t value) {
    return (amqp_table_entry_t){.key = amqp_cstring_bytes(key), .value = {.kind = AMQP_FIELD_KIND_I64, .value.i64 = value}};
}

static void declare_queue(amqp_connection_state_t connection, const char *name) {
    amqp_table_entry_t entries[] = {
        text_entry("x-queue-type", is_stream() ? "stream" : "quorum"),
        number_entry(is_stream() ? "x-initial-cluster-size" : "x-quorum-initial-group-size", load.replicas),
        number_entry("x-max-length-bytes", load.retained / stream_count() / (has_fanout() ? load.groups : 1)),
    };
    amqp_table_t table = {.num_entries = sizeof entries / sizeof *entries, .entries = entries};
    amqp_queue_declare(connection, CHANNEL, amqp_cstring_bytes(name), 0, 1, 0, 0, table);
    check(connection, name);
}

static void declare_stream(amqp_connection_state_t connection, int stream) {
    char name[128], exchange[128];
    snprintf(exchange, sizeof exchange, "%s-%d", load.name, stream);
    if (has_fanout()) {
        amqp_exchange_declare(connection, CHANNEL, amqp_cstring_bytes(exchange), amqp_cstring_bytes("fanout"), 0, 1, 0, 0, amqp_empty_table);
        check(connection, exchange);
    }
    for (int group = 0; group < (has_fanout() ? load.groups : 1); group++) {
        name_queue(name, sizeof name, stream, group);
        declare_queue(connection, name);
        if (!has_fanout()) continue;
        amqp_queue_bind(connection, CHANNEL, amqp_cstring_bytes(name), amqp_cstring_bytes(exchange), amqp_empty_bytes, amqp_empty_table);
        check(connection, name);
    }
}

// The node that is asked for a queue leads it; so each is asked in turn, as the threads that use the queue are.
static void set_up(void) {
    for (int node = 0; node < load.server_count; node++) {
        amqp_connection_state_t connection = connect_to(node);
        for (int stream = node; stream < stream_count(); stream += load.server_count) declare_stream(connection, stream);
        disconnect(connection);
    }
}

static void tear_down(void) {
    amqp_connection_state_t connection = connect_to(0);
    for (int stream = 0; stream < stream_count(); stream++) {
        char name[128];
        for (int group = 0; group < (has_fanout() ? load.groups : 1); group++) {
            name_queue(name, sizeof name, stream, group);
            amqp_queue_delete(connection, CHANNEL, amqp_cstring_bytes(name), 0, 0);
            check(connection, name);
        }
        snprintf(name, sizeof name, "%s-%d", load.name, stream);
        if (has_fanout()) amqp_exchange_delete(connection, CHANNEL, amqp_cstring_bytes(name), 0);
    }
    disconnect(connection);
}

// MARK: Producing

// Notes the confirms of one frame; delivery tags count from one.
static void take_confirm(const amqp_method_t *method, struct window *window, int64_t now) {
    // A node short of memory or disk says so, and then does not read for a while: that shows in the latencies.
    if (method->id == AMQP_CONNECTION_BLOCKED_METHOD || method->id == AMQP_CONNECTION_UNBLOCKED_METHOD) return;
    bool is_refused = method->id == AMQP_BASIC_NACK_METHOD;
    if (!is_refused && method->id != AMQP_BASIC_ACK_METHOD) fail("rabbitmq: publish: the server closed the channel or the connection");
    const amqp_basic_ack_t *confirm = method->decoded;
    uint64_t tag = confirm->delivery_tag;
    bool is_multiple = is_refused ? ((const amqp_basic_nack_t *)method->decoded)->multiple : confirm->multiple;
    for (uint64_t number = is_multiple ? window->first : tag - 1; number < tag; number++) {
        int64_t due = window_close(window, number);
        if (due < 0) continue;
        if (is_refused) note_failed("the message was refused (basic.nack)");
        else note_acknowledged(now, due);
    }
}

static void take_confirms(amqp_connection_state_t connection, struct window *window) {
    while (true) {
        amqp_frame_t frame;
        struct timeval no_time = {0, 0};
        int status = amqp_simple_wait_frame_noblock(connection, &frame, &no_time);
        if (status == AMQP_STATUS_TIMEOUT) break;
        check_status(status, "confirms");
        if (frame.frame_type == AMQP_FRAME_METHOD) take_confirm(&frame.payload.method, window, now_ns());
        amqp_maybe_release_buffers(connection);
    }
}

static void publish(amqp_connection_state_t connection, int stream, const char *record) {
    char name[128];
    snprintf(name, sizeof name, "%s-%d", load.name, stream);
    amqp_bytes_t bytes = amqp_cstring_bytes(name);
    amqp_basic_properties_t properties = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG, .delivery_mode = AMQP_DELIVERY_PERSISTENT};
    amqp_bytes_t value = {.len = load.record_size, .bytes = (void *)record};
    int status = has_fanout() ? amqp_basic_publish(connection, CHANNEL, bytes, amqp_empty_bytes, 0, 0, &properties, value)
                              : amqp_basic_publish(connection, CHANNEL, amqp_empty_bytes, bytes, 0, 0, &properties, value);
    check_status(status, "publish");
}

static void produce(struct producer *producer) {
    amqp_connection_state_t connection = connect_to(producer->index);
    amqp_confirm_select(connection, CHANNEL);
    check(connection, "confirms");
    struct window window;
    window_make(&window);
    wait_for_begin();
    while (true) {
        int64_t now = now_ns(), due = next_due(producer, now);
        if (is_over(now) && window_is_empty(&window)) break;
        if (now > last_answer()) {
            window_abandon(&window, "no confirm");
            break;
        }
        for (int count = 0; count < CHUNK && !is_over(now) && due <= now && !window_is_full(&window); count++) {
            int stream = next_record(producer, due);
            window_open(&window, due);
            publish(connection, stream, producer->record);
            now = now_ns();
            due = next_due(producer, now);
        }
        take_confirms(connection, &window);
        bool can_send = !window_is_full(&window) && !is_over(now);
        if (!can_send || due > now_ns()) wait_readable(amqp_get_sockfd(connection), false, can_send ? due : now_ns() + 10000000);
    }
    disconnect(connection);
}

// MARK: Consuming

// Connects and subscribes. Right after a stream was made, a node may not have its replica yet, from which it would read, or never
// get one; then the next node is asked.
static amqp_connection_state_t subscribe(const struct reader *reader) {
    char name[128];
    name_queue(name, sizeof name, reader->stream, reader->group);
    amqp_table_entry_t first = text_entry("x-stream-offset", "first");
    amqp_table_t arguments = {.num_entries = is_stream() ? 1 : 0, .entries = &first};
    int64_t deadline = now_ns() + SET_UP_SECONDS * 1000000000LL;
    for (int index = reader->index;; index++) {
        amqp_connection_state_t connection = connect_to(index);
        amqp_basic_qos(connection, CHANNEL, 0, (uint16_t)read_ahead(), 0);
        check(connection, "prefetch");
        amqp_basic_consume(connection, CHANNEL, amqp_cstring_bytes(name), amqp_empty_bytes, 0, 0, 0, arguments);
        amqp_rpc_reply_t reply = amqp_get_rpc_reply(connection);
        if (reply.reply_type == AMQP_RESPONSE_NORMAL) return connection;
        if (reply.reply_type != AMQP_RESPONSE_SERVER_EXCEPTION || now_ns() > deadline) fail_reply(name, reply);
        disconnect(connection);
        wait_readable(-1, false, now_ns() + 100000000);
    }
}

static void consume(struct reader *reader) {
    amqp_connection_state_t connection = load.backlog == 0 ? subscribe(reader) : NULL;
    // Half of the prefetch at most, or the server would wait for us.
    int together = read_ahead() / 2 < ACKNOWLEDGED_TOGETHER ? read_ahead() / 2 : ACKNOWLEDGED_TOGETHER;
    uint64_t last = 0;
    int unacknowledged = 0;
    wait_for_begin();
    if (!connection) {
        wait_for_backlog();
        connection = subscribe(reader);
    }
    while (!is_drained()) {
        amqp_envelope_t envelope;
        struct timeval patience = {0, unacknowledged ? 20000 : 100000};
        amqp_maybe_release_buffers(connection);
        amqp_rpc_reply_t reply = amqp_consume_message(connection, &envelope, &patience, 0);
        bool has_message = reply.reply_type == AMQP_RESPONSE_NORMAL;
        if (!has_message && !(reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION && reply.library_error == AMQP_STATUS_TIMEOUT))
            fail_reply("consume", reply);
        if (has_message) {
            note_consumed(now_ns(), envelope.message.body.bytes, envelope.message.body.len);
            last = envelope.delivery_tag;
            unacknowledged++;
            amqp_destroy_envelope(&envelope);
        }
        if (unacknowledged > together || (!has_message && unacknowledged)) {
            check_status(amqp_basic_ack(connection, CHANNEL, last, 1), "acknowledge");
            unacknowledged = 0;
        }
    }
    disconnect(connection);
}

int main(int count, char **arguments) {
    static char client[64];
    snprintf(client, sizeof client, "librabbitmq %s", amqp_version());
    const struct driver driver = {.client = client, .set_up = set_up, .produce = produce, .consume = consume, .tear_down = tear_down};
    return drive(count, arguments, &driver);
}
