//! Attempts of the simulated kernel at what sockets do: accept, connect, receive, send.
//!
//! Each either ends its operation or leaves it pending. A receive into a provided buffer chooses
//! the buffer before it looks at the socket; one into the user's own memory may write there before
//! it completes, but never after.

const std = @import("std");
const seam = @import("../../kernel.zig");
const system = @import("../linux.zig");
const failures = @import("../failures.zig");
const simulated = @import("../simulated.zig");
const operations = @import("operations.zig");
const parcels = @import("parcels.zig");
const zero_copy = @import("zero_copy.zig");
const Column = @import("outcomes.zig").Column;
const Operation = operations.Operation;
const Simulated = simulated.Simulated;
const finish = operations.finish;
const errno = system.errno;

pub fn accept(kernel: *Simulated, operation: *Operation) void {
    const fd = switch (kernel.network.accept(operation.socket)) {
        .done => |fd| fd,
        .blocked => return,
    };
    if (fd >= 0) write_name(kernel, operation, kernel.network.find(fd).?);
    operations.finish_shot(kernel, operation, fd, 0, .full);
}

/// The address of the other end, where the operation asks for it.
fn write_name(kernel: *Simulated, operation: *Operation, socket: u32) void {
    if (operation.name == 0) return;
    const name = &kernel.network.sockets[socket].remote;
    const out: [*]u8 = @ptrFromInt(operation.name);
    const len: *u32 = @ptrFromInt(operation.name_len);
    const count = @min(len.*, name.len);
    @memcpy(out[0..count], name.bytes[0..count]);
    len.* = name.len;
}

pub fn connect(kernel: *Simulated, operation: *Operation) void {
    const socket = &kernel.network.sockets[operation.socket];
    if (kernel.fate.chance(700)) return; // the handshake takes its time
    if (kernel.network.fate.strikes("connect")) {
        socket.state = .dead;
        return finish(kernel, operation, kernel.fate.one_of(i32, failures.of(.CONNECT)));
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

/// Bytes after which a multishot receive ends by itself.
pub fn limit_of(sqe: *const system.Sqe) usize {
    const multishot = sqe.opcode == .RECV and sqe.ioprio & system.sqe_flag.receive_multishot != 0;
    if (!multishot or sqe.splice_fd_in == 0) return std.math.maxInt(usize);
    return @intCast(sqe.splice_fd_in); // where `optlen` lies
}

pub fn receive(kernel: *Simulated, operation: *Operation) void {
    if (!operation.selects) return receive_plain(kernel, operation);
    const network = &kernel.network;
    const first = !operation.tried;
    operation.tried = true;
    const socket = &network.sockets[operation.socket];
    if (socket.state == .connected and kernel.fate.strikes("broken")) {
        network.break_socket(operation.socket, errno.timedout);
    }
    // A buffer is chosen before the socket is looked at; when it is armed, at once (K9).
    const group: seam.BufferGroup = @enumFromInt(operation.sqe.buf_index);
    const provided = kernel.provided.of(group);
    const starved = provided.published == 0;
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
    const most = parcels.bound(network, operation.socket, @intCast(waiting));
    const part = kernel.fate.part(@intCast(most));
    const selected = provided.select().?;
    operation.total = selected.bytes.len;
    const count = network.receive(operation.socket, selected.bytes[0..@min(
        selected.bytes.len,
        part,
    )]);
    parcels.deliver(kernel, operation);
    operation.limit -|= count; // the buffer that reaches it is filled all the same
    if (operation.limit == 0) operation.multishot = false;
    const flags = system.cqe_flag.buffer |
        @as(u32, selected.id) << system.cqe_flag.buffer_shift;
    const column: Column = if (count == selected.bytes.len) .full else .short;
    operations.finish_shot(kernel, operation, @intCast(count), flags, column);
}

fn receive_plain(kernel: *Simulated, operation: *Operation) void {
    const socket = &kernel.network.sockets[operation.socket];
    if (socket.state == .connected and kernel.fate.strikes("broken")) {
        kernel.network.break_socket(operation.socket, errno.timedout);
    }
    switch (read(kernel, operation)) {
        .done => |result| {
            if (result < 0) return operations.finish_partly(kernel, operation, result);
            const whole = operation.done == operation.total;
            if (result > 0 and operation.wait_all and !whole) return; // goes on later
            if (operation.done > 0) write_name(kernel, operation, operation.socket);
            finish(kernel, operation, @intCast(operation.done));
        },
        .blocked => if (operation.dont_wait) {
            operations.finish_partly(kernel, operation, errno.again);
        } else scribble(kernel, operation),
    }
}

/// One read from a stream into the operation's parts: `done` grows by the result.
pub fn read(kernel: *Simulated, operation: *Operation) @import("network.zig").Network.Attempt {
    const network = &kernel.network;
    const state = network.sockets[operation.socket].state;
    if (state == .connecting or state == .fresh) return .{ .done = errno.notconn };
    const waiting = switch (network.receive_state(operation.socket)) {
        .done => |result| result,
        .blocked => return .blocked,
    };
    if (waiting <= 0) return .{ .done = waiting };
    var left = kernel.fate.part(@intCast(waiting));
    var taken: usize = 0;
    while (left > 0 and operation.done < operation.total) {
        const out = rest_of_part(operation);
        const count = network.receive(operation.socket, out[0..@min(out.len, left)]);
        operation.done += count;
        taken += count;
        left -= count;
    }
    return .{ .done = @intCast(taken) };
}

/// Memory that an operation reads into is the kernel's until the last CQE, to write what it likes.
pub fn scribble(kernel: *Simulated, operation: *Operation) void {
    if (operation.done == operation.total or !kernel.fate.chance(200)) return;
    const out = rest_of_part(operation);
    @memset(out[0..@min(out.len, 32)], 0x5c);
}

pub fn send(kernel: *Simulated, operation: *Operation) void {
    const socket = &kernel.network.sockets[operation.socket];
    if (socket.state == .connected and kernel.fate.strikes("broken")) {
        kernel.network.break_socket(operation.socket, errno.connreset);
    }
    if (operation.total == 0) return finish(kernel, operation, 0);
    const first = operation.done == 0 and zero_copy.is_zero_copy(operation);
    if (first and kernel.fate.strikes("zero_copy")) {
        const refusals = [_]i32{ errno.notsup, errno.nobufs, errno.nomem };
        return finish(kernel, operation, kernel.fate.one_of(i32, &refusals));
    }
    const prepared = parcels.prepare(kernel, operation) orelse return;
    switch (prepared) {
        .refused => |code| return finish(kernel, operation, code),
        .parcel => {},
    }
    while (operation.done < operation.total) {
        const bytes = rest_of_part(operation);
        switch (kernel.network.send(operation.socket, bytes)) {
            .done => |result| {
                // A break after a part shows as the part alone; the next operation hears more (K3).
                if (result < 0) return operations.finish_partly(kernel, operation, result);
                const taken: usize = @intCast(result);
                if (operation.done == 0) {
                    parcels.send(&kernel.network, operation.socket, prepared.parcel);
                }
                operation.hash.update(bytes[0..taken]);
                operation.done += taken;
                if (zero_copy.is_zero_copy(operation)) zero_copy.sent(kernel, operation);
                if (taken < bytes.len and !operation.wait_all) break;
                if (taken < bytes.len and kernel.fate.strikes("gives_up")) break;
                if (taken < bytes.len and kernel.fate.chance(500)) return; // goes on later
            },
            .blocked => {
                if (operation.dont_wait) {
                    return operations.finish_partly(kernel, operation, errno.again);
                }
                if (operation.wait_all or operation.done == 0) return;
                break;
            },
        }
    }
    finish(kernel, operation, @intCast(operation.done));
}

/// The bytes that follow what is done, to the end of their part.
pub fn rest_of_part(operation: *const Operation) []u8 {
    var skip = operation.done;
    for (operation.parts.items) |part| {
        if (skip < part.len) return @constCast(part.base)[skip..part.len];
        skip -= part.len;
    }
    unreachable; // only asked while something is left
}
