import Testing

@Suite("Replicas of one partition")
struct ClusterTranscriptTests {
    @Test("Transcripts of replication", arguments: Transcript.all())
    func transcript(_ transcript: Transcript) throws {
        let cluster = ReplicaCluster(seed: 1)
        try transcript.verify { command in cluster.run(command) }
        #expect(cluster.ledger.violations.isEmpty)
    }

    @Test("The transcripts are found")
    func areFound() {
        #expect(Transcript.all().count >= 10)
    }
}
