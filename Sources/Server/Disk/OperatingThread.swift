import CFlotilla
import Glibc

/// A thread of the operating system that runs one closure and can be joined.
///
/// For work that blocks: neither the event loops nor the tasks' pool may wait for a disk.
@safe
final class OperatingThread: @unchecked Sendable {
    // Sendable because the handle is written once, before anyone else sees the object.
    private var handle = pthread_t()

    private final class Start {
        let name: String
        let body: @Sendable () -> Void

        init(name: String, body: @escaping @Sendable () -> Void) {
            self.name = name
            self.body = body
        }
    }

    /// Starts a thread.
    ///
    /// - Parameters:
    ///   - name: up to 15 characters are shown by the system's tools.
    ///   - body: what the thread does.
    init(name: String, _ body: @escaping @Sendable () -> Void) {
        let start = unsafe Unmanaged.passRetained(Start(name: name, body: body)).toOpaque()
        // Safe: the new thread takes over the one reference that was passed.
        let code = unsafe pthread_create(
            &handle,
            nil,
            { argument in
                guard let argument = unsafe argument else {
                    return nil
                }
                let start = unsafe Unmanaged<Start>.fromOpaque(argument).takeRetainedValue()
                _ = unsafe flotilla_name_thread(String(start.name.prefix(15)))
                start.body()
                return nil
            },
            start
        )
        precondition(
            code == 0,
            "a broker needs its threads; the system's limit of threads is too low"
        )
    }

    /// Waits until the closure has returned.
    ///
    /// Called once, and not on the thread itself.
    func join() {
        let code = pthread_join(handle, nil)
        precondition(code == 0, "a thread is joined once, by another thread")
    }
}
