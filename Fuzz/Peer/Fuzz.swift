import FlotillaReplication

/// What libFuzzer calls with each input: bytes taken as a frame from another broker.
///
/// The function is called from C by its name; a trap is a finding. Built by `make fuzz` only, since it has no `main` of its own.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ bytes: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    // Safe: libFuzzer owns `count` bytes at `bytes` until this function returns, and nothing keeps them.
    unsafe fuzzPeerFrame(RawSpan(_unsafeStart: bytes, byteCount: count))
    return 0
}
