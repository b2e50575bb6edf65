//! How a connection sends: staged bytes, one send in flight, the remainder first, `drain`.
//!
//! `Sending` is the state, held in the connection; the functions act on the connection that holds
//! it. Written bytes are copied into staging blocks and leave as one send at the end of the turn;
//! later ones fill the next (I5). What a short send left goes before anything later (I6). Called by
//! `connection.zig`, `engine.zig`, `calls.zig` and `operation/connection.zig`.

const std = @import("std");
const assert = std.debug.assert;
const seam = @import("kernel.zig");
const staging = @import("staging.zig");
const socket = @import("operation/connection.zig");
const mutation = @import("testing/mutation.zig");
const Connection = @import("connection.zig").Connection;
const Engine = @import("engine.zig").Engine;
const errno = seam.errno;

/// Bytes at which a write with nothing queued before it is offered to the kernel inside the call:
/// below, one more system call costs more than the copy into a staging block.
const send_now_min = 4 * staging.block_size;

pub const Sending = struct {
    pending: bool = false,
    /// A write took less than it was offered: JavaScript waits for `drain`.
    wants_drain: bool = false,
    filling: staging.Chain = .{},
    flight: staging.Chain = .{},
    /// The block that holds the flight's message header and iovecs.
    header: ?u32 = null,

    pub fn is_empty(sending: *const Sending) bool {
        return sending.flight.is_empty() and sending.filling.is_empty();
    }

    fn size(sending: *const Sending) u32 {
        return sending.filling.size + sending.flight.size;
    }

    /// What was not yet submitted is given up.
    pub fn discard(sending: *Sending, engine: *Engine) void {
        sending.filling.clear(&engine.staging_pool);
    }

    pub fn release(sending: *Sending, engine: *Engine) void {
        assert(!sending.pending); // I1
        sending.filling.clear(&engine.staging_pool);
        sending.flight.clear(&engine.staging_pool);
        sending.release_header(engine);
    }

    fn release_header(sending: *Sending, engine: *Engine) void {
        if (sending.header) |block| engine.staging_pool.release(block);
        sending.header = null;
    }

    /// One block holds a msghdr and as many iovecs as fit behind it: 248 KiB in one send, so that
    /// progress is seen.
    const Message = extern struct {
        header: seam.MessageHeader,
        parts: [parts_max]seam.Iovec,
        const parts_max = (staging.block_size - @sizeOf(seam.MessageHeader)) / @sizeOf(seam.Iovec);
        comptime {
            assert(@sizeOf(Message) <= staging.block_size);
        }
    };

    fn message(sending: *Sending, engine: *Engine) ?*const seam.MessageHeader {
        const pool = &engine.staging_pool;
        const block = sending.header orelse pool.acquire() orelse return null;
        sending.header = block;
        const made: *Message = @ptrCast(pool.bytes(block).ptr);
        var count: usize = 0;
        var iterator = sending.flight.iterate(pool);
        while (count < Message.parts_max) : (count += 1) {
            const part = iterator.next() orelse break;
            made.parts[count] = .{ .base = part.ptr, .len = part.len };
        }
        made.header = std.mem.zeroes(seam.MessageHeader);
        made.header.iov = &made.parts;
        made.header.iovlen = count;
        return &made.header;
    }
};

/// One send in flight at most (I5); what a short one left goes before anything later (I6). False:
/// no SQE was to be had.
pub fn advance(connection: *Connection, engine: *Engine, index: u32) bool {
    const sending = &connection.sending;
    if (sending.pending) return true;
    if (sending.flight.is_empty()) {
        if (sending.filling.is_empty()) return true;
        sending.flight = sending.filling;
        sending.filling = .{};
    }
    const sqe = engine.sqe() orelse return false;
    const user_data = Connection.tag(engine, index, .send);
    const file = connection.file_of(index);
    const first = sending.flight.first(&engine.staging_pool);
    if (first.len == sending.flight.size) {
        socket.Send.prepare(sqe, file, first, user_data);
    } else if (sending.message(engine)) |header| {
        socket.Send.prepare_message(sqe, file, header, user_data);
    } else {
        // No block left for the header: the first block alone, the rest as its remainder.
        socket.Send.prepare(sqe, file, first, user_data);
    }
    sending.pending = true;
    if (mutation.is(.release_blocks_early)) sending.flight.clear(&engine.staging_pool);
    return true;
}

/// Bytes taken. Large ones with nothing queued before them are offered to the kernel at once;
/// what is left is copied as far as the mark and the pool allow.
pub fn write(connection: *Connection, engine: *Engine, index: u32, bytes: []const u8) i32 {
    if (connection.shut != .none or connection.stage == .closing) return errno.shutdown;
    if (connection.failure != 0) return errno.pipe;
    const sending = &connection.sending;
    var taken: u32 = 0;
    if (sending.is_empty() and bytes.len >= send_now_min and connection.stage == .open) {
        const sent = engine.kernel.send_now(connection.fd, bytes);
        if (sent > 0) {
            taken = @intCast(sent);
            engine.counters.bytes_sent += taken;
        } else if (sent != errno.again and sent != errno.intr and sent != errno.nobufs) {
            connection.fail(engine, index, sent);
            return errno.pipe;
        }
    }
    const room = engine.high_water_mark -| sending.size();
    const rest = bytes[taken..];
    const offered = rest[0..@min(rest.len, room)];
    taken += sending.filling.append(&engine.staging_pool, offered);
    if (!sending.filling.is_empty()) engine.mark(index);
    if (taken < bytes.len) {
        sending.wants_drain = true;
        // Nothing of its own will complete and wake it: it queues for blocks.
        if (sending.is_empty()) engine.starved.push(&engine.connections, index);
    }
    return @intCast(taken);
}

pub fn on_send(connection: *Connection, engine: *Engine, index: u32, result: i32) void {
    const sending = &connection.sending;
    if (!sending.pending) return; // a kernel that completes twice harms nobody
    sending.pending = false;
    if (result < 0) {
        engine.mark(index);
        // -ECANCELED comes from our own cancel, which has set the reason already.
        if (result != errno.canceled and result != errno.intr) {
            connection.fail(engine, index, result);
        }
        return;
    }
    const sent = @min(@as(u32, @intCast(result)), sending.flight.size);
    engine.counters.bytes_sent += sent;
    const flown = if (mutation.is(.skip_remainder)) sending.flight.size else sent;
    sending.flight.consume(&engine.staging_pool, flown);
    if (sending.flight.is_empty()) sending.release_header(engine);
    // The usual echo ends here: nothing is left to submit.
    const quiet = sending.is_empty() and connection.shut == .none and connection.failure == 0;
    if (!quiet) engine.mark(index);
    maybe_drain(connection, engine, index);
}

/// There is room again for a writer that was refused: once per refusal.
pub fn maybe_drain(connection: *Connection, engine: *Engine, index: u32) void {
    const sending = &connection.sending;
    if (!sending.wants_drain or connection.is_dying()) return;
    if (sending.size() > engine.high_water_mark / 2) return;
    sending.wants_drain = false;
    if (!mutation.is(.forget_drain)) engine.record(.drain, index, 0, 0, 0);
}
