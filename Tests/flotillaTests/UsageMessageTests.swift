import ArgumentParser
import Testing

@testable import flotilla

@Suite("What is said of command lines that make no sense")
struct UsageMessageTests {
    /// What the parser says of a command line, as the person sees it.
    private func told(_ arguments: String...) -> String? {
        do {
            _ = try Flotilla.parseAsRoot(arguments)
            return nil
        } catch {
            return UsageMessage.text(
                Flotilla.message(for: error),
                full: Flotilla.fullMessage(for: error),
                arguments: arguments,
                commands: Flotilla.commandNames(below: arguments)
            )
        }
    }

    @Test("What is wrong with a command line is one sentence, and says where help is")
    func usage() {
        #expect(
            told("topic", "create", "t", "-p", "x")
                == "the value 'x' is invalid for '-p <partitions>'; flotilla topic create --help says more"
        )
        #expect(
            told("produce", "t", "--acks", "2")
                == "the value '2' is invalid for '--acks <acks>': it takes 'all', '1' or '0'; flotilla produce --help says more"
        )
        #expect(
            told("cluster", "drain")
                == "missing expected argument '<broker>'; flotilla cluster drain --help says more"
        )
        #expect(
            told("cluster", "statsu")
                == "unexpected argument 'statsu'; did you mean status? flotilla cluster --help says more"
        )
        #expect(
            told("dev", "cluster", "0")
                == "a number of brokers from 1 to 32, please; flotilla dev cluster --help says more"
        )
        #expect(told("topic", "create", "t") == nil)
    }

    @Test("A negative number is not called missing")
    func negativeNumbers() {
        #expect(
            told("topic", "create", "t", "-p", "-3")
                == "-p takes no negative number: -3; flotilla topic create --help says more"
        )
        #expect(
            told("cluster", "drain", "-1")
                == "<broker> is no negative number: -1; flotilla cluster drain --help says more"
        )
        #expect(
            told("dev", "cluster", "-1")
                == "a negative number makes no sense here: -1; flotilla dev cluster --help says more"
        )
        #expect(told("topic", "create", "t", "-p")?.hasPrefix("missing value for '-p") == true)
    }
}
