//! Random runs of timers on the simulated kernel, against a model: starts, cancels, intervals.
//!
//! The model knows of each timer when it is due at the earliest, and since when it is there. Ends
//! come once, never early, in order of their deadlines and equal ones as they were started; what a
//! turn leaves overdue it has no room for; cancelled ones end at once; beats lie on their grid.
//! What all of that may cost is counted: a few entries for a turn, however many there are.

const std = @import("std");
const abi = @import("../abi.zig");
const calls = @import("../calls.zig");
const seam = @import("../kernel.zig");
const memory = @import("../memory.zig");
const features = @import("../features.zig");
const judging = @import("model.zig");
const timers = @import("../timers.zig");
const simulated = @import("../kernel/simulated.zig");
const deadlines = @import("../deadlines.zig");
const Engine = @import("../engine.zig").Engine;
const errno = seam.errno;
const ns_per_ms: u64 = std.time.ns_per_ms;

pub const Error = error{ Violation, OutOfMemory };

const Timer = struct {
    generation: u32,
    order: u64,
    milliseconds: u32,
    /// Of its first turn on the kernel's clock; relative ones count from the flush.
    at_ns: ?u64,
    limit_ms: ?u32 = null,
    repeats: bool = false,
    cancelled: bool = false,
    is_over: bool = false,
};

/// How the ends were.
const Seen = struct { expired: u64 = 0, beats: u64 = 0, cancelled: u64 = 0, timed_out: u64 = 0 };

pub const Run = struct {
    verdict: judging.Verdict = .{},
    prng: std.Random.SplitMix64,
    kernel: *simulated.Simulated,
    engine: *Engine,
    by_slot: []?Timer,
    started: u64 = 0,
    pending: u32 = 0,
    ended: u64 = 0,
    /// Of the last end that was not a cancel.
    last_ns: u64 = 0,
    last_order: u64 = 0,
    spread_ms: u32,
    seen: Seen = .{},

    pub fn create(arena: std.mem.Allocator, seed: u64) Error!*Run {
        const run = try arena.create(Run);
        var prng: std.Random.SplitMix64 = .init(seed);
        const operations = ([_]u32{ 4, 30, 300, 4000, 20_000 })[prng.next() % 5];
        const config: memory.Config = .{
            .entries = 8,
            .cq_entries = 64,
            .receive_buffers = 8,
            .receive_buffer_size = 64,
            .connections = 4,
            .listeners = 1,
            .operations = operations,
            .staging_blocks = 1,
            .high_water_mark = 1,
            .features_disabled = .initEmpty(),
            .operations_disabled = .initEmpty(),
        };
        run.* = .{
            .prng = prng,
            .by_slot = try arena.alloc(?Timer, operations),
            // Few values make many equal deadlines.
            .spread_ms = ([_]u32{ 3, 50, 5000 })[prng.next() % 3],
            .kernel = try .create(arena, .{
                .seed = prng.next(),
                .entries = config.entries,
                .cq_entries = config.cq_entries,
                .limits = .{},
                .faults = .{
                    .enter_interrupted = 50,
                    .enter_busy = 20,
                    .delayed = 100,
                    .cancel_already = 200,
                    .cancel_late = 200,
                },
            }),
            .engine = undefined,
        };
        @memset(run.by_slot, null);
        run.engine = Engine.create(.{ .simulated = run.kernel }, .initFull(), &config) catch
            return error.OutOfMemory;
        return run;
    }

    pub fn destroy(run: *Run) void {
        run.engine.destroy();
    }

    fn below(run: *Run, limit: u64) u32 {
        return @intCast((run.prng.next() >> 32) * limit >> 32);
    }

    fn now_ns(run: *const Run) u64 {
        return run.kernel.clock.now;
    }

    pub fn perform(run: *Run, count: u64) Error!void {
        while (run.ended < count) {
            const burst = if (run.below(4) == 0) run.below(run.by_slot.len) else run.below(20);
            for (0..burst) |_| if (run.below(5) == 0) try run.cancel() else try run.start();
            if (run.below(8) == 0) _ = run.engine.flush_only();
            if (run.below(8) == 0) for (0..run.below(100)) |_| try run.cancel();
            // Now and then time goes by until most are over.
            const turns = if (run.below(4) == 0) run.below(burst / 16 + 100) else 1;
            for (0..turns) |_| try run.turn(run.below(@min(run.spread_ms + 10, 1000)));
        }
        for (run.by_slot, 0..) |entry, index| {
            if (entry) |timer| if (!timer.cancelled) try run.cancel_one(@intCast(index));
        }
        for (0..10 + run.pending) |_| {
            if (run.pending == 0) break;
            try run.turn(0);
        }
        if (run.pending > 0) return run.violation("{d} never end", .{run.pending});
        const left = run.engine.deadlines.heap.count;
        if (left > 0) return run.violation("{d} are left in the heap", .{left});
        if (run.kernel.violation) |message| return run.violation("{s}", .{message});
    }

    fn violation(run: *Run, comptime format: []const u8, arguments: anytype) Error {
        return run.verdict.violation(format, arguments);
    }

    fn start(run: *Run) Error!void {
        const repeats = run.below(10) == 0;
        const is_absolute = !repeats and run.below(4) == 0;
        const is_limited = !repeats and run.below(6) == 0;
        const milliseconds = @as(u32, @intFromBool(repeats)) + run.below(run.spread_ms);
        const limit_ms = run.below(run.spread_ms);
        const clock_ms = run.now_ns() / ns_per_ms + milliseconds;
        var flags: u32 = 0;
        if (repeats) flags |= 1 << @intFromEnum(abi.TimerFlag.repeating);
        if (is_absolute) flags |= 1 << @intFromEnum(abi.TimerFlag.absolute);
        const outcome = timers.start(
            run.engine,
            @floatFromInt(if (is_absolute) clock_ms else milliseconds),
            if (is_limited) @floatFromInt(limit_ms) else -1,
            flags,
        );
        const table = &run.engine.operations;
        if (outcome == errno.nomem) {
            if (table.claimed_count + table.retired_count == table.entries.len) return;
        }
        if (outcome < 0) return run.violation("a start gave {d}", .{outcome});
        const slot = &run.by_slot[@intCast(outcome)];
        if (slot.* != null) return run.violation("a slot in use was given out", .{});
        run.started += 1;
        run.pending += 1;
        slot.* = .{
            .generation = run.engine.control.generation,
            .order = run.started,
            .milliseconds = milliseconds,
            .at_ns = if (is_absolute) clock_ms * ns_per_ms else null,
            .limit_ms = if (is_limited) limit_ms else null,
            .repeats = repeats,
        };
    }

    fn cancel(run: *Run) Error!void {
        const index = run.below(run.by_slot.len);
        const timer = run.by_slot[index] orelse return;
        if (!timer.cancelled and !timer.is_over) try run.cancel_one(index);
    }

    fn cancel_one(run: *Run, index: u32) Error!void {
        const timer = &run.by_slot[index].?;
        const outcome = calls.cancel(run.engine, index, timer.generation);
        if (outcome != 0) return run.violation("a cancel gave {d}", .{outcome});
        if (calls.cancel(run.engine, index, timer.generation) != errno.already) {
            return run.violation("a second cancel was not refused", .{});
        }
        timer.cancelled = true;
    }

    fn turn(run: *Run, wait_ms: u32) Error!void {
        const before_ns = run.now_ns();
        const sqes = run.engine.counters.sqes;
        const enters = run.engine.counters.enters;
        const count = run.engine.turn(wait_ms);
        if (count == errno.intr and wait_ms > 0) return;
        if (count < 0) return run.violation("a turn gave {d}", .{count});
        const records = run.engine.records[0..@intCast(count)];
        for (records) |*record| try run.on_record(record, before_ns);
        for (records) |*record| {
            const slot = &run.by_slot[record.index];
            if (slot.*) |timer| if (timer.is_over) {
                slot.* = null;
            };
        }
        // A time-out, its cancel, and the next, with rounds for what was refused.
        if (run.engine.counters.sqes - sqes > 4) return run.violation("too many entries", .{});
        if (run.engine.counters.enters - enters > 6) return run.violation("too many enters", .{});
        if (records.len < deadlines.Deadlines.turn_max) try run.expect_told();
    }

    /// A turn that had room tells all cancels, and what the kernel's time-out has told of.
    fn expect_told(run: *Run) Error!void {
        if (run.by_slot.len > 50 and run.below(16) > 0) return; // it looks at all of them
        for (run.by_slot, 0..) |entry, index| if (entry) |timer| {
            if (timer.cancelled) return run.violation("a cancelled timer waits", .{});
            const late_ns = run.now_ns() -| run.due_ns(&timer, @intCast(index));
            if (late_ns > late_ns_max) return run.violation("{d} ns late", .{late_ns});
        };
    }

    /// Some turns whose time-outs the kernel was slow to take or to tell.
    const late_ns_max = 500 * ns_per_ms;

    fn due_ns(run: *const Run, timer: *const Timer, index: u32) u64 {
        if (timer.at_ns) |at_ns| return at_ns;
        const started_ns = run.engine.operations.entries[index].value.started_ns;
        return started_ns + timer.milliseconds * ns_per_ms;
    }

    fn on_record(run: *Run, record: *const abi.Record, before_ns: u64) Error!void {
        const slot = &run.by_slot[record.index];
        const timer = if (slot.*) |*present| present else return run.violation("a stray end", .{});
        if (record.event != .completion or record.generation != timer.generation or timer.is_over) {
            return run.violation("a record of something else", .{});
        }
        if (record.extra != 0) return run.on_beat(record, timer, before_ns);
        timer.is_over = true;
        run.pending -= 1;
        run.ended += 1;
        if (record.result == errno.canceled) {
            if (!timer.cancelled) return run.violation("cancelled by nobody", .{});
            run.seen.cancelled += 1;
            return;
        }
        if (timer.cancelled or timer.repeats) return run.violation("an end after a cancel", .{});
        const self = &run.engine.operations.entries[record.index].value;
        const at_ns = run.due_ns(timer, record.index);
        const limit_ns = if (timer.limit_ms) |limit_ms|
            self.started_ns + limit_ms * ns_per_ms
        else
            std.math.maxInt(u64);
        const is_late = limit_ns < at_ns;
        const expected = if (is_late) errno.timedout else errno.time;
        if (record.result != expected) return run.violation("it ended with {d}", .{record.result});
        if (is_late) run.seen.timed_out += 1 else run.seen.expired += 1;
        try run.expect_order(@min(at_ns, limit_ns), timer.order, self.started_ns);
    }

    fn on_beat(run: *Run, record: *const abi.Record, timer: *Timer, before_ns: u64) Error!void {
        if (!timer.repeats or timer.cancelled) return run.violation("a beat of no interval", .{});
        const period_ns = timer.milliseconds * ns_per_ms;
        const at_ns = run.due_ns(timer, record.index);
        if (record.result < 1) return run.violation("{d} beats", .{record.result});
        const beats: u64 = @intCast(record.result);
        const last_ns = at_ns + (beats - 1) * period_ns;
        if (last_ns > run.now_ns()) return run.violation("a beat is early", .{});
        if (last_ns + period_ns <= before_ns) return run.violation("a beat is missing", .{});
        timer.at_ns = at_ns + beats * period_ns;
        run.seen.beats += 1;
        run.ended += 1; // beats, too, are what a run is measured by
        try run.expect_order(at_ns, timer.order, at_ns);
    }

    /// Ends come as their deadlines do, but for those that had passed when they were set.
    fn expect_order(run: *Run, at_ns: u64, order: u64, started_ns: u64) Error!void {
        if (at_ns > run.now_ns()) return run.violation("an end is early", .{});
        if (at_ns < run.last_ns and at_ns >= started_ns) {
            return run.violation("an end is out of order", .{});
        }
        if (at_ns == run.last_ns and order < run.last_order) {
            return run.violation("equal deadlines are out of order", .{});
        }
        run.last_ns = at_ns;
        run.last_order = order;
    }
};
