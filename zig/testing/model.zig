//! What a schedule remembers of listeners, connections, peers and operations, and what must hold.
//!
//! The model knows no engine: it is told of each call and each record, and of each byte at both
//! ends. Everything that it finds wrong is an `error.Violation` with a message. Rules: bytes arrive
//! as written, in order; `open` once, `end` at most once, `close` once, nothing after; one
//! completion per operation; `drain` only after a short write.

const std = @import("std");
const abi = @import("../abi.zig");
const seam = @import("../kernel.zig");
const pattern = @import("pattern.zig");
const sending = @import("../sending.zig");
const Send = @import("sends.zig").Send;
const Stream = @import("stream.zig").Stream;
const errno = seam.errno;

pub const Failure = error{Violation};

/// The first thing that went wrong.
pub const Verdict = struct {
    buffer: [256]u8 = undefined,
    message: []const u8 = "",

    pub fn violation(verdict: *Verdict, comptime format: []const u8, arguments: anytype) Failure {
        if (verdict.message.len == 0) {
            verdict.message = std.fmt.bufPrint(&verdict.buffer, format, arguments) catch
                &verdict.buffer;
        }
        return error.Violation;
    }
};

pub const Stage = enum { none, connecting, open, over };

pub const Connection = struct {
    stage: Stage = .none,
    was_open: bool = false,
    generation: u32 = 0,
    /// What it sends; its key is never used twice in a run.
    stream: Stream = .{},
    peer: ?*Peer = null,
    /// Bytes of `data` records.
    delivered: u64 = 0,
    end_seen: bool = false,
    /// Turns after which a write took less than offered, the first and the last one that no `drain`
    /// has answered. A `drain` record answers only writes from before its turn.
    refused_first: ?u64 = null,
    refused_last: u64 = 0,
    paused: bool = false,
    /// Since when; and it was so long enough to be given up if its peer was gone.
    paused_ns: u64 = 0,
    kept_waiting: bool = false,
    /// Paused, and the receive has ended: nothing may arrive.
    silent: bool = false,
    shut: ?abi.Shut = null,
    /// The turn after which it was first asked for.
    shut_turn: u64 = 0,
    /// How often its time-out was set, and when the last one may strike, if it still can.
    timeout_sequence: u32 = 0,
    timeout_due_ns: ?u64 = null,
    /// Its connect has a time-out, its close a bound: it ends by itself.
    connect_limited: bool = false,
    close_limited: bool = false,
    /// It was told to receive no more: the end may come early.
    receives_less: bool = false,
    /// A write was refused because the connection is breaking: a `close` is on its way.
    breaking: bool = false,
    /// A send failed for no reason of its own: the connection must have, too.
    must_fail: bool = false,
    /// A call said ENOENT: the record that ends it must be among those still to be read.
    gone: bool = false,
    /// What the user keeps of it.
    lent_buffers: u32 = 0,
    lent_bytes: u64 = 0,
    /// While it stands in line for a buffer: the turns that had served others by then.
    in_line_since: ?u64 = null,

    pub fn is_writable(connection: *const Connection) bool {
        return connection.shut == null and !connection.breaking and !connection.gone and
            (connection.stage == .open or connection.stage == .connecting);
    }

    pub fn is_live(connection: *const Connection) bool {
        return connection.stage == .open or connection.stage == .connecting;
    }

    /// Whether a call was refused because the connection is over already.
    pub fn is_gone(connection: *Connection, outcome: i32) bool {
        if (outcome == errno.noent) connection.gone = true;
        return outcome == errno.noent;
    }

    pub fn wrote(
        connection: *Connection,
        arena: std.mem.Allocator,
        verdict: *Verdict,
        turn: u64,
        offered: u32,
        taken: i32,
    ) error{ Violation, OutOfMemory }!void {
        if (taken < 0) {
            // The only refusals of a live connection that is not shut: it is on its way out.
            if (taken != errno.pipe and taken != errno.shutdown) {
                return verdict.violation("write failed with {d}", .{taken});
            }
            connection.breaking = true;
            return;
        }
        if (taken > offered) return verdict.violation("write took more than offered", .{});
        try connection.stream.took(arena, @intCast(taken));
        if (taken == offered) return;
        if (connection.refused_first == null) connection.refused_first = turn;
        connection.refused_last = turn;
    }

    pub fn on_data(connection: *Connection, verdict: *Verdict, bytes: []const u8) Failure!void {
        try connection.expect_open(verdict, "data");
        if (connection.end_seen) return verdict.violation("data after end", .{});
        if (connection.silent) return verdict.violation("data while paused", .{});
        const peer = connection.peer.?;
        if (bytes.len == 0) return verdict.violation("data without bytes", .{});
        if (connection.delivered + bytes.len > peer.sent) {
            return verdict.violation("more data than the peer sent", .{});
        }
        if (!pattern.matches(peer.key, connection.delivered, bytes)) {
            return verdict.violation("data differs at byte {d}", .{connection.delivered});
        }
        connection.delivered += bytes.len;
        connection.in_line_since = null;
    }

    pub fn on_end(connection: *Connection, verdict: *Verdict) Failure!void {
        try connection.expect_open(verdict, "end");
        if (connection.end_seen) return verdict.violation("end twice", .{});
        connection.end_seen = true;
        const peer = connection.peer.?;
        if (connection.receives_less) return;
        if (peer.broken) return; // a break may look like the end to a receive
        if (!peer.half_closed) return verdict.violation("end without FIN", .{});
        if (connection.delivered != peer.sent) {
            return verdict.violation("end after {d} of {d} bytes", .{
                connection.delivered, peer.sent,
            });
        }
    }

    pub fn on_drain(connection: *Connection, verdict: *Verdict, turn: u64) Failure!void {
        // Writes are taken, and refused, from `connect` on.
        if (connection.stage != .connecting) try connection.expect_open(verdict, "drain");
        const first = connection.refused_first orelse turn;
        if (first >= turn) return verdict.violation("drain without a short write", .{});
        if (connection.shut != null and connection.shut_turn < turn) {
            return verdict.violation("drain of a connection that is shut", .{});
        }
        connection.refused_first = if (connection.refused_last < turn)
            null
        else
            connection.refused_last;
    }

    pub fn on_timeout(
        connection: *Connection,
        verdict: *Verdict,
        sequence: u32,
        now_ns: u64,
    ) Failure!void {
        try connection.expect_open(verdict, "timeout");
        if (sequence != connection.timeout_sequence) return; // set again since
        const due = connection.timeout_due_ns orelse
            return verdict.violation("a time-out that was not set, or struck already", .{});
        if (now_ns < due) return verdict.violation("a time-out {d} ns early", .{due - now_ns});
        connection.timeout_due_ns = null;
    }

    /// Whether something must still happen to it without anybody's doing.
    pub fn awaits_time(connection: *const Connection) bool {
        const shut_orderly = connection.shut == null or connection.shut == .end;
        return switch (connection.stage) {
            .connecting => connection.connect_limited,
            .open => connection.timeout_due_ns != null and shut_orderly and
                !connection.breaking or connection.close_limited,
            .none, .over => false,
        };
    }

    pub fn pause(connection: *Connection, paused: bool, now_ns: u64) void {
        if (connection.paused) {
            const waited_ms = (now_ns - connection.paused_ns) / std.time.ns_per_ms;
            if (waited_ms >= sending.reader_reset_ms) connection.kept_waiting = true;
        } else {
            connection.paused_ns = now_ns;
        }
        connection.paused = paused;
    }

    pub fn on_close(connection: *Connection, verdict: *Verdict, result: i32) Failure!void {
        try connection.expect_open(verdict, "close");
        connection.stage = .over;
        if (result == 0 and connection.must_fail) {
            return verdict.violation("a send failed on a sound connection", .{});
        }
        if (result > 0) return verdict.violation("close with result {d}", .{result});
        if (result == 0 and connection.shut == null) {
            return verdict.violation("close unasked for and without an error", .{});
        }
        if (result == 0 and connection.shut == .end and !connection.end_seen) {
            return verdict.violation("close before the peer's FIN", .{});
        }
    }

    pub fn expect_open(
        connection: *const Connection,
        verdict: *Verdict,
        comptime event: []const u8,
    ) Failure!void {
        if (connection.stage == .open) return;
        return verdict.violation(event ++ " of a connection that is {t}", .{connection.stage});
    }
};

pub const Peer = struct {
    id: u32,
    key: u64,
    connection: ?*Connection = null,
    sent: u64 = 0,
    half_closed: bool = false,
    closed: bool = false,
    /// Either end sent RST or the connection broke: completeness is not owed.
    broken: bool = false,
    /// Chance out of 100 that it reads when it could.
    appetite: u8 = 50,

    /// FIN after the last byte, and no RST.
    pub fn on_end(peer: *const Peer, verdict: *Verdict) Failure!void {
        const connection = peer.connection orelse return; // turned away
        // It may be reset when its time is up; an RST that the kernel refuses looks like this.
        if (connection.shut == .terminate or connection.close_limited) return;
        // It connected after the time for that had passed, and was reset as well.
        if (connection.shut == null and connection.connect_limited) return;
        if (connection.shut == null) return verdict.violation("FIN unasked for", .{});
        connection.stream.complete = true;
    }
};

pub const Listener = struct {
    open: bool = false,
    stopped: bool = false,
    generation: u32 = 0,
};

pub const Operation = struct {
    pending: bool = false,
    cancelled: bool = false,
    is_timeout: bool = false,
    generation: u32 = 0,
    /// It is a send in a connection's queue.
    send: ?*Send = null,

    pub fn on_completion(operation: *Operation, verdict: *Verdict, result: i32) Failure!void {
        if (!operation.pending) return verdict.violation("a second completion", .{});
        operation.pending = false;
        if (operation.send != null) return;
        if (operation.cancelled and result == errno.canceled) return;
        const expected = if (operation.is_timeout) errno.time else 0;
        if (result == expected) return;
        return verdict.violation("an operation completed with {d}", .{result});
    }
};
