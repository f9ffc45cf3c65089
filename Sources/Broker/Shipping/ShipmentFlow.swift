import FlotillaStorage

/// The bytes of a shipment in one row, file after file, so that a single number says how far it is.
struct ShipmentExtent {
    /// Where each file begins in the row.
    private let starts: [Int]
    private let files: [ShipmentManifest.File]
    /// All bytes.
    let byteCount: Int

    init(_ manifest: ShipmentManifest) {
        files = manifest.files
        var starts: [Int] = []
        starts.reserveCapacity(files.count)
        var end = 0
        for file in files {
            starts.append(end)
            end += file.byteCount
        }
        self.starts = starts
        byteCount = end
    }

    /// The place of a byte; nil behind the last.
    func place(of byte: Int) -> ShipmentPlace? {
        guard byte >= 0, byte < byteCount else { return nil }
        var low = 0
        var high = starts.count
        // The last file that begins at or before the byte; of empty ones at the same place the one behind them.
        while low < high {
            let middle = (low + high) / 2
            if starts[middle] <= byte { low = middle + 1 } else { high = middle }
        }
        return ShipmentPlace(file: low - 1, position: byte - starts[low - 1])
    }

    /// The number of a place's byte; nil for a place that no file has.
    func byte(of place: ShipmentPlace) -> Int? {
        guard files.indices.contains(place.file), place.position >= 0,
            place.position < files[place.file].byteCount
        else { return nil }
        return starts[place.file] + place.position
    }
}

/// What a leader sends next of a shipment: a window behind what the receiver's disk has taken.
struct ShipmentFlow {
    /// The most bytes of a chunk.
    static let chunkByteCount = 256 << 10
    /// The most bytes on their way.
    static let windowByteCount = 4 << 20

    /// The bytes in one row.
    let extent: ShipmentExtent
    /// What the receiver has.
    private(set) var acknowledgedByteCount = 0
    /// What has been sent.
    private(set) var sentByteCount = 0
    /// Changes when what was sent is taken as lost: what is being read for the old order is of no use.
    private(set) var generation = 0

    init(_ manifest: ShipmentManifest) {
        extent = ShipmentExtent(manifest)
    }

    /// The next chunk; nil while the window is full, and at the end.
    var next: (place: ShipmentPlace, byteCount: Int)? {
        let room = Self.windowByteCount - (sentByteCount - acknowledgedByteCount)
        guard room >= Self.chunkByteCount, let place = extent.place(of: sentByteCount) else {
            return nil
        }
        return (place, Self.chunkByteCount)
    }

    /// A chunk has left.
    mutating func sent(_ byteCount: Int) {
        sentByteCount += byteCount
        precondition(sentByteCount <= extent.byteCount, "a shipment has an end")
    }

    /// The receiver tells what it has.
    ///
    /// - Returns: false where that cannot be true.
    mutating func acknowledge(_ byteCount: Int, isRestLost: Bool) -> Bool {
        guard byteCount >= 0, byteCount <= sentByteCount else { return false }
        // A request that another one overtook says nothing new.
        guard byteCount >= acknowledgedByteCount else { return true }
        acknowledgedByteCount = byteCount
        if isRestLost, sentByteCount > byteCount {
            sentByteCount = byteCount
            generation += 1
        }
        return true
    }
}
