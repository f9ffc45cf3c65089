import FlotillaModel
import FlotillaReplication
import FlotillaStorage
import struct NIOCore.ByteBuffer

/// What two replicas say to each other while files travel; the body of `ReplicaMessage`.
///
/// The receiver asks: for the manifest, and then, with each write that its disk has taken, for what follows. So nothing
/// is sent that it has no room for, and whatever is lost it asks for again. The version is the protocol's, which the hello carries. Little endian:
///
/// | kind | from | body |
/// |---|---|---|
/// | 16 request | receiver | index of the last entry as offered u64, number of the shipment u64 (0: its manifest is wanted), bytes received u64, flags u8 (bit 0: what was sent after these is lost; others zero) |
/// | 17 manifest | leader | number u64, then a `ShipmentManifest` |
/// | 18 chunk | leader | number u64, then a `ShipmentChunk` |
/// | 19 end | both | number u64: the shipment is given up, or not known |
enum ShippingMessage {
    /// The receiver has the first bytes of a shipment, and wants what follows.
    case request(ShippingRequest)
    /// What the shipment consists of.
    case manifest(number: UInt64, ShipmentManifest)
    /// A part of it.
    case chunk(number: UInt64, ShipmentChunk)
    /// Nothing more is sent, or taken.
    case end(number: UInt64)

    /// The kinds of `ReplicaMessage` that are ours.
    static let kinds: ClosedRange<UInt16> = 16...31

    private enum Kind: UInt16 {
        case request = 16
        case manifest = 17
        case chunk = 18
        case end = 19
    }

    /// Which message.
    var kind: UInt16 {
        switch self {
        case .request: Kind.request.rawValue
        case .manifest: Kind.manifest.rawValue
        case .chunk: Kind.chunk.rawValue
        case .end: Kind.end.rawValue
        }
    }

    /// Its bytes; those of a chunk are not copied.
    var parts: [ByteBuffer] {
        var head = ByteBuffer()
        switch self {
        case .request(let request):
            head.writeInteger(request.lastIndex.rawValue, endianness: .little)
            head.writeInteger(request.number, endianness: .little)
            head.writeInteger(UInt64(request.receivedByteCount), endianness: .little)
            head.writeInteger(request.isRestLost ? 1 : 0 as UInt8)
            return [head]
        case .manifest(let number, let manifest):
            head.writeInteger(number, endianness: .little)
            return [head, manifest.bytes]
        case .chunk(let number, let chunk):
            head.writeInteger(number, endianness: .little)
            return [head] + chunk.parts
        case .end(let number):
            head.writeInteger(number, endianness: .little)
            return [head]
        }
    }

    /// Reads a message's body; nil for a kind that this version does not know and for bytes that are none.
    init?(kind: UInt16, _ body: ByteBuffer) {
        var body = body
        guard let kind = Kind(rawValue: kind) else { return nil }
        guard kind != .request else {
            guard let request = ShippingRequest(parsing: body) else { return nil }
            self = .request(request)
            return
        }
        guard let number = body.readInteger(endianness: .little, as: UInt64.self) else {
            return nil
        }
        switch kind {
        case .manifest:
            guard let manifest = ShipmentManifest(parsing: body) else { return nil }
            self = .manifest(number: number, manifest)
        case .chunk:
            guard let chunk = ShipmentChunk(parsing: body) else { return nil }
            self = .chunk(number: number, chunk)
        case .end:
            guard body.readableBytes == 0 else { return nil }
            self = .end(number: number)
        case .request:
            preconditionFailure("read above")
        }
    }
}

/// What a receiver of files has, and that it wants more.
struct ShippingRequest: Hashable {
    /// The last entry of the files, by which the leader offered them.
    var lastIndex: LogIndex
    /// The shipment, as its manifest named it; 0 while there is none.
    var number: UInt64
    /// How many bytes its disk has taken, counted through all files.
    var receivedByteCount: Int
    /// Whether what was sent behind these bytes did not arrive.
    var isRestLost: Bool
}

extension ShippingRequest {
    fileprivate init?(parsing bytes: ByteBuffer) {
        var rest = bytes
        guard let index = rest.readInteger(endianness: .little, as: UInt64.self),
            index < UInt64(Int64.max),
            let number = rest.readInteger(endianness: .little, as: UInt64.self),
            let count = rest.readInteger(endianness: .little, as: UInt64.self),
            let receivedByteCount = Int(exactly: count),
            let flags = rest.readInteger(as: UInt8.self), flags <= 1, rest.readableBytes == 0
        else { return nil }
        self.init(
            lastIndex: LogIndex(index),
            number: number,
            receivedByteCount: receivedByteCount,
            isRestLost: flags == 1
        )
    }
}
