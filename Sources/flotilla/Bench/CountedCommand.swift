import ArgumentParser
import FlotillaSimulation

/// `flotilla bench counted`: work for whoever counts instructions; `bench/instructions` runs it under callgrind.
struct BenchCountedCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "counted",
        abstract: "Do a known amount of work in one thread, for a count of instructions.",
        shouldDisplay: false
    )

    @Argument(help: "produce or fetch.")
    var work: CountedLoad.Work

    @Option(help: "How many brokers, each with a replica.")
    var brokers = 1

    @Option(help: "Requests of one batch each, one after the other.")
    var requests = 100

    @Option(help: "Records in each batch.")
    var records = 16

    @Option(help: "The size of a value.")
    var size = Size(1024)

    func validate() throws {
        guard (1...9).contains(brokers), brokers % 2 == 1 else {
            throw ValidationError("--brokers is 1, 3, 5, 7 or 9")
        }
        guard requests >= 0, (1...1_000).contains(records) else {
            throw ValidationError("--requests is at least 0, --records 1 to 1000")
        }
    }

    func run() throws {
        let load = CountedLoad(
            work,
            brokerCount: brokers,
            requestCount: requests,
            recordCount: records,
            valueByteCount: size.byteCount
        )
        do {
            try load.perform()
        } catch {
            throw CommandFailure.failed("\(error)").report()
        }
    }
}

extension CountedLoad.Work: ExpressibleByArgument {}
