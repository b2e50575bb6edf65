//! Everything that crosses between the library and JavaScript: records, options, enums, limits.
//!
//! This file and the signatures in `exports.zig` are the only place where the boundary is written;
//! `abi_typescript.zig` reflects on both and prints `ts/abi.ts`. It owns no behaviour and imports
//! nothing but its own parts. Rules for what may stand here:
//!   * structs are `extern`, without implicit padding, made of u32, i32, f64 and byte arrays
//!     (an f64 carries addresses and sizes: it is exact to 2^53 and costs JavaScript no BigInt);
//!   * enums are backed by u32 and keep their numbers for ever.

const datagrams = @import("abi_datagrams.zig");

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
/// Datagram sockets that one ring can have open at a time.
pub const datagram_sockets_max: u32 = 1024;
/// Bytes of a Unix datagram at most, sent or received; UDP has its own limits below that.
pub const datagram_size_max: u32 = 65536;
/// Bytes of a block of native memory before those that a user sees.
pub const block_header_size: u32 = 4096;
/// Descriptors that one message can carry: SCM_MAX_FD of the kernel.
pub const descriptors_max: u32 = 253;
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
    /// IORING_OP_SEND_ZC and IORING_OP_SENDMSG_ZC
    zero_copy_send = 13,
    /// IORING_REGISTER_PBUF_RING
    buffer_ring = 7,
    /// IORING_RECV_MULTISHOT
    multishot_receive = 8,
    /// IORING_ACCEPT_MULTISHOT
    multishot_accept = 9,
    /// IORING_REGISTER_FILES2, sparse
    registered_files = 10,
    /// Posts wake the ring by an eventfd that it polls; without it, by messages.
    doorbell = 11,
    /// IORING_OP_MSG_RING, through IORING_REGISTER_SEND_MSG_RING
    msg_ring = 12,
    /// IORING_RECV_MULTISHOT of RECVMSG, into a second provided-buffer ring
    multishot_recvmsg = 14,
    /// UDP_GRO: datagrams of one sender and size are received together
    udp_gro = 15,
    /// UDP_SEGMENT: datagrams to one place and of one size are sent together
    udp_gso = 16,
    receive_limit = 17, // `optlen`: a multishot receive ends by itself after so many bytes
    splice_pipes = 18, // what is forwarded in bulk goes through pipes
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
    /// epoll or a timerfd were refused.
    epoll_refused = 7,
    /// Operations that a ring cannot do without were refused one by one, as a policy does.
    opcode_refused = 8,
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
    /// The time of `bu_connection_timeout` has passed: `extra` says of which setting, counted from
    /// 1 and wrapping around; settings after it make the record out of date.
    timeout = 8,
    /// The peer's FIN, behind everything that was forwarded and has been sent; or, with `result`
    /// below 0, the target of `bu_connection_forward` takes no more.
    forwarded = 9,
    /// Descriptors came with the bytes of the next record: `result` of them, to be taken by
    /// `bu_connection_descriptors` before the next turn.
    descriptors = 10,
    /// A post: `extra` is its key, `data` the number.
    post = 11,
    /// The same with a block of native memory: `data` is its address, `bu_block_adopt` takes it.
    post_block = 12,
    /// Datagrams of one sender arrived: `result` bytes from `offset` in a buffer of the datagram
    /// pool. `extra` is that buffer in its lowest byte, bits of `DatagramFlag` in the next, and in
    /// its high half the size of each datagram but the last, or 0 if there is one. `data` is the
    /// sender: an IPv4 address as a number, times 65536, plus the port; of any other one a number
    /// that stays the same only as long as the sender does.
    datagram = 13,
    /// There is room again after a send that was refused.
    datagram_drain = 14,
    /// An error that ends nothing, such as ICMP's answer to an earlier datagram: `result`.
    datagram_error = 15,
    /// A datagram socket is closed and its descriptor is free. `result` is 0 or why.
    datagram_closed = 16,
};

pub const DatagramFlag = datagrams.DatagramFlag;
pub const DatagramOpenFlag = datagrams.DatagramOpenFlag;
pub const DatagramOption = datagrams.DatagramOption;
pub const MembershipAction = datagrams.MembershipAction;

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
    /// Of a post: what it carries. Of datagrams: who sent them.
    data: f64 = 0,
};

/// Words that the library writes and JavaScript reads without a call; at the start of the slab.
pub const Control = extern struct {
    /// Generation of the slot that the last claiming call returned.
    generation: u32,
    /// Connections and listeners that hold a slot, at the end of the last turn.
    connections: u32,
    listeners: u32,
    /// Wake-ups and stops of other threads so far, wrapping around.
    wakeups: u32,
    stops: u32,
    /// Posts that were left in the mailbox for the next turn.
    posts: u32,
    waiting: u32, // connections, for receive buffers
    starvations: u32, // times that all buffers were in use when one began to
    companions: u32, // times that the other loop's descriptor was ready
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
    /// Bytes from which on memory is sent without a copy.
    zero_copy_min: u32,
    splice_min: u32, // bytes at a time from which on a pipe carries what is forwarded
    backend: Backend,
    /// Bits of `Feature` to treat as refused.
    features_disabled: u32,
    /// Bits of `OperationKind` to do by plain system calls: 0 to 31, 32 to 63.
    operations_disabled_low: u32,
    operations_disabled_high: u32,
    /// Posts that a mailbox holds; a power of two.
    posts: u32 = 0,
    receive_blocks: u32, // a power of two; all ones for none
    receive_block_size: u32,
    hold_buffers: u32,
    hold_bytes: u32,
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
    arguments_offset: u32,
    records_offset: u32,
    scratch_offset: u32,
    receive_offset: u32,
    receive_buffer_size: u32,
    receive_buffers: u32,
    high_water_mark: u32,
    reserved_0: u32 = 0,
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
    /// Leave TCP_NODELAY off on accepted connections.
    delay = 2,
};

/// Bits of `bu_connect`'s flags.
pub const ConnectFlag = enum(u32) {
    delay = 0,
    /// SO_REUSEPORT of the local address.
    reuse_port = 1,
    /// IPV6_V6ONLY
    ipv6_only = 2,
};

/// Which end `bu_connection_address` describes.
pub const End = enum(u32) {
    local = 0,
    remote = 1,
};

/// Socket options that `bu_connection_option` sets and `bu_connection_option_read` reads.
pub const SocketOption = enum(u32) {
    /// TCP_NODELAY: 0 or 1.
    no_delay = 0,
    /// SO_KEEPALIVE: 0 off, else the idle time in seconds (TCP_KEEPIDLE).
    keep_alive = 1,
    /// IP_TOS or IPV6_TCLASS: 0 to 255.
    type_of_service = 2,
    // The library's own.
    /// Bytes that the connection may have staged; 0: as the ring has it.
    high_water_mark = 16,
    /// Bytes from which on memory is sent without a copy; 0: as the ring has it.
    zero_copy_min = 17,
    /// 1: nothing leaves until it is 0 again.
    corked = 18,
    /// Descriptors that come with the bytes are received: 1, for good.
    descriptors = 19,
};

/// Bits of `Arguments.flags` for `bu_connection_send`.
pub const SendFlag = enum(u32) {
    /// Each part is a send of its own, linked to the one before.
    chained = 0,
    /// A break ends it; otherwise the remainder is sent again.
    report_break = 1,
    /// Never without a copy.
    copy = 2,
};

/// Operations that `bu_operation_start` takes; names are io_uring's. What each reads of
/// `Arguments` stands at its struct in `operation/`.
pub const OperationKind = enum(u32) {
    nop = 0,
    read = 1,
    write = 2,
    readv = 3,
    writev = 4,
    fsync = 5,
    datasync = 6,
    openat = 7,
    close = 8,
    statx = 9,
    fallocate = 10,
    ftruncate = 11,
    sync_file_range = 12,
    socket = 13,
    bind = 14,
    listen = 15,
    accept = 16,
    connect = 17,
    send = 18,
    recv = 19,
    sendmsg = 20,
    recvmsg = 21,
    shutdown = 22,
    poll = 23,
    timeout = 24,
    splice = 25,
    rename = 26,
    unlink = 27,
    mkdir = 28,
    link = 29,
    symlink = 30,
    read_fixed = 31,
    write_fixed = 32,
};

/// Bits of `bu_timer_start`'s flags.
pub const TimerFlag = enum(u32) {
    /// The time is one of the library's clock, see `bu_clock_read`.
    absolute = 0,
    /// Again and again, until it is cancelled.
    repeating = 1,
};

/// Bits of `Arguments.options`.
pub const OperationOption = enum(u32) {
    /// IOSQE_IO_LINK: the next operation of the batch starts when this one succeeded.
    link = 0,
    /// IOSQE_IO_HARDLINK: the next one starts whatever became of this one.
    hard_link = 1,
    /// More than one completion: poll.
    multishot = 2,
    /// `fd` is the index of a registered file.
    registered_file = 3,
    /// `address` is memory that the kernel may use as it is; else the library's own is used.
    native_memory = 4,
    /// The input begins with the `Address` to send to: sendmsg.
    addressed = 5,
    /// sendmsg: `extra` descriptors, as i32, come before the rest of the input and go with the
    /// message. recvmsg: so many are taken at most, see `bu_operation_descriptors`.
    descriptors = 6,
};

/// What an operation is started with; written before `bu_operation_start`, read within it.
/// Fields that a kind does not name are ignored.
pub const Arguments = extern struct {
    fd: i32,
    /// splice: the source; rename, link: the new name's directory.
    fd_second: i32,
    /// Position in the file; -1 means the current one. Milliseconds of a timeout.
    offset: f64,
    offset_second: f64,
    /// Native memory, with `OperationOption.native_memory`.
    address: f64,
    /// Bytes to move; count of vectors.
    length: u32,
    /// The call's own flags: open(2), send(2), statx(2), fallocate(2) mode.
    flags: u32,
    /// Permissions of open(2), mkdir(2); mask of statx(2), poll(2); type of socket(2);
    /// `bu_connection_send`: so many descriptors, as i32, come before the rest of the input.
    mode: u32,
    /// Index of a registered buffer; length of the first of two paths.
    extra: u32,
    /// Linked time-out in milliseconds; below 0 none.
    timeout_ms: f64,
    options: u32,
    reserved_0: u32 = 0,
};

/// What can be registered with the kernel.
pub const Resource = enum(u32) { buffers = 0, files = 1 };

/// unregistered ──register──▶ registered ──request_unregister──▶ draining ──▶ unregistered
pub const RegistrationState = enum(u32) { unregistered = 0, registered = 1, draining = 2 };

pub const Registration = extern struct {
    state: RegistrationState,
    count: u32,
    in_flight: u32,
    reserved_0: u32 = 0,
};

/// Places that a user can register: buffers, files.
pub const registered_max: u32 = 1024;

/// Buckets of a latency histogram: bucket n counts durations from 2^n to 2^(n+1) nanoseconds.
pub const histogram_buckets: u32 = 40;

/// How a connection is ended by `bu_connection_shut`.
pub const Shut = enum(u32) {
    /// Let queued sends leave, then FIN; the receiving side stays open until the peer's FIN.
    end = 0,
    /// Let queued sends leave, then close without waiting for the peer.
    close = 1,
    /// Drop queued sends and close with RST.
    terminate = 2,
    /// The other direction, at once: what has arrived is delivered, then the end. Nothing is shut.
    receiving = 3,
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
    /// Datagrams; those that the network put together count each for itself.
    datagrams_received: f64,
    datagrams_sent: f64,
    /// Datagrams whose end was lost for want of room.
    datagrams_truncated: f64,
    /// Descriptors that came with a message, that nobody took, and that were closed.
    descriptors_dropped: f64,
    /// Messages of connections that lost descriptors, for want of places in this process.
    descriptors_truncated: f64,
    connections_opened: f64,
    connections_closed: f64,
    accepts_failed: f64,
    /// Connections refused by a listener that wants PROXY headers: gone before theirs was complete,
    /// without one, with a malformed one, too late.
    proxy_incomplete: f64,
    proxy_absent: f64,
    proxy_malformed: f64,
    proxy_late: f64,
    /// Windows of chains that the kernel was given, and those of them whose sends are all over.
    chain_windows: f64,
    chain_operations_complete: f64,
    /// Sends without a copy, and those that the kernel has copied all the same.
    sends_zero_copy: f64,
    zero_copy_copied: f64,
    /// Notifications that were not promised.
    notifications_stray: f64,
    accept_backoffs: f64,
    receive_held: f64,
    receive_large: f64,
    receive_switches: f64,
    /// Received buffers that were forwarded as copies, since too many were lent.
    forwards_copied: f64,
    forwards_spliced: f64, // fillings of a pipe
    staging_blocks_used: f64,
    receive_buffers_free: f64,
    receive_buffers_target: f64,
    receive_blocks_free: f64,
    receive_buffers_lent: f64,
    /// Operations that wait for a place in the submission queue.
    operations_waiting: f64,
    /// Entries in the submission queue that the kernel has not taken.
    sq_queued: f64,
    /// Completions that wait in the completion queue.
    cq_queued: f64,
};
