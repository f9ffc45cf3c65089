/// What may be asked of a running `flotilla dev cluster`, as one line of text.
struct DevRequest: Equatable {
    enum Action: String, CaseIterable {
        case kill, stop, pause, resume, restart, status
    }

    let action: Action
    /// The broker's number; nil for `status` only.
    let broker: Int?

    init(action: Action, broker: Int?) {
        precondition((action == .status) == (broker == nil), "all but status name a broker")
        self.action = action
        self.broker = broker
    }

    /// Reads `kill 2` or `status`; nil where it is neither.
    init?(_ line: String) {
        let words = line.split(separator: " ")
        guard let first = words.first, let action = Action(rawValue: String(first)) else {
            return nil
        }
        if action == .status {
            guard words.count == 1 else { return nil }
            self.init(action: action, broker: nil)
        } else {
            guard words.count == 2, let number = Int(words[1]) else { return nil }
            self.init(action: action, broker: number)
        }
    }

    /// The line that `init(_:)` reads.
    var line: String {
        guard let broker else { return action.rawValue }
        return "\(action.rawValue) \(broker)"
    }
}
