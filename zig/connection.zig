//! One stream connection: connect, half-close, close, and the order in which it submits.
//!
//! CQEs and calls only set state and mark the connection; `advance` looks at the state once per
//! turn and submits what it asks for, as a list of ordered guards. That gives one send per turn, a
//! place for back-pressure (no SQE: try again next turn), and one function that holds every order
//! that matters. `receiving.zig` and `sending.zig` hold the two directions. Called by `engine.zig`
//! and `operation/connection.zig`. It never waits and never closes a descriptor that an operation
//! still names (K5).

const std = @import("std");
const assert = std.debug.assert;
const abi = @import("abi.zig");
const seam = @import("kernel.zig");
const slots = @import("slots.zig");
const deadlines = @import("deadlines.zig");
const forwarding = @import("forwarding.zig");
const passing = @import("passing.zig");
const proxied = @import("proxied.zig");
const receiving = @import("receiving.zig");
const sending = @import("sending.zig");
const splicing = @import("splicing.zig");
const send_settling = @import("send_settling.zig");
const socket = @import("operation/connection.zig");
const Engine = @import("engine.zig").Engine;
const Kind = @import("operation.zig").Kind;
const errno = seam.errno;

/// connecting ──CQE──▶ open ──▶ closing ──CLOSE's CQE──▶ (retired)
///      └─ failed ─────────────────┘
pub const Stage = enum(u8) { connecting, open, closing };

/// How far the user wants the connection shut; it only grows.
pub const Shut = enum(u8) { none, end, close, terminate };

pub const Connection = struct {
    fd: i32,
    /// The first thing that went wrong, negative; 0 while sound. Reported with `close`.
    failure: i32 = 0,
    listener: u32,
    stage: Stage,
    shut: Shut = .none,
    /// The slot's place among the registered files holds the descriptor.
    registered: bool = false,
    /// JavaScript knows the connection: it gets a `close` record.
    announced: bool = false,
    /// The descriptor came connected, from the caller.
    adopted: bool = false,
    /// What is spliced has to be: a splice(2) would wait otherwise.
    non_blocking: bool = false,
    /// FIN sent.
    write_ended: bool = false,
    connect_pending: bool = false,
    shutdown_pending: bool = false,
    /// A cancel of the connect is on its way: not asked for twice.
    connect_cancelled: bool = false,
    cancels_pending: u8 = 0,
    receiving: receiving.Receiving = .{},
    sending: sending.Sending = .{},
    dirty: slots.Link = .{},
    parked: slots.Link = .{},
    starved: slots.Link = .{},
    laden: slots.Link = .{},
    deadline: deadlines.Deadline = .{},
    forwarding: forwarding.Forwarding = .{},
    passing: passing.Passing = .{},
    proxy: proxied.Stage = .off,
    /// Where to connect to; the kernel reads it until the connect's CQE (I1).
    address: seam.SocketAddress = undefined,

    /// Submits what the state asks for. False: no SQE was to be had, come again next turn.
    pub fn advance(connection: *Connection, engine: *Engine, index: u32) bool {
        if (connection.stage == .closing) return true;
        if (connection.stage == .connecting) {
            // Only terminate gives a connect up: after end or close, what was written leaves first.
            if (connection.shut == .terminate) return connection.advance_abandoned(engine, index);
            return connection.submit_connect(engine, index);
        }
        if (connection.is_dying()) return connection.advance_abandoned(engine, index);
        if (!receiving.advance(connection, engine, index)) return false;
        if (!sending.advance(connection, engine, index)) return false;
        return connection.advance_shut(engine, index);
    }

    /// Nothing more is to be sent or received: cancel, wait for the last CQEs, close.
    pub fn is_dying(connection: *const Connection) bool {
        return connection.failure != 0 or connection.shut == .terminate;
    }

    /// Nothing more can be sent.
    pub fn has_failed(connection: *const Connection) bool {
        return connection.failure != 0 or connection.sending.broken != 0;
    }

    pub fn is_sound(connection: *const Connection) bool {
        return connection.stage == .open and !connection.is_dying();
    }

    fn is_busy(connection: *const Connection) bool {
        return connection.receiving.is_armed() or connection.sending.pending or
            connection.shutdown_pending or connection.connect_pending or
            connection.cancels_pending > 0;
    }

    fn advance_abandoned(connection: *Connection, engine: *Engine, index: u32) bool {
        if (!connection.is_busy()) {
            if (connection.shut == .terminate) {
                // RST instead of FIN; if it is refused the close is merely a polite one.
                _ = engine.kernel.set_option(connection.fd, .linger_reset, 1);
            }
            return connection.submit_close(engine, index);
        }
        // One by one, by name: a cancel by descriptor looks at every request of the ring.
        if (!receiving.abandon(connection, engine, index)) return false;
        if (!sending.abandon(connection, engine, index)) return false;
        return connection.cancel_connect(engine, index);
    }

    fn cancel_connect(connection: *Connection, engine: *Engine, index: u32) bool {
        if (!connection.connect_pending or connection.connect_cancelled) return true;
        const sqe = engine.sqe() orelse return false;
        const target = tag(engine, index, .connect);
        socket.ConnectCancel.prepare(sqe, target, tag(engine, index, .connect_cancel));
        connection.connect_cancelled = true;
        connection.cancels_pending += 1;
        return true;
    }

    /// FIN once the queue is empty; close once both sides are done, or the user will not wait.
    fn advance_shut(connection: *Connection, engine: *Engine, index: u32) bool {
        if (connection.shut == .none or connection.sending.broken != 0) return true;
        if (connection.sending.pending or connection.shutdown_pending) return true;
        if (!connection.sending.is_empty()) return true; // corked
        if (!connection.write_ended) {
            const sqe = engine.sqe() orelse return false;
            socket.Shutdown.prepare(sqe, connection.fd, tag(engine, index, .shutdown));
            connection.shutdown_pending = true;
            return true;
        }
        if (connection.shut == .end and !connection.receiving.ended) return true;
        // What it has received is on its way to another connection, which is to be told of its end.
        if (connection.shut == .end and connection.forwarding.stage == .ending) return true;
        if (connection.is_busy()) return true;
        return connection.submit_close(engine, index);
    }

    fn submit_connect(connection: *Connection, engine: *Engine, index: u32) bool {
        if (connection.connect_pending) return true;
        const sqe = engine.sqe() orelse return false;
        const user_data = tag(engine, index, .connect);
        if (connection.adopted) {
            socket.Connect.prepare_adopted(sqe, user_data);
        } else {
            socket.Connect.prepare(sqe, connection.fd, &connection.address, user_data);
        }
        connection.connect_pending = true;
        return true;
    }

    fn submit_close(connection: *Connection, engine: *Engine, index: u32) bool {
        assert(!connection.is_busy());
        const sqe = engine.sqe() orelse return false;
        sending.release(connection, engine, connection.cause());
        if (connection.registered) {
            // The table holds the socket open as a descriptor does: out of it before the close.
            _ = engine.kernel.file_set(index, -1);
            connection.registered = false;
        }
        socket.Close.prepare(sqe, connection.fd, tag(engine, index, .close));
        connection.stage = .closing;
        return true;
    }

    /// Why what is still queued was not sent.
    fn cause(connection: *const Connection) i32 {
        return if (connection.failure != 0) connection.failure else errno.canceled;
    }

    pub fn file_of(connection: *const Connection, index: u32) socket.File {
        if (!connection.registered) return .{ .number = connection.fd };
        return .{ .number = @intCast(index), .registered = true };
    }

    pub fn tag(engine: *Engine, index: u32, kind: Kind) slots.UserData {
        return .{
            .slot = @intCast(index),
            .kind = kind,
            .generation = engine.connections.generation(index),
        };
    }

    pub fn fail(connection: *Connection, engine: *Engine, index: u32, code: i32) void {
        assert(code < 0);
        const first = if (connection.sending.broken != 0) connection.sending.broken else code;
        if (connection.failure == 0) connection.failure = first;
        engine.mark(index);
    }

    // Calls from JavaScript ---------------------------------------------------------------------

    pub const write = sending.write;
    pub const pause = receiving.pause;

    /// After `linger_ms` a close that still waits for its sends resets the connection; 0 is never.
    pub fn shut_down(
        connection: *Connection,
        engine: *Engine,
        index: u32,
        how: abi.Shut,
        linger_ms: u32,
    ) void {
        const asked: Shut = switch (how) {
            .end => .end,
            .close => .close,
            .terminate => .terminate,
            .receiving => return connection.stop_receiving(engine),
        };
        if (@intFromEnum(asked) <= @intFromEnum(connection.shut)) return;
        connection.shut = asked;
        connection.sending.wants_drain = false;
        // From here on the deadline is not the user's, and a connect keeps its own.
        if (asked != .end and connection.stage == .open) {
            engine.deadlines.set(engine, index, if (asked == .close) linger_ms else 0);
        }
        engine.mark(index);
    }

    fn stop_receiving(connection: *Connection, engine: *Engine) void {
        if (connection.stage == .open) engine.kernel.shut(connection.fd, .receiving);
    }

    /// Only an open connection's deadline is the user's, and not if it waits for its reader.
    pub fn set_timeout(connection: *Connection, engine: *Engine, index: u32, timeout_ms: u32) i32 {
        if (connection.stage != .open) return errno.notconn;
        connection.deadline.sequence +%= 1;
        const is_users = connection.shut == .none or connection.shut == .end;
        if (connection.sending.awaits_reader) return 0;
        if (is_users) engine.deadlines.set(engine, index, timeout_ms);
        return 0;
    }

    // Completions ------------------------------------------------------------------------------

    pub const on_receive = receiving.on_receive;
    pub const on_readable = splicing.on_readable;
    pub const on_send = sending.on_send;
    pub const on_send_cancelled = sending.on_send_cancelled;
    pub const maybe_drain = sending.maybe_drain;

    pub fn on_connect(connection: *Connection, engine: *Engine, index: u32, result: i32) void {
        assert(connection.stage == .connecting);
        connection.connect_pending = false;
        engine.mark(index);
        connection.stage = .open; // after a failure, too: the way to `closing` is the same
        engine.deadlines.set(engine, index, 0);
        if (result < 0) {
            // Told when the descriptor is closed; its own time-out is why it was cancelled.
            if (connection.failure == 0) connection.failure = result;
            return;
        }
        // Success wins over a cancel that came too late (I4): the connection is told, then shut.
        connection.announce(engine, index);
    }

    pub fn announce(connection: *Connection, engine: *Engine, index: u32) void {
        assert(!connection.announced);
        if (index < engine.registered_files) {
            connection.registered = engine.kernel.file_set(index, connection.fd) >= 0;
        }
        connection.announced = true;
        engine.counters.connections_opened += 1;
        engine.record(.open, index, 0, 0, connection.listener);
    }

    /// Connecting took too long, queued bytes did not leave in time, or the user's time has passed.
    pub fn on_deadline(connection: *Connection, engine: *Engine, index: u32) void {
        const is_closing = connection.shut == .close or connection.shut == .terminate;
        if (connection.proxy == .awaited and !is_closing) {
            return proxied.on_deadline(connection, engine, index);
        }
        switch (connection.stage) {
            .closing => return,
            .connecting => {},
            .open => if (!is_closing) {
                if (connection.sending.awaits_reader) {
                    return sending.on_deadline(connection, engine, index);
                }
                return engine.record(.timeout, index, 0, 0, connection.deadline.sequence);
            },
        }
        connection.fail(engine, index, errno.timedout);
        connection.shut = .terminate; // with RST: the peer must not take a part for the whole
    }

    pub fn on_shutdown(connection: *Connection, engine: *Engine, index: u32, result: i32) void {
        connection.shutdown_pending = false;
        connection.write_ended = true;
        engine.mark(index);
        // ENOTCONN: the peer is gone already, which the receive reports.
        if (result < 0 and result != errno.notconn and result != errno.canceled) {
            connection.fail(engine, index, result);
        }
    }

    pub fn on_cancel_done(connection: *Connection, engine: *Engine, index: u32) void {
        assert(connection.cancels_pending > 0);
        connection.cancels_pending -= 1;
        engine.mark(index);
    }

    pub fn on_closed(connection: *Connection, engine: *Engine, index: u32) void {
        assert(connection.stage == .closing);
        send_settling.report(engine); // who waits for a send hears of it before the close
        if (connection.announced) {
            engine.counters.connections_closed += 1;
            engine.record(.close, index, connection.failure, 0, 0);
        } else if (connection.proxy == .awaited) {
            proxied.on_gone(connection, engine, index);
        } else {
            const why = if (connection.failure < 0) connection.failure else errno.canceled;
            engine.record(.connect_failed, index, why, 0, 0);
        }
        passing.release(connection, engine, index);
        engine.connection_gone(index);
    }
};
