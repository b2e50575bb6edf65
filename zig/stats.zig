//! Counters of a ring since it was opened.
//!
//! Incremented where things happen, read by `calls.zig`, which adds what is only a state.

pub const Counters = struct {
    turns: u64 = 0,
    enters: u64 = 0,
    sqes: u64 = 0,
    cqes: u64 = 0,
    cqes_stale: u64 = 0,
    receive_starved: u64 = 0,
    parks: u64 = 0,
    bytes_received: i64 = 0,
    bytes_sent: i64 = 0,
    datagrams_received: u64 = 0,
    datagrams_sent: u64 = 0,
    datagrams_truncated: u64 = 0,
    descriptors_dropped: u64 = 0,
    connections_opened: u64 = 0,
    connections_closed: u64 = 0,
    accepts_failed: u64 = 0,
    accept_backoffs: u64 = 0,
    receive_held: u64 = 0,
    receive_large: u64 = 0,
    receive_switches: u64 = 0,
    chain_windows: u64 = 0,
    chain_operations_complete: u64 = 0,
    sends_zero_copy: u64 = 0,
    zero_copy_copied: u64 = 0,
    notifications_stray: u64 = 0,
};
