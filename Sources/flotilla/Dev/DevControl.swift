import CFlotilla
import Glibc

/// The way in which other commands reach a running `flotilla dev cluster`: one line there, the answer back, end.
struct DevControl {
    private let listener: Int32
    private var connections: [Connection] = []

    /// More questions at a time are left waiting in the system's queue.
    private static let connectionLimit = 16
    private static let longestRequest = 256

    private struct Connection {
        let descriptor: Int32
        var request: [UInt8] = []
        var isTaken = false
    }

    init(directory: String) throws(CommandFailure) {
        // Safe: paths are passed as C strings that live until the call returns.
        listener = unsafe flotilla_local_listen(directory, DevDirectory.socketName)
        guard listener >= 0 else {
            throw .failed(
                "\(directory)/\(DevDirectory.socketName): \(DevProcess.reason(-listener))"
            )
        }
    }

    /// The descriptor that tells when somebody comes.
    var descriptor: Int32 { listener }

    /// Takes new connections, and returns what was asked since, each with the descriptor for its answer.
    mutating func requests() -> [(line: String, asker: Int32)] {
        while connections.count < Self.connectionLimit {
            let descriptor = flotilla_accept(listener)
            guard descriptor >= 0 else { break }
            connections.append(Connection(descriptor: descriptor))
        }
        var lines: [(line: String, asker: Int32)] = []
        for index in connections.indices.reversed() where !connections[index].isTaken {
            switch DevProcess.read(connections[index].descriptor) {
            case .none: continue
            case .bytes(let bytes): connections[index].request += bytes
            case .end:
                close(connections.remove(at: index).descriptor)
                continue
            }
            let request = connections[index].request
            let end = request.firstIndex(of: UInt8(ascii: "\n"))
            guard end != nil || request.count > Self.longestRequest else { continue }
            connections[index].isTaken = true
            let line = String(decoding: request[..<(end ?? request.endIndex)], as: UTF8.self)
            lines.append((line, connections[index].descriptor))
        }
        return lines
    }

    /// Answers and hangs up; an asker that has gone is none of our business.
    mutating func answer(_ asker: Int32, _ text: String, isDone: Bool) {
        guard let index = connections.firstIndex(where: { $0.descriptor == asker }) else { return }
        _ = DevProcess.write((isDone ? "ok " : "failed ") + text, to: asker)
        close(connections.remove(at: index).descriptor)
    }

    /// Takes the socket away.
    func end(directory: String) {
        for connection in connections { close(connection.descriptor) }
        close(listener)
        // Safe: the path is passed as a C string that lives until the call returns.
        _ = unsafe unlink("\(directory)/\(DevDirectory.socketName)")
    }

    /// What the other commands do: asks, waits, and returns the answer.
    static func ask(_ request: DevRequest, directory: String) throws(CommandFailure) -> String {
        // Safe: as above.
        let connection = unsafe flotilla_local_connect(directory, DevDirectory.socketName)
        guard connection >= 0 else {
            throw .unreachable("no `flotilla dev cluster` runs in \(directory)")
        }
        defer { close(connection) }
        guard DevProcess.write(request.line + "\n", to: connection) else {
            throw .unreachable("the cluster in \(directory) is stopping")
        }
        var bytes: [UInt8] = []
        while case .bytes(let more) = DevProcess.read(connection) { bytes += more }
        let answer = String(decoding: bytes, as: UTF8.self)
        if answer.hasPrefix("ok ") { return String(answer.dropFirst(3)) }
        if answer.hasPrefix("failed ") { throw .failed(String(answer.dropFirst(7))) }
        throw .unreachable("the cluster in \(directory) ended before it answered")
    }
}
