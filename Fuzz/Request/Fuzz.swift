import FlotillaKafkaWire

import struct NIOCore.ByteBuffer

/// What libFuzzer calls with each input: bytes taken as Kafka requests and responses.
///
/// The function is called from C by its name; a trap is a finding. Built by `make fuzz` only, since it has no `main` of its own.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ bytes: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    // Safe: libFuzzer owns `count` bytes at `bytes` until this function returns, and nothing keeps them.
    let frame = unsafe ByteBuffer(bytes: UnsafeRawBufferPointer(start: bytes, count: count))
    WireFuzz.request(frame)
    WireFuzz.response(frame)
    return 0
}
