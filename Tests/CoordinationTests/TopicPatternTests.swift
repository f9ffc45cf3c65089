@testable import FlotillaCoordination
import FlotillaModel
import Testing

@Suite("Patterns for topics")
struct TopicPatternTests {
    @Test(
        "The whole name has to match",
        arguments: [
            ("orders", ["orders"], ["orders2", "myorders", "order", "ORDERS", ""]),
            ("orders.*", ["orders", "orders-eu"], ["my-orders", "order"]),
            ("a|bc", ["a", "bc"], ["ac", "b", "abc", "a|bc"]),
            ("^a.c$", ["abc", "a.c"], ["abcd", "xabc", "ac"]),
            ("[a-c]+\\d{2,3}", ["abc12", "c123"], ["abc1", "d12", "a1234"]),
            ("[[:alpha:]_]+", ["a_B"], ["a1", ""]),
            ("(?i)orders", ["OrDeRs"], ["orderss"]),
            ("a*?", ["", "aaa"], ["b"]),
            ("\\Qa.b\\E", ["a.b"], ["axb"]),
            ("", [""], ["a", " "]),
            ("(?:team-(?:red|blue))\\.v[0-9]", ["team-red.v1"], ["team-green.v1", "team-redxv1"]),
            ("\\p{Greek}.", ["λé"], ["lé", "λ"]),
        ]
    )
    func matches(pattern: String, names: [String], others: [String]) throws {
        let compiled = try TopicPattern(pattern)
        #expect(compiled.text == pattern)
        for name in names {
            #expect(compiled.matches(name), "\(pattern) matches \(name)")
        }
        for name in others {
            #expect(!compiled.matches(name), "\(pattern) does not match \(name)")
        }
    }

    @Test(
        "What is no expression is refused in RE2's words, and so is what would need backtracking",
        arguments: [
            ("a(b", "missing )"),
            ("a)b", "unexpected )"),
            ("[a-", "missing ]"),
            ("[z-a]", "invalid character class range: z-a"),
            ("*a", "no argument for repetition operator: *"),
            ("a**", "bad repetition operator: **"),
            ("a\\", "trailing \\"),
            ("(a)\\1", "invalid escape sequence: \\1"),
            ("(?=a)a", "invalid perl operator: (?="),
            ("(?<!a)b", "invalid perl operator: (?<"),
            ("a{1001}", "invalid repetition size: {1001}"),
        ]
    )
    func refused(pattern: String, explanation: String) {
        let error = #expect(throws: TopicPatternError.self) { try TopicPattern(pattern) }
        #expect(error?.explanation.contains(explanation) == true, "\(String(describing: error))")
        #expect(error?.description.hasPrefix("not a pattern for topics: ") == true)
    }

    @Test(
        "What takes too much memory is refused, however short it is",
        arguments: [
            "(((a{1000}){1000}){1000})", "((a{100}){100}){100}", "(\\pL{500}){2}",
            String(repeating: "\\pL", count: 1000),
        ]
    )
    func memory(pattern: String) {
        #expect(throws: TopicPatternError.self) { try TopicPattern(pattern) }
    }

    @Test("Parentheses as deep as the limit allows end no thread's stack")
    func depth() throws {
        let pattern =
            String(repeating: "(", count: 2047) + "a" + String(repeating: ")", count: 2047)
        #expect(try TopicPattern(pattern).matches("a"))
        #expect(throws: TopicPatternError.self) {
            try TopicPattern(String(repeating: "(", count: 4096))
        }
        let stars = String(repeating: "(", count: 1365) + String(repeating: ")*", count: 1365)
        #expect(try TopicPattern(stars).matches(""))
    }

    @Test("A pattern of the limit's length is taken, and one byte more is refused")
    func length() throws {
        let longest =
            "[" + String(repeating: "a", count: TopicPattern.maximumByteCount - 2) + "]"
        #expect(try TopicPattern(longest).matches("a"))
        let error = #expect(throws: TopicPatternError.self) { try TopicPattern(longest + "a") }
        #expect(error?.explanation == "it is longer than 4096 bytes")
        #expect(throws: TopicPatternError.self) {
            try TopicPattern(String(repeating: "é", count: 2049))
        }
    }

    @Test("A pattern with more steps than a match may take is refused")
    func size() throws {
        #expect(try TopicPattern(String(repeating: "a", count: 1_000)).matches("a") == false)
        let error = #expect(throws: TopicPatternError.self) {
            try TopicPattern(String(repeating: ".*a|", count: 1_000))
        }
        #expect(error?.explanation.contains("steps") == true)
    }

    @Test("A long explanation is cut")
    func longExplanation() throws {
        let pattern = "(?P<" + String(repeating: "é", count: 1000) + ">a"
        let error = #expect(throws: TopicPatternError.self) { try TopicPattern(pattern) }
        #expect((error?.explanation.utf8.count ?? 0) < 600)
    }

    @Test("A zero byte is a character like others")
    func zeroByte() throws {
        let pattern = try TopicPattern("a\u{0}b")
        #expect(pattern.matches("a\u{0}b"))
        #expect(!pattern.matches("a"))
        #expect(!(try TopicPattern("a")).matches("a\u{0}"))
        #expect(try TopicPattern("a.").matches("a\u{0}"))
    }

    @Test(
        "Patterns that would make a backtracking engine run for years answer at once",
        arguments: [
            "(a*)*b", "(a+)+b", "(a|aa)+b", "(a|a?)+b", "(.*a){20}b", "(a?){50}a{50}b",
            "(a|b)*a(a|b){20}", "(a|b)*a(a|b){400}", "((a*)*)*b", "^(([a-z])+.)+[A-Z]([a-z])+$",
            String(repeating: ".*a|", count: 100),
        ]
    )
    func evil(pattern: String) throws {
        let compiled = try TopicPattern(pattern)
        let clock = ContinuousClock()
        let time = clock.measure {
            for end in ["", "c", "1", "!"] {
                let name = String(repeating: "a", count: 249 - end.utf8.count) + end
                _ = compiled.matches(name)
            }
        }
        // Microseconds, and less than a millisecond a name for the last; backtracking would take longer than the sun lasts.
        #expect(time < .seconds(5))
    }
}
