import FlotillaRecords
import Testing

import struct NIOCore.ByteBuffer

/// A batch that a real client sent, captured on the wire.
///
/// All hold one record: key `k1`, value `hello golden ` four times, header `h1` = `v1` (librdkafka
/// also `h2` = null), time 1700000000000. aiokafka's transactional one alone has no key, no header
/// and another time.
struct GoldenBatch: Sendable, CustomTestStringConvertible {
    let name: String
    let codec: CompressionCodec
    let hex: String

    var testDescription: String { name }
    var bytes: ByteBuffer { ByteBuffer(hex: hex) }

    static let all: [GoldenBatch] = [
        GoldenBatch(
            name: "aiokafka 0.14.0 Produce v7 gzip",
            codec: .gzip,
            hex: """
                000000000000000000000064ffffffff02c9b970670001000000000000018bcfe568000000018bcfe56800ff
                ffffffffffffffffff00000000000000011f8b0800eef7006b02ff6b6164606060c936ccc848cdc9c95748cf
                cf4949cd532092c3c49261c852660800f4b9dd8344000000
                """
        ),
        GoldenBatch(
            name: "aiokafka 0.14.0 Produce v7 idempotent",
            codec: .none,
            hex: """
                000000000000000000000075ffffffff02d8298be70000000000000000018bcfe568000000018bcfe5680000
                00000000000fa0000000000000000000018401000000046b316868656c6c6f20676f6c64656e2068656c6c6f
                20676f6c64656e2068656c6c6f20676f6c64656e2068656c6c6f20676f6c64656e2002046831047631
                """
        ),
        GoldenBatch(
            name: "aiokafka 0.14.0 Produce v7 lz4",
            codec: .lz4,
            hex: """
                000000000000000000000067ffffffff02e6485d250003000000000000018bcfe568000000018bcfe56800ff
                ffffffffffffffffff000000000000000104224d187040ad23000000ff078401000000046b316868656c6c6f
                20676f6c64656e200d00147002046831047631ec7f906c00000000
                """
        ),
        GoldenBatch(
            name: "aiokafka 0.14.0 Produce v7 plain",
            codec: .none,
            hex: """
                000000000000000000000075ffffffff025fa458080000000000000000018bcfe568000000018bcfe56800ff
                ffffffffffffffffff00000000000000018401000000046b316868656c6c6f20676f6c64656e2068656c6c6f
                20676f6c64656e2068656c6c6f20676f6c64656e2068656c6c6f20676f6c64656e2002046831047631
                """
        ),
        GoldenBatch(
            name: "aiokafka 0.14.0 Produce v7 snappy",
            codec: .snappy,
            hex: """
                000000000000000000000068ffffffff0205de5c640002000000000000018bcfe568000000018bcfe56800ff
                ffffffffffffffffff000000000000000182534e415050590000000001000000010000002344548401000000
                046b316868656c6c6f20676f6c64656e209a0d001802046831047631
                """
        ),
        GoldenBatch(
            name: "aiokafka 0.14.0 Produce v7 txn",
            codec: .none,
            hex: """
                00000000000000000000006cffffffff0273701ef3001000000000000001a1fbc87a8c000001a1fbc87a8c00
                00000000000fa00000000000000000000174000000016868656c6c6f20676f6c64656e2068656c6c6f20676f
                6c64656e2068656c6c6f20676f6c64656e2068656c6c6f20676f6c64656e2000
                """
        ),
        GoldenBatch(
            name: "aiokafka 0.14.0 Produce v7 zstd",
            codec: .zstd,
            hex: """
                00000000000000000000005dffffffff02ed07106a0004000000000000018bcfe568000000018bcfe56800ff
                ffffffffffffffffff000000000000000128b52ffd20441d0100e88401000000046b316868656c6c6f20676f
                6c64656e2002046831047631010040399b
                """
        ),
        GoldenBatch(
            name: "kafka-python 2.2.15 Produce v7 plain",
            codec: .none,
            hex: """
                00000000000000000000007500000000026c6d23920000000000000000018bcfe568000000018bcfe56800ff
                ffffffffffffffffffffffffff000000018401000000046b316868656c6c6f20676f6c64656e2068656c6c6f
                20676f6c64656e2068656c6c6f20676f6c64656e2068656c6c6f20676f6c64656e2002046831047631
                """
        ),
        GoldenBatch(
            name: "kafka-python 3.0.12 Produce v9 gzip",
            codec: .gzip,
            hex: """
                0000000000000000000000640000000002f16356a80001000000000000018bcfe568000000018bcfe56800ff
                ffffffffffffffffffffffffff000000011f8b0800ecf7006b02ff6b6164606060c936ccc848cdc9c95748cf
                cf4949cd532092c3c49261c852660800f4b9dd8344000000
                """
        ),
        GoldenBatch(
            name: "kafka-python 3.0.12 Produce v9 idempotent",
            codec: .none,
            hex: """
                0000000000000000000000750000000002d8298be70000000000000000018bcfe568000000018bcfe5680000
                00000000000fa0000000000000000000018401000000046b316868656c6c6f20676f6c64656e2068656c6c6f
                20676f6c64656e2068656c6c6f20676f6c64656e2068656c6c6f20676f6c64656e2002046831047631
                """
        ),
        GoldenBatch(
            name: "kafka-python 3.0.12 Produce v9 lz4",
            codec: .lz4,
            hex: """
                00000000000000000000006b000000000235fb876c0003000000000000018bcfe568000000018bcfe56800ff
                ffffffffffffffffffffffffff0000000104224d1868404400000000000000e023000000ff07840100000004
                6b316868656c6c6f20676f6c64656e200d0014700204683104763100000000
                """
        ),
        GoldenBatch(
            name: "kafka-python 3.0.12 Produce v9 snappy",
            codec: .snappy,
            hex: """
                00000000000000000000006800000000026a4346cb0002000000000000018bcfe568000000018bcfe56800ff
                ffffffffffffffffffffffffff0000000182534e415050590000000001000000010000002344548401000000
                046b316868656c6c6f20676f6c64656e209a0d001802046831047631
                """
        ),
        GoldenBatch(
            name: "kafka-python 3.0.12 Produce v9 zstd",
            codec: .zstd,
            hex: """
                00000000000000000000005d0000000002799e655f0004000000000000018bcfe568000000018bcfe56800ff
                ffffffffffffffffffffffffff0000000128b52ffd20441d0100e88401000000046b316868656c6c6f20676f
                6c64656e2002046831047631010040399b
                """
        ),
        GoldenBatch(
            name: "librdkafka 2.0.2 Produce v7 acks0",
            codec: .none,
            hex: """
                00000000000000000000007900000000026dd8f4c50000000000000000018bcfe568000000018bcfe56800ff
                ffffffffffffffffffffffffff000000018c01000000046b316868656c6c6f20676f6c64656e2068656c6c6f
                20676f6c64656e2068656c6c6f20676f6c64656e2068656c6c6f20676f6c64656e2004046831047631046832
                01
                """
        ),
        GoldenBatch(
            name: "librdkafka 2.0.2 Produce v7 gzip",
            codec: .gzip,
            hex: """
                0000000000000000000000680000000002a34554740001000000000000018bcfe568000000018bcfe56800ff
                ffffffffffffffffffffffffff000000011f8b0800000000000003eb6164606060c936ccc848cdc9c95748cf
                cf4949cd532092c3c29261c85266c89261c40800b7de816948000000
                """
        ),
        GoldenBatch(
            name: "librdkafka 2.0.2 Produce v7 idempotent",
            codec: .none,
            hex: """
                0000000000000000000000790000000002c87865430000000000000000018bcfe568000000018bcfe5680000
                00000000000fa0000000000000000000018c01000000046b316868656c6c6f20676f6c64656e2068656c6c6f
                20676f6c64656e2068656c6c6f20676f6c64656e2068656c6c6f20676f6c64656e2004046831047631046832
                01
                """
        ),
        GoldenBatch(
            name: "librdkafka 2.0.2 Produce v7 lz4",
            codec: .lz4,
            hex: """
                0000000000000000000000670000000002560d706b0003000000000000018bcfe568000000018bcfe56800ff
                ffffffffffffffffffffffffff0000000104224d1860408227000000ff078c01000000046b316868656c6c6f
                20676f6c64656e200d0014b0040468310476310468320100000000
                """
        ),
        GoldenBatch(
            name: "librdkafka 2.0.2 Produce v7 snappy",
            codec: .snappy,
            hex: """
                0000000000000000000000580000000002b3a1f86a0002000000000000018bcfe568000000018bcfe56800ff
                ffffffffffffffffffffffffff0000000148548c01000000046b316868656c6c6f20676f6c64656e209a0d00
                280404683104763104683201
                """
        ),
        GoldenBatch(
            name: "librdkafka 2.0.2 Produce v7 txn",
            codec: .none,
            hex: """
                0000000000000000000000790000000002dd52fa270010000000000000018bcfe568000000018bcfe5680000
                00000000000fa0000000000000000000018c01000000046b316868656c6c6f20676f6c64656e2068656c6c6f
                20676f6c64656e2068656c6c6f20676f6c64656e2068656c6c6f20676f6c64656e2004046831047631046832
                01
                """
        ),
        GoldenBatch(
            name: "librdkafka 2.0.2 Produce v7 zstd",
            codec: .zstd,
            hex: """
                0000000000000000000000620000000002b655f0a00004000000000000018bcfe568000000018bcfe56800ff
                ffffffffffffffffffffffffff0000000128b52ffd005845010014028c01000000046b316868656c6c6f2067
                6f6c64656e200404683104763104683201010040399b
                """
        ),
    ]
}
