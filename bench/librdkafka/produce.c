// Publishes with librdkafka, as fast as it goes or at a rate, and prints one line of JSON in the form of
// `flotilla bench produce -o json`, so that both producers stand in one table.
//
//   produce BROKERS TOPIC PARTITIONS SIZE random|json SECONDS RATE NAME=VALUE...
//
// RATE 0 is flat out. Latencies count from the moment at which a record was due (at a rate) or was handed over
// (flat out) to its delivery report. The first second warms up and is not counted.

#include <librdkafka/rdkafka.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BUCKETS = 1 << 16, POOL = 512 };

static int64_t measure_from, measure_to;
static uint64_t delivered, delivered_bytes, failures;
// One bucket for each 10 microseconds up to 0.65 s, and one for all that is slower.
static uint64_t latencies[BUCKETS + 1];
static int64_t slowest;

static int64_t now_us(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000 + time.tv_nsec / 1000;
}

static void on_delivery(rd_kafka_t *client, const rd_kafka_message_t *message, void *opaque) {
    (void)client, (void)opaque;
    int64_t now = now_us();
    if (message->err) {
        failures++;
        return;
    }
    if (now < measure_from || now >= measure_to) return;
    delivered++;
    delivered_bytes += message->len;
    int64_t latency = now - (int64_t)(intptr_t)message->_private;
    if (latency > slowest) slowest = latency;
    latencies[latency / 10 < BUCKETS ? latency / 10 : BUCKETS]++;
}

static double percentile(double share) {
    uint64_t wanted = (uint64_t)(share * (double)delivered), seen = 0;
    for (int bucket = 0; bucket <= BUCKETS; bucket++) {
        seen += latencies[bucket];
        if (seen > wanted) return bucket < BUCKETS ? 10.0 * (bucket + 1) : (double)slowest;
    }
    return (double)slowest;
}

static void fill(char *value, size_t size, int is_json, uint64_t *state) {
    size_t used = 0;
    while (used < size) {
        *state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
        uint64_t word = *state >> 11;
        if (is_json) {
            char part[96];
            int count = snprintf(part, sizeof part, "{\"order\":%u,\"customer\":\"c-%u\",\"amount\":%u.%02u,\"currency\":\"EUR\"}",
                                 (unsigned)(word % 1000000), (unsigned)(word >> 20) % 5000, (unsigned)(word >> 32) % 900, (unsigned)word % 100);
            size_t taken = (size_t)count < size - used ? (size_t)count : size - used;
            memcpy(value + used, part, taken);
            used += taken;
        } else {
            size_t taken = size - used < 6 ? size - used : 6;
            memcpy(value + used, &word, taken);
            used += taken;
        }
    }
}

int main(int count, char **arguments) {
    if (count < 8) {
        fprintf(stderr, "usage: produce BROKERS TOPIC PARTITIONS SIZE random|json SECONDS RATE NAME=VALUE...\n");
        return 2;
    }
    int partitions = atoi(arguments[3]);
    size_t size = (size_t)atol(arguments[4]);
    int is_json = strcmp(arguments[5], "json") == 0;
    double seconds = atof(arguments[6]), rate = atof(arguments[7]);
    char error[512];
    rd_kafka_conf_t *configuration = rd_kafka_conf_new();
    rd_kafka_conf_set_dr_msg_cb(configuration, on_delivery);
    if (rd_kafka_conf_set(configuration, "bootstrap.servers", arguments[1], error, sizeof error)) {
        fprintf(stderr, "%s\n", error);
        return 2;
    }
    for (int each = 8; each < count; each++) {
        char *value = strchr(arguments[each], '=');
        if (!value) return 2;
        *value++ = 0;
        if (rd_kafka_conf_set(configuration, arguments[each], value, error, sizeof error)) {
            fprintf(stderr, "%s\n", error);
            return 2;
        }
    }
    rd_kafka_t *client = rd_kafka_new(RD_KAFKA_PRODUCER, configuration, error, sizeof error);
    if (!client) {
        fprintf(stderr, "%s\n", error);
        return 1;
    }
    rd_kafka_topic_t *topic = rd_kafka_topic_new(client, arguments[2], NULL);
    char *values = malloc(POOL * size);
    uint64_t state = 42;
    for (int each = 0; each < POOL; each++) fill(values + (size_t)each * size, size, is_json, &state);

    int64_t start = now_us();
    measure_from = start + 1000000;
    measure_to = measure_from + (int64_t)(seconds * 1e6);
    for (uint64_t sent = 0;; sent++) {
        int64_t due = rate > 0 ? start + (int64_t)((double)sent * 1e6 / rate) : now_us();
        while (rate > 0 && now_us() < due) rd_kafka_poll(client, due - now_us() > 1000 ? 1 : 0);
        if (due >= measure_to) break;
        while (rd_kafka_produce(topic, (int32_t)(sent % (uint64_t)partitions), 0, values + (sent % POOL) * size, size, NULL, 0,
                                (void *)(intptr_t)due)) {
            if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL) {
                fprintf(stderr, "%s\n", rd_kafka_err2str(rd_kafka_last_error()));
                return 1;
            }
            rd_kafka_poll(client, 5);
        }
        if (sent % 64 == 0) rd_kafka_poll(client, 0);
    }
    rd_kafka_flush(client, 30000);
    printf("{\"bench\":\"librdkafka\",\"records_per_second\":%.1f,\"mb_per_second\":%.3f,\"failures\":%lu,\"p50_us\":%.1f,\"p99_us\":%.1f,"
           "\"p999_us\":%.1f,\"max_us\":%.1f}\n",
           (double)delivered / seconds, (double)delivered_bytes / seconds / 1e6, failures, percentile(0.5), percentile(0.99),
           percentile(0.999), (double)slowest);
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(client);
    free(values);
    return failures ? 1 : 0;
}
