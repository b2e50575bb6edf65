//! What the simulated kernel does with an SQE: take it, start it, attempt it, complete it.
//!
//! What an SQE names in memory besides data (addresses, times, headers, vectors, paths) is copied
//! when the SQE is taken; its descriptor is looked up when the operation starts and held until its
//! last CQE (K5); data is read and written as late as possible. A started operation is pending
//! until an attempt ends it; attempts happen in random order, a few in each enter. Members of a
//! chain start one after the other: one that fails, or comes short, ends those behind it unless its
//! link is a hard one, and a chain ends with its submission. Memory that is sent or written must be
//! what it was when it completes (I1). `streams.zig` and `system_calls.zig` perform.

const std = @import("std");
const assert = std.debug.assert;
const system = @import("../linux.zig");
const SocketAddress = @import("../address.zig").SocketAddress;
const simulated = @import("../simulated.zig");
const network_file = @import("network.zig");
const cancel = @import("cancel.zig");
const chance = @import("chance.zig");
const datagrams = @import("datagrams.zig");
const importing = @import("importing.zig");
const streams = @import("streams.zig");
const system_calls = @import("system_calls.zig");
const zero_copy = @import("zero_copy.zig");
const Groups = @import("provided.zig").Groups;
const Path = @import("volume.zig").Path;
const Row = @import("outcomes.zig").Row;
const Column = @import("outcomes.zig").Column;
const Simulated = simulated.Simulated;
const errno = system.errno;
pub const none = network_file.none;

/// taken ──its turn in the chain──▶ going ──cancel──▶ cancelled ──▶ (its CQE)
///   └──the chain breaks──▶ (its CQE)  └──cancel that comes too late──▶ running ──▶ (its CQE)
pub const Stage = enum { taken, going, cancelled, running };

pub const Operation = struct {
    sqe: system.Sqe,
    row: Row,
    stage: Stage,
    user_data: u64,
    socket: u32,
    /// The source of a splice.
    source: u32,
    fd: i32,
    multishot: bool,
    /// IOSQE_BUFFER_SELECT.
    selects: bool,
    limit: usize,
    wait_all: bool,
    dont_wait: bool,
    /// An attempt was made.
    tried: bool,
    /// It names a registered buffer.
    fixed_buffer: bool,
    /// What was wrong when it was taken, or 0.
    refused: i32,
    /// What it is going to fail with, or 0.
    fails: i32,
    /// The bytes to move, or where to.
    parts: std.ArrayList(system.Iovec),
    total: usize,
    done: usize,
    /// Of the bytes taken so far; of all of them where they are written to a file.
    hash: std.hash.Wyhash,
    /// Of a zero-copy send: where its bytes are, and whether they were copied.
    reach: ?zero_copy.Reach,
    copied: bool,
    /// When a time-out expires; before which anything else cannot go on.
    deadline_ns: u64,
    target: SocketAddress,
    name: u64,
    name_len: u64,
    paths: [2]Path,
    /// The readiness that a multishot poll told last.
    told: u32,
    told_bytes: usize,
    /// The one that starts when this one ends; behind a hard link whatever its end.
    next: ?*Operation,
    hard: bool,
    /// The LINK_TIMEOUT of this one, and the other way round.
    timeout: ?*Operation,
    timed: ?*Operation,
};

const known_flags = system.sqe_flag.buffer_select | system.sqe_flag.fixed_file | link_flags;
const link_flags = system.sqe_flag.io_link | system.sqe_flag.io_hardlink;

pub fn is_linked(sqe: *const system.Sqe) bool {
    return sqe.flags & link_flags != 0;
}

// Submission.

pub fn submit(kernel: *Simulated, sqe: *const system.Sqe) void {
    if (sqe.flags & ~known_flags != 0) kernel.violate("an SQE has a flag that is not simulated");
    const selects = sqe.flags & system.sqe_flag.buffer_select != 0;
    if (selects and !Groups.serves(sqe)) {
        kernel.violate("buffer select with another operation or group than is simulated");
    }
    const operation = take(kernel, sqe);
    if (zero_copy.is_zero_copy(operation)) zero_copy.check(kernel, sqe);
    if (operation.row == .link_timeout) {
        const timed = kernel.chain_tail orelse return refuse_timeout(kernel, operation);
        if (timed.timeout != null) return refuse_timeout(kernel, operation);
        if (timed.sqe.opcode == .SPLICE or timed.sqe.opcode == .OPENAT) {
            kernel.violate("a LINK_TIMEOUT follows what a worker performs, where it never strikes");
        }
        timed.timeout = operation;
        operation.timed = timed;
    } else if (kernel.chain_tail) |tail| {
        tail.next = operation;
        kernel.chain_tail = operation;
    } else {
        kernel.chain_head = operation;
        kernel.chain_tail = operation;
    }
    if (!is_linked(sqe)) end_chain(kernel);
}

fn refuse_timeout(kernel: *Simulated, operation: *Operation) void {
    kernel.violate("a LINK_TIMEOUT follows no operation that is linked to it");
    kernel.post(operation.user_data, errno.inval, 0);
    recycle(kernel, operation);
}

/// The end of a submission ends the chain: what comes later is not part of it.
pub fn end_chain(kernel: *Simulated) void {
    const head = kernel.chain_head orelse return;
    kernel.chain_head = null;
    kernel.chain_tail = null;
    start(kernel, head);
}

fn row_of(sqe: *const system.Sqe) Row {
    const wait_all = sqe.rw_flags & system.socket_flag.wait_all != 0;
    return switch (sqe.opcode) {
        .NOP => .nop,
        .ASYNC_CANCEL => .cancel,
        .TIMEOUT => .timeout,
        .LINK_TIMEOUT => .link_timeout,
        .CLOSE => .close,
        .ACCEPT => if (sqe.ioprio & system.sqe_flag.accept_multishot != 0)
            .accept_multishot
        else
            .accept,
        .CONNECT => .connect,
        .RECV => if (sqe.ioprio & system.sqe_flag.receive_multishot != 0)
            .receive_multishot
        else if (sqe.flags & system.sqe_flag.buffer_select != 0)
            .receive_selected
        else
            .receive_plain,
        .RECVMSG => .receive_plain,
        .SEND => if (wait_all) .send_all else .send,
        .SENDMSG => if (wait_all) .sendmsg_all else .sendmsg,
        .SEND_ZC => .send_zero_copy,
        .SENDMSG_ZC => .sendmsg_zero_copy,
        .SHUTDOWN => .shutdown,
        else => .system_call,
    };
}

/// The operation of an SQE, with a copy of everything but the data that it names.
pub fn take(kernel: *Simulated, sqe: *const system.Sqe) *Operation {
    const operation = claim(kernel);
    const row = row_of(sqe);
    operation.* = .{
        .sqe = sqe.*,
        .row = row,
        .stage = .taken,
        .user_data = sqe.user_data,
        .socket = none,
        .source = none,
        .fd = sqe.fd,
        .multishot = row == .accept_multishot or row == .receive_multishot or
            sqe.opcode == .RECVMSG and sqe.ioprio & system.sqe_flag.receive_multishot != 0 or
            sqe.opcode == .POLL_ADD and sqe.len & system.sqe_flag.poll_multishot != 0,
        .selects = sqe.flags & system.sqe_flag.buffer_select != 0,
        .limit = streams.limit_of(sqe),
        .wait_all = sqe.rw_flags & system.socket_flag.wait_all != 0,
        .dont_wait = sqe.rw_flags & system.socket_flag.dont_wait != 0,
        .tried = false,
        .fixed_buffer = false,
        .refused = 0,
        .fails = 0,
        .parts = operation.parts,
        .total = 0,
        .done = 0,
        .hash = .init(0),
        .reach = null,
        .copied = false,
        .deadline_ns = 0,
        .target = undefined,
        .name = 0,
        .name_len = 0,
        .paths = undefined,
        .told = 0,
        .told_bytes = 0,
        .next = null,
        .hard = sqe.flags & system.sqe_flag.io_hardlink != 0,
        .timeout = null,
        .timed = null,
    };
    operation.refused = importing.import(kernel, operation, sqe);
    return operation;
}

fn claim(kernel: *Simulated) *Operation {
    if (kernel.spare.pop()) |operation| return operation;
    const operation = kernel.allocator.create(Operation) catch simulated.out_of_memory();
    operation.parts = .empty;
    return operation;
}

// The start.

/// The descriptor is looked up now: a member of a chain may use what one before it has opened.
fn start(kernel: *Simulated, operation: *Operation) void {
    assert(operation.stage == .taken);
    operation.stage = .going;
    if (operation.row == .cancel) {
        const result = cancel.submit(kernel, &operation.sqe);
        const next = operation.next;
        const goes_on = operation.hard or result >= 0;
        const timeout = operation.timeout;
        recycle(kernel, operation);
        if (timeout) |linked| drop_unstarted(kernel, linked);
        if (next) |follower| go_on_with(kernel, follower, goes_on);
        return;
    }
    kernel.pending.append(kernel.allocator, operation) catch simulated.out_of_memory();
    if (operation.timeout) |timeout| {
        timeout.stage = .going;
        timeout.deadline_ns += kernel.clock.now;
        kernel.pending.append(kernel.allocator, timeout) catch simulated.out_of_memory();
    }
    const refused = if (operation.refused < 0) operation.refused else hold(kernel, operation);
    if (refused < 0) return finish(kernel, operation, refused);
    if (operation.row == .nop) return finish(kernel, operation, 0);
    chance.draw(kernel, operation);
    if (operation.fails != 0 and operation.row == .timeout) return chance.fail(kernel, operation);
    if (operation.row == .timeout) {
        operation.deadline_ns += kernel.clock.now;
    } else if (kernel.fate.strikes("slow")) {
        const wait_us = kernel.fate.below(100_000);
        operation.deadline_ns = kernel.clock.now + @as(u64, wait_us) * std.time.ns_per_us;
    }
    // shutdown(2) may block, so a worker thread does it: never while it is submitted.
    if (operation.row == .shutdown or kernel.fate.strikes("delayed")) return;
    attempt(kernel, operation);
}

/// Holds what the operation works on until its last CQE; 0 or an errno.
pub fn hold(kernel: *Simulated, operation: *Operation) i32 {
    const network = &kernel.network;
    switch (operation.row) {
        .nop, .timeout => return 0,
        .close => return if (is_fixed_file(&operation.sqe)) errno.badf else 0,
        .system_call => if (!system_calls.names_descriptor(operation.sqe.opcode)) return 0,
        else => {},
    }
    const index = kernel.registered.find(network, &operation.sqe) orelse return errno.badf;
    const needs_socket = operation.row != .system_call or
        operation.sqe.opcode == .BIND or operation.sqe.opcode == .LISTEN;
    if (needs_socket and !network.is_socket(index)) return errno.notsock;
    if (operation.row == .connect) {
        const socket = &network.sockets[index];
        if (socket.state != .fresh and socket.state != .bound) return errno.already;
        socket.state = .connecting;
    }
    network.add_reference(index);
    operation.socket = index;
    if (network.sockets[index].state == .mail) {
        operation.row = datagrams.row_of(&operation.sqe, operation.row);
        datagrams.hold(kernel, operation);
    }
    if (operation.row == .system_call) return system_calls.hold(kernel, operation);
    return 0;
}

fn is_fixed_file(sqe: *const system.Sqe) bool {
    return sqe.flags & system.sqe_flag.fixed_file != 0;
}

// Progress.

/// Attempts `count` pending operations, picked at random.
pub fn progress(kernel: *Simulated, count: u32) void {
    for (0..count) |_| {
        if (kernel.pending.items.len == 0) break;
        const at = kernel.fate.below(@intCast(kernel.pending.items.len));
        if (kernel.fate.strikes("delayed")) continue;
        attempt(kernel, kernel.pending.items[at]);
    }
    zero_copy.notify(kernel, true);
}

/// Attempts each pending operation once: nothing that could go on is left alone.
pub fn progress_all(kernel: *Simulated) void {
    // From the end: an operation that ends is replaced by one that was attempted already. The end
    // of one may be that of others, too.
    var at = kernel.pending.items.len;
    while (at > 0) {
        at -= 1;
        if (at < kernel.pending.items.len) attempt(kernel, kernel.pending.items[at]);
    }
    zero_copy.notify(kernel, false);
}

pub fn next_deadline(kernel: *const Simulated) ?u64 {
    var earliest: ?u64 = null;
    for (kernel.pending.items) |operation| {
        const timed = operation.row == .timeout or operation.row == .link_timeout;
        if (!timed and operation.deadline_ns <= kernel.clock.now) continue;
        earliest = @min(earliest orelse operation.deadline_ns, operation.deadline_ns);
    }
    return earliest;
}

fn attempt(kernel: *Simulated, operation: *Operation) void {
    switch (operation.stage) {
        .taken => unreachable, // it is not pending before its start
        .going => {},
        .cancelled => return finish_cancelled(kernel, operation),
        .running => {
            // The cancel came too late, or only just not.
            if (kernel.fate.chance(500)) return finish_cancelled(kernel, operation);
            operation.stage = .cancelled;
        },
    }
    if (kernel.clock.now < operation.deadline_ns) return;
    if (operation.fails != 0) return chance.fail(kernel, operation);
    switch (operation.row) {
        .timeout => finish(kernel, operation, errno.time),
        .link_timeout => expire(kernel, operation),
        .close => finish(kernel, operation, kernel.network.close(operation.fd)),
        .shutdown => {
            if (kernel.fate.chance(500)) return; // no worker thread is free yet
            const how = operation.sqe.len;
            finish(kernel, operation, kernel.network.shutdown(operation.socket, how));
        },
        .accept, .accept_multishot => streams.accept(kernel, operation),
        .connect => streams.connect(kernel, operation),
        .receive_plain, .receive_selected, .receive_multishot => streams.receive(kernel, operation),
        .send, .send_all, .sendmsg, .sendmsg_all => streams.send(kernel, operation),
        .send_zero_copy, .sendmsg_zero_copy => streams.send(kernel, operation),
        .system_call => system_calls.attempt(kernel, operation),
        .receive_datagram => datagrams.receive(kernel, operation),
        .send_datagram => datagrams.send(kernel, operation),
        .notification => unreachable, // no operation of its own
        .nop, .cancel, .cancel_all => unreachable, // these complete when they start
    }
}

/// A linked time-out cancels the operation that it belongs to, as a request to cancel would.
fn expire(kernel: *Simulated, timeout: *Operation) void {
    const timed = timeout.timed.?;
    timed.timeout = null;
    timeout.timed = null;
    const outcome = cancel.cancel_one(kernel, timed);
    finish(kernel, timeout, if (outcome < 0) outcome else errno.time);
}

// Completion.

/// One CQE of an operation that may have more: all but the last say so.
pub fn finish_shot(
    kernel: *Simulated,
    operation: *Operation,
    result: i32,
    flags: u32,
    column: Column,
) void {
    const more = operation.multishot and result >= 0 and !kernel.fate.strikes("multishot_ends");
    if (!more) return finish_with(kernel, operation, result, flags, column);
    kernel.outcomes.count(operation.row, column);
    kernel.post(operation.user_data, result, flags | system.cqe_flag.more);
}

pub fn finish_partly(kernel: *Simulated, operation: *Operation, failure: i32) void {
    const done: i32 = @intCast(operation.done);
    finish(kernel, operation, if (done > 0) done else failure);
}

pub fn finish_cancelled(kernel: *Simulated, operation: *Operation) void {
    if (operation.row == .connect) kernel.network.sockets[operation.socket].state = .dead;
    finish_partly(kernel, operation, errno.canceled);
}

pub fn finish(kernel: *Simulated, operation: *Operation, result: i32) void {
    const whole = operation.total == 0 or result == operation.total;
    finish_with(kernel, operation, result, 0, if (whole) .full else .short);
}

fn finish_with(
    kernel: *Simulated,
    operation: *Operation,
    result: i32,
    flags: u32,
    column: Column,
) void {
    kernel.outcomes.count(operation.row, switch (result) {
        errno.canceled => .cancelled,
        errno.nobufs => .starved,
        errno.time => .full,
        else => if (result < 0) .errno else column,
    });
    verify_memory(kernel, operation);
    const promised = zero_copy.promises(operation);
    kernel.post(operation.user_data, result, if (promised) system.cqe_flag.more else flags);
    release(kernel, operation);
    const at = std.mem.lastIndexOfScalar(*Operation, kernel.pending.items, operation).?;
    _ = kernel.pending.swapRemove(at);
    if (operation.timeout) |timeout| {
        operation.timeout = null;
        finish(kernel, timeout, errno.canceled);
    }
    const next = operation.next;
    const goes_on = operation.hard or !breaks(operation, result, column);
    give_back(kernel, operation, promised);
    if (next) |follower| go_on_with(kernel, follower, goes_on);
}

fn go_on_with(kernel: *Simulated, follower: *Operation, goes_on: bool) void {
    if (goes_on) start(kernel, follower) else break_chain(kernel, follower);
}

fn drop_unstarted(kernel: *Simulated, operation: *Operation) void {
    kernel.post(operation.user_data, errno.canceled, 0);
    give_back(kernel, operation, zero_copy.promises(operation));
}

fn give_back(kernel: *Simulated, operation: *Operation, promised: bool) void {
    if (promised) zero_copy.owe(kernel, operation) else recycle(kernel, operation);
}

/// What has not all been read or written breaks a chain; so does a send or receive that was to be
/// whole, and every failure, an expired time-out among them.
fn breaks(operation: *const Operation, result: i32, column: Column) bool {
    if (result < 0) return true;
    if (column != .short) return false;
    return operation.row == .system_call or operation.wait_all;
}

fn break_chain(kernel: *Simulated, first: *Operation) void {
    var rest: ?*Operation = first;
    while (rest) |operation| {
        rest = operation.next;
        assert(operation.stage == .taken);
        const timeout = operation.timeout;
        drop_unstarted(kernel, operation);
        if (timeout) |linked| drop_unstarted(kernel, linked);
    }
}

/// For the end of the kernel: what waits behind a pending operation is nowhere else.
pub fn abandon_followers(kernel: *Simulated, first: *Operation) void {
    var member = first.next;
    while (member) |operation| {
        member = operation.next;
        if (operation.timeout) |timeout| recycle(kernel, timeout);
        recycle(kernel, operation);
    }
}

pub fn release(kernel: *Simulated, operation: *Operation) void {
    for ([_]u32{ operation.socket, operation.source }) |held| {
        if (held != none) kernel.network.drop_reference(held);
    }
    operation.socket = none;
    operation.source = none;
}

pub fn recycle(kernel: *Simulated, operation: *Operation) void {
    operation.parts.clearRetainingCapacity();
    kernel.spare.append(kernel.allocator, operation) catch simulated.out_of_memory();
}

/// The kernel may have read the bytes only now: they must be what they were (I1).
pub fn verify_memory(kernel: *Simulated, operation: *Operation) void {
    var left = switch (operation.row) {
        .send, .send_all, .sendmsg, .sendmsg_all => operation.done,
        .send_zero_copy, .sendmsg_zero_copy => operation.done,
        .send_datagram => operation.total,
        .system_call => if (system_calls.is_write(&operation.sqe)) operation.total else return,
        else => return,
    };
    var hash: std.hash.Wyhash = .init(0);
    for (operation.parts.items) |part| {
        const here = @min(left, part.len);
        hash.update(part.base[0..here]);
        left -= here;
    }
    assert(left == 0);
    if (hash.final() != operation.hash.final()) {
        kernel.violate("memory that is sent or written changed before its CQE");
    }
}
