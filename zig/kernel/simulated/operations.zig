//! What the simulated kernel does with an SQE: accept it, attempt it, complete it.
//!
//! A submitted operation is pending until an attempt ends it; attempts happen in random order, a
//! few in each enter. Sockets are looked up when an operation is submitted and held until its last
//! CQE (K5); headers and vectors are read then, too, while data is read and written as late as
//! possible. A send's memory is read again when it completes and must be what was taken (I1).

const std = @import("std");
const assert = std.debug.assert;
const system = @import("../linux.zig");
const SocketAddress = @import("../address.zig").SocketAddress;
const simulated = @import("../simulated.zig");
const network_file = @import("network.zig");
const cancel = @import("cancel.zig");
const Row = @import("outcomes.zig").Row;
const Column = @import("outcomes.zig").Column;
const Simulated = simulated.Simulated;
const errno = system.errno;
const none = network_file.none;

/// going ──cancel──▶ cancelled ──▶ (its CQE)
///   └──cancel that comes too late──▶ running ──▶ (its CQE, either way)
pub const Stage = enum { going, cancelled, running };

pub const Operation = struct {
    row: Row,
    stage: Stage,
    user_data: u64,
    socket: u32,
    fd: i32,
    multishot: bool,
    /// IOSQE_BUFFER_SELECT.
    selects: bool,
    wait_all: bool,
    dont_wait: bool,
    /// An attempt was made.
    tried: bool,
    /// The bytes to send, or the one buffer to receive into.
    parts: std.ArrayList(system.Iovec),
    total: usize,
    done: usize,
    /// Of the bytes taken so far.
    hash: std.hash.Wyhash,
    deadline_ns: u64,
    target: SocketAddress,
    accepted_name: u64,
    accepted_name_len: u64,
};

const parts_max = 1024; // UIO_MAXIOV

// Submission.

pub fn submit(kernel: *Simulated, given: *const system.Sqe) void {
    const resolved = kernel.resolve_file(given);
    const sqe = &resolved;
    const selects = sqe.flags & system.sqe_flag.buffer_select != 0;
    if (sqe.flags & ~system.sqe_flag.buffer_select != 0) {
        kernel.violate("an SQE has a flag that is not simulated");
    }
    if (selects and (sqe.opcode != .RECV or sqe.buf_index != 0)) {
        kernel.violate("buffer select with another operation or group than is simulated");
    }
    switch (sqe.opcode) {
        .NOP => {
            kernel.outcomes.count(.nop, .full);
            kernel.post(sqe.user_data, 0, 0);
        },
        .ASYNC_CANCEL => cancel.submit(kernel, sqe),
        .TIMEOUT => start(kernel, sqe, .timeout, none),
        .CLOSE => start(kernel, sqe, .close, none),
        .ACCEPT, .CONNECT, .RECV, .SEND, .SENDMSG, .SHUTDOWN => {
            const row = row_of(sqe);
            const socket = kernel.network.find(sqe.fd) orelse {
                kernel.outcomes.count(row, .errno);
                return kernel.post(sqe.user_data, errno.badf, 0);
            };
            start(kernel, sqe, row, socket);
        },
        else => {
            kernel.violate("an SQE has an opcode that is not simulated");
            kernel.post(sqe.user_data, errno.inval, 0);
        },
    }
}

fn row_of(sqe: *const system.Sqe) Row {
    const wait_all = sqe.rw_flags & system.socket_flag.wait_all != 0;
    return switch (sqe.opcode) {
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
        .SEND => if (wait_all) .send_all else .send,
        .SENDMSG => if (wait_all) .sendmsg_all else .sendmsg,
        .SHUTDOWN => .shutdown,
        else => unreachable, // `submit` asks for these only
    };
}

fn start(kernel: *Simulated, sqe: *const system.Sqe, row: Row, socket: u32) void {
    const operation = claim(kernel);
    operation.* = .{
        .row = row,
        .stage = .going,
        .user_data = sqe.user_data,
        .socket = socket,
        .fd = sqe.fd,
        .multishot = row == .accept_multishot or row == .receive_multishot,
        .selects = sqe.flags & system.sqe_flag.buffer_select != 0,
        .wait_all = sqe.rw_flags & system.socket_flag.wait_all != 0,
        .dont_wait = sqe.rw_flags & system.socket_flag.dont_wait != 0,
        .tried = false,
        .parts = operation.parts,
        .total = 0,
        .done = 0,
        .hash = .init(0),
        .deadline_ns = std.math.maxInt(u64),
        .target = undefined,
        .accepted_name = sqe.addr,
        .accepted_name_len = sqe.off,
    };
    if (socket != none) kernel.network.add_reference(socket);
    kernel.pending.append(kernel.allocator, operation) catch simulated.out_of_memory();
    const refused = import(kernel, operation, sqe);
    if (refused < 0) return finish(kernel, operation, refused);
    // shutdown(2) may block, so a worker thread does it: never while it is submitted.
    if (row != .shutdown and !kernel.fate.strikes("delayed")) attempt(kernel, operation);
}

fn claim(kernel: *Simulated) *Operation {
    if (kernel.spare.pop()) |operation| return operation;
    const operation = kernel.allocator.create(Operation) catch simulated.out_of_memory();
    operation.parts = .empty;
    return operation;
}

/// What the kernel copies when it takes the SQE: addresses, times, headers, vectors.
fn import(kernel: *Simulated, operation: *Operation, sqe: *const system.Sqe) i32 {
    switch (operation.row) {
        .timeout => {
            const duration: *const system.Timespec = @ptrFromInt(sqe.addr);
            if (sqe.len != 1 or duration.sec < 0 or duration.nsec < 0) return errno.inval;
            operation.deadline_ns = kernel.clock.now +
                @as(u64, @intCast(duration.sec)) * std.time.ns_per_s +
                @as(u64, @intCast(duration.nsec));
        },
        .connect => {
            if (sqe.off > @sizeOf(@FieldType(SocketAddress, "bytes"))) return errno.inval;
            const bytes: [*]const u8 = @ptrFromInt(sqe.addr);
            operation.target = .{ .bytes = @splat(0), .len = @intCast(sqe.off) };
            @memcpy(operation.target.bytes[0..sqe.off], bytes[0..sqe.off]);
            const socket = &kernel.network.sockets[operation.socket];
            if (socket.state != .fresh and socket.state != .bound) return errno.already;
            socket.state = .connecting;
        },
        .send, .send_all, .receive_plain => add_part(kernel, operation, sqe.addr, sqe.len),
        .sendmsg, .sendmsg_all => {
            const header: *const system.MessageHeader = @ptrFromInt(sqe.addr);
            if (header.iovlen > parts_max) return errno.inval;
            for (header.iov[0..header.iovlen]) |part| {
                add_part(kernel, operation, @intFromPtr(part.base), part.len);
            }
        },
        .shutdown => if (sqe.len != system.socket_flag.shut_write) return errno.inval,
        else => {},
    }
    return 0;
}

fn add_part(kernel: *Simulated, operation: *Operation, address: u64, len: usize) void {
    if (len == 0) return;
    const base: [*]const u8 = @ptrFromInt(address);
    operation.parts.append(kernel.allocator, .{ .base = base, .len = len }) catch
        simulated.out_of_memory();
    operation.total += len;
}

// Progress.

/// Attempts `count` pending operations, picked at random.
pub fn progress(kernel: *Simulated, count: u32) void {
    for (0..count) |_| {
        if (kernel.pending.items.len == 0) return;
        const at = kernel.fate.below(@intCast(kernel.pending.items.len));
        if (kernel.fate.strikes("delayed")) continue;
        attempt(kernel, kernel.pending.items[at]);
    }
}

/// Attempts each pending operation once: nothing that could go on is left alone.
pub fn progress_all(kernel: *Simulated) void {
    // From the end: an operation that ends is replaced by one that was attempted already.
    var at = kernel.pending.items.len;
    while (at > 0) {
        at -= 1;
        attempt(kernel, kernel.pending.items[at]);
    }
}

pub fn next_deadline(kernel: *const Simulated) ?u64 {
    var earliest: ?u64 = null;
    for (kernel.pending.items) |operation| {
        if (operation.row != .timeout) continue;
        earliest = @min(earliest orelse operation.deadline_ns, operation.deadline_ns);
    }
    return earliest;
}

fn attempt(kernel: *Simulated, operation: *Operation) void {
    switch (operation.stage) {
        .going => {},
        .cancelled => return finish_cancelled(kernel, operation),
        .running => {
            // The cancel came too late, or only just not.
            if (kernel.fate.chance(500)) return finish_cancelled(kernel, operation);
            operation.stage = .cancelled;
        },
    }
    switch (operation.row) {
        .timeout => if (kernel.clock.now >= operation.deadline_ns) {
            finish(kernel, operation, errno.time);
        },
        .close => finish(kernel, operation, kernel.network.close(operation.fd)),
        .shutdown => {
            if (kernel.fate.chance(500)) return; // no worker thread is free yet
            finish(kernel, operation, kernel.network.shutdown(operation.socket));
        },
        .accept, .accept_multishot => attempt_accept(kernel, operation),
        .connect => attempt_connect(kernel, operation),
        .receive_plain, .receive_selected, .receive_multishot => receive(kernel, operation),
        .send, .send_all, .sendmsg, .sendmsg_all => attempt_send(kernel, operation),
        .nop, .cancel, .cancel_all => unreachable, // these complete when they are submitted
    }
}

fn attempt_accept(kernel: *Simulated, operation: *Operation) void {
    const fd = switch (kernel.network.accept(operation.socket)) {
        .done => |fd| fd,
        .blocked => return,
    };
    if (fd >= 0 and operation.accepted_name != 0) write_name(kernel, operation, fd);
    finish_shot(kernel, operation, fd, 0, .full);
}

fn write_name(kernel: *Simulated, operation: *Operation, fd: i32) void {
    const name = &kernel.network.sockets[kernel.network.find(fd).?].remote;
    const out: [*]u8 = @ptrFromInt(operation.accepted_name);
    const len: *u32 = @ptrFromInt(operation.accepted_name_len);
    const count = @min(len.*, name.len);
    @memcpy(out[0..count], name.bytes[0..count]);
    len.* = name.len;
}

fn attempt_connect(kernel: *Simulated, operation: *Operation) void {
    const socket = &kernel.network.sockets[operation.socket];
    if (kernel.fate.chance(700)) return; // the handshake takes its time
    if (kernel.network.fate.strikes("connect")) {
        socket.state = .dead;
        const failures = [_]i32{ errno.connrefused, errno.timedout, errno.connreset };
        return finish(kernel, operation, kernel.fate.one_of(i32, &failures));
    }
    const peer = kernel.network.claim_peer() orelse {
        socket.state = .dead;
        return finish(kernel, operation, errno.timedout);
    };
    kernel.network.peers[peer].address = operation.target;
    kernel.network.join(operation.socket, peer);
    const id = kernel.network.peers[peer].id;
    kernel.connected.append(kernel.allocator, id) catch simulated.out_of_memory();
    finish(kernel, operation, 0);
}

fn receive(kernel: *Simulated, operation: *Operation) void {
    const network = &kernel.network;
    const first = !operation.tried;
    operation.tried = true;
    const socket = &network.sockets[operation.socket];
    if (socket.state == .connected and kernel.fate.strikes("broken")) {
        network.break_socket(operation.socket, errno.timedout);
    }
    // A buffer is chosen before the socket is looked at; when it is armed, at once (K9).
    const starved = operation.selects and kernel.provided.published == 0;
    if (starved and first) return finish(kernel, operation, errno.nobufs);
    if (socket.state == .connecting or socket.state == .fresh) {
        return finish(kernel, operation, errno.notconn);
    }
    if (starved and !network.is_readable(operation.socket)) return;
    if (starved) return finish(kernel, operation, errno.nobufs);
    const waiting = switch (network.receive_state(operation.socket)) {
        .done => |result| result,
        .blocked => return,
    };
    if (waiting <= 0) return finish(kernel, operation, waiting);
    const part = kernel.fate.part(@intCast(waiting));
    if (!operation.selects) {
        const bytes = @constCast(operation.parts.items[0].base)[0..operation.total];
        return finish(kernel, operation, @intCast(network.receive(
            operation.socket,
            bytes[0..@min(bytes.len, part)],
        )));
    }
    const selected = kernel.provided.select().?;
    operation.total = selected.bytes.len;
    const count = network.receive(operation.socket, selected.bytes[0..@min(
        selected.bytes.len,
        part,
    )]);
    const flags = system.cqe_flag.buffer |
        @as(u32, selected.id) << system.cqe_flag.buffer_shift;
    const column: Column = if (count == selected.bytes.len) .full else .short;
    finish_shot(kernel, operation, @intCast(count), flags, column);
}

fn attempt_send(kernel: *Simulated, operation: *Operation) void {
    const socket = &kernel.network.sockets[operation.socket];
    if (socket.state == .connected and kernel.fate.strikes("broken")) {
        kernel.network.break_socket(operation.socket, errno.connreset);
    }
    if (operation.total == 0) return finish(kernel, operation, 0);
    while (operation.done < operation.total) {
        const bytes = rest_of_part(operation);
        switch (kernel.network.send(operation.socket, bytes)) {
            .done => |result| {
                // A break after a part shows as the part alone; the next operation hears more (K3).
                if (result < 0) return finish_partly(kernel, operation, result);
                const taken: usize = @intCast(result);
                operation.hash.update(bytes[0..taken]);
                operation.done += taken;
                if (taken < bytes.len and !operation.wait_all) break;
                if (taken < bytes.len and kernel.fate.chance(500)) return; // goes on later
            },
            .blocked => {
                if (operation.dont_wait) return finish_partly(kernel, operation, errno.again);
                if (operation.wait_all or operation.done == 0) return;
                break;
            },
        }
    }
    finish(kernel, operation, @intCast(operation.done));
}

/// The bytes that follow what is done, to the end of their part.
fn rest_of_part(operation: *const Operation) []const u8 {
    var skip = operation.done;
    for (operation.parts.items) |part| {
        if (skip < part.len) return part.base[skip..part.len];
        skip -= part.len;
    }
    unreachable; // only asked while something is left
}

// Completion.

/// One CQE of an operation that may have more: all but the last say so.
fn finish_shot(
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

fn finish_partly(kernel: *Simulated, operation: *Operation, failure: i32) void {
    const done: i32 = @intCast(operation.done);
    finish(kernel, operation, if (done > 0) done else failure);
}

pub fn finish_cancelled(kernel: *Simulated, operation: *Operation) void {
    if (operation.row == .connect) kernel.network.sockets[operation.socket].state = .dead;
    finish_partly(kernel, operation, errno.canceled);
}

fn finish(kernel: *Simulated, operation: *Operation, result: i32) void {
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
    if (is_send(operation.row)) verify_memory(kernel, operation);
    kernel.post(operation.user_data, result, flags);
    if (operation.socket != none) kernel.network.drop_reference(operation.socket);
    const at = std.mem.indexOfScalar(*Operation, kernel.pending.items, operation).?;
    _ = kernel.pending.swapRemove(at);
    operation.parts.clearRetainingCapacity();
    kernel.spare.append(kernel.allocator, operation) catch simulated.out_of_memory();
}

fn is_send(row: Row) bool {
    return switch (row) {
        .send, .send_all, .sendmsg, .sendmsg_all => true,
        else => false,
    };
}

/// The kernel may have read the bytes of a send only now: they must be what they were (I1).
fn verify_memory(kernel: *Simulated, operation: *Operation) void {
    var hash: std.hash.Wyhash = .init(0);
    var left = operation.done;
    for (operation.parts.items) |part| {
        const here = @min(left, part.len);
        hash.update(part.base[0..here]);
        left -= here;
    }
    assert(left == 0);
    if (hash.final() != operation.hash.final()) {
        kernel.violate("memory of a send changed before its CQE");
    }
}
