//! How a connection receives: one receive armed into provided buffers, pause, the peer's FIN.
//!
//! `Receiving` is the state, held in the connection; the functions act on the connection that holds
//! it. Nothing is armed while nobody wants data, and a connection that found no buffer is parked
//! until some come back (K9). Called by `connection.zig`, `engine.zig` and
//! `operation/connection.zig`.

const std = @import("std");
const assert = std.debug.assert;
const seam = @import("kernel.zig");
const forwarding = @import("forwarding.zig");
const socket = @import("operation/connection.zig");
const mutation = @import("testing/mutation.zig");
const Connection = @import("connection.zig").Connection;
const Engine = @import("engine.zig").Engine;
const Shut = @import("connection.zig").Shut;
const errno = seam.errno;

/// idle ──advance──▶ armed ──last CQE──▶ idle       ENOBUFS: armed ──▶ parked ──buffers──▶ idle
pub const Arm = enum(u8) { idle, armed, parked };

pub const Receiving = struct {
    arm: Arm = .idle,
    paused: bool = false,
    /// FIN received.
    ended: bool = false,
    /// A cancel of the armed receive is on its way: not asked for twice.
    cancelled: bool = false,

    /// The kernel still holds a receive of this connection.
    pub fn is_armed(receiving: *const Receiving) bool {
        return receiving.arm == .armed and !mutation.is(.close_early);
    }
};

/// Arms or cancels, as the state asks. False: no SQE was to be had.
pub fn advance(connection: *Connection, engine: *Engine, index: u32) bool {
    const receiving = &connection.receiving;
    const wanted = !receiving.paused and !receiving.ended and !is_given_up(connection);
    switch (receiving.arm) {
        // Woken when buffers come back; if it is not wanted then, it stays idle.
        .parked => return true,
        .idle => {
            if (!wanted) return true;
            const sqe = engine.sqe() orelse return false;
            const multishot = engine.has(.multishot_receive);
            const user_data = Connection.tag(engine, index, .receive);
            socket.Receive.prepare(sqe, connection.file_of(index), multishot, user_data);
            receiving.arm = .armed;
            receiving.cancelled = false;
        },
        .armed => {
            if (wanted or receiving.cancelled) return true;
            if (mutation.is(.ignore_pause) and receiving.paused) return true;
            const sqe = engine.sqe() orelse return false;
            const target = Connection.tag(engine, index, .receive);
            const user_data = Connection.tag(engine, index, .receive_cancel);
            socket.ReceiveCancel.prepare(sqe, target, user_data);
            receiving.cancelled = true;
            connection.cancels_pending += 1;
        },
    }
    return true;
}

/// After terminate or close nobody reads.
fn is_given_up(connection: *const Connection) bool {
    return @intFromEnum(connection.shut) >= @intFromEnum(Shut.close);
}

pub fn pause(connection: *Connection, engine: *Engine, index: u32, paused: bool) void {
    if (connection.receiving.paused == paused) return;
    connection.receiving.paused = paused;
    engine.mark(index);
}

pub fn on_receive(
    connection: *Connection,
    engine: *Engine,
    index: u32,
    cqe: *const seam.Cqe,
) void {
    const more = cqe.flags & seam.cqe_flag.more != 0;
    if (!more) {
        connection.receiving.arm = .idle;
        engine.mark(index);
    }
    if (cqe.flags & seam.cqe_flag.buffer != 0) {
        const id = cqe.flags >> seam.cqe_flag.buffer_shift;
        if (!engine.buffers.deliver(id)) return engine.stale(cqe);
        if (cqe.res > 0) return on_data(connection, engine, index, id, cqe.res);
    }
    if (cqe.res == 0) return on_end(connection, engine, index);
    if (cqe.res == errno.nobufs) {
        engine.counters.receive_starved += 1;
        engine.buffers.starved();
        if (more) return;
        engine.counters.parks += 1;
        connection.receiving.arm = .parked;
        engine.parked.push(&engine.connections, index);
        return;
    }
    if (cqe.res == errno.canceled or cqe.res == errno.intr) return;
    connection.fail(engine, index, cqe.res);
}

/// As many parked connections as there are buffers, oldest first: never in a loop, never on a
/// timer (K9).
pub fn unpark(engine: *Engine) void {
    if (mutation.is(.forget_parked)) return;
    var budget = engine.buffers.free;
    while (budget > 0) : (budget -= 1) {
        const index = engine.parked.pop(&engine.connections) orelse return;
        const connection = engine.connections.at(index);
        assert(connection.receiving.arm == .parked);
        connection.receiving.arm = .idle;
        engine.mark(index);
    }
}

fn on_data(connection: *Connection, engine: *Engine, index: u32, id: u32, len: i32) void {
    if (is_given_up(connection)) return; // the buffer goes back with the others
    engine.counters.bytes_received += len;
    if (connection.forwarding.stage != .off) {
        const bytes = engine.buffers.bytes(@intCast(id))[0..@intCast(len)];
        return forwarding.on_data(connection, engine, index, id, bytes);
    }
    const offset = engine.layout.receive_offset + id * engine.buffers.size;
    engine.record(.data, index, len, offset, id);
}

fn on_end(connection: *Connection, engine: *Engine, index: u32) void {
    if (connection.receiving.ended) return;
    connection.receiving.ended = true;
    engine.mark(index);
    if (is_given_up(connection)) return;
    if (connection.forwarding.stage != .off) {
        return forwarding.on_end(connection, engine, index);
    }
    engine.record(.end, index, 0, 0, 0);
}
