import CFlotilla
import Glibc

/// Where one broker of a cluster on this machine listens; all on 127.0.0.1.
struct DevAddress: Equatable {
    let broker: Int
    let kafkaPort: UInt16
    let adminPort: UInt16
    let peerPort: UInt16

    var kafka: String { "127.0.0.1:\(kafkaPort)" }
    var admin: String { "127.0.0.1:\(adminPort)" }
    var peer: String { "127.0.0.1:\(peerPort)" }
}

/// The directory of a cluster on this machine.
///
/// ```
/// <D>/dev-cluster      the brokers' ports for each other: a line `flotilla dev cluster 1`, then `<broker> <port>` each
/// <D>/dev-cluster.lock held by the running `flotilla dev cluster`
/// <D>/dev-control      the socket on which it takes requests
/// <D>/<broker>/        a broker's data
/// ```
struct DevDirectory {
    static let socketName = "dev-control"
    private static let portsName = "dev-cluster"
    private static let head = "flotilla dev cluster 1"

    let path: String

    /// Makes the directory where it is missing, and takes it for this process.
    static func open(_ path: String) throws(CommandFailure) -> DevDirectory {
        // Safe: paths are passed as C strings that live until the calls return.
        if unsafe mkdir(path, 0o755) != 0, errno != EEXIST {
            throw .failed("\(path): \(DevProcess.reason(errno))")
        }
        let lock = unsafe Glibc.open(
            "\(path)/dev-cluster.lock",
            O_RDWR | O_CREAT | O_CLOEXEC,
            mode_t(0o644)
        )
        guard lock >= 0 else { throw .failed("\(path): \(DevProcess.reason(errno))") }
        // The lock ends with the process, so its descriptor is never closed.
        guard flotilla_lock_file(lock) == 0 else {
            throw .failed("\(path): another `flotilla dev cluster` runs there")
        }
        return DevDirectory(path: path)
    }

    /// A broker's data directory.
    func dataDirectory(of broker: Int) -> String { "\(path)/\(broker)" }

    /// The addresses of all brokers; remembered ports stay, new brokers get free ones.
    func addresses(
        count: Int,
        kafkaPort: UInt16,
        adminPort: UInt16
    ) throws(CommandFailure) -> [DevAddress] {
        var ports = try rememberedPorts()
        guard ports.count <= count else {
            throw .usage("\(path) holds \(ports.count) brokers: say at least that number")
        }
        let given = Set((0..<UInt16(count)).flatMap { [kafkaPort + $0, adminPort + $0] })
        while ports.count < count {
            let port = flotilla_free_port()
            guard port > 0 else { throw .failed("no free port: \(DevProcess.reason(-port))") }
            let free = UInt16(port)
            if !given.contains(free), !ports.contains(free) { ports.append(free) }
        }
        try remember(ports)
        return ports.enumerated().map { index, port in
            DevAddress(
                broker: index + 1,
                kafkaPort: kafkaPort + UInt16(index),
                adminPort: adminPort + UInt16(index),
                peerPort: port
            )
        }
    }

    private func rememberedPorts() throws(CommandFailure) -> [UInt16] {
        let file = "\(path)/\(Self.portsName)"
        // Safe: as above.
        let descriptor = unsafe Glibc.open(file, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            guard errno == ENOENT else { throw .failed("\(file): \(DevProcess.reason(errno))") }
            return []
        }
        defer { close(descriptor) }
        var text = ""
        while case .bytes(let bytes) = DevProcess.read(descriptor) {
            text += String(decoding: bytes, as: UTF8.self)
        }
        let lines = text.split(separator: "\n")
        var ports: [UInt16] = []
        for line in lines.dropFirst() {
            let words = line.split(separator: " ")
            guard words.count == 2, Int(words[0]) == ports.count + 1, let port = UInt16(words[1])
            else { throw .failed("\(file): unreadable line \"\(line)\"") }
            ports.append(port)
        }
        guard lines.first.map(String.init) == Self.head, !ports.isEmpty else {
            throw .failed(
                "\(file): not of this version of flotilla dev; remove \(path) to begin anew"
            )
        }
        return ports
    }

    /// Writes beside and renames, so that the file is whole or absent.
    private func remember(_ ports: [UInt16]) throws(CommandFailure) {
        let file = "\(path)/\(Self.portsName)"
        let lines = ports.enumerated().map { index, port in "\(index + 1) \(port)" }
        let text = ([Self.head] + lines).joined(separator: "\n") + "\n"
        // Safe: as above.
        let descriptor = unsafe Glibc.open(
            file + ".new",
            O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
            mode_t(0o644)
        )
        guard descriptor >= 0 else { throw .failed("\(file): \(DevProcess.reason(errno))") }
        let isWritten = DevProcess.write(text, to: descriptor) && fsync(descriptor) == 0
        let error = errno
        close(descriptor)
        guard isWritten, unsafe rename(file + ".new", file) == 0 else {
            throw .failed("\(file): \(DevProcess.reason(isWritten ? errno : error))")
        }
    }
}
