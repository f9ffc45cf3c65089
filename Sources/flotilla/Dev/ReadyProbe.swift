import CFlotilla
import Glibc

/// Asks a broker's `GET /readyz` again and again without ever blocking.
struct ReadyProbe {
    private let port: UInt16
    private var connection: Int32 = -1
    private var isAsked = false
    private var answer: [UInt8] = []
    private var stepsLeft = 0

    /// Steps after which a question without an answer is put anew.
    private static let longestWait = 40
    /// A longer answer is none of ours.
    private static let longestAnswer = 64 << 10

    init(port: UInt16) { self.port = port }

    /// Does what can be done now; true when the broker said that it is ready.
    mutating func step() -> Bool {
        if connection < 0 {
            connection = flotilla_loopback_connect(port)
            isAsked = false
            answer = []
            stepsLeft = Self.longestWait
            if connection < 0 { return false }
        }
        stepsLeft -= 1
        if stepsLeft == 0 || answer.count > Self.longestAnswer {
            cancel()
            return false
        }
        if !isAsked {
            isAsked = DevProcess.write(
                "GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
                to: connection
            )
            if !isAsked, errno != EAGAIN { cancel() }
            return false
        }
        switch DevProcess.read(connection) {
        case .none: return false
        case .bytes(let bytes):
            answer += bytes
            guard let end = answer.firstIndex(of: UInt8(ascii: "\r")) else { return false }
            let isReady = String(decoding: answer[..<end], as: UTF8.self).contains(" 200")
            cancel()
            return isReady
        case .end:
            cancel()
            return false
        }
    }

    /// Hangs up.
    mutating func cancel() {
        if connection >= 0 { close(connection) }
        connection = -1
    }
}
