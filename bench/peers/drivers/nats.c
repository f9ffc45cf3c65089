// NATS JetStream through libnats: file streams, publishing with up to `window` records unacknowledged, pull consumers.
//
// libnats 3.4 publishes asynchronously too (js_PublishAsync), but tells its caller of errors only; so the same is done here by
// hand, an inbox for the acknowledgements and a window, to know when each arrived. With a window of one it is js_Publish.
// Its Fetch waits until a batch is full, which is no way to read at a low rate; so a reader keeps pull requests of its own
// open, as newer clients do, and gets each message when it is there.

#include "common.h"

#include <nats/nats.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Messages that a reader may leave unacknowledged; it acknowledges all up to one of them.
enum { ACKNOWLEDGED_TOGETHER = 500, UNACKNOWLEDGED = 20000, SET_UP_SECONDS = 60 };

static void check(natsStatus status, const char *what) {
    if (status != NATS_OK) fail("nats: %s: %s", what, natsStatus_GetText(status));
}

// `is_prompt` sends each message at once; otherwise the library gathers them for a millisecond.
static natsConnection *connect_to(int index, bool is_prompt) {
    natsOptions *options = NULL;
    natsConnection *connection = NULL;
    int port;
    char address[300];
    snprintf(address, sizeof address, "nats://%s", server_host(index, &port));
    snprintf(address + strlen(address), sizeof address - strlen(address), ":%d", port);
    check(natsOptions_Create(&options), "options");
    check(natsOptions_SetURL(options, address), address);
    check(natsOptions_SetSendAsap(options, is_prompt), "options");
    check(natsConnection_Connect(&connection, options), address);
    natsOptions_Destroy(options);
    return connection;
}

static jsCtx *context_of(natsConnection *connection) {
    jsCtx *context = NULL;
    check(natsConnection_JetStream(&context, connection, NULL), "JetStream");
    return context;
}

static void name_stream(char *name, size_t room, int stream) {
    snprintf(name, room, "%s-%d", load.name, stream);
}

// MARK: Streams

static void add_stream(jsCtx *context, int stream) {
    char name[128];
    name_stream(name, sizeof name, stream);
    const char *subjects[] = {name};
    jsStreamConfig configuration;
    jsStreamConfig_Init(&configuration);
    configuration.Name = name;
    configuration.Subjects = subjects;
    configuration.SubjectsLen = 1;
    configuration.Storage = js_FileStorage;
    configuration.Replicas = load.replicas;
    configuration.MaxBytes = load.retained / stream_count();
    // The cluster may still be electing who places streams.
    int64_t deadline = now_ns() + SET_UP_SECONDS * 1000000000LL;
    while (true) {
        jsErrCode code = 0;
        natsStatus status = js_AddStream(NULL, context, &configuration, NULL, &code);
        if (status == NATS_OK) return;
        if (now_ns() > deadline) fail("nats: stream %s: %s (%d)", name, natsStatus_GetText(status), (int)code);
        wait_readable(-1, false, now_ns() + 200000000);
    }
}

static void add_consumer(jsCtx *context, int stream, int group) {
    char name[128], durable[32];
    name_stream(name, sizeof name, stream);
    snprintf(durable, sizeof durable, "group-%d", group);
    jsConsumerConfig configuration;
    jsConsumerConfig_Init(&configuration);
    configuration.Durable = durable;
    configuration.DeliverPolicy = js_DeliverAll;
    configuration.AckPolicy = js_AckAll;
    configuration.MaxAckPending = UNACKNOWLEDGED;
    int64_t deadline = now_ns() + SET_UP_SECONDS * 1000000000LL;
    while (true) {
        jsErrCode code = 0;
        natsStatus status = js_AddConsumer(NULL, context, name, &configuration, NULL, &code);
        if (status == NATS_OK) return;
        if (now_ns() > deadline) fail("nats: consumer of %s: %s (%d)", name, natsStatus_GetText(status), (int)code);
        wait_readable(-1, false, now_ns() + 200000000);
    }
}

static void set_up(void) {
    natsConnection *connection = connect_to(0, true);
    jsCtx *context = context_of(connection);
    for (int stream = 0; stream < stream_count(); stream++) {
        add_stream(context, stream);
        for (int group = 0; group < load.groups; group++) add_consumer(context, stream, group);
    }
    jsCtx_Destroy(context);
    natsConnection_Destroy(connection);
}

static void tear_down(void) {
    natsConnection *connection = connect_to(0, true);
    jsCtx *context = context_of(connection);
    for (int stream = 0; stream < stream_count(); stream++) {
        char name[128];
        name_stream(name, sizeof name, stream);
        // A large stream takes long to delete, which is nobody's matter: its node is about to be stopped, or has time until the next run.
        js_DeleteStream(context, name, NULL, NULL);
    }
    jsCtx_Destroy(context);
    natsConnection_Destroy(connection);
}

// MARK: Producing

// One record at a time, as js_Publish does it.
static void produce_one_at_a_time(struct producer *producer, natsConnection *connection) {
    jsCtx *context = context_of(connection);
    wait_for_begin();
    while (true) {
        int64_t now = now_ns(), due = next_due(producer, now);
        if (is_over(now)) break;
        if (due > now) {
            wait_readable(-1, false, due);
            continue;
        }
        char name[128];
        name_stream(name, sizeof name, next_record(producer, due));
        natsStatus status = js_Publish(NULL, context, name, producer->record, (int)load.record_size, NULL, NULL);
        if (status == NATS_OK) note_acknowledged(now_ns(), due);
        else note_failed(natsStatus_GetText(status));
    }
    jsCtx_Destroy(context);
}

// A producer and the thread that gets its acknowledgements.
struct flight {
    pthread_mutex_t lock;
    pthread_cond_t has_room;
    struct window window;
    size_t inbox_length;
};

static void on_acknowledgement(natsConnection *connection, natsSubscription *subscription, natsMsg *message, void *opaque) {
    (void)connection, (void)subscription;
    struct flight *flight = opaque;
    int64_t now = now_ns();
    // The subject is the inbox, a dot, and the record's number.
    uint64_t number = strtoull(natsMsg_GetSubject(message) + flight->inbox_length + 1, NULL, 10);
    pthread_mutex_lock(&flight->lock);
    int64_t due = window_close(&flight->window, number);
    pthread_cond_signal(&flight->has_room);
    pthread_mutex_unlock(&flight->lock);
    const char *text = natsMsg_GetData(message);
    if (due >= 0) {
        // {"stream":...,"seq":...} or {"error":{...}}; nobody answering is a message without data.
        if (natsMsg_GetDataLength(message) == 0) note_failed("no responders");
        else if (strstr(text, "\"error\"")) note_failed(text);
        else note_acknowledged(now, due);
    }
    natsMsg_Destroy(message);
}

// Waits a hundredth of a second at most for an acknowledgement.
static void wait_for_acknowledgement(struct flight *flight) {
    int64_t until = now_ns() + 10000000;
    struct timespec time = {.tv_sec = until / 1000000000, .tv_nsec = until % 1000000000};
    pthread_cond_timedwait(&flight->has_room, &flight->lock, &time);
}

// Never freed, since the subscription's thread may be in its callback still when the producer ends; the process ends soon after.
static struct flight *make_flight(void) {
    struct flight *flight = calloc(1, sizeof *flight);
    if (!flight) fail("out of memory");
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&flight->has_room, &attributes);
    pthread_mutex_init(&flight->lock, NULL);
    window_make(&flight->window);
    return flight;
}

static void produce_window(struct producer *producer, natsConnection *connection) {
    struct flight *flight = make_flight();
    natsInbox *inbox = NULL;
    natsSubscription *subscription = NULL;
    char wildcard[128], reply[128], name[128];
    check(natsInbox_Create(&inbox), "inbox");
    flight->inbox_length = strlen(inbox);
    snprintf(wildcard, sizeof wildcard, "%s.*", inbox);
    check(natsConnection_Subscribe(&subscription, connection, wildcard, on_acknowledgement, flight), "subscription");
    wait_for_begin();
    while (true) {
        int64_t now = now_ns(), due = next_due(producer, now);
        if (is_over(now)) break;
        if (due > now) {
            wait_readable(-1, false, due);
            continue;
        }
        pthread_mutex_lock(&flight->lock);
        bool is_full = window_is_full(&flight->window);
        uint64_t number = 0;
        if (is_full) wait_for_acknowledgement(flight);
        else number = window_open(&flight->window, due);
        pthread_mutex_unlock(&flight->lock);
        if (is_full) continue;
        name_stream(name, sizeof name, next_record(producer, due));
        snprintf(reply, sizeof reply, "%s.%lu", inbox, number);
        check(natsConnection_PublishRequest(connection, name, reply, producer->record, (int)load.record_size), "publish");
    }
    pthread_mutex_lock(&flight->lock);
    while (!window_is_empty(&flight->window) && now_ns() < last_answer()) wait_for_acknowledgement(flight);
    window_abandon(&flight->window, "no acknowledgement");
    pthread_mutex_unlock(&flight->lock);
    natsSubscription_Destroy(subscription);
    natsInbox_Destroy(inbox);
}

static void produce(struct producer *producer) {
    natsConnection *connection = connect_to(producer->index, load.window == 1 || load.rate > 0);
    if (load.window == 1) produce_one_at_a_time(producer, connection);
    else produce_window(producer, connection);
    natsConnection_Destroy(connection);
}

// MARK: Consuming

// Asks for `count` messages more; the request stays until they came.
static void pull(natsConnection *connection, const struct reader *reader, const char *inbox, int count) {
    char name[128], subject[256], request[64];
    name_stream(name, sizeof name, reader->stream);
    snprintf(subject, sizeof subject, "$JS.API.CONSUMER.MSG.NEXT.%s.group-%d", name, reader->group);
    snprintf(request, sizeof request, "{\"batch\":%d}", count);
    check(natsConnection_PublishRequestString(connection, subject, inbox, request), "pull");
}

// Acknowledges the last message and with it all before.
static void acknowledge(natsConnection *connection, natsMsg **last) {
    if (!*last) return;
    check(natsConnection_PublishString(connection, natsMsg_GetReply(*last), "+ACK"), "acknowledge");
    natsMsg_Destroy(*last);
    *last = NULL;
}

static void consume(struct reader *reader) {
    natsConnection *connection = connect_to(reader->index, true);
    natsInbox *inbox = NULL;
    natsSubscription *subscription = NULL;
    natsMsg *last = NULL;
    int wanted = 0, unacknowledged = 0, batch = read_ahead();
    check(natsInbox_Create(&inbox), "inbox");
    check(natsConnection_SubscribeSync(&subscription, connection, inbox), "subscription");
    check(natsSubscription_SetPendingLimits(subscription, -1, -1), "limits");
    wait_for_begin();
    wait_for_backlog();
    int64_t heard = now_ns();
    while (!is_drained()) {
        // A request that a change of leaders lost is made again.
        if (now_ns() - heard > 2000000000) wanted = 0, heard = now_ns();
        if (wanted <= batch / 2) {
            pull(connection, reader, inbox, batch);
            wanted += batch;
        }
        natsMsg *message = NULL;
        natsStatus status = natsSubscription_NextMsg(&message, subscription, last ? 20 : 100);
        if (status == NATS_TIMEOUT) {
            acknowledge(connection, &last);
            continue;
        }
        if (status == NATS_NO_RESPONDERS) {
            // The consumer has no leader yet, or none now.
            wanted = 0;
            wait_readable(-1, false, now_ns() + 50000000);
            continue;
        }
        check(status, "next message");
        heard = now_ns();
        if (natsMsg_GetDataLength(message) == 0) {
            // A status, not a message of the stream: the request is void.
            natsMsg_Destroy(message);
            wanted = 0;
            continue;
        }
        wanted--;
        note_consumed(heard, natsMsg_GetData(message), (size_t)natsMsg_GetDataLength(message));
        natsMsg_Destroy(last);
        last = message;
        if (++unacknowledged % ACKNOWLEDGED_TOGETHER == 0) acknowledge(connection, &last);
    }
    acknowledge(connection, &last);
    natsConnection_FlushTimeout(connection, 1000);
    natsSubscription_Destroy(subscription);
    natsInbox_Destroy(inbox);
    natsConnection_Destroy(connection);
}

int main(int count, char **arguments) {
    static const struct driver driver = {
        .client = "libnats " NATS_VERSION_STRING, .set_up = set_up, .produce = produce, .consume = consume, .tear_down = tear_down};
    return drive(count, arguments, &driver);
}
