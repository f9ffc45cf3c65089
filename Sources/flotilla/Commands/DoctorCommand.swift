import ArgumentParser
import FlotillaClient
import FlotillaModel
import Glibc
import NIOCore
import NIOPosix

/// `flotilla doctor`.
struct DoctorCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract:
            "Check this machine and the way to the cluster: ports, disk, clock, advertised addresses.",
        discussion:
            "Exit code 0 where nothing is wrong, 1 where a check failed; a warning does not count."
    )

    @OptionGroup var client: ClientOptions

    @Option(help: "The directory whose disk to check.")
    var dataDir = "."

    @Option(help: "Ports that a broker of this machine would listen on.")
    var ports = "9092,9644"

    @Option(name: .customShort("o"), help: "How to print: table or json.")
    var format = OutputFormat.table

    /// What a check found.
    private enum Verdict: String {
        case ok, note, warning, failed
    }

    private struct Finding {
        var check: String
        var verdict: Verdict
        var text: String
    }

    func run() async throws {
        var findings = checkPorts()
        findings.append(checkDisk())
        findings.append(checkClock())
        findings.append(checkDescriptors())
        findings += await checkCluster()
        for finding in findings {
            if format == .json {
                print(
                    JSONText.object([
                        "check": JSONText.quoted(finding.check),
                        "verdict": JSONText.quoted(finding.verdict.rawValue),
                        "text": JSONText.quoted(finding.text),
                    ])
                )
            }
        }
        if format != .json {
            var table = Table("CHECK", "VERDICT", "WHAT")
            for finding in findings {
                table.add(finding.check, finding.verdict.rawValue, finding.text)
            }
            print(table.text)
        }
        if findings.contains(where: { $0.verdict == .failed }) { throw ArgumentParser.ExitCode(1) }
    }

    // MARK: This machine

    private func checkPorts() -> [Finding] {
        ports.split(separator: ",").map { text in
            let check = "port \(text)"
            guard let port = UInt16(text), port > 0 else {
                return Finding(check: check, verdict: .failed, text: "no port")
            }
            let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            guard descriptor >= 0 else {
                return Finding(check: check, verdict: .failed, text: DiskBench.reason())
            }
            defer { close(descriptor) }
            var yes: Int32 = 1
            // Safe: the calls read one value each, which lives until they return.
            _ = unsafe setsockopt(
                descriptor,
                SOL_SOCKET,
                SO_REUSEADDR,
                &yes,
                socklen_t(MemoryLayout<Int32>.size)
            )
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = port.bigEndian
            let result = unsafe withUnsafePointer(to: &address) { pointer in
                unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                    unsafe bind(descriptor, pointer, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
            if result == 0 { return Finding(check: check, verdict: .ok, text: "free") }
            let isTaken = errno == EADDRINUSE
            return Finding(
                check: check,
                verdict: isTaken ? .note : .failed,
                text: isTaken
                    ? "in use: a broker runs here, or something else does" : DiskBench.reason()
            )
        }
    }

    private func checkDisk() -> Finding {
        let result: BenchResult
        do throws(CommandFailure) {
            result = try DiskBench.measure(in: dataDir, blockByteCount: 4096, millis: 500)
        } catch {
            return Finding(check: "disk", verdict: .failed, text: "\(dataDir): \(error.text)")
        }
        guard let latency = result.latency else {
            return Finding(check: "disk", verdict: .failed, text: "no write finished")
        }
        let text =
            "4 KiB write and fdatasync: p50 \(Decimals.span(latency.p50)), p99 \(Decimals.span(latency.p99))"
        if latency.p50 < 5000 {
            return Finding(
                check: "disk",
                verdict: .note,
                text: text + "; too fast for a disk: memory, or no real sync"
            )
        }
        return Finding(
            check: "disk",
            verdict: latency.p99 > 50_000_000 ? .warning : .ok,
            text: text
        )
    }

    private func checkClock() -> Finding {
        let now = WallTime.now()
        // Nothing of this program is older.
        guard let built = WallTime.parse("2026-11-01", now: now), now > built else {
            return Finding(
                check: "clock",
                verdict: .failed,
                text: "\(WallTime.iso(now)) lies in the past"
            )
        }
        let services = [
            ("/run/systemd/timesync/synchronized", "systemd-timesyncd"),
            ("/run/chrony/chronyd.pid", "chrony"),
            ("/run/ntpd.pid", "ntpd"), ("/dev/ptp0", "the host's clock"),
        ]
        // Safe: the path is passed as a C string that lives until the call returns.
        let found = services.first { path, _ in unsafe access(path, F_OK) == 0 }
        if let found {
            return Finding(
                check: "clock",
                verdict: .ok,
                text: "\(WallTime.iso(now)), kept by \(found.1)"
            )
        }
        return Finding(
            check: "clock",
            verdict: .warning,
            text:
                "\(WallTime.iso(now)); no time service found: retention and lookups by time follow this clock"
        )
    }

    private func checkDescriptors() -> Finding {
        var limit = rlimit()
        // Safe: the call fills one rlimit, which lives until it returns.
        guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else {
            return Finding(check: "files", verdict: .warning, text: DiskBench.reason())
        }
        let isEnough = limit.rlim_max >= 65_536
        return Finding(
            check: "files",
            verdict: isEnough ? .ok : .warning,
            text: "\(limit.rlim_max) open at most"
                + (isEnough ? "" : "; partitions and connections need more")
        )
    }

    // MARK: The cluster

    private func checkCluster() async -> [Finding] {
        let configuration: ClientConfiguration
        do throws(CommandFailure) {
            var found = try client.configuration()
            found.limit(to: min(client.patience, .seconds(2)))
            configuration = found
        } catch {
            return [Finding(check: "cluster", verdict: .failed, text: error.text)]
        }
        let list = configuration.brokers.map(\.description).joined(separator: ", ")
        let asked = KafkaClient(configuration)
        let metadata: ClusterMetadata
        do throws(ClientError) {
            metadata = try await asked.metadata(topics: [])
        } catch {
            await asked.close()
            let isDefault = client.brokers == nil
            return [
                Finding(
                    check: "cluster",
                    verdict: isDefault ? .note : .failed,
                    text: error.description
                )
            ]
        }
        await asked.close()
        var findings = [
            Finding(
                check: "cluster",
                verdict: .ok,
                text: "\(list): \(Words.counted(metadata.brokers.count, "broker"))"
            )
        ]
        for broker in metadata.brokers {
            findings.append(await checkAdvertised(broker, configuration))
        }
        return findings
    }

    /// Clients are sent to the advertised addresses: they must be reachable from here.
    private func checkAdvertised(
        _ broker: ClusterMetadata.Broker,
        _ configuration: ClientConfiguration
    ) async -> Finding {
        let check = "broker \(broker.id)"
        var direct = configuration
        direct.brokers = [broker.address]
        let client = KafkaClient(direct)
        let begin = Monotonic.now()
        do throws(ClientError) {
            _ = try await client.metadata(topics: [])
            let first = Monotonic.now() - begin
            let again = Monotonic.now()
            _ = try await client.metadata(topics: [])
            let trip = Monotonic.now() - again
            await client.close()
            return Finding(
                check: check,
                verdict: .ok,
                text:
                    "\(broker.address): connected in \(Decimals.span(first)), answers in \(Decimals.span(trip))"
            )
        } catch {
            await client.close()
            return Finding(
                check: check,
                verdict: .failed,
                text: "advertises \(broker.address), which does not answer from here: \(error)"
            )
        }
    }
}
