package import NIOCore

/// Which partition a record without an explicit one goes to.
///
/// Keys go where Kafka's Java client sends them: murmur2 of the key, its sign bit cleared, modulo the number
/// of partitions. Records without a key stick to one partition until a batch of it is full.
package enum Partitioner {
    /// The partition of a key.
    package static func partition(forKey key: ByteBuffer, count: Int) -> Int32 {
        Int32(truncatingIfNeeded: Int(murmur2(key) & 0x7FFF_FFFF) % count)
    }

    /// The 32-bit MurmurHash2 of the readable bytes with the seed that Kafka uses.
    package static func murmur2(_ key: ByteBuffer) -> UInt32 {
        let mixer: UInt32 = 0x5BD1_E995
        let count = key.readableBytes
        var hash: UInt32 = 0x9747_B28C ^ UInt32(truncatingIfNeeded: count)
        var position = key.readerIndex
        for _ in 0..<(count / 4) {
            guard let word = key.getInteger(at: position, endianness: .little, as: UInt32.self)
            else { break }
            var mixed = word &* mixer
            mixed ^= mixed >> 24
            hash = (hash &* mixer) ^ (mixed &* mixer)
            position += 4
        }
        let tail = key.getBytes(at: position, length: count % 4) ?? []
        if !tail.isEmpty {
            for (index, byte) in tail.enumerated() { hash ^= UInt32(byte) << UInt32(8 * index) }
            hash = hash &* mixer
        }
        hash ^= hash >> 13
        hash = hash &* mixer
        return hash ^ (hash >> 15)
    }
}
