/// The last of many elements.
package struct Recent<Element> {
    private let limit: Int
    private var kept: [Element] = []
    private var oldest = 0

    /// Keeps so many of them.
    package init(_ limit: Int) {
        self.limit = limit
    }

    /// Adds one; the oldest makes room for it.
    package mutating func add(_ element: Element) {
        if kept.count < limit {
            kept.append(element)
        } else {
            kept[oldest] = element
            oldest = (oldest + 1) % limit
        }
    }

    /// What is kept, oldest first.
    package var elements: [Element] {
        Array(kept[oldest...] + kept[..<oldest])
    }
}
