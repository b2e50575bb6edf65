//! A listener: one accept armed, connections handed to `connection.zig`, an orderly stop.
//!
//! Like a connection it only sets state on events and submits in `advance`. When descriptors run
//! out it backs off for 100 ms, or until a connection of the ring has given its own back, instead
//! of spinning on an accept that fails at once. What a client did wrong before it was accepted
//! (accept(2)) concerns nobody else.

const std = @import("std");
const assert = std.debug.assert;
const abi = @import("abi.zig");
const seam = @import("kernel.zig");
const proxied = @import("proxied.zig");
const slots = @import("slots.zig");
const socket = @import("operation/connection.zig");
const timer = @import("operation/timer.zig");
const Engine = @import("engine.zig").Engine;
const Kind = @import("operation.zig").Kind;
const errno = seam.errno;

/// idle ──advance──▶ armed ──last CQE──▶ idle
///                     └─EMFILE──▶ backing_off ──timer, or a descriptor is free──▶ idle
///   └─ stopped ──▶ closing ──CLOSE's CQE──▶ (retired)
pub const Stage = enum(u8) { idle, armed, backing_off, closing };

pub const Listener = struct {
    fd: i32,
    stage: Stage = .idle,
    stopped: bool = false,
    /// A descriptor is free again: no need to wait for the timer.
    in_haste: bool = false,
    cancel_asked: bool = false,
    cancels_pending: u8 = 0,
    failure: i32 = 0,
    dirty: slots.Link = .{},
    /// How long a connection may take to send its PROXY header; 0: it has none.
    proxy_timeout_ms: u32 = 0,
    /// Connections whose header has not come.
    awaiting: u32 = 0,

    pub fn advance(listener: *Listener, engine: *Engine, index: u32) bool {
        switch (listener.stage) {
            .closing => return true,
            .backing_off, .armed => {
                if (!(listener.stopped or listener.in_haste) or listener.cancel_asked) return true;
                const sqe = engine.sqe() orelse return false;
                const kind: Kind = if (listener.stage == .armed) .accept else .accept_retry;
                const user_data = tag(engine, index, .listener_cancel);
                socket.ListenerCancel.prepare(sqe, tag(engine, index, kind), user_data);
                listener.cancel_asked = true;
                listener.cancels_pending += 1;
            },
            .idle => if (listener.stopped) {
                if (listener.cancels_pending > 0 or listener.awaiting > 0) return true;
                const sqe = engine.sqe() orelse return false;
                socket.ListenerClose.prepare(sqe, listener.fd, tag(engine, index, .listener_close));
                listener.stage = .closing;
            } else {
                const sqe = engine.sqe() orelse return false;
                const multishot = engine.has(.multishot_accept);
                socket.Accept.prepare(sqe, listener.fd, multishot, tag(engine, index, .accept));
                listener.stage = .armed;
            },
        }
        return true;
    }

    pub fn stop(listener: *Listener, engine: *Engine, index: u32) void {
        if (listener.stopped) return;
        listener.stopped = true;
        // At once: who stops a listener may listen on its address in the next line.
        if (listener.stage != .closing) engine.kernel.shut(listener.fd, .both);
        if (listener.awaiting > 0) proxied.drop_awaiting(engine, index);
        engine.mark_listener(index);
    }

    pub fn on_accept(
        listener: *Listener,
        engine: *Engine,
        index: u32,
        cqe: *const seam.Cqe,
    ) void {
        if (cqe.flags & seam.cqe_flag.more == 0) {
            listener.stage = .idle;
            engine.mark_listener(index);
        }
        if (cqe.res >= 0) return listener.admit(engine, index, cqe.res);
        if (cqe.res == errno.canceled or listener.stopped) return;
        engine.counters.accepts_failed += 1;
        switch (cqe.res) {
            // accept(2): the peer was gone before we came, its network, or a firewall refused it;
            // the next one is as good as any.
            errno.connaborted, errno.connreset, errno.timedout, errno.proto, errno.perm => {},
            errno.netdown, errno.netunreach, errno.hostdown, errno.hostunreach, errno.nonet => {},
            errno.noprotoopt, errno.intr, errno.again => {},
            // There is no listening socket: nothing will ever come.
            errno.badf, errno.inval, errno.notsock, errno.notsup => {
                listener.failure = cqe.res;
                listener.stop(engine, index);
            },
            else => if (listener.stage == .idle) listener.back_off(engine, index),
        }
    }

    fn admit(listener: *Listener, engine: *Engine, index: u32, fd: i32) void {
        const slot = if (listener.stopped) null else engine.connections.claim();
        if (slot == null) {
            // A success is never leaked (I4): without a slot the peer is turned away.
            engine.counters.accepts_failed += 1;
            return engine.kernel.close_fd(fd);
        }
        const connection = engine.connections.at(slot.?);
        engine.kernel.own(fd);
        connection.* = .{ .fd = fd, .listener = index, .stage = .open };
        if (listener.proxy_timeout_ms > 0) {
            proxied.begin(connection, engine, slot.?, listener);
        } else {
            connection.announce(engine, slot.?);
        }
        engine.mark(slot.?);
    }

    fn back_off(listener: *Listener, engine: *Engine, index: u32) void {
        // Without an SQE the listener stays idle and marked: it tries again next turn.
        const sqe = engine.sqe() orelse return;
        timer.AcceptRetry.prepare(sqe, tag(engine, index, .accept_retry));
        listener.stage = .backing_off;
        engine.backing_off += 1;
        engine.counters.accept_backoffs += 1;
    }

    /// A descriptor of the ring's is free.
    pub fn hasten(engine: *Engine) void {
        if (engine.backing_off == 0) return;
        for (0..engine.listeners.fresh) |slot| {
            const index: u32 = @intCast(slot);
            if (!engine.listeners.is_claimed(index)) continue;
            const listener = engine.listeners.at(index);
            if (listener.stage != .backing_off) continue;
            listener.in_haste = true;
            engine.mark_listener(index);
        }
    }

    pub fn on_retry(listener: *Listener, engine: *Engine, index: u32) void {
        assert(listener.stage == .backing_off);
        listener.stage = .idle;
        listener.in_haste = false;
        listener.cancel_asked = false;
        assert(engine.backing_off > 0);
        engine.backing_off -= 1;
        engine.mark_listener(index);
    }

    pub fn on_cancel_done(listener: *Listener, engine: *Engine, index: u32) void {
        assert(listener.cancels_pending > 0);
        listener.cancels_pending -= 1;
        engine.mark_listener(index);
    }

    pub fn on_closed(listener: *Listener, engine: *Engine, index: u32) void {
        assert(listener.stage == .closing);
        engine.record(.listener_closed, index, listener.failure, 0, 0);
        engine.listeners.retire(index);
    }

    fn tag(engine: *Engine, index: u32, kind: Kind) slots.UserData {
        return .{
            .slot = @intCast(index),
            .kind = kind,
            .generation = engine.listeners.generation(index),
        };
    }
};
