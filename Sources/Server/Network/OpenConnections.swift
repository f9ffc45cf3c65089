import FlotillaEnvironment
import Glibc
import NIOCore
import NIOPosix
import Synchronization

/// The open connections of a listener.
final class OpenConnections: Sendable {
    private struct Table {
        var channels: [ObjectIdentifier: any Channel] = [:]
        var isFinished = false
    }

    // Guards the table: connections of all loops come and go here.
    private let table = Mutex(Table())

    /// Notes a connection.
    ///
    /// - Returns: false when there are as many as allowed, and once the listener ends: a
    ///   connection that was accepted just before, and reaches its loop only now, must not stay.
    func add(_ channel: any Channel, limit: Int = .max) -> Bool {
        table.withLock { table in
            guard !table.isFinished, table.channels.count < limit else { return false }
            table.channels[ObjectIdentifier(channel)] = channel
            return true
        }
    }

    func remove(_ identity: ObjectIdentifier) {
        table.withLock { $0.channels[identity] = nil }
    }

    /// How many there are.
    var count: Int {
        table.withLock { $0.channels.count }
    }

    /// Lets no more in.
    ///
    /// - Returns: those that are open.
    func finish() -> [any Channel] {
        table.withLock { table in
            table.isFinished = true
            return Array(table.channels.values)
        }
    }
}

extension Channel {
    /// Waits until the channel is closed; how it ended does not matter here.
    func hasClosed() async {
        do {
            try await closeFuture.get()
        } catch {
            // A connection that ended with an error has ended.
            return
        }
    }
}

extension ServerBootstrap {
    /// Binds to the address, for an empty host to `::` (which takes IPv4 too) or, on a machine
    /// without IPv6, `0.0.0.0`.
    ///
    /// - Parameters:
    ///   - address: where to listen.
    ///   - purpose: to whom, in words.
    /// - Returns: the socket.
    /// - Throws: `ListenError`.
    func bind(to address: NetworkAddress, for purpose: String) async throws -> any Channel {
        do {
            return try await bind(to: address)
        } catch {
            throw ListenError(address, for: purpose, error)
        }
    }

    private func bind(to address: NetworkAddress) async throws -> any Channel {
        guard address.host.isEmpty else {
            return try await bind(host: address.host, port: address.port).get()
        }
        do {
            return try await bind(host: "::", port: address.port).get()
        } catch let error as IOError where error.errnoCode == EADDRINUSE {
            throw error
        } catch {
            return try await bind(host: "0.0.0.0", port: address.port).get()
        }
    }
}
