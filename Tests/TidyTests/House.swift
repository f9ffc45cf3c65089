/// The targets in the order of the architecture: a target imports only targets above it.
enum House {
    /// Libraries in C: anyone below may call them, except where a target's view is narrower.
    static let cTargets = ["CLZ4", "CZstd", "CSnappy", "CZlib", "CFlotilla", "CRE2"]

    /// The Swift targets, from plain values down to the executable.
    static let targets = [
        "Model", "Environment", "Records", "KafkaWire", "Raft", "Storage", "Replication",
        "Coordination", "Broker",
        "Server", "Client", "Simulation", "flotilla",
    ]

    /// Targets without threads, locks, `async` and wall clock; the simulator must not reach for the world either.
    static let deterministic: Set<String> = Set(targets.prefix { $0 != "Server" }).union([
        "Simulation"
    ])

    /// Modules from elsewhere that hold plain values, so that a deterministic target may use them.
    static let plainModules: Set<String> = [
        "Swift", "Collections", "BasicContainers", "DequeModule", "HeapModule",
        "OrderedCollections",
    ]

    /// The name under which a target is imported.
    static func module(of target: String) -> String {
        target == "flotilla" || cTargets.contains(target) ? target : "Flotilla\(target)"
    }

    /// The target whose module has this name, or nil if it is not of the house.
    static func target(ofModule module: String) -> String? {
        (cTargets + targets).first { Self.module(of: $0) == module }
    }

    /// The target that a file under `Sources/` belongs to.
    static func target(ofPath path: String) -> String? {
        let parts = path.split(separator: "/")
        guard parts.count > 2, parts[0] == "Sources" else { return nil }
        return (cTargets + targets).first { $0 == parts[1] }
    }

    /// The targets that `target` may import.
    static func visible(from target: String) -> Set<String> {
        if target == "Client" {
            return ["Model", "Records", "KafkaWire"]
        }
        let above = Set(targets.prefix { $0 != target })
        let all = above.union(cTargets)
        return target == "Simulation" ? all.subtracting(["Server", "Client"]) : all
    }
}
