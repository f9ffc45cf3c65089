import FlotillaCoordination
import FlotillaEnvironment
import Testing

@Suite("Sorted tables")
struct SortedTableTests {
    @Test(
        "A table does what a dictionary does, sorted, whatever is put in and taken out",
        arguments: 0..<20 as Range<UInt64>
    )
    func model(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var table = SortedTable<Int, Int>()
        var model: [Int: Int] = [:]
        for step in 0..<2000 {
            let key = Int.random(in: 0..<400, using: &random)
            if Int.random(in: 0..<3, using: &random) == 0 {
                table[key] = nil
                model[key] = nil
            } else {
                table[key] = step
                model[key] = step
            }
            if step % 50 == 0 {
                table.checkInvariants()
                let start = Int.random(in: 0..<400, using: &random)
                #expect(
                    table.entries(from: start).map(\.key)
                        == model.keys.filter { $0 >= start }.sorted()
                )
            }
        }
        table.checkInvariants()
        #expect(table.count == model.count)
        #expect(table.map(\.key) == model.keys.sorted())
        #expect(table.allSatisfy { model[$0.key] == $0.value })
        #expect((0..<400).allSatisfy { table[$0] == model[$0] })
    }

    @Test("A copy keeps what it had when the original changes")
    func copies() {
        var table = SortedTable<Int, String>()
        for key in 0..<500 {
            table[key] = "old"
        }
        let copy = table
        table[250] = "new"
        table[499] = nil
        #expect(copy[250] == "old")
        #expect(copy[499] == "old")
        #expect(copy.count == 500)
        #expect(table != copy)
        table[250] = "old"
        table[499] = "old"
        #expect(table == copy)
    }

    @Test("A table in ascending, descending or mixed order of insertion is the same table")
    func order() {
        var ascending = SortedTable<Int, Int>()
        var descending = SortedTable<Int, Int>()
        for key in 0..<300 {
            ascending[key] = key
            descending[299 - key] = 299 - key
        }
        #expect(ascending == descending)
        descending.checkInvariants()
    }
}
