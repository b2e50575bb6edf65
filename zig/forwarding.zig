//! Forwarding: what a connection receives goes into another's send queue, without JavaScript and
//! without a copy.
//!
//! A receive buffer is lent to the target's queue and goes back to the kernel when its bytes have
//! left. The buffers count in the source's share meanwhile, so a target that does not keep up stops
//! the source from receiving (I9). Where three quarters of all buffers are lent already, a source
//! receives when its target has sent everything, one buffer at a time, and its bytes are copied:
//! however many targets stall, there are buffers for everybody else. Bulk takes no buffers:
//! `splicing.zig`. The peer's FIN is told when everything before it was sent. What ends the pair,
//! and how, is the caller's business. Called by `receiving.zig`, `splicing.zig` and `calls.zig`.

const std = @import("std");
const assert = std.debug.assert;
const abi = @import("abi.zig");
const seam = @import("kernel.zig");
const receiving = @import("receiving.zig");
const segments = @import("segment.zig");
const send_start = @import("send_start.zig");
const splicing = @import("splicing.zig");
const Connection = @import("connection.zig").Connection;
const Engine = @import("engine.zig").Engine;
const errno = seam.errno;

/// off ──start──▶ on ──FIN──▶ ending ──all sent──▶ off        a failure ends it from everywhere
pub const Stage = enum(u8) { off, on, ending };

pub const Forwarding = struct {
    stage: Stage = .off,
    target: u32 = 0,
    generation: u32 = 0,
    /// Buffers that the target has not sent yet.
    pending: u32 = 0,
    /// Bytes that were sent.
    bytes: u64 = 0,
    way: splicing.Way = .buffers,
    /// In succession: receives that call for pipes, or fillings of a pipe that do not.
    streak: u8 = 0,
    patience: u8 = splicing.patience_min,

    /// Too many buffers are lent: the source gets one at a time, once all before it was sent.
    pub fn is_rationed(forwarding: *const Forwarding, engine: *const Engine) bool {
        return forwarding.stage == .on and engine.buffers.is_low();
    }

    /// Pipes take the place of buffers.
    pub fn is_piped(forwarding: *const Forwarding) bool {
        return forwarding.stage == .on and forwarding.way == .pipes;
    }

    pub fn must_wait(forwarding: *const Forwarding, engine: *const Engine) bool {
        if (forwarding.pending == 0) return false;
        return forwarding.is_piped() or forwarding.is_rationed(engine);
    }
};

/// From here on received bytes go to the target. The end comes as a `forwarded` record.
pub fn start(
    connection: *Connection,
    engine: *Engine,
    target_index: u32,
    target_generation: u32,
) i32 {
    const forwarding = &connection.forwarding;
    if (forwarding.stage != .off or forwarding.pending > 0) return errno.busy;
    if (connection.receiving.ended) return errno.nodata;
    const target = engine.connections.find(target_index, target_generation) orelse
        return errno.noent;
    if (!send_start.takes(target)) return errno.pipe;
    forwarding.* = .{ .stage = .on, .target = target_index, .generation = target_generation };
    return 0;
}

/// What comes from here on is JavaScript's again; what is under way still arrives.
pub fn stop(connection: *Connection) void {
    connection.forwarding.stage = .off;
}

/// Received bytes, in a buffer that has been delivered. At most one record.
pub fn on_data(
    connection: *Connection,
    engine: *Engine,
    index: u32,
    number: u32,
    bytes: []const u8,
) void {
    const forwarding = &connection.forwarding;
    const target = engine.connections.find(forwarding.target, forwarding.generation) orelse
        return finish(connection, engine, index, errno.pipe);
    if (!send_start.takes(target)) return finish(connection, engine, index, errno.pipe);
    const lent = receiving.lend(engine, number) == 0;
    if (!lent) engine.counters.forwards_copied += 1;
    const owner = lent_by(engine, index, if (lent) number else null);
    const taken = send_start.forward(target, engine, forwarding.target, bytes, lent, owner);
    if (!taken) {
        if (lent) receiving.return_from_queue(engine, number);
        return finish(connection, engine, index, errno.nomem);
    }
    forwarding.pending += 1;
}

/// What the target gets is the source's: in a buffer of this number, or not in one.
pub fn lent_by(engine: *const Engine, index: u32, number: ?u32) segments.Lent {
    const context: Context = .{
        .buffer = if (number) |buffer| @intCast(buffer) else Context.none,
        .slot = @intCast(index),
        .generation = @truncate(engine.connections.generation(index)),
    };
    return .{ .release = on_sent, .context = @bitCast(context) };
}

/// Whose buffer it is that the target has; none of a copy, and of a pipe.
const Context = packed struct(u64) {
    buffer: u16,
    slot: u24,
    generation: u24,

    const none = std.math.maxInt(u16);
};

comptime {
    assert(abi.receive_buffers_max < Context.none);
}

/// The target's queue is done with a buffer; it may have gone without sending it.
fn on_sent(engine: *Engine, packed_context: u64, sent: u64, size: u64) void {
    const context: Context = @bitCast(packed_context);
    if (context.buffer != Context.none) receiving.return_from_queue(engine, context.buffer);
    const index: u32 = context.slot;
    // It may be gone, and the slot another's.
    if (!engine.connections.is_claimed(index)) return;
    const generation: u24 = @truncate(engine.connections.generation(index));
    if (generation != context.generation) return;
    const connection = engine.connections.at(index);
    const forwarding = &connection.forwarding;
    assert(forwarding.pending > 0);
    forwarding.pending -= 1;
    forwarding.bytes += sent;
    // It may have waited for this.
    if (forwarding.pending == 0 and connection.receiving.arm == .idle) engine.mark(index);
    if (sent < size) {
        finish(connection, engine, index, errno.pipe);
    } else if (forwarding.stage == .ending and forwarding.pending == 0) {
        finish(connection, engine, index, 0);
    }
}

/// The peer's FIN.
pub fn on_end(connection: *Connection, engine: *Engine, index: u32) void {
    const forwarding = &connection.forwarding;
    forwarding.stage = .ending;
    if (forwarding.pending == 0) finish(connection, engine, index, 0);
}

pub fn finish(connection: *Connection, engine: *Engine, index: u32, result: i32) void {
    if (connection.forwarding.stage == .off) return;
    connection.forwarding.stage = .off;
    engine.mark(index);
    engine.record(.forwarded, index, result, 0, 0);
}
