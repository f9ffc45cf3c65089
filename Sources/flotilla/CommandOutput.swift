import FlotillaServer
import Glibc

/// What commands say beside their data: notes go to standard error.
enum CommandOutput {
    /// A line on standard error.
    static func note(_ text: String) {
        LineLogHandler.standardError(text + "\n")
    }

    /// Hands buffered output to whoever reads it, as before a long wait.
    static func flush() {
        // Every stream: the name of standard output is a global that Swift may not touch.
        _ = fflush(nil)
    }
}
