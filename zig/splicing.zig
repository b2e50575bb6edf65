//! Splicing: what is forwarded in bulk goes through pipes of the kernel, and nobody copies it.
//!
//! A pipe takes the place of a receive buffer. Its source is polled instead of received from; when
//! it is readable, one splice(2) fills the pipe, and another empties it into the target, if nothing
//! is queued there. What the target does not take at once becomes a segment of its send queue, pipe
//! and all: in the order of everything that is written to it (I5, I6), owed to it whatever becomes
//! of the source, and sent whenever a poll finds room. A source has one pipe at a time, and is
//! polled again when that is empty (I9). The end of the stream is left to a receive, which knows it
//! from urgent data. Called by `connection.zig`, `receiving.zig`, `send_queue.zig`,
//! `send_settling.zig` and `teardown.zig`.

const std = @import("std");
const assert = std.debug.assert;
const seam = @import("kernel.zig");
const forwarding_file = @import("forwarding.zig");
const receiving = @import("receiving.zig");
const segments = @import("segment.zig");
const send_queue = @import("send_queue.zig");
const send_start = @import("send_start.zig");
const sending_file = @import("sending.zig");
const settling = @import("send_settling.zig");
const socket = @import("operation/connection.zig");
const mutation = @import("testing/mutation.zig");
const Connection = @import("connection.zig").Connection;
const Engine = @import("engine.zig").Engine;
const Forwarding = forwarding_file.Forwarding;
const Segment = segments.Segment;
const errno = seam.errno;

/// buffers ──much at a time, again and again──▶ pipes ──little, the end, no pipe left──▶ buffers
///    └──────────────────────── splice(2) refuses ◀──┘──▶ refused
pub const Way = enum(u8) { buffers, pipes, refused };

/// Receives of much in succession that lead to pipes: more of them with each time that it was a
/// mistake. What comes in small pieces costs a pipe one of its places each.
pub const patience_min = 2;
const patience_max = 64;
/// Fillings in succession of less than half of that which lead back.
const small_max = 8;

// Pipes ----------------------------------------------------------------------------------------

/// Bytes of one: as much as one send has.
const size_max = segments.submission_max;
/// Two descriptors each; 16 MiB of them, where the kernel grants one user 64 without privileges:
/// pipe(7).
const count_max = 64;
const idle_max = 16;

pub const Pipes = struct {
    /// Empty ones, for whoever comes next.
    idle: [idle_max]seam.Pipe = undefined,
    idle_count: u32 = 0,
    /// All that there are.
    count: u32 = 0,
};

/// Null where no more are to be had: buffers serve as well.
pub fn acquire(engine: *Engine) ?seam.Pipe {
    const pipes = &engine.pipes;
    if (pipes.idle_count > 0) {
        pipes.idle_count -= 1;
        return pipes.idle[pipes.idle_count];
    }
    if (pipes.count == count_max) return null;
    var pipe: seam.Pipe = undefined;
    if (engine.kernel.pipe_open(size_max, &pipe) < 0) return null;
    pipes.count += 1;
    return pipe;
}

/// One that is not empty would give the next stream what it holds.
pub fn release(engine: *Engine, pipe: seam.Pipe, is_empty: bool) void {
    const pipes = &engine.pipes;
    assert(pipes.count > pipes.idle_count);
    const is_clean = is_empty or mutation.is(.reuse_full_pipe);
    if (is_clean and pipes.idle_count < idle_max) {
        pipes.idle[pipes.idle_count] = pipe;
        pipes.idle_count += 1;
        return;
    }
    close(pipe, &engine.kernel);
    pipes.count -= 1;
}

fn close(pipe: seam.Pipe, kernel: ?*seam.Kernel) void {
    for ([_]i32{ pipe.read, pipe.write }) |fd| {
        if (kernel) |open| open.close_fd(fd) else seam.linux.close(fd);
    }
}

/// The segment is over.
pub fn detach(engine: *Engine, segment: *Segment) void {
    const pipe = segment.pipe orelse return;
    segment.pipe = null;
    release(engine, pipe, segment.sent == segment.size);
}

/// For the end of a ring: whatever is left, through the kernel, or plainly if that is closed.
pub fn close_all(engine: *Engine, kernel: ?*seam.Kernel) void {
    const pipes = &engine.pipes;
    for (pipes.idle[0..pipes.idle_count]) |pipe| close(pipe, kernel);
    pipes.* = .{};
    for (0..engine.segments.fresh) |index| {
        const slot: u32 = @intCast(index);
        if (!engine.segments.is_claimed(slot)) continue;
        const segment = engine.segments.at(slot);
        if (segment.pipe) |pipe| close(pipe, kernel);
        segment.pipe = null;
    }
}

// Which way ------------------------------------------------------------------------------------

/// So many bytes came in one receive, or in one turn.
pub fn on_data(connection: *Connection, engine: *Engine, index: u32, len: u32) void {
    const forwarding = &connection.forwarding;
    if (forwarding.way != .buffers or !engine.has(.splice_pipes)) return;
    forwarding.streak = if (len < engine.config.splice_min) 0 else forwarding.streak + 1;
    if (forwarding.streak < forwarding.patience) return;
    forwarding.streak = 0;
    // Pipes know nothing of descriptors.
    if (connection.passing.is_on() or !prepare(connection, engine)) return;
    forwarding.way = .pipes;
    engine.mark(index);
}

/// True if there is a pipe, and sockets that do not block.
fn prepare(connection: *Connection, engine: *Engine) bool {
    const forwarding = &connection.forwarding;
    const target = engine.connections.find(forwarding.target, forwarding.generation) orelse
        return false;
    if (!send_start.takes(target)) return false;
    if (!make_non_blocking(connection, engine)) return false;
    if (!make_non_blocking(target, engine)) return false;
    release(engine, acquire(engine) orelse return false, true);
    return true;
}

pub fn make_non_blocking(connection: *Connection, engine: *Engine) bool {
    if (connection.non_blocking) return true;
    if (engine.kernel.set_option(connection.fd, .non_blocking, 1) < 0) return false;
    connection.non_blocking = true;
    return true;
}

fn leave(forwarding: *Forwarding, way: Way) void {
    forwarding.way = way;
    forwarding.streak = 0;
}

/// A pipe was filled with so much.
fn judge(forwarding: *Forwarding, engine: *const Engine, size: u32) void {
    if (size >= engine.config.splice_min / 2) {
        forwarding.streak = 0;
        return;
    }
    forwarding.streak += 1;
    if (forwarding.streak < small_max) return;
    forwarding.patience = @min(forwarding.patience * 2, patience_max);
    leave(forwarding, .buffers);
}

// From the source ------------------------------------------------------------------------------

/// The poll's CQE.
pub fn on_readable(connection: *Connection, engine: *Engine, index: u32, result: i32) void {
    connection.receiving.arm = .idle;
    engine.mark(index);
    if (result == errno.canceled or result == errno.intr) return;
    if (result < 0) return connection.fail(engine, index, result);
    // Whoever reads next finds what has come.
    if (!connection.forwarding.is_piped() or connection.receiving.paused) return;
    if (receiving.is_given_up(connection)) return;
    carry(connection, engine, index);
}

/// At most one record.
fn carry(connection: *Connection, engine: *Engine, index: u32) void {
    const forwarding = &connection.forwarding;
    assert(forwarding.pending == 0);
    const target = engine.connections.find(forwarding.target, forwarding.generation) orelse
        return forwarding_file.finish(connection, engine, index, errno.pipe);
    if (!send_start.takes(target)) {
        return forwarding_file.finish(connection, engine, index, errno.pipe);
    }
    const pipe = acquire(engine) orelse return leave(forwarding, .buffers);
    const filled = engine.kernel.pipe_fill(pipe, connection.fd, size_max);
    if (filled <= 0) {
        release(engine, pipe, true);
        return on_nothing(connection, engine, index, filled);
    }
    const size: u32 = @intCast(filled);
    engine.counters.bytes_received += size;
    engine.counters.forwards_spliced += 1;
    judge(forwarding, engine, size);
    const sent = send_at_once(target, engine, forwarding.target, pipe, size);
    if (sent == size) {
        forwarding.bytes += size;
        return release(engine, pipe, true);
    }
    const owner = forwarding_file.lent_by(engine, index, null);
    const refused = queue(target, engine, forwarding.target, pipe, size, sent, owner);
    if (refused == 0) {
        forwarding.pending += 1;
        return;
    }
    forwarding.bytes += sent;
    release(engine, pipe, false);
    forwarding_file.finish(connection, engine, index, refused);
}

/// Nothing went into the pipe, though the poll had promised something.
fn on_nothing(connection: *Connection, engine: *Engine, index: u32, result: i32) void {
    const forwarding = &connection.forwarding;
    switch (result) {
        0, errno.again, errno.intr, errno.nomem, errno.nobufs => leave(forwarding, .buffers),
        errno.inval, errno.nosys, errno.perm, errno.acces, errno.notsup => {
            leave(forwarding, .refused);
        },
        // It has been taken from the socket, so no receive would hear of it.
        else => connection.fail(engine, index, result),
    }
}

// To the target --------------------------------------------------------------------------------

/// With nothing queued before it, as `sending.write` does: bytes taken.
fn send_at_once(
    target: *Connection,
    engine: *Engine,
    index: u32,
    pipe: seam.Pipe,
    size: u32,
) u32 {
    const sending = &target.sending;
    if (!sending.is_empty() or sending.corked or target.stage != .open) return 0;
    assert(!sending.pending);
    return @intCast(drain(target, engine, index, pipe, size) orelse 0);
}

/// Bytes that went to the target's socket, or null if that has failed, which it knows then.
fn drain(
    target: *Connection,
    engine: *Engine,
    index: u32,
    pipe: seam.Pipe,
    size: u32,
) ?u32 {
    const outcome = engine.kernel.pipe_drain(pipe, target.fd, size);
    if (outcome == errno.again or outcome == errno.intr) return 0;
    if (outcome <= 0) {
        // 0: the pipe has lost what it held.
        sending_file.fail(target, engine, index, if (outcome == 0) errno.io else outcome);
        return null;
    }
    engine.counters.bytes_sent += outcome;
    return @intCast(outcome);
}

/// A pipe that was filled with `size`, behind everything that was written to the target. 0, or an
/// errno, and then it is the caller's still.
pub fn queue(
    target: *Connection,
    engine: *Engine,
    index: u32,
    pipe: seam.Pipe,
    size: u32,
    sent: u32,
    owner: segments.Lent,
) i32 {
    if (!send_start.takes(target)) return errno.pipe;
    const slot = engine.segments.claim() orelse return errno.nomem;
    engine.segments.at(slot).* = .{
        .connection = index,
        .generation = engine.connections.generation(index),
        .owner = .{ .lent = owner },
        .size = size,
        .sent = sent,
        .pipe = pipe,
    };
    send_queue.push(target, engine, index, slot);
    return 0;
}

/// The first of the queue, with nothing in flight and nothing before it. What finds no room waits
/// for it in place of a send (I5). False: no SQE was to be had.
pub fn send(
    connection: *Connection,
    engine: *Engine,
    index: u32,
    segment: *Segment,
    pipe: seam.Pipe,
) bool {
    const sending = &connection.sending;
    const left: u32 = @intCast(segment.left());
    segment.sent += drain(connection, engine, index, pipe, left) orelse return true;
    if (segment.left() == 0) {
        settling.drop_ended(connection, engine);
        if (!sending.is_empty()) {
            engine.mark(index);
        } else if (sending.wants_drain) {
            engine.starved.push(&engine.connections, index); // no CQE would tell of room
        }
        return true;
    }
    const sqe = engine.sqe() orelse return false;
    const user_data = Connection.tag(engine, index, .send);
    socket.Send.prepare_room(sqe, connection.file_of(index), user_data);
    sending.pending = true;
    sending.cancel = .no;
    assert(sending.in_flight == 0 and !sending.linked);
    return true;
}
