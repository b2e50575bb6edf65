//! Every C symbol of the library: with `exports_posts.zig` and `exports_datagrams.zig`, the only
//! files with `export`.
//!
//! Each function is a guard and a call: `rings.of` finds the ring behind the handle and refuses
//! stale handles (EBADF), other threads (EEXIST, as the kernel says of a SINGLE_ISSUER ring) and
//! forked children (EPERM). Results are ≥ 0, or a negative errno. Step 3 of the straight line.

const std = @import("std");
const abi = @import("abi.zig");
const abi_layout = @import("abi_layout.zig");
const calls = @import("calls.zig");
const datagrams = @import("exports_datagrams.zig");
const opening = @import("opening.zig");
const registration = @import("registration.zig");
const rings = @import("rings.zig");
const posts = @import("exports_posts.zig");
const linux = @import("kernel.zig").linux;

pub const panic = rings.panic;

/// Hash of every layout, enum and signature that crosses; compared with ts/abi.ts at load.
pub export fn bu_abi_hash() u32 {
    return abi_layout.layout_hash;
}

pub export fn bu_ring_open(options: *const abi.RingOptions, info: *abi.RingInfo) i32 {
    return rings.open(options, info);
}

/// Cancels what is pending, waits at most `timeout_ms`; the memory goes with the slab's last view.
pub export fn bu_ring_close(ring: u32, timeout_ms: u32) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return rings.close(engine, timeout_ms);
}

/// Submit, wait up to `wait_ms` (0: do not wait), reap: the number of records written. With nothing
/// to do it first looks for completions `looks` times.
pub export fn bu_ring_turn(ring: u32, wait_ms: u32, looks: u32) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    engine.linger(looks);
    return engine.turn(wait_ms);
}

/// Submit what is queued and nothing else; no record is written.
pub export fn bu_ring_flush(ring: u32) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return engine.flush_only();
}

/// Let the wake fd signal; 1 if there is work already and the caller must not sleep.
pub export fn bu_ring_arm(ring: u32) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return engine.arm();
}

pub export fn bu_ring_disarm(ring: u32) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return engine.disarm();
}

/// The epoll descriptor of the loop that this thread serves besides: from now on it ends waits, and
/// `Control.companions` counts how often; below 0 for none, as it must be before `bu_ring_arm`.
/// ENOTSUP: this ring's waits end by themselves only.
pub export fn bu_ring_companion(ring: u32, fd: i32) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return engine.companion.set(engine, fd);
}

/// Makes the wake fd readable, as a completion of an armed ring does: for the loop's self-test.
pub export fn bu_ring_wake(ring: u32) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return engine.wake();
}

pub export fn bu_ring_stats(ring: u32, stats: *abi.Stats) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return calls.read_stats(engine, stats);
}

/// The listener's index; its generation is in `Control.generation`.
pub export fn bu_listener_open(
    ring: u32,
    address: *const abi.Address,
    backlog: u32,
    flags: u32,
) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return opening.listener_open(engine, address, backlog, flags);
}

/// The same for a descriptor from elsewhere; it is the ring's own unless the call fails.
pub export fn bu_listener_adopt(ring: u32, fd: i32, backlog: u32) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return opening.listener_adopt(engine, fd, backlog);
}

/// A bound socket that nobody accepts from yet, for all threads: its descriptor. It listens if
/// `backlog` is above 0; `address` becomes what was bound.
pub export fn bu_socket_bind(ring: u32, address: *abi.Address, backlog: u32, flags: u32) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return opening.socket_bind(engine, address, backlog, flags);
}

/// What a socket of anybody's is bound to.
pub export fn bu_socket_name(ring: u32, fd: i32, out: *abi.Address) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return opening.name_of(engine, fd, out);
}

pub export fn bu_listener_fd(ring: u32, index: u32, generation: u32) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return calls.listener_fd(engine, index, generation);
}

pub export fn bu_listener_address(ring: u32, index: u32, generation: u32, out: *abi.Address) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return calls.listener_address(engine, index, generation, out);
}

/// Before its first turn: its connections begin with a PROXY header, and are reset if that takes
/// longer than `timeout_ms`.
pub export fn bu_listener_proxy(ring: u32, index: u32, generation: u32, timeout_ms: u32) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return calls.listener_proxy(engine, index, generation, timeout_ms);
}

pub export fn bu_listener_stop(ring: u32, index: u32, generation: u32) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return calls.listener_stop(engine, index, generation);
}

/// The connection's index; its generation is in `Control.generation`. `local` is where to connect
/// from, or null; after `timeout_ms` it fails with ETIMEDOUT, 0 is as long as the kernel tries.
pub export fn bu_connect(
    ring: u32,
    address: *const abi.Address,
    local: ?*const abi.Address,
    flags: u32,
    timeout_ms: u32,
) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return opening.connect(engine, address, local, flags, timeout_ms);
}

/// The same for a connected descriptor from elsewhere; the ring's own unless the call fails.
pub export fn bu_connection_adopt(ring: u32, fd: i32) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return opening.connection_adopt(engine, fd);
}

/// The same for one that another thread hands over: `data` is posted to it with `key` when it is
/// taken. ENOMEM, ESHUTDOWN, EAGAIN, EINVAL: it is the other's still; else it is closed.
pub export fn bu_connection_take(ring: u32, fd: i32, token: u32, key: u32, data: f64) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return opening.connection_take(engine, fd, token, key, data);
}

pub export fn bu_connection_fd(ring: u32, index: u32, generation: u32) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return calls.connection_fd(engine, index, generation);
}

/// A `timeout` record after `timeout_ms`, once, unless it is set again; 0 lifts it.
pub export fn bu_connection_timeout(
    ring: u32,
    index: u32,
    generation: u32,
    timeout_ms: u32,
) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return calls.connection_timeout(engine, index, generation, timeout_ms);
}

/// The number of bytes taken; fewer than `len` means a `drain` record will follow.
pub export fn bu_connection_write(
    ring: u32,
    index: u32,
    generation: u32,
    bytes: ?[*]const u8,
    len: u32,
) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return calls.connection_write(engine, index, generation, bytes, len);
}

/// Starts a send of memory in place, or of a copy of `input`, with the slab's `Arguments`: `flags`
/// of `SendFlag`; `address` and `length` with `native_memory`; or `extra` parts, `input` being as
/// many pairs of address and length and then the bytes of the parts whose address is 0. The slot of
/// an operation that completes with 1 if all was sent, 0 if it broke off, or an errno.
pub export fn bu_connection_send(
    ring: u32,
    index: u32,
    generation: u32,
    input: ?[*]const u8,
    input_len: u32,
) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return calls.connection_send(engine, index, generation, input, input_len);
}

/// Bytes that a completed send of a connection has sent; until the next turn.
pub export fn bu_operation_sent(ring: u32, index: u32) f64 {
    const engine = rings.of(ring) catch return -1;
    return calls.operation_sent(engine, index);
}

/// `linger_ms`: what `Shut.close` gives queued bytes to leave before it resets; 0 is no bound.
pub export fn bu_connection_shut(
    ring: u32,
    index: u32,
    generation: u32,
    how: u32,
    linger_ms: u32,
) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return calls.connection_shut(engine, index, generation, how, linger_ms);
}

/// `paused` 1 stops receiving, so that TCP pushes back; 0 goes on.
pub export fn bu_connection_pause(ring: u32, index: u32, generation: u32, paused: u32) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return calls.connection_pause(engine, index, generation, paused);
}

/// What arrives goes to another connection of the ring, from here on; a target's generation of 0
/// ends it. ENODATA: the peer's FIN is here already. The end is a `forwarded` record.
pub export fn bu_connection_forward(
    ring: u32,
    index: u32,
    generation: u32,
    target: u32,
    target_generation: u32,
) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return calls.connection_forward(engine, index, generation, target, target_generation);
}

/// Bytes that were forwarded and have been sent, by the present forwarding or the last one.
pub export fn bu_connection_forwarded(ring: u32, index: u32, generation: u32) f64 {
    const engine = rings.of(ring) catch return -1;
    return calls.connection_forwarded(engine, index, generation);
}

/// Takes the descriptors that a `descriptors` record told of: their number; until the next turn.
/// Those that are not taken until then are closed. `room`: how many `out` can hold.
pub export fn bu_connection_descriptors(
    ring: u32,
    index: u32,
    generation: u32,
    out: ?[*]i32,
    room: u32,
) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return calls.connection_descriptors(engine, index, generation, out, room);
}

pub export fn bu_connection_option(
    ring: u32,
    index: u32,
    generation: u32,
    option: u32,
    value: u32,
) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return calls.connection_option(engine, index, generation, option, value);
}

/// The option's value, or a negative errno.
pub export fn bu_connection_option_read(
    ring: u32,
    index: u32,
    generation: u32,
    option: u32,
) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return calls.connection_option_read(engine, index, generation, option);
}

pub export fn bu_connection_address(
    ring: u32,
    index: u32,
    generation: u32,
    end: u32,
    out: *abi.Address,
) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return calls.connection_address(engine, index, generation, end, out);
}

// Datagram sockets.
pub const bu_datagram_open = datagrams.bu_datagram_open;
pub const bu_datagram_send = datagrams.bu_datagram_send;
pub const bu_datagram_close = datagrams.bu_datagram_close;
pub const bu_datagram_address = datagrams.bu_datagram_address;
pub const bu_datagram_option = datagrams.bu_datagram_option;
pub const bu_datagram_membership = datagrams.bu_datagram_membership;
pub const bu_datagram_read = datagrams.bu_datagram_read;
pub const bu_datagram_sender = datagrams.bu_datagram_sender;

/// Copies received bytes into memory of JavaScript's: cheaper than Buffer's own copy.
pub export fn bu_slab_read(ring: u32, offset: u32, target: ?[*]u8, len: u32) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return calls.slab_read(engine, offset, target, len);
}

/// A NOP through the ring; the operation's slot index.
pub export fn bu_nop(ring: u32) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return calls.nop(engine);
}

/// Starts a timer: `milliseconds` from the next flush on, or with `TimerFlag.absolute` until the
/// clock of `bu_clock_read` says so. It completes with -ETIME, or -ETIMEDOUT if `limit_ms` pass
/// before; below 0 there is no limit. With `TimerFlag.repeating` it completes with 1 at each beat
/// until it is cancelled, with more if beats were missed. The operation's slot index.
pub export fn bu_timer_start(ring: u32, milliseconds: f64, limit_ms: f64, flags: u32) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return calls.timer_start(engine, milliseconds, limit_ms, flags);
}

/// Milliseconds for which a ring with nothing but timers can be left alone; 0 for any other.
pub export fn bu_ring_quiet(ring: u32) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return calls.quiet_ms(engine);
}

/// CLOCK_MONOTONIC in milliseconds.
pub export fn bu_clock_read() f64 {
    return @as(f64, @floatFromInt(linux.now_ns())) / std.time.ns_per_ms;
}

/// Starts an `OperationKind` with the slab's `Arguments`; `input` is copied before the call
/// returns. The operation's slot index; its generation is in `Control.generation`.
pub export fn bu_operation_start(
    ring: u32,
    kind: u32,
    input: ?[*]const u8,
    input_len: u32,
) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return calls.start(engine, kind, input, input_len);
}

/// Copies what a completed operation has read; until the next turn.
pub export fn bu_operation_read(ring: u32, index: u32, target: ?[*]u8, len: u32) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return calls.operation_read(engine, index, target, len);
}

/// The peer's address of a completed accept or recvmsg; until the next turn.
pub export fn bu_operation_address(ring: u32, index: u32, out: *abi.Address) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return calls.operation_address(engine, index, out);
}

/// Takes the descriptors that came with a completed recvmsg: their number; until the next turn.
/// Those that are not taken until then are closed. `room`: how many `out` can hold.
pub export fn bu_operation_descriptors(ring: u32, index: u32, out: ?[*]i32, room: u32) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return calls.operation_descriptors(engine, index, out, room);
}

/// How many operations of a kind went through the ring, or by a plain call.
pub export fn bu_operation_count(ring: u32, kind: u32, plain: u32) f64 {
    const engine = rings.of(ring) catch return -1;
    return calls.operation_count(engine, kind, plain);
}

/// Operations started until `bu_batch_end` are handed to the kernel together or not at all.
pub export fn bu_batch_begin(ring: u32) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return calls.batch_begin(engine);
}

pub export fn bu_batch_end(ring: u32) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return calls.batch_end(engine);
}

/// The latency histogram of a kind: `histogram_buckets` counters.
pub export fn bu_histogram_read(ring: u32, kind: u32, out: ?[*]f64) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return calls.histogram_read(engine, kind, out);
}

/// `entries`: an address and a length for each buffer, a descriptor and 0 for each file.
pub export fn bu_registration_register(
    ring: u32,
    resource: u32,
    entries: ?[*]const f64,
    count: u32,
) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return registration.register(engine, resource, entries, count);
}

/// Another resource for one place; operations in flight keep the old one.
pub export fn bu_registration_update(
    ring: u32,
    resource: u32,
    place: u32,
    first: f64,
    second: f64,
) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return registration.update(engine, resource, place, first, second);
}

/// 0: unregistered already; 1: it drains, and ends with the last operation in flight.
pub export fn bu_registration_request_unregister(ring: u32, resource: u32) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return registration.request_unregister(engine, resource);
}

/// Back to registered: a drain that took too long is given up.
pub export fn bu_registration_keep(ring: u32, resource: u32) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return registration.keep(engine, resource);
}

pub export fn bu_registration_read(ring: u32, resource: u32, out: *abi.Registration) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return registration.read(engine, resource, out);
}

/// Page-aligned native memory for a buffer pool: its address, or 0. It lives as long as the ring.
pub export fn bu_memory_map(ring: u32, size: f64) f64 {
    const engine = rings.of(ring) catch return 0;
    return rings.memory_map(engine, size);
}

/// Deallocator of an ArrayBuffer over such memory; on any thread.
pub export fn bu_memory_released(bytes: ?*anyopaque, context: ?*anyopaque) void {
    rings.memory_released(bytes, context);
}

/// One ArrayBuffer more over such memory, before it is made; `bu_view_made` follows.
pub export fn bu_memory_view(ring: u32, address: f64) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return rings.memory_view(engine, address);
}

/// The ArrayBuffer that was announced last is there: the slab's, a lent buffer's, a pool's.
pub export fn bu_view_made(ring: u32) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return rings.view_made(engine);
}

// Posts, blocks, offloaded operations.
pub const bu_ring_token = posts.bu_ring_token;
pub const bu_post = posts.bu_post;
pub const bu_post_block = posts.bu_post_block;
pub const bu_offload_start = posts.bu_offload_start;
pub const bu_offload_done = posts.bu_offload_done;
pub const bu_wakeup = posts.bu_wakeup;
pub const bu_stop = posts.bu_stop;
pub const bu_token_check = posts.bu_token_check;
pub const bu_block_map = posts.bu_block_map;
pub const bu_block_adopt = posts.bu_block_adopt;
pub const bu_block_viewed = posts.bu_block_viewed;
pub const bu_block_released = posts.bu_block_released;
pub const bu_block_count = posts.bu_block_count;

/// Asks the kernel to cancel; the outcome comes from the operation's own completion.
pub export fn bu_cancel(ring: u32, index: u32, generation: u32) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return calls.cancel(engine, index, generation);
}

/// Marks the receive buffer of a `data` record as lent until `bu_buffer_released` gets its bytes,
/// which lie at `offset` in the slab; `bu_view_made` follows.
pub export fn bu_buffer_lend(ring: u32, buffer: u32, offset: u32) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return rings.buffer_lend(engine, buffer, offset);
}

/// Deallocator of a lent receive buffer's ArrayBuffer; called by the garbage collector or by
/// `transfer(0)`, on any thread.
pub export fn bu_buffer_released(bytes: ?*anyopaque, context: ?*anyopaque) void {
    rings.buffer_released(bytes, context);
}

/// Deallocator of the slab's ArrayBuffer; on any thread. The last one frees the ring's memory.
pub export fn bu_slab_released(bytes: ?*anyopaque, context: ?*anyopaque) void {
    rings.slab_released(bytes, context);
}

/// Closes what rings of dead threads have left: the number of such rings whose thread still runs.
pub export fn bu_rings_bury() u32 {
    return rings.bury_orphans();
}

/// Spreads a record into plain numbers, field by field, or fills it from them: the layout test.
pub export fn bu_abi_echo(kind: u32, direction: u32, record: [*]u8, values: [*]align(1) f64) i32 {
    return abi_layout.echo(kind, direction, record, values);
}
