import CFlotilla
import Glibc

/// A process that this one started, and what it prints.
///
/// To be used by one thread that outlives the process: the process ends with the thread.
final class DevProcess {
    let id: Int32
    private let output: Int32
    private var partial: [UInt8] = []
    private var exitCode: Int32?

    /// A line longer than this is shown in pieces.
    private static let longestLine = 64 << 10

    /// Starts a program.
    init(_ path: String, _ arguments: [String]) throws(CommandFailure) {
        var ends: [Int32] = [-1, -1]
        // Safe: the call fills the two elements.
        let piped = unsafe flotilla_pipe(&ends)
        guard piped == 0 else { throw .failed("no pipe: \(Self.reason(-piped))") }
        // Safe: `strdup` made each string, the array ends with nil, and both live until the call returns.
        var words = unsafe ([path] + arguments).map { unsafe strdup($0) } + [nil]
        let started = unsafe flotilla_spawn(path, &words, ends[1])
        for index in unsafe words.indices { unsafe free(words[index]) }
        close(ends[1])
        guard started > 0 else {
            close(ends[0])
            throw .failed("\(path) cannot be started: \(Self.reason(-started))")
        }
        id = started
        output = ends[0]
    }

    deinit { close(output) }

    /// Whether it ended, and how: its exit code, or 128 and the signal that ended it.
    func end() -> Int32? {
        if exitCode == nil {
            let result = flotilla_reap(id)
            if result >= 0 { exitCode = result }
        }
        return exitCode
    }

    /// Sends a signal, unless the process has ended.
    func signal(_ number: Int32) {
        if end() == nil { _ = flotilla_signal(id, number) }
    }

    /// The descriptor that tells when there are lines to read.
    var outputDescriptor: Int32 { output }

    /// The whole lines that it printed since; with `isLast` also one without an end.
    func lines(isLast: Bool = false) -> [String] {
        // One piece at a time, so that a chatty broker does not keep the loop from the others.
        if case .bytes(let bytes) = Self.read(output) { partial += bytes }
        if isLast {
            while case .bytes(let bytes) = Self.read(output) { partial += bytes }
            if let last = partial.last, last != UInt8(ascii: "\n") {
                partial.append(UInt8(ascii: "\n"))
            }
        }
        if partial.count > Self.longestLine, !partial.contains(UInt8(ascii: "\n")) {
            partial.append(UInt8(ascii: "\n"))
        }
        guard let end = partial.lastIndex(of: UInt8(ascii: "\n")) else { return [] }
        let whole = String(decoding: partial[..<end], as: UTF8.self)
        partial.removeSubrange(...end)
        return whole.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    }
}

extension DevProcess {
    /// What a read found.
    enum Bytes {
        case bytes([UInt8])
        /// Nothing yet.
        case none
        /// Nothing ever again.
        case end
    }

    /// Reads what is there, up to 64 KiB.
    static func read(_ descriptor: Int32) -> Bytes {
        var block = [UInt8](repeating: 0, count: 64 << 10)
        // Safe: the call writes within the block.
        let count = unsafe block.withUnsafeMutableBytes { bytes in
            unsafe Glibc.read(descriptor, bytes.baseAddress, bytes.count)
        }
        if count > 0 { return .bytes(Array(block[..<count])) }
        return count < 0 && (errno == EAGAIN || errno == EINTR) ? .none : .end
    }

    /// Writes all of a text; false where that fails.
    static func write(_ text: String, to descriptor: Int32) -> Bool {
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            // Safe: the call reads within the bytes.
            let count = unsafe rest.withUnsafeBytes { bytes in
                unsafe Glibc.write(descriptor, bytes.baseAddress, bytes.count)
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return false }
            rest = rest.dropFirst(count)
        }
        return true
    }

    /// The system's words for an error number.
    static func reason(_ number: Int32) -> String {
        // Safe: the text is copied at once; this command has one thread.
        guard let text = unsafe strerror(number) else { return "error \(number)" }
        return unsafe String(cString: text)
    }

    /// The path of the running binary.
    static func ownPath() throws(CommandFailure) -> String {
        var path = [CChar](repeating: 0, count: Int(PATH_MAX))
        // Safe: the call writes within the bytes, and no zero behind them.
        let count = unsafe path.withUnsafeMutableBufferPointer { bytes in
            guard let start = bytes.baseAddress else { return -1 }
            return unsafe readlink("/proc/self/exe", start, bytes.count)
        }
        guard count > 0 else { throw .failed("/proc/self/exe: \(reason(errno))") }
        return String(decoding: path[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
