//! Deadlines of connections and timers of users: one heap, and one kernel time-out for them all.
//!
//! A server moves its deadlines with every message, so moving one later only changes a number: the
//! heap keeps the old key, and the entry goes where it belongs when that key is reached. Setting or
//! moving one costs no system call but a look at the clock. Long ones are rounded up, so that many
//! connections share a wake-up. What a connection's deadline means is `connection.zig`'s business,
//! what a timer does `timers.zig`'s.

const std = @import("std");
const assert = std.debug.assert;
const seam = @import("kernel.zig");
const memory = @import("memory.zig");
const slots = @import("slots.zig");
const timer = @import("operation/timer.zig");
const timers = @import("timers.zig");
const deadline_heap = @import("deadline_heap.zig");
const mutation = @import("testing/mutation.zig");
const Engine = @import("engine.zig").Engine;
const Heap = deadline_heap.Heap;
const ns_per_ms: u64 = std.time.ns_per_ms;

const never = std.math.maxInt(u64);

/// A connection's part.
pub const Deadline = struct {
    /// When it is due; may be later than its key in the heap, never earlier.
    at_ns: u64 = never,
    /// How often the user set it: a record of an earlier setting is out of date.
    sequence: u32 = 0,
};

/// idle ──a deadline──▶ armed ──CQE──▶ idle, and due if it expired
///                        └─ cancelled for an earlier one, or because the ring closes
pub const Deadlines = struct {
    /// Its members are the slots of connections, and behind them those of operations.
    heap: Heap,
    /// Where the operations' begin.
    connections: u32,
    armed: bool = false,
    armed_ns: u64 = 0,
    /// Tells the CQE of the time-out that is armed from those before.
    generation: u32 = 0,
    cancel_asked: bool = false,
    cancels_pending: u32 = 0,
    /// Some have been reached, as far as anybody knows.
    due: bool = false,
    /// The ring closes: nothing is armed any more.
    closing: bool = false,
    /// The kernel reads it when it takes the SQE (I1).
    duration: seam.Timespec = .{ .sec = 0, .nsec = 0 },

    pub fn init(config: *const memory.Config, bump: *memory.Bump) Deadlines {
        const count = config.connections + config.operations;
        const heap: Heap = .init(bump.take(deadline_heap.Entry, count), bump.take(u32, count));
        return .{ .heap = heap, .connections = config.connections };
    }

    pub fn private_size(config: *const memory.Config) usize {
        const count = @as(usize, config.connections) + config.operations;
        return count * (@sizeOf(deadline_heap.Entry) + @sizeOf(u32));
    }

    /// From now on; 0 means none.
    pub fn set(deadlines: *Deadlines, engine: *Engine, index: u32, timeout_ms: u32) void {
        const deadline = &engine.connections.at(index).deadline;
        deadline.at_ns = if (timeout_ms == 0)
            never
        else
            round_up(engine.kernel.now_ns(), timeout_ms);
        if (deadlines.heap.find(index)) |entry| {
            if (deadline.at_ns < entry.at_ns) deadlines.heap.move(index, deadline.at_ns);
        } else if (deadline.at_ns != never) {
            deadlines.heap.add(index, deadline.at_ns);
        }
    }

    /// An eighth of the time, and a second at most, is given to sharing a wake-up.
    fn round_up(now_ns: u64, timeout_ms: u32) u64 {
        const step_ms = std.math.floorPowerOfTwo(u32, std.math.clamp(timeout_ms / 8, 1, 1024));
        const step_ns = step_ms * ns_per_ms;
        return (now_ns + timeout_ms * ns_per_ms + step_ns - 1) / step_ns * step_ns;
    }

    /// The connection is over.
    pub fn remove(deadlines: *Deadlines, engine: *Engine, index: u32) void {
        engine.connections.at(index).deadline.at_ns = never;
        if (deadlines.heap.find(index) != null) deadlines.heap.remove(index);
    }

    /// A user's timer, exact; `now_ns` tells whether it is due already.
    pub fn add_timer(deadlines: *Deadlines, slot: u32, at_ns: u64, now_ns: u64) void {
        deadlines.heap.add(deadlines.connections + slot, at_ns);
        if (at_ns <= now_ns) deadlines.due = true;
    }

    /// Its end is told as soon as there is a turn.
    pub fn hasten_timer(deadlines: *Deadlines, slot: u32) void {
        deadlines.heap.move(deadlines.connections + slot, 0);
        deadlines.due = true;
    }

    // The turn ---------------------------------------------------------------------------------

    /// Entries that one turn looks at; more come in the next.
    pub const turn_max = 256;

    /// Tells those whose time has come: a record each at most.
    pub fn expire(deadlines: *Deadlines, engine: *Engine) void {
        if (!deadlines.due) return;
        deadlines.due = false;
        const now_ns = engine.kernel.now_ns();
        for (0..turn_max) |_| {
            const nearest = deadlines.heap.nearest() orelse return;
            if (nearest.at_ns > now_ns) return;
            if (engine.record_count == engine.records.len) break;
            if (nearest.member >= deadlines.connections) {
                deadlines.expire_timer(engine, nearest, now_ns);
            } else {
                deadlines.expire_connection(engine, nearest.member, now_ns);
            }
        }
        deadlines.due = true;
    }

    fn expire_timer(
        deadlines: *Deadlines,
        engine: *Engine,
        entry: *const deadline_heap.Entry,
        now_ns: u64,
    ) void {
        const member = entry.member;
        const slot = member - deadlines.connections;
        if (timers.fire(engine, slot, entry.at_ns, now_ns)) |next_ns| {
            deadlines.heap.move(member, next_ns);
        } else {
            deadlines.heap.remove(member);
        }
    }

    fn expire_connection(deadlines: *Deadlines, engine: *Engine, index: u32, now_ns: u64) void {
        const connection = engine.connections.at(index);
        const deadline = &connection.deadline;
        const is_later = deadline.at_ns > now_ns and !mutation.is(.hasten_deadline);
        if (is_later and deadline.at_ns != never and !mutation.is(.forget_deadline)) {
            return deadlines.heap.move(index, deadline.at_ns);
        }
        deadlines.heap.remove(index);
        if (is_later) return; // it was lifted
        deadline.at_ns = never;
        connection.on_deadline(engine, index);
    }

    /// Arms the time-out, or cancels one that is later than the nearest deadline. False: no SQE.
    pub fn advance(deadlines: *Deadlines, engine: *Engine) bool {
        if (!deadlines.has_work()) return true;
        if (deadlines.due and !deadlines.closing) return true; // `expire` comes first
        const sqe = engine.sqe() orelse return false;
        if (deadlines.armed) {
            const target = deadlines.tag(.deadline);
            timer.DeadlineCancel.prepare(sqe, target, deadlines.tag(.deadline_cancel));
            deadlines.cancel_asked = true;
            deadlines.cancels_pending += 1;
            return true;
        }
        const nearest_ns = deadlines.heap.nearest().?.at_ns;
        const left_ns = nearest_ns -| engine.flush_clock();
        deadlines.duration = .{
            .sec = @intCast(left_ns / std.time.ns_per_s),
            .nsec = @intCast(left_ns % std.time.ns_per_s),
        };
        deadlines.generation +%= 1;
        deadlines.armed = true;
        deadlines.armed_ns = nearest_ns;
        deadlines.cancel_asked = false;
        timer.Deadline.prepare(sqe, &deadlines.duration, deadlines.tag(.deadline));
        return true;
    }

    /// Whether a turn would do anything for it.
    pub fn has_work(deadlines: *const Deadlines) bool {
        if (deadlines.armed) {
            if (deadlines.cancel_asked) return false;
            if (deadlines.closing) return true;
            const nearest = deadlines.heap.nearest() orelse return false;
            return nearest.at_ns < deadlines.armed_ns and !mutation.is(.forget_nearest);
        }
        if (deadlines.closing) return false;
        return deadlines.due or deadlines.heap.count > 0;
    }

    /// What the kernel still holds.
    pub fn in_flight(deadlines: *const Deadlines) u32 {
        return @intFromBool(deadlines.armed) + deadlines.cancels_pending;
    }

    fn tag(deadlines: *const Deadlines, kind: @FieldType(slots.UserData, "kind")) slots.UserData {
        return .{ .slot = 0, .kind = kind, .generation = deadlines.generation };
    }

    pub fn on_timeout(deadlines: *Deadlines, engine: *Engine, cqe: *const seam.Cqe) void {
        const user_data: slots.UserData = @bitCast(cqe.user_data);
        if (!deadlines.armed or user_data.generation != deadlines.generation) {
            return engine.stale(cqe);
        }
        deadlines.armed = false;
        if (cqe.res == seam.errno.canceled) return;
        if (cqe.res == seam.errno.time or cqe.res == 0) {
            deadlines.due = true;
        } else {
            engine.fatal = cqe.res; // without a clock it cannot go on, and it must not spin
        }
    }

    pub fn on_cancel_done(deadlines: *Deadlines) void {
        assert(deadlines.cancels_pending > 0);
        deadlines.cancels_pending -= 1;
    }
};

// Tests ----------------------------------------------------------------------------------------

const testing = std.testing;

/// An engine whose connections are only there to have deadlines.
fn test_engine(arena: std.mem.Allocator, connections: u32) !*Engine {
    const Simulated = @import("kernel/simulated.zig").Simulated;
    const config: @import("memory.zig").Config = .{
        .entries = 8,
        .cq_entries = 64,
        .receive_buffers = 8,
        .receive_buffer_size = 64,
        .connections = connections,
        .listeners = 1,
        .operations = 1,
        .staging_blocks = 1,
        .high_water_mark = 1,
        .features_disabled = .initEmpty(),
        .operations_disabled = .initEmpty(),
    };
    const kernel: *Simulated = try .create(arena, .{
        .seed = testing.random_seed,
        .entries = config.entries,
        .cq_entries = config.cq_entries,
        .limits = .{},
        .faults = .{},
    });
    const engine = try Engine.create(.{ .simulated = kernel }, .initFull(), &config);
    for (0..connections) |_| {
        const index = engine.connections.claim().?;
        engine.connections.at(index).* = .{ .fd = -1, .listener = 0, .stage = .open };
    }
    return engine;
}

test "each deadline strikes once, in order and never early, however often it is moved" {
    var arena: std.heap.ArenaAllocator = .init(testing.allocator);
    defer arena.deinit();
    const count = 600; // more than one turn tells
    const engine = try test_engine(arena.allocator(), count);
    defer engine.destroy();
    var prng: std.Random.DefaultPrng = .init(testing.random_seed);
    const random = prng.random();
    var due_ms: [count]?u64 = @splat(null);
    for (0..5 * count) |_| {
        const index = random.uintLessThan(u32, count);
        const lifted = random.uintLessThan(u32, 4) == 0;
        const timeout_ms = if (lifted) 0 else 1 + random.uintLessThan(u32, 20_000);
        engine.deadlines.set(engine, index, timeout_ms);
        const now_ms = engine.kernel.simulated.clock.now / std.time.ns_per_ms;
        due_ms[index] = if (lifted) null else now_ms + timeout_ms;
    }
    var expected: usize = 0;
    for (due_ms) |due| expected += @intFromBool(due != null);
    var last_at_ms: u64 = 0;
    var turns: usize = 0;
    while (expected > 0 and turns < 10_000) : (turns += 1) {
        const records = engine.turn(1000);
        const now_ms = engine.kernel.simulated.clock.now / std.time.ns_per_ms;
        for (engine.records[0..@intCast(records)]) |*record| {
            try testing.expectEqual(.timeout, record.event);
            const due = due_ms[record.index] orelse return error.StruckTwice;
            try testing.expect(now_ms >= due);
            // Those that share a wake-up may come in any order.
            try testing.expect(due + 1024 + 1 >= last_at_ms);
            last_at_ms = @max(last_at_ms, due);
            due_ms[record.index] = null;
            expected -= 1;
        }
    }
    try testing.expectEqual(0, expected);
    for (due_ms) |due| try testing.expectEqual(null, due);
    try testing.expectEqual(0, engine.deadlines.heap.count);
}

test "moving deadlines later submits nothing, an earlier one cancels what is armed" {
    var arena: std.heap.ArenaAllocator = .init(testing.allocator);
    defer arena.deinit();
    const engine = try test_engine(arena.allocator(), 4);
    defer engine.destroy();
    engine.deadlines.set(engine, 0, 60_000);
    _ = engine.turn(0);
    const before = engine.counters.sqes;
    for (0..1000) |_| {
        engine.deadlines.set(engine, 0, 60_000);
        engine.deadlines.set(engine, 1, 120_000);
        _ = engine.turn(0);
    }
    try testing.expectEqual(before, engine.counters.sqes);
    engine.deadlines.set(engine, 2, 10);
    var told = false;
    for (0..20) |_| {
        if (engine.turn(100) > 0) told = engine.records[0].index == 2;
        if (told) break;
    }
    try testing.expect(told);
    _ = engine.turn(0);
    // The cancel, the near one, and the far one again.
    try testing.expectEqual(before + 3, engine.counters.sqes);
}

test "a connection that goes takes its deadline along" {
    var arena: std.heap.ArenaAllocator = .init(testing.allocator);
    defer arena.deinit();
    const engine = try test_engine(arena.allocator(), 3);
    defer engine.destroy();
    for ([_]u32{ 30, 10, 20 }, 0..) |timeout_ms, index| {
        engine.deadlines.set(engine, @intCast(index), timeout_ms);
    }
    engine.deadlines.remove(engine, 1);
    engine.deadlines.remove(engine, 1);
    var order: [2]u32 = undefined;
    var told: usize = 0;
    for (0..50) |_| {
        const records = engine.turn(10);
        for (engine.records[0..@intCast(records)]) |*record| {
            order[told] = record.index;
            told += 1;
        }
        if (told == 2) break;
    }
    try testing.expectEqualSlices(u32, &.{ 2, 0 }, order[0..told]);
}
