//! Every bound of the engine, and where it comes from.

/// The longest key, in bytes (memcached's protocol).
pub const KEY_BYTES_MAX: usize = 250;

/// The least memory a store works with: room for some segments, the index and the reserve.
pub const MEMORY_BYTES_MIN: usize = 1 << 20;

/// The largest `item_size_max`: the record's handle could hold more, the protocol's `-I` does not.
pub const ITEM_BYTES_MAX: usize = 1 << 30;

/// The largest item, as the protocol counts, whose value is read as a number: memcached does not look into items that it keeps in several
/// chunks (protocol 3.1), which by default are those above 512 KiB.
pub const ARITH_ITEM_BYTES_MAX: usize = 512 << 10;

/// Handles that a store can have at once. Each owns an open segment and a stripe of counters.
pub const HANDLES_MAX: usize = 320;

/// A limit can be raised at run time to this many times what a store was made with: addresses are reserved for that, memory is not.
pub(crate) const LIMIT_GROWTH_MAX: usize = 16;

/// A limit cannot be lowered below this many segments.
pub(crate) const LIMIT_SEGMENTS_MIN: usize = 16;

/// Segments that only cleaners may open, so that moving records can always begin.
pub(crate) const SEGMENTS_FOR_MOVES: u64 = 2;

/// Segments are about 1/512 of the memory: small enough that one dropped segment is no storm, large enough that their bookkeeping
/// is nothing. A power of two between these.
pub(crate) const SEGMENT_BYTES_MIN: usize = 16 << 10;
pub(crate) const SEGMENT_BYTES_MAX: usize = 1 << 20;
pub(crate) const SEGMENTS_AIMED_AT: usize = 512;

/// A record longer than this part of a segment keeps its value in an allocation of its own, so that the unused end of a
/// segment is an eighth at the very worst, unless its large values close it first ([`SEGMENT_WEIGHT_MAX`]).
pub(crate) const LARGE_PART_OF_SEGMENT: usize = 8;

/// This part of the memory remembers which keys were evicted, at 2 bytes each: about as many as there are items of 128 bytes.
pub(crate) const GHOST_PART: usize = 64;

/// A segment is closed when it and the large values it names weigh this many segments: what one eviction may drop at a time.
pub(crate) const SEGMENT_WEIGHT_MAX: usize = 8;

/// Flushes that a record's stamp tells apart. Before the count wraps, flushed records are swept out.
pub(crate) const FLUSH_STAMPS: u64 = 1 << 16;

/// A large value that arrives is charged for this much beyond what has arrived, and for more, up to the maximum, when more has.
/// The first step is what a client can take that begins a value and goes silent.
pub(crate) const LARGE_STEP_BYTES_MIN: usize = 64 << 10;
pub(crate) const LARGE_STEP_BYTES_MAX: usize = 256 << 10;
