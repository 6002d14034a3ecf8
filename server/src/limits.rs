//! Every bound of the server in one place: what a client may send, and what a connection may own.

use std::time::Duration;

/// Most worker threads. The store has handles for these and for whoever scans it.
pub const WORKERS_MAX: usize = 256;

/// Longest key (protocol 2.1).
pub const KEY_BYTES_MAX: usize = 250;

/// Shortest command line that is looked at, its terminator included (protocol 1.2).
pub const LINE_BYTES_MIN: usize = 4;

/// A line that is longer than this and has no newline yet closes the connection, unless it is a multi-get (protocol 1.9).
pub const LINE_BYTES_MAX: usize = 2048;

/// Leading spaces that are skipped before deciding whether an endless line is a multi-get (protocol 1.9).
pub const LEADING_SPACES_MAX: usize = 100;

/// Tokens that are told apart on a line; the rest of the line stays glued to the last one (protocol 1.8).
pub const TOKENS_MAX: usize = 23;

/// Tokens of a meta command line, command word and key included (protocol 4.1.1).
pub const META_TOKENS_MAX: usize = 20;

/// Longest opaque token of a meta command, its letter included (protocol 4.1.7).
pub const OPAQUE_BYTES_MAX: usize = 32;

/// Names and passwords in the file of `-Y` (protocol 14).
pub const AUTH_ENTRIES_MAX: usize = 8;

/// Longest line of that file, without its newline.
pub const AUTH_LINE_BYTES_MAX: usize = 255;

/// Longest data block that is taken for a name and a password.
pub const AUTH_TOKEN_BYTES_MAX: u32 = 16_384;

/// How often a worker looks for connections that have been idle for too long, by the system's clock. Moving the server's clock by
/// `debugtime` makes it look at once.
pub const IDLE_SWEEP_PERIOD: Duration = Duration::from_secs(1);

/// Largest data block whose length is accepted, to be stored or to be swallowed (protocol 6.6).
pub const VALUE_BYTES_MAX: u32 = 2_147_483_645;

/// A worker's read buffer: what one `read` can bring, and the most unfinished input that a connection keeps.
///
/// memcached's is as long, so lines that never complete end at the same length there and here (protocol 1.10).
pub const READ_BUFFER_BYTES: usize = 16 * 1024;

/// A multi-get line that is still unfinished at this length is answered key by key as it arrives.
///
/// Half of the read buffer, so that each further `read` can bring at least as much again.
pub const KEY_LIST_BUFFERED_MAX: usize = READ_BUFFER_BYTES / 2;

/// Keys whose index lines and records are fetched ahead together: enough to hide memory latency behind one another, and
/// few enough for all of their cache lines to stay in a 32 KiB first-level cache.
pub const STAGED_KEYS_MAX: usize = 64;

/// Commands of one connection that run under one batch, whatever `-R` says.
pub const BATCH_COMMANDS_MAX: usize = 256;

/// A response is sent in slices: no further command runs once this much of it waits in the worker's output buffer.
pub const RESPONSE_SLICE_BYTES: usize = 64 * 1024;

/// The slice of a client that did not take all of its last one: what it does not read is copied to memory of its own.
pub const RESPONSE_SLICE_SLOW_BYTES: usize = 8 * 1024;

/// Slices that one turn sends before the other connections of the worker get theirs.
pub const SLICES_PER_TURN: usize = 4;

/// What all connections together may own by default, at least: unsent responses and unfinished input.
pub const CONNECTION_MEMORY_BYTES_MIN: usize = 32 * 1024 * 1024;

/// The same for each connection that there may be (`-c`): a read buffer.
pub const CONNECTION_MEMORY_BYTES_EACH: usize = READ_BUFFER_BYTES;

/// A worker's share of it, at least: a few slices.
pub const WORKER_MEMORY_BYTES_MIN: usize = 4 * RESPONSE_SLICE_BYTES;

/// In quarters of its share: a worker whose connections own more than this is pressed, and sends and reads in small pieces.
pub const PRESSED_QUARTERS: usize = 1;

/// Beyond this, a client that does not keep up is answered no further (protocol 6.8).
pub const CUT_SHORT_QUARTERS: usize = 2;

/// Beyond this no unsent answer is kept. The last quarter is for input, so that clients who do not read cannot keep others from
/// being heard.
pub const UNSENT_QUARTERS: usize = 3;

/// Large values that were replaced while clients were still reading them may take this part of `-m`. Beyond it, clients that take
/// nothing are closed.
pub const LOOSE_PART_OF_MEMORY: u64 = 4;

/// How often a worker looks whether clients that take nothing hold too much, if nothing else wakes it.
pub const SHED_INTERVAL: Duration = Duration::from_millis(100);

/// The same when they hold half of what is too much, and the pause after a look that did not help.
pub const SHED_INTERVAL_SHORT: Duration = Duration::from_millis(10);

/// What one `read` brings to a pressed worker beyond the unfinished input.
pub const READ_BYTES_PRESSED: usize = 4 * 1024;

/// A value that is being received takes memory for this much beyond what has arrived, never for all that was announced.
pub const VALUE_GROWTH_BYTES: usize = 16 * 1024;

/// Events that one wait brings; the rest waits for the next one.
pub const EVENTS_PER_WAIT: usize = 512;

/// Tasks that run between two looks at the sockets.
pub const TASKS_PER_WAIT: usize = 512;

/// With io_uring there are as many as can run, and a few more, lest the ring be entered for each of those that were not counted.
pub const TASKS_PER_WAIT_MIN: usize = 16;

/// A buffer into which the kernel receives by io_uring: most requests, and pipelines of short ones, fit.
pub const RING_BUFFER_BYTES: usize = 2 * 1024;

/// Such buffers of all workers together, as long as there are not very many workers.
pub const RING_MEMORY_BYTES: usize = 8 * 1024 * 1024;

/// Buffers of a worker: no more than this, which is far more than one turn of the ring fills as a rule...
pub const RING_BUFFERS_MAX: usize = 512;

/// ...and no less.
pub const RING_BUFFERS_MIN: usize = 128;

/// Completions of a ring for which there is room; more wait in the kernel.
pub const RING_COMPLETIONS: u32 = 4096;

/// Answers that are longer are not copied to be sent with the others.
pub const RING_SEND_BYTES_MAX: usize = 16 * 1024;

/// What is sent with one turn of the ring.
pub const RING_SENDS_BYTES: usize = 64 * 1024;

/// A connection that leaves more than this untaken until the next wait receives no more until it has caught up. The same is done at once when
/// more than a read buffer has arrived, so no connection has more put aside than that and what one turn of the ring brings.
pub const RING_PUT_ASIDE_BYTES: usize = 4 * 1024;

/// A value that still lacks more than this when the read buffer is full is received where it belongs, without the ring's buffers.
pub const RING_VALUE_BYTES_MAX: usize = RING_BUFFER_BYTES;

/// Turns that a connection goes on without the ring's buffers after such a value: where there was one there are others, as a rule.
pub const RING_PLAIN_TURNS: u8 = 32;

/// How long connections get to take their last answers when the server stops. SIGTERM promises two seconds in all.
pub const SHUTDOWN_GRACE: Duration = Duration::from_millis(1200);

/// First pause of a listener that cannot accept, for want of file descriptors mostly; each further one is twice as long.
pub const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(10);
/// Longest pause of a listener that cannot accept.
pub const ACCEPT_PAUSE_MAX: Duration = Duration::from_millis(500);

/// File descriptors beyond the clients' own: standard streams, listeners, two or three a worker, the control side's reactor.
pub const RESERVED_FDS: u64 = 64;

/// Watchers at a time (protocol 11).
pub const WATCHERS_MAX: usize = 20;

/// Prefixes that `stats detail` tells apart.
pub const PREFIXES_MAX: usize = 1000;

/// Buckets of the index that one step of a walk looks at: some thousand items, a fraction of a millisecond.
pub const WALK_BUCKETS_PER_STEP: usize = 512;

/// Buckets of the index that a crawl looks at under one batch: some hundred items.
pub const CRAWL_SLICE_BUCKETS: usize = 64;

/// What `stats cachedump` answers at most (protocol 9.3).
pub const CACHEDUMP_BYTES_MAX: usize = 2 << 20;

/// Keys that `stats hotkeys` shows.
pub const HOT_KEYS_SHOWN: usize = 32;
