// swift-tools-version: 6.2
import PackageDescription

// The order of the targets is the architecture: a target imports only targets above it.
// docs/ARCHITECTURE.md draws the map; Tests/TidyTests keeps it true.

let house: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .strictMemorySafety(),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableExperimentalFeature("Lifetimes"),
]

/// A target of the house: folder `Sources/<name>`, module `Flotilla<name>`.
func house(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(
        name: "Flotilla\(name)",
        dependencies: dependencies,
        path: "Sources/\(name)",
        exclude: name == "KafkaWire" ? ["Schema"] : [],
        swiftSettings: house
    )
}

/// The tests of one target: folder `Tests/<name>Tests`.
///
/// `data`: folders of files that the tests read where they lie.
func tests(_ name: String, _ dependencies: [Target.Dependency], data: [String] = []) -> Target {
    .testTarget(
        name: "\(name)Tests",
        dependencies: dependencies,
        path: "Tests/\(name)Tests",
        exclude: data,
        swiftSettings: house
    )
}

/// A C library that Debian ships with headers and a pkg-config file.
func codec(_ name: String, pkgConfig: String, apt: String) -> Target {
    .systemLibrary(
        name: name,
        path: "Sources/\(name)",
        pkgConfig: pkgConfig,
        providers: [.apt([apt])]
    )
}

let byteBuffer: Target.Dependency = .product(name: "NIOCore", package: "swift-nio")
let deque: Target.Dependency = .product(name: "DequeModule", package: "swift-collections")

let package = Package(
    name: "flotilla",
    products: [
        .executable(name: "flotilla", targets: ["flotilla"]),
        .library(name: "FlotillaClient", targets: ["FlotillaClient"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio.git", from: "2.101.0"),
        .package(url: "https://github.com/apple/swift-log.git", from: "1.16.0"),
        .package(url: "https://github.com/apple/swift-metrics.git", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-collections.git", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-argument-parser.git", from: "1.8.0"),
        .package(
            url: "https://github.com/apple/swift-configuration.git",
            from: "1.4.0",
            traits: ["CommandLineArguments", "Reloading"]
        ),
        .package(url: "https://github.com/LebJe/TOMLKit.git", from: "0.6.0"),
        .package(
            url: "https://github.com/hummingbird-project/hummingbird.git",
            from: "2.28.0",
            traits: []
        ),
        .package(
            url: "https://github.com/swift-server/swift-service-lifecycle.git",
            from: "2.13.0"
        ),
        .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift.git", from: "0.2.0"),
    ],
    targets: [
        codec("CLZ4", pkgConfig: "liblz4", apt: "liblz4-dev"),
        codec("CZstd", pkgConfig: "libzstd", apt: "libzstd-dev"),
        codec("CSnappy", pkgConfig: "snappy", apt: "libsnappy-dev"),
        codec("CZlib", pkgConfig: "zlib", apt: "zlib1g-dev"),
        .target(name: "CFlotilla", path: "Sources/CFlotilla"),
        // RE2 is C++ and its pkg-config file names flags that SwiftPM warns of, so it is linked by name.
        .target(name: "CRE2", path: "Sources/CRE2", linkerSettings: [.linkedLibrary("re2")]),
        house("Model"),
        house("Environment", ["FlotillaModel", byteBuffer]),
        house(
            "Records",
            [
                "FlotillaModel", "FlotillaEnvironment", "CFlotilla", "CLZ4", "CZstd", "CSnappy",
                "CZlib", byteBuffer,
            ]
        ),
        house("KafkaWire", ["FlotillaModel", byteBuffer]),
        house(
            "Client",
            [
                "FlotillaModel", "FlotillaRecords", "FlotillaKafkaWire", deque, byteBuffer,
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "Logging", package: "swift-log"),
            ]
        ),
        house("Raft", ["FlotillaModel", "FlotillaEnvironment"]),
        house(
            "Storage",
            [
                "FlotillaModel", "FlotillaEnvironment", "FlotillaRecords", "FlotillaRaft", deque,
                byteBuffer,
            ]
        ),
        house(
            "Replication",
            [
                "FlotillaModel", "FlotillaEnvironment", "FlotillaRecords", "FlotillaRaft",
                "FlotillaStorage", deque, byteBuffer,
            ]
        ),
        house(
            "Coordination",
            [
                "FlotillaModel", "FlotillaEnvironment", "FlotillaRecords", "CRE2",
                .product(name: "HeapModule", package: "swift-collections"), byteBuffer,
            ]
        ),
        house(
            "Broker",
            [
                "FlotillaModel", "FlotillaEnvironment", "FlotillaRecords", "FlotillaKafkaWire",
                "FlotillaRaft", "FlotillaStorage", "FlotillaReplication", "FlotillaCoordination",
                deque,
                .product(name: "HeapModule", package: "swift-collections"), byteBuffer,
            ]
        ),
        house(
            "Simulation",
            [
                "FlotillaModel", "FlotillaEnvironment", "FlotillaRecords", "FlotillaKafkaWire",
                "FlotillaRaft", "FlotillaStorage", "FlotillaReplication", "FlotillaCoordination",
                "FlotillaBroker", deque,
                .product(name: "HeapModule", package: "swift-collections"), byteBuffer,
            ]
        ),
        house(
            "Server",
            [
                "FlotillaModel", "FlotillaEnvironment", "FlotillaRecords", "FlotillaKafkaWire",
                "FlotillaRaft", "FlotillaStorage", "FlotillaCoordination", "FlotillaBroker",
                "CFlotilla",
                byteBuffer,
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
                .product(name: "Configuration", package: "swift-configuration"),
                .product(name: "TOMLKit", package: "TOMLKit"),
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "CoreMetrics", package: "swift-metrics"),
            ]
        ),
        .executableTarget(
            name: "flotilla",
            dependencies: [
                "FlotillaModel", "FlotillaEnvironment", "FlotillaRecords", "FlotillaCoordination",
                "FlotillaServer", "FlotillaClient", "FlotillaSimulation", "CFlotilla", "CZlib",
                byteBuffer,
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Histogram", package: "hdrhistogram-swift"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "TOMLKit", package: "TOMLKit"),
            ],
            path: "Sources/flotilla",
            resources: [.embedInCode("Bench/report.html")],
            swiftSettings: house
        ),
        tests("Tidy", []),
        tests("Simulation", ["FlotillaSimulation", "FlotillaEnvironment"], data: ["Mutants"]),
        tests("Fuzz", ["FlotillaKafkaWire", "FlotillaRecords", byteBuffer]),
        tests(
            "KafkaWire",
            ["FlotillaKafkaWire", "FlotillaModel", "FlotillaEnvironment", byteBuffer],
            data: ["Golden"]
        ),
        tests(
            "Records",
            [
                "FlotillaRecords", "FlotillaModel", "FlotillaEnvironment", "CFlotilla", "CLZ4",
                "CSnappy",
                byteBuffer,
            ]
        ),
        tests(
            "Raft",
            ["FlotillaRaft", "FlotillaModel", "FlotillaEnvironment"],
            data: ["Transcripts"]
        ),
        tests(
            "Storage",
            [
                "FlotillaSimulation", "FlotillaStorage", "FlotillaModel", "FlotillaEnvironment",
                "FlotillaRecords",
                "FlotillaRaft",
                byteBuffer,
            ]
        ),
        tests(
            "Replication",
            [
                "FlotillaReplication", "FlotillaSimulation", "FlotillaModel",
                "FlotillaEnvironment",
                "FlotillaRecords", "FlotillaRaft", "FlotillaStorage", byteBuffer,
            ],
            data: ["Transcripts"]
        ),
        tests(
            "Broker",
            [
                "FlotillaBroker", "FlotillaSimulation", "FlotillaModel", "FlotillaEnvironment",
                "FlotillaRecords", "FlotillaKafkaWire", "FlotillaRaft", "FlotillaStorage",
                "FlotillaReplication", "FlotillaCoordination", byteBuffer,
            ]
        ),
        tests(
            "Coordination",
            [
                "FlotillaCoordination", "FlotillaModel", "FlotillaEnvironment", "FlotillaRecords",
                byteBuffer,
            ]
        ),
        tests(
            "Server",
            [
                "FlotillaServer", "FlotillaStorage", "FlotillaCoordination", "FlotillaModel",
                "FlotillaEnvironment", "CFlotilla",
                byteBuffer,
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOEmbedded", package: "swift-nio"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "CoreMetrics", package: "swift-metrics"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ]
        ),
        .testTarget(
            name: "flotillaTests",
            dependencies: [
                "flotilla", "FlotillaClient", "FlotillaModel", byteBuffer,
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Histogram", package: "hdrhistogram-swift"),
            ],
            path: "Tests/flotillaTests",
            swiftSettings: house
        ),
        tests(
            "Client",
            [
                "FlotillaClient", "FlotillaModel", "FlotillaRecords", "FlotillaKafkaWire",
                byteBuffer,
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "Logging", package: "swift-log"),
            ]
        ),
    ],
    cxxLanguageStandard: .cxx17
)

// The fuzz targets exist only for `make fuzz`, which builds them with `--sanitize=fuzzer`.
if Context.environment["FLOTILLA_FUZZ"] != nil {
    package.targets += ["Request", "Batch", "Frames", "Peer"].map { name in
        .executableTarget(
            name: "Fuzz\(name)",
            dependencies: [
                "FlotillaKafkaWire", "FlotillaRecords", "FlotillaReplication", byteBuffer,
            ],
            path: "Fuzz/\(name)",
            swiftSettings: house
        )
    }
}

// Micro-benchmarks are targets of this package, so that they see `package` names: `make micro-bench`, or
// FLOTILLA_BENCH=1 swift package benchmark. Without the variable nobody fetches or builds anything of them.
if Context.environment["FLOTILLA_BENCH"] != nil {
    package.dependencies.append(
        .package(url: "https://github.com/ordo-one/benchmark.git", from: "1.38.1", traits: [])
    )

    /// Micro-benchmarks of one subject: folder and module `bench/Benchmarks/<name>`.
    func bench(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
        .executableTarget(
            name: name,
            dependencies: dependencies + [
                "BenchSupport", byteBuffer, .product(name: "Benchmark", package: "benchmark"),
            ],
            path: "bench/Benchmarks/\(name)",
            swiftSettings: house,
            plugins: [.plugin(name: "BenchmarkPlugin", package: "benchmark")]
        )
    }

    package.targets += [
        .target(
            name: "BenchSupport",
            dependencies: [
                "FlotillaModel", "FlotillaRecords", "FlotillaEnvironment", "FlotillaServer",
                byteBuffer,
            ],
            path: "bench/Support",
            swiftSettings: house
        ),
        bench("ChecksumBench", ["FlotillaRecords"]),
        bench("FrameBench", ["FlotillaModel", "FlotillaRecords"]),
        bench("RequestBench", ["FlotillaModel", "FlotillaRecords", "FlotillaKafkaWire"]),
        bench("BatchBench", ["FlotillaModel", "FlotillaRecords"]),
        bench(
            "JournalBench",
            [
                "FlotillaModel", "FlotillaEnvironment", "FlotillaRaft", "FlotillaRecords",
                "FlotillaStorage", "FlotillaServer",
            ]
        ),
        bench("SegmentBench", ["FlotillaModel", "FlotillaRecords", "FlotillaStorage"]),
    ]
}
