//! Everything that crosses between the library and JavaScript: records, options, enums, limits.
//!
//! This file and the signatures in `exports.zig` are the only place where the boundary is written;
//! `abi_typescript.zig` reflects on both and prints `ts/abi.ts`. It owns no behaviour and imports
//! nothing. Rules for what may stand here:
//!   * structs are `extern`, without implicit padding, made of u32, i32, f64 and byte arrays
//!     (an f64 carries addresses and sizes: it is exact to 2^53 and costs JavaScript no BigInt);
//!   * enums are backed by u32 and keep their numbers for ever.

/// Bits of `user_data`: slot 24 | kind 8 in the low word, generation 32 in the high word.
pub const slot_bits: u32 = 24;
/// The largest number of connections, listeners or operations that one ring can hold.
pub const slots_max: u32 = (1 << slot_bits) - 1;
/// Completion records that one turn can write; more stay in the completion queue.
pub const records_max: u32 = 2048;
/// Completion queue entries that one turn takes at most.
pub const turn_cqes_max: u32 = 1024;
/// Rings that one process can have open at a time.
pub const rings_max: u32 = 1024;
/// Bytes of one staging block.
pub const staging_block_size: u32 = 2048;
/// Bytes of the scratch area through which text and addresses cross.
pub const scratch_size: u32 = 65536;
/// Longest text of an address: a Unix path (108 bytes, see unix(7)) or an IPv6 literal with scope.
pub const address_text_max: u32 = 108;
/// One receive buffer holds at most this much: records carry offsets and lengths as u32.
pub const receive_buffer_size_max: u32 = 1 << 20;
/// Provided buffers are named by 16 bits, and the ring of them is a power of two.
pub const receive_buffers_max: u32 = 32768;

/// Which kernel interface serves a ring.
pub const Backend = enum(u32) {
    none = 0,
    uring = 1,
    epoll = 2,
    simulated = 3,
};

/// One bit each in `RingInfo.features` and `RingOptions.features_disabled`; the bit's number is the
/// value. Names are io_uring's. A masked feature is treated as refused by the kernel.
pub const Feature = enum(u32) {
    /// IORING_SETUP_SINGLE_ISSUER
    single_issuer = 0,
    /// IORING_SETUP_DEFER_TASKRUN
    defer_taskrun = 1,
    /// IORING_SETUP_TASKRUN_FLAG
    taskrun_flag = 2,
    /// IORING_SETUP_COOP_TASKRUN
    coop_taskrun = 3,
    /// IORING_SETUP_SUBMIT_ALL
    submit_all = 4,
    /// IORING_SETUP_NO_SQARRAY
    no_sqarray = 5,
    /// IORING_REGISTER_RING_FDS
    registered_ring_fd = 6,
    /// IORING_REGISTER_PBUF_RING
    buffer_ring = 7,
    /// IORING_RECV_MULTISHOT
    multishot_receive = 8,
    /// IORING_ACCEPT_MULTISHOT
    multishot_accept = 9,
    /// IORING_REGISTER_FILES2, sparse
    registered_files = 10,
};

/// Why a ring has the backend that it has.
pub const Reason = enum(u32) {
    /// The functional probe passed.
    probed = 0,
    /// The caller asked for this backend.
    requested = 1,
    /// io_uring_setup was refused by policy or age; `reason_errno` says how.
    setup_refused = 2,
    /// A provided-buffer ring could not be registered.
    buffer_ring_refused = 3,
    /// A receive into the provided-buffer ring failed over a socket pair.
    receive_refused = 4,
    /// An eventfd could not be made or registered.
    eventfd_refused = 5,
    /// Memory for the ring or the slab could not be had.
    out_of_memory = 6,
};

/// What one completion record says.
pub const Event = enum(u32) {
    /// An operation settled: `index`, `generation` name its slot, `result` is the kernel's.
    completion = 0,
    /// A connection is open: `extra` is the listener's index, or `no_listener` for `connect`.
    open = 1,
    /// Bytes arrived: `offset` in the slab, `result` their number, `extra` the receive buffer.
    data = 2,
    /// There is room again after a short `write`.
    drain = 3,
    /// The peer sent FIN; every byte before it was delivered.
    end = 4,
    /// The connection is gone and its descriptor is free. `result` is 0 or the negative errno.
    close = 5,
    /// `connect` failed; `result` is the negative errno. No other record of it follows.
    connect_failed = 6,
    /// A listener is closed and its descriptor is free. `result` is 0 or the negative errno.
    listener_closed = 7,
};

/// `Record.extra` of an `open` record that no listener made.
pub const no_listener: u32 = 0xffff_ffff;

/// One completion record: 32 bytes, so that JavaScript reads it as eight words.
pub const Record = extern struct {
    event: Event,
    index: u32,
    generation: u32,
    result: i32,
    /// Byte offset of received data from the start of the slab.
    offset: u32,
    extra: u32,
    reserved_0: u32 = 0,
    reserved_1: u32 = 0,
};

/// Words that the library writes and JavaScript reads without a call; at the start of the slab.
pub const Control = extern struct {
    /// Generation of the slot that the last claiming call returned.
    generation: u32,
    /// Connections, listeners and operations that hold a slot.
    connections: u32,
    listeners: u32,
    operations: u32,
    /// Non-zero while work is queued that only a turn or a flush hands to the kernel.
    queued: u32,
    /// The latched fatal error as a positive errno, 0 while the ring is sound.
    fatal: u32,
    /// Receive buffers that JavaScript holds on loan.
    lent: u32,
    /// Connections that wait for a receive buffer.
    parked: u32,
};

/// What `bu_ring_open` is asked for. Counts of 0 mean the library's default.
pub const RingOptions = extern struct {
    /// Submission queue entries; a power of two.
    entries: u32,
    /// Completion queue entries; a power of two, at least 4096.
    cq_entries: u32,
    /// Receive buffers in the provided-buffer ring; a power of two.
    receive_buffers: u32,
    receive_buffer_size: u32,
    connections: u32,
    listeners: u32,
    operations: u32,
    /// Staging blocks of `staging_block_size` bytes for all connections together.
    staging_blocks: u32,
    /// Bytes that one connection may have staged; beyond it `write` takes less.
    high_water_mark: u32,
    backend: Backend,
    /// Bits of `Feature` to treat as refused.
    features_disabled: u32,
    reserved_0: u32 = 0,
};

/// What `bu_ring_open` answers. On failure only `reason` and `reason_errno` are set.
pub const RingInfo = extern struct {
    handle: u32,
    backend: Backend,
    reason: Reason,
    /// Positive errno behind `reason`, 0 if there is none.
    reason_errno: u32,
    features: u32,
    sq_entries: u32,
    cq_entries: u32,
    /// Readable when completions wait and the ring is armed.
    wake_fd: i32,
    slab_address: f64,
    slab_size: f64,
    /// Given back to `bu_slab_released` and `bu_buffer_released` as their context.
    context: f64,
    records_offset: u32,
    scratch_offset: u32,
    receive_offset: u32,
    receive_buffer_size: u32,
    receive_buffers: u32,
    high_water_mark: u32,
};

/// How an address is written.
pub const Family = enum(u32) {
    ipv4 = 0,
    ipv6 = 1,
    unix = 2,
};

/// A socket address as text: numeric only, names are resolved before they get here.
pub const Address = extern struct {
    family: Family,
    /// Host byte order; 0 for Unix sockets.
    port: u32,
    text_len: u32,
    text: [address_text_max]u8,
};

/// Bits of `bu_listener_open`'s flags.
pub const ListenFlag = enum(u32) {
    reuse_port = 0,
    ipv6_only = 1,
    allow_half_open = 2,
    /// Leave TCP_NODELAY off on accepted connections.
    delay = 3,
};

/// Bits of `bu_connect`'s flags.
pub const ConnectFlag = enum(u32) {
    allow_half_open = 0,
    delay = 1,
};

/// Which end `bu_connection_address` describes.
pub const End = enum(u32) {
    local = 0,
    remote = 1,
};

/// Socket options that `bu_connection_option` sets.
pub const SocketOption = enum(u32) {
    /// TCP_NODELAY: 0 or 1.
    no_delay = 0,
    /// SO_KEEPALIVE: 0 off, else the idle time in seconds (TCP_KEEPIDLE).
    keep_alive = 1,
};

/// How a connection is ended by `bu_connection_shut`.
pub const Shut = enum(u32) {
    /// Let queued sends leave, then FIN; the receiving side stays open until the peer's FIN.
    end = 0,
    /// Let queued sends leave, then close without waiting for the peer.
    close = 1,
    /// Drop queued sends and close with RST.
    terminate = 2,
};

/// Counters since the ring was opened; f64 so that they stay exact and need no BigInt.
pub const Stats = extern struct {
    turns: f64,
    enters: f64,
    sqes: f64,
    cqes: f64,
    cqes_stale: f64,
    cqes_overflowed: f64,
    receive_starved: f64,
    parks: f64,
    bytes_received: f64,
    bytes_sent: f64,
    connections_opened: f64,
    connections_closed: f64,
    accepts_failed: f64,
    staging_blocks_used: f64,
    receive_buffers_free: f64,
};
