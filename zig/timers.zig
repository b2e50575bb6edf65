//! Timers of users: operations that only wait for the clock, any number without a system call each.
//!
//! A timer lies in the heap of `deadlines.zig` and needs no SQE, no block of memory and no look at
//! the clock of its own: those that were started together count from the flush that follows. A
//! cancelled one is due at once. A time-out inside a batch is none of these but the kernel's
//! TIMEOUT, since only the kernel can link it. Called by `calls.zig` and `deadlines.zig`.

const std = @import("std");
const assert = std.debug.assert;
const abi = @import("abi.zig");
const seam = @import("kernel.zig");
const slots = @import("slots.zig");
const submission = @import("submission.zig");
const mutation = @import("testing/mutation.zig");
const Engine = @import("engine.zig").Engine;
const Operation = @import("operation.zig").Operation;
const errno = seam.errno;
const ns_per_ms: u64 = std.time.ns_per_ms;

/// Those that were started since the last flush, in order.
pub const Started = slots.Queue(Operation, "dirty");

/// About 24 days, as for every duration.
const duration_ms_max = 2_147_483_648;
/// Integers are exact up to here, and as nanoseconds they fit a u64 still.
const clock_ms_max = 1 << 43;

/// An operation of kind `timeout`; see `bu_timer_start`.
pub fn start(engine: *Engine, milliseconds: f64, limit_ms: f64, flags: u32) i32 {
    if (engine.fatal != 0) return engine.fatal;
    if (engine.batch != null) return errno.busy;
    const at_is_clock = is_set(flags, .absolute);
    const most: f64 = if (at_is_clock) clock_ms_max else duration_ms_max;
    if (!(milliseconds >= 0 and milliseconds <= most)) return errno.inval; // NaN fails it too
    if (!(limit_ms <= duration_ms_max)) return errno.inval;
    if (is_set(flags, .repeating)) {
        const beats = milliseconds >= 1 and limit_ms < 0 and !at_is_clock;
        if (!beats) return errno.inval;
    }
    const index = engine.operations.claim() orelse return errno.nomem;
    const self = engine.operations.at(index);
    self.reset(.timeout);
    self.arguments = std.mem.zeroes(abi.Arguments);
    self.arguments.offset = milliseconds;
    self.arguments.timeout_ms = limit_ms;
    self.arguments.flags = flags;
    engine.control.generation = engine.operations.generation(index);
    engine.timers.push(&engine.operations, index);
    return @intCast(index);
}

fn is_set(flags: u32, flag: abi.TimerFlag) bool {
    return flags >> @intCast(@intFromEnum(flag)) & 1 != 0;
}

/// Begins to count those that were started. In the flush, before the nearest deadline is armed.
pub fn advance(engine: *Engine) void {
    while (engine.timers.pop(&engine.operations)) |slot| {
        const self = engine.operations.at(slot);
        assert(self.stage == .queued);
        const now_ns = engine.flush_clock();
        self.stage = .timed;
        self.started_ns = now_ns;
        if (!self.cancelled) engine.counts.ring[@intFromEnum(self.kind)] += 1;
        const at_ns = if (self.cancelled) 0 else @min(due_ns(self), limit_ns(self));
        engine.deadlines.add_timer(slot, at_ns, now_ns);
    }
}

fn due_ns(self: *const Operation) u64 {
    const milliseconds = nanoseconds(self.arguments.offset);
    return if (is_set(self.arguments.flags, .absolute))
        milliseconds
    else
        self.started_ns + milliseconds;
}

fn limit_ns(self: *const Operation) u64 {
    if (self.arguments.timeout_ms < 0) return std.math.maxInt(u64);
    return self.started_ns + nanoseconds(self.arguments.timeout_ms);
}

/// Up: a timer may be late, and never early.
fn nanoseconds(milliseconds: f64) u64 {
    return @intFromFloat(@ceil(milliseconds * std.time.ns_per_ms));
}

/// Its end comes with the next turn, also if its time has come meanwhile.
pub fn cancel(engine: *Engine, slot: u32) void {
    if (!mutation.is(.forget_timer)) engine.deadlines.hasten_timer(slot);
}

/// Its time has come, or its cancel: one record, and for an interval its next beat.
pub fn fire(engine: *Engine, slot: u32, at_ns: u64, now_ns: u64) ?u64 {
    const self = engine.operations.at(slot);
    assert(self.stage == .timed);
    if (!self.cancelled and is_set(self.arguments.flags, .repeating)) {
        const period_ns = nanoseconds(self.arguments.offset);
        const beats = beats_until(at_ns, period_ns, now_ns);
        const told: i32 = @intCast(@min(beats, std.math.maxInt(i32)));
        engine.record(.completion, slot, told, 0, 1);
        return if (mutation.is(.drift)) now_ns + period_ns else at_ns + beats * period_ns;
    }
    const result = if (self.cancelled)
        errno.canceled
    else if (limit_ns(self) < due_ns(self))
        errno.timedout
    else
        errno.time;
    submission.settle_timer(engine, slot, result);
    return null;
}

/// How many there are.
pub fn waiting(engine: *const Engine) u32 {
    var count = engine.timers.count;
    const heap = &engine.deadlines.heap;
    for (heap.entries[0..heap.count]) |*entry| {
        count += @intFromBool(entry.member >= engine.deadlines.connections);
    }
    return count;
}

/// Milliseconds in which nothing can happen on the ring, because timers are all there is: up to the
/// nearest of them. 0 if there is anything else, which may happen at any time.
pub fn quiet_ms(engine: *Engine) i32 {
    const operations = engine.operations.claimed_count;
    const heap = &engine.deadlines.heap;
    const others = engine.connections.claimed_count + engine.listeners.claimed_count +
        engine.datagrams.sockets.claimed_count + engine.pending_cancels;
    // Without connections the heap holds timers alone.
    if (others > 0 or operations != heap.count or engine.posts.mailbox != null) return 0;
    const nearest = heap.nearest() orelse return 0;
    const left_ns = nearest.at_ns -| engine.kernel.now_ns();
    const left_ms = std.math.divCeil(u64, left_ns, ns_per_ms) catch unreachable;
    return @intCast(@min(left_ms, std.math.maxInt(i32)));
}

/// Beats up to now: the one that is due, and those that nobody had time for. None of the later ones
/// moves because of them, and none is made up for.
fn beats_until(at_ns: u64, period_ns: u64, now_ns: u64) u64 {
    return (now_ns - at_ns) / period_ns + 1;
}

test "beats that were missed are counted with the next" {
    try std.testing.expectEqual(1, beats_until(10, 10, 10));
    try std.testing.expectEqual(1, beats_until(10, 10, 19));
    try std.testing.expectEqual(4, beats_until(10, 10, 45));
}
