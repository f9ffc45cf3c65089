import FlotillaBroker
import FlotillaKafkaWire

/// The shards' counters as samples of the metrics page.
enum BrokerSamples {
    static func samples(_ statistics: ShardStatistics) -> [MetricSample] {
        var samples: [MetricSample] = [
            MetricSample(
                "flotilla_records_in_total",
                .counter,
                "Records appended.",
                Double(statistics.recordsIn)
            ),
            MetricSample(
                "flotilla_bytes_in_total",
                .counter,
                "Bytes of batches appended.",
                Double(statistics.bytesIn)
            ),
            MetricSample(
                "flotilla_bytes_out_total",
                .counter,
                "Bytes of records fetched.",
                Double(statistics.bytesOut)
            ),
            MetricSample(
                "flotilla_partitions",
                .gauge,
                "Partitions on this broker.",
                Double(statistics.partitionCount)
            ),
            MetricSample(
                "flotilla_leaderless_partitions",
                .gauge,
                "Partitions on this broker that nobody leads.",
                Double(statistics.leaderlessCount)
            ),
            MetricSample(
                "flotilla_request_bytes_waiting",
                .gauge,
                "Bytes of requests that wait for answers.",
                Double(statistics.unansweredByteCount)
            ),
            MetricSample(
                "flotilla_shipments_total",
                .counter,
                "Shipments of segments that reached a replica on another broker.",
                Double(statistics.shipmentCount)
            ),
            MetricSample(
                "flotilla_shipped_bytes_total",
                .counter,
                "Bytes of segments sent to other brokers.",
                Double(statistics.shippedByteCount)
            ),
            MetricSample(
                "flotilla_shipped_bytes_received_total",
                .counter,
                "Bytes of segments received from other brokers.",
                Double(statistics.receivedByteCount)
            ),
            MetricSample(
                "flotilla_replicas_catching_up",
                .gauge,
                "Replicas on other brokers that are being sent files or old entries.",
                Double(statistics.catchingUpCount)
            ),
            MetricSample(
                "flotilla_replica_repairs_total",
                .counter,
                "Damaged ranges of replicas healed.",
                Double(statistics.repairs)
            ),
            MetricSample(
                "flotilla_scrubbed_bytes_total",
                .counter,
                "Bytes of segments read to find damage.",
                Double(statistics.scrubbedBytes)
            ),
            MetricSample(
                "flotilla_replica_damaged_ranges",
                .gauge,
                "Damaged ranges of replicas on this broker, as far as they are known.",
                Double(statistics.damagedRangeCount)
            ),
            MetricSample(
                "flotilla_replicas_with_loss",
                .gauge,
                "Replicas on this broker with a range that no replica of the partition has.",
                Double(statistics.lostReplicaCount)
            ),
        ]
        for (api, count) in statistics.requestCounts {
            samples.append(
                MetricSample(
                    "flotilla_kafka_requests_total",
                    .counter,
                    "Requests received.",
                    labels: ["api": api.name],
                    Double(count)
                )
            )
        }
        return samples
    }
}
