import FoundationEssentials

/// A directory of results: a line for each run, a latency log for each, and a report of all of them.
struct BenchResults {
    private let directory: String

    private var linesPath: String { "\(directory)/results.jsonl" }

    init(directory: String) throws(CommandFailure) {
        self.directory = directory
        do {
            try FileManager.default.createDirectory(
                atPath: directory,
                withIntermediateDirectories: true
            )
        } catch {
            throw .failed("\(directory) cannot be made: \(error)")
        }
    }

    /// Adds a run.
    func add(
        _ measurement: RunMeasurement,
        _ context: RunMeasurement.Context,
        at seconds: Double
    ) throws(CommandFailure) {
        let name = "\(measurement.workload.name).\(Int(seconds)).hlog"
        try write(try measurement.histogramLog(startSeconds: seconds), to: "\(directory)/\(name)")
        try write(lines() + measurement.json(context) + "\n", to: linesPath)
    }

    /// Writes the report, and returns its path.
    func writeReport() throws(CommandFailure) -> String {
        let path = "\(directory)/report.html"
        let page = String(decoding: PackageResources.report_html, as: UTF8.self)
        let marker = "@RESULTS@"
        guard let place = page.firstRange(of: marker) else {
            preconditionFailure("the report's page has a place for results")
        }
        // Within a script element nothing may look like its end.
        let results = try lines().replacing("<", with: "\\u003c")
        try write(
            page[..<place.lowerBound] + results + page[place.upperBound...],
            to: path
        )
        return path
    }

    private func lines() throws(CommandFailure) -> String {
        guard FileManager.default.fileExists(atPath: linesPath) else { return "" }
        guard let bytes = try? Data(contentsOf: URL(filePath: linesPath)) else {
            throw .failed("\(linesPath) cannot be read")
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    private func write(_ text: some StringProtocol, to path: String) throws(CommandFailure) {
        do {
            try Data(text.utf8).write(to: URL(filePath: path), options: .atomic)
        } catch {
            throw .failed("\(path) cannot be written: \(error)")
        }
    }
}
