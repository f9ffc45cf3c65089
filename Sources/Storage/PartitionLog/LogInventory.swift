import FlotillaEnvironment
import FlotillaModel

/// The files of a replica's directory, as their names tell.
struct LogInventory {
    /// The segments that have `.frames`, and those between them that lost it, in order.
    var segments: [SegmentName] = []
    /// The `.state` files, in order.
    var states: [SegmentName] = []
    /// Files below the first segment that lack their `.frames`.
    ///
    /// A removal unlinks that one first and from the oldest segment on, so they are its remains, if
    /// the log's start lies behind them. If it does not, they are what damage left.
    private(set) var remains: [String] = []
    /// What an unfinished write left.
    private(set) var staged: [String] = []

    /// Lists a directory; one that is not there is empty.
    ///
    /// Names that are not ours are left alone.
    init(of directory: String, on disk: any Disk) throws(DiskError) {
        guard try disk.exists(directory) else { return }
        var others: [SegmentFileName] = []
        for fileName in try disk.list(directory) {
            if fileName.hasSuffix(StateWrite.stagedSuffix) {
                staged.append(fileName)
                continue
            }
            guard let file = SegmentFileName(fileName) else { continue }
            switch file.kind {
            case .frames: segments.append(file.name)
            case .state: states.append(file.name)
            case .log, .control: others.append(file)
            }
        }
        segments.sort()
        states.sort()
        guard let first = segments.first, let last = segments.last else { return }
        // Segments begin at the end and go from the oldest on: in between nothing but damage takes a file.
        let known = Set(segments)
        let damaged = Set(others.map(\.name)).filter { first < $0 && $0 < last }
        segments = known.union(damaged).sorted()
        remains += others.filter { $0.name < first }.map { $0.name.fileName($0.kind) }
        remains += states.filter { $0 < first }.map { $0.fileName(.state) }
        states.removeAll { $0 < first }
    }

    /// Removes what was never finished.
    func removeStaged(in directory: String, on disk: any Disk) throws(DiskError) {
        for fileName in staged {
            try disk.remove("\(directory)/\(fileName)")
        }
    }
}
