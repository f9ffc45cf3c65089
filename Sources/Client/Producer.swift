import FlotillaModel
import NIOCore

/// Publishes records: batches them by partition, keeps their order, and repeats until they are acknowledged.
///
/// Two ways in: `send(_:)` returns where one record was written; `enqueue(_:tag:)` returns at once and reports
/// whole batches to `onDelivery`, for throughput. With `isIdempotent` (the default) each record is written once
/// and in the order of its partition, also across a restart of the broker.
public final class Producer: Sendable {
    private let client: KafkaClient
    private let accumulator: Accumulator
    private let sender: NIOLoopBoundBox<Sender?>

    /// Makes a producer.
    ///
    /// `onDelivery`: called on the client's event loop for every batch; it must not block.
    public init(
        _ client: KafkaClient,
        _ configuration: ProducerConfiguration = ProducerConfiguration(),
        onDelivery: (@Sendable (DeliveryReport) -> Void)? = nil
    ) {
        var configuration = configuration
        if configuration.acks != .all { configuration.isIdempotent = false }
        if configuration.isIdempotent {
            configuration.maximumInFlight = min(
                configuration.maximumInFlight,
                Sender.recognizedBatchCount
            )
        }
        let accumulator = Accumulator(configuration)
        let sender = NIOLoopBoundBox<Sender?>.makeEmptyBox(eventLoop: client.loop)
        self.client = client
        self.accumulator = accumulator
        self.sender = sender
        client.loop.execute { [configuration] in
            sender.value = Sender(
                core: client.loopCore,
                accumulator: accumulator,
                configuration: configuration,
                onDelivery: onDelivery
            )
        }
    }

    /// Publishes a record, and returns where it was written.
    ///
    /// Waits for room where the buffer is full.
    public func send(_ record: ProducerRecord) async throws(ClientError) -> RecordMetadata {
        while true {
            let result = await withCheckedContinuation { (continuation: SendContinuation) in
                do throws(ClientError) {
                    try enqueue(record, tag: 0, waiter: continuation)
                } catch {
                    continuation.resume(returning: .failure(error))
                }
            }
            guard case .failure(.bufferFull) = result else { return try result.get() }
            await waitForRoom()
        }
    }

    /// Takes a record and returns; `onDelivery` tells what became of it.
    ///
    /// - Throws: `.bufferFull` (then `waitForRoom()`), `.recordTooLarge`, `.noSuchPartition`, `.closed`; the record
    ///   is then not taken.
    public func enqueue(_ record: ProducerRecord, tag: UInt64 = 0) throws(ClientError) {
        try enqueue(record, tag: tag, waiter: nil)
    }

    private func enqueue(_ record: ProducerRecord, tag: UInt64, waiter: SendContinuation?)
        throws(ClientError)
    {
        if try accumulator.append(record, tag: tag, waiter: waiter) { wake() }
    }

    /// Waits until a quarter of the buffer is free.
    public func waitForRoom() async {
        await accumulator.waitForRoom()
    }

    /// Waits until everything taken so far was acknowledged or has failed; nothing lingers meanwhile.
    public func flush() async {
        await accumulator.flush(wake: wake)
    }

    /// Flushes, and takes no more records.
    public func close() async {
        await accumulator.flush(wake: wake)
        accumulator.close()
        await withCheckedContinuation { continuation in
            client.loop.execute {
                self.sender.value?.close()
                self.sender.value = nil
                continuation.resume()
            }
        }
    }

    private func wake() {
        client.loop.execute { self.sender.value?.pump() }
    }
}
