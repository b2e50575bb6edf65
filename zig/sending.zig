//! How a connection sends: staged bytes, one send in flight, the remainder first, `drain`.
//!
//! `Sending` is the state, held in the connection; the functions act on the connection that holds
//! it. Written bytes are copied into staging blocks and leave as one send at the end of the turn;
//! what is written meanwhile waits behind them (I5). What a short send left goes before anything
//! later (I6). Memory that is sent from where it is, and chains, lie in the same queue as segments:
//! `send_queue.zig`. Called by `connection.zig`, `engine.zig`, `calls.zig` and
//! `operation/connection.zig`.

const std = @import("std");
const assert = std.debug.assert;
const seam = @import("kernel.zig");
const staging = @import("staging.zig");
const segments = @import("segment.zig");
const receiving = @import("receiving.zig");
const send_chain = @import("send_chain.zig");
const send_queue = @import("send_queue.zig");
const settling = @import("send_settling.zig");
const socket = @import("operation/connection.zig");
const mutation = @import("testing/mutation.zig");
const Connection = @import("connection.zig").Connection;
const Engine = @import("engine.zig").Engine;
const errno = seam.errno;
const none = segments.none;

/// Bytes at which a write with nothing queued before it is offered to the kernel inside the call:
/// below, one more system call costs more than the copy into a staging block.
const send_now_min = 4 * staging.block_size;

/// How long what was received waits for a reader that is paused when nothing more can be sent;
/// after a reset nobody can count on it.
const reader_ms = 10_000;
pub const reader_reset_ms = 1000;

/// no ──a caller asks──▶ wanted ──advance──▶ asked ──its CQE, missed──▶ wanted
pub const Cancel = enum(u8) { no, wanted, asked };

///     | before, segment | before, segment | … | staged |     `head` is the first segment
pub const Sending = struct {
    /// Bytes staged after the last segment: all of the queue, as long as there is none.
    staged: staging.Chain = .{},
    head: u32 = none,
    tail: u32 = none,
    /// Bytes staged anywhere in the queue: what the watermark bounds.
    size: u32 = 0,
    /// Bytes at the front of the queue that the send in flight has.
    in_flight: u32 = 0,
    /// The kernel has a send, or a window of a chain.
    pending: bool = false,
    /// It is a window of the first segment.
    linked: bool = false,
    /// A write took less than it was offered: JavaScript waits for `drain`.
    wants_drain: bool = false,
    /// Nothing leaves until the caller says so.
    corked: bool = false,
    /// Zero copy is not for this peer: the kernel has copied all the same, or refused.
    copies: bool = false,
    /// Why nothing more can be sent, negative: the peer is gone. What it sent before is received.
    broken: i32 = 0,
    /// Who is paused then is waited for, but not for ever: the deadline is that of the wait.
    awaits_reader: bool = false,
    cancel: Cancel = .no,
    cancel_tries: u8 = 0,
    /// The block that holds the message header and iovecs of the send in flight.
    header: u32 = none,
    /// 0: as the ring has them.
    high_water_mark: u32 = 0,
    zero_copy_min: u32 = 0,

    pub fn is_empty(sending: *const Sending) bool {
        return sending.staged.is_empty() and sending.head == none;
    }

    fn mark(sending: *const Sending, engine: *const Engine) u32 {
        return if (sending.high_water_mark > 0) sending.high_water_mark else engine.high_water_mark;
    }

    pub fn release_header(sending: *Sending, engine: *Engine) void {
        if (sending.header == none) return;
        engine.staging_pool.release(sending.header);
        sending.header = none;
    }

    /// One block holds a msghdr and as many iovecs as fit behind it: 248 KiB of staged bytes.
    pub const Message = extern struct {
        header: seam.MessageHeader,
        parts: [parts_max]seam.Iovec,

        pub const parts_max =
            (staging.block_size - @sizeOf(seam.MessageHeader)) / @sizeOf(seam.Iovec);

        comptime {
            assert(@sizeOf(Message) <= staging.block_size);
        }

        pub fn seal(made: *Message, count: usize) *const seam.MessageHeader {
            made.header = std.mem.zeroes(seam.MessageHeader);
            made.header.iov = &made.parts;
            made.header.iovlen = count;
            return &made.header;
        }
    };

    /// A block for a message, or null while the pool is empty.
    pub fn message(sending: *Sending, engine: *Engine) ?*Message {
        assert(sending.header == none);
        sending.header = engine.staging_pool.acquire() orelse return null;
        return @ptrCast(engine.staging_pool.bytes(sending.header).ptr);
    }
};

/// One send in flight at most (I5). False: no SQE was to be had.
pub fn advance(connection: *Connection, engine: *Engine, index: u32) bool {
    const sending = &connection.sending;
    if (sending.pending) {
        return sending.cancel != .wanted or submit_cancel(connection, engine, index);
    }
    if (sending.broken != 0) {
        advance_broken(connection, engine, index);
        return true;
    }
    if (sending.head != none) return send_queue.advance(connection, engine, index);
    if (sending.staged.is_empty() or sending.corked) return true;
    return submit_staged(connection, engine, index);
}

/// A send has failed. If the peer is gone, what it has sent before comes first.
pub fn fail(connection: *Connection, engine: *Engine, index: u32, code: i32) void {
    const sending = &connection.sending;
    if (mutation.is(.drop_unread)) return connection.fail(engine, index, code);
    switch (code) {
        errno.pipe, errno.connreset, errno.timedout, errno.hostunreach, errno.netunreach => {},
        else => return connection.fail(engine, index, code),
    }
    if (sending.broken == 0) sending.broken = code;
    engine.mark(index);
}

/// The queue goes. The connection does when all was received, or nobody wants it.
fn advance_broken(connection: *Connection, engine: *Engine, index: u32) void {
    const sending = &connection.sending;
    release(connection, engine, sending.broken);
    // Who writes again hears of it.
    if (sending.wants_drain) engine.starved.push(&engine.connections, index);
    const received = connection.receiving.ended and !connection.receiving.paused and
        connection.forwarding.stage != .ending;
    if (received or receiving.is_given_up(connection)) {
        return connection.fail(engine, index, sending.broken);
    }
    if (!connection.receiving.paused or sending.awaits_reader) return;
    sending.awaits_reader = true;
    const is_reset = sending.broken != errno.pipe;
    engine.deadlines.set(engine, index, if (is_reset) reader_reset_ms else reader_ms);
}

pub fn reader_is_back(connection: *Connection, engine: *Engine, index: u32) void {
    if (!connection.sending.awaits_reader) return;
    connection.sending.awaits_reader = false;
    engine.deadlines.set(engine, index, 0);
}

/// It may have been paused for a `drain` that brought nothing: then nobody will resume it.
pub fn on_deadline(connection: *Connection, engine: *Engine, index: u32) void {
    connection.sending.awaits_reader = false;
    if (connection.receiving.paused) connection.fail(engine, index, connection.sending.broken);
}

/// Everything that is staged, as far as one message holds it.
pub fn submit_staged(connection: *Connection, engine: *Engine, index: u32) bool {
    const sending = &connection.sending;
    const pool = &engine.staging_pool;
    const sqe = engine.sqe() orelse return false;
    const user_data = Connection.tag(engine, index, .send);
    const file = connection.file_of(index);
    const first = sending.staged.first(pool);
    sending.in_flight = @intCast(first.len);
    if (first.len == sending.staged.size) {
        socket.Send.prepare(sqe, file, first, user_data);
    } else if (sending.message(engine)) |message| {
        var count: usize = 0;
        var blocks = sending.staged.iterate(pool);
        sending.in_flight = 0;
        while (count < message.parts.len) : (count += 1) {
            const part = blocks.next() orelse break;
            message.parts[count] = .{ .base = part.ptr, .len = part.len };
            sending.in_flight += @intCast(part.len);
        }
        socket.Send.prepare_message(sqe, file, message.seal(count), user_data);
    } else {
        // No block left for the header: the first block alone, the rest as its remainder.
        socket.Send.prepare(sqe, file, first, user_data);
    }
    sending.pending = true;
    if (mutation.is(.release_blocks_early)) sending.staged.clear(pool);
    return true;
}

/// Nothing more is to be sent. False: no SQE was to be had.
pub fn abandon(connection: *Connection, engine: *Engine, index: u32) bool {
    const sending = &connection.sending;
    if (!sending.pending) return true;
    if (sending.cancel == .no) sending.cancel = .wanted;
    return sending.cancel != .wanted or submit_cancel(connection, engine, index);
}

/// Asks the kernel to give up the send in flight; what it has sent shows in its own CQE.
fn submit_cancel(connection: *Connection, engine: *Engine, index: u32) bool {
    const sending = &connection.sending;
    const target = if (sending.linked)
        send_queue.running(engine, sending.head) orelse return true
    else
        Connection.tag(engine, index, .send);
    const sqe = engine.sqe() orelse return false;
    socket.SendCancel.prepare(sqe, target, Connection.tag(engine, index, .send_cancel));
    sending.cancel = .asked;
    connection.cancels_pending += 1;
    return true;
}

/// Between two places the kernel does not find the target: a few more tries, and one for each
/// member of a window that may have ended before its cancel came.
const cancel_tries_max = 16;

pub fn on_send_cancelled(
    connection: *Connection,
    engine: *Engine,
    index: u32,
    result: i32,
) void {
    const sending = &connection.sending;
    connection.on_cancel_done(engine, index);
    if (result >= 0 or !sending.pending or sending.cancel != .asked) return;
    const members: u8 = if (sending.linked) send_chain.window_max else 0;
    if (sending.cancel_tries == cancel_tries_max + members) return;
    sending.cancel_tries += 1;
    sending.cancel = .wanted;
}

/// Bytes taken. Large ones with nothing queued before them are offered to the kernel at once;
/// what is left is copied as far as the mark and the pool allow.
pub fn write(connection: *Connection, engine: *Engine, index: u32, bytes: []const u8) i32 {
    if (connection.shut != .none or connection.stage == .closing) return errno.shutdown;
    if (connection.has_failed()) return errno.pipe;
    const sending = &connection.sending;
    var taken: u32 = 0;
    const idle = sending.is_empty() and !sending.corked and connection.stage == .open;
    if (idle and bytes.len >= send_now_min) {
        const sent = engine.kernel.send_now(connection.fd, bytes);
        if (sent > 0) {
            taken = @intCast(sent);
            engine.counters.bytes_sent += taken;
        } else if (sent != errno.again and sent != errno.intr and sent != errno.nobufs) {
            fail(connection, engine, index, sent);
            return errno.pipe;
        }
    }
    const room = sending.mark(engine) -| sending.size;
    const rest = bytes[taken..];
    const staged = sending.staged.append(&engine.staging_pool, rest[0..@min(rest.len, room)]);
    sending.size += staged;
    taken += staged;
    if (!sending.staged.is_empty()) engine.mark(index);
    if (taken < bytes.len) on_refusal(connection, engine, index);
    return @intCast(taken);
}

fn on_refusal(connection: *Connection, engine: *Engine, index: u32) void {
    const sending = &connection.sending;
    sending.wants_drain = true;
    if (sending.is_empty()) {
        // Nothing of its own will complete and wake it: it queues for blocks.
        engine.starved.push(&engine.connections, index);
    } else if (!sending.pending and !sending.corked and connection.stage == .open) {
        // A full queue leaves at once: the peer reads while the writer waits for the turn's end.
        _ = engine.flush_only();
    }
}

pub fn on_send(connection: *Connection, engine: *Engine, index: u32, result: i32) void {
    const sending = &connection.sending;
    // A kernel that completes twice harms nobody.
    if (!sending.pending or sending.linked) return;
    const asked = sending.in_flight;
    land(connection, engine);
    if (result < 0) {
        if (!is_retried(connection, result)) fail(connection, engine, index, result);
    }
    const sent = @min(@as(u32, @intCast(@max(result, 0))), asked);
    engine.counters.bytes_sent += sent;
    const flown = if (mutation.is(.skip_remainder)) asked else sent;
    if (sending.head != none) {
        settling.on_sent(connection, engine, flown);
    } else {
        sending.staged.consume(&engine.staging_pool, flown);
        sending.size -= flown;
    }
    // The usual echo ends here: nothing is left to submit.
    const quiet = sending.is_empty() and connection.shut == .none and connection.failure == 0;
    if (!quiet) engine.mark(index);
    maybe_drain(connection, engine, index);
}

/// Not a failure of the connection: -ECANCELED comes from our own cancel, which has set the reason
/// already. A worker of the kernel, which gets what was polled for too often, answers -EAGAIN where
/// the socket does not block.
pub fn is_retried(connection: *const Connection, result: i32) bool {
    if (result == errno.again) return connection.non_blocking;
    return result == errno.canceled or result == errno.intr;
}

/// The kernel has nothing of the queue any more.
pub fn land(connection: *Connection, engine: *Engine) void {
    const sending = &connection.sending;
    sending.pending = false;
    sending.linked = false;
    sending.in_flight = 0;
    sending.cancel_tries = 0;
    sending.release_header(engine);
}

/// There is room again for a writer that was refused: once per refusal.
pub fn maybe_drain(connection: *Connection, engine: *Engine, index: u32) void {
    const sending = &connection.sending;
    if (!sending.wants_drain or connection.is_dying()) return;
    if (sending.size > sending.mark(engine) / 2) return;
    sending.wants_drain = false;
    if (!mutation.is(.forget_drain)) engine.record(.drain, index, 0, 0, 0);
}

pub const turn_drains_max = 512;

/// Writers that found the staging pool empty are told in their order, as far as blocks go.
pub fn feed(engine: *Engine) void {
    var budget = @min(engine.staging_pool.available(), turn_drains_max);
    while (budget > 0) : (budget -= 1) {
        const index = engine.starved.pop(&engine.connections) orelse return;
        maybe_drain(engine.connections.at(index), engine, index);
    }
}

/// Everything of the queue is given back; nothing of it is in flight. `cause`: why what is left
/// was not sent.
pub fn release(connection: *Connection, engine: *Engine, cause: i32) void {
    const sending = &connection.sending;
    assert(!sending.pending); // I1
    settling.abandon(connection, engine, cause);
    sending.staged.clear(&engine.staging_pool);
    sending.size = 0;
    sending.release_header(engine);
}
