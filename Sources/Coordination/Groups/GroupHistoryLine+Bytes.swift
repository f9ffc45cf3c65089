import FlotillaModel

/// The form in which brokers tell each other of a history: time i64, last time i64, count u32, then as long texts the word, the sentence,
/// and lists of (name, word) and of (name, number i64), each by name.
extension GroupHistoryLine {
    /// Appends the line's bytes.
    package func write(to body: inout ByteWriter) {
        body.integer(time.rawValue)
        body.integer(lastTime.rawValue)
        body.integer(UInt32(clamping: count))
        body.longText(event)
        body.longText(text)
        body.count(words.count)
        for (name, word) in words.sorted(by: { $0.key < $1.key }) {
            body.longText(name)
            body.longText(word)
        }
        body.count(numbers.count)
        for (name, number) in numbers.sorted(by: { $0.key < $1.key }) {
            body.longText(name)
            body.integer(number)
        }
    }

    /// The least bytes of a line.
    package static let leastByteCount = 36

    /// Reads what `write(to:)` wrote.
    ///
    /// - Throws: for bytes that are none; it never traps.
    package init(_ body: inout ByteReader) throws(CoordinationError) {
        time = Timestamp(try body.integer("time"))
        lastTime = Timestamp(try body.integer("last time"))
        count = Int(try body.integer("count", as: UInt32.self))
        event = try body.longText("event")
        text = try body.longText("sentence")
        words = [:]
        for _ in 0..<(try body.count("words", elementByteCount: 8)) {
            let name = try body.longText("name")
            words[name] = try body.longText("word")
        }
        numbers = [:]
        for _ in 0..<(try body.count("numbers", elementByteCount: 12)) {
            let name = try body.longText("name")
            numbers[name] = try body.integer("number")
        }
    }
}
