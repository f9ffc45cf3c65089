import Testing

@Suite("Raft as its thesis tells it")
struct TranscriptTests {
    @Test("Raft transcripts", arguments: Transcript.all())
    func transcript(_ transcript: Transcript) throws {
        var cluster = ClusterHarness()
        try transcript.verify { command in cluster.run(command) }
    }

    @Test("The transcripts are found")
    func areFound() {
        #expect(Transcript.all().count >= 15)
    }
}
