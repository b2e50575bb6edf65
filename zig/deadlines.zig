//! Deadlines of connections: a heap with the nearest on top, and one kernel time-out for them all.
//!
//! A server moves its deadlines with every message, so moving one later only changes a number: the
//! heap keeps the old key, and the entry goes where it belongs when that key is reached. Setting or
//! moving one costs no system call but a look at the clock. Long ones are rounded up, so that many
//! connections share a wake-up. What a deadline means is `connection.zig`'s business.

const std = @import("std");
const assert = std.debug.assert;
const seam = @import("kernel.zig");
const slots = @import("slots.zig");
const timer = @import("operation/timer.zig");
const mutation = @import("testing/mutation.zig");
const Engine = @import("engine.zig").Engine;

const never = std.math.maxInt(u64);
const outside = std.math.maxInt(u32);

/// A connection's part.
pub const Deadline = struct {
    /// When it is due; may be later than its key in the heap, never earlier.
    at_ms: u64 = never,
    place: u32 = outside,
    /// How often the user set it: a record of an earlier setting is out of date.
    sequence: u32 = 0,
};

pub const Entry = struct { key_ms: u64, index: u32 };

/// idle ──a deadline──▶ armed ──CQE──▶ idle, and due if it expired
///                        └─ cancelled for an earlier one, or because the ring closes
pub const Deadlines = struct {
    heap: []Entry,
    count: u32 = 0,
    armed: bool = false,
    armed_ms: u64 = 0,
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

    /// From now on; 0 means none.
    pub fn set(deadlines: *Deadlines, engine: *Engine, index: u32, timeout_ms: u32) void {
        const deadline = &engine.connections.at(index).deadline;
        deadline.at_ms = if (timeout_ms == 0)
            never
        else
            round_up(now_ms(engine) + timeout_ms, timeout_ms);
        if (deadline.place == outside) {
            if (deadline.at_ms != never) deadlines.add(engine, index, deadline.at_ms);
        } else if (deadline.at_ms < deadlines.heap[deadline.place].key_ms) {
            deadlines.heap[deadline.place].key_ms = deadline.at_ms;
            deadlines.rise(engine, deadline.place);
        }
    }

    /// An eighth of the time, and a second at most, is given to sharing a wake-up.
    fn round_up(at_ms: u64, timeout_ms: u32) u64 {
        const step: u64 = std.math.floorPowerOfTwo(u32, std.math.clamp(timeout_ms / 8, 1, 1024));
        return std.mem.alignForward(u64, at_ms, step);
    }

    /// Up, so that nothing is due before its time has passed in full.
    fn now_ms(engine: *Engine) u64 {
        return std.math.divCeil(u64, engine.kernel.now_ns(), std.time.ns_per_ms) catch unreachable;
    }

    /// The connection is over.
    pub fn remove(deadlines: *Deadlines, engine: *Engine, index: u32) void {
        const deadline = &engine.connections.at(index).deadline;
        deadline.at_ms = never;
        if (deadline.place != outside) deadlines.take(engine, deadline.place);
    }

    // The turn ---------------------------------------------------------------------------------

    /// Entries that one turn looks at; more come in the next.
    pub const turn_max = 256;

    /// Tells the connections whose time has come: a record each at most.
    pub fn expire(deadlines: *Deadlines, engine: *Engine) void {
        if (!deadlines.due) return;
        deadlines.due = false;
        const now = engine.kernel.now_ns() / std.time.ns_per_ms;
        for (0..turn_max) |_| {
            if (deadlines.count == 0) return;
            const top = &deadlines.heap[0];
            if (top.key_ms > now) return;
            const index = top.index;
            const connection = engine.connections.at(index);
            const is_later = connection.deadline.at_ms > now and !mutation.is(.hasten_deadline);
            if (is_later and connection.deadline.at_ms != never and
                !mutation.is(.forget_deadline))
            {
                top.key_ms = connection.deadline.at_ms;
                deadlines.sink(engine, 0);
                continue;
            }
            deadlines.take(engine, 0);
            if (is_later) continue; // it was lifted
            connection.deadline.at_ms = never;
            connection.on_deadline(engine, index);
        }
        deadlines.due = true;
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
        const nearest = deadlines.heap[0].key_ms;
        const left_ms = nearest -| engine.kernel.now_ns() / std.time.ns_per_ms;
        deadlines.duration = .{
            .sec = @intCast(left_ms / 1000),
            .nsec = @intCast(left_ms % 1000 * std.time.ns_per_ms),
        };
        deadlines.generation +%= 1;
        deadlines.armed = true;
        deadlines.armed_ms = nearest;
        deadlines.cancel_asked = false;
        timer.Deadline.prepare(sqe, &deadlines.duration, deadlines.tag(.deadline));
        return true;
    }

    /// Whether a turn would do anything for it.
    pub fn has_work(deadlines: *const Deadlines) bool {
        if (deadlines.armed) {
            if (deadlines.cancel_asked) return false;
            const too_late = deadlines.count > 0 and deadlines.heap[0].key_ms < deadlines.armed_ms;
            return deadlines.closing or too_late;
        }
        if (deadlines.closing) return false;
        return deadlines.due or deadlines.count > 0;
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

    // The heap ---------------------------------------------------------------------------------

    fn add(deadlines: *Deadlines, engine: *Engine, index: u32, key_ms: u64) void {
        assert(deadlines.count < deadlines.heap.len); // a place for each connection
        const place = deadlines.count;
        deadlines.count += 1;
        deadlines.put(engine, place, .{ .key_ms = key_ms, .index = index });
        deadlines.rise(engine, place);
    }

    fn take(deadlines: *Deadlines, engine: *Engine, place: u32) void {
        assert(place < deadlines.count);
        engine.connections.at(deadlines.heap[place].index).deadline.place = outside;
        deadlines.count -= 1;
        if (place == deadlines.count) return;
        const last = deadlines.heap[deadlines.count];
        deadlines.put(engine, place, last);
        deadlines.rise(engine, place);
        deadlines.sink(engine, engine.connections.at(last.index).deadline.place);
    }

    fn put(deadlines: *Deadlines, engine: *Engine, place: u32, entry: Entry) void {
        deadlines.heap[place] = entry;
        engine.connections.at(entry.index).deadline.place = place;
    }

    fn rise(deadlines: *Deadlines, engine: *Engine, from: u32) void {
        const entry = deadlines.heap[from];
        var place = from;
        while (place > 0) {
            const above = (place - 1) / 2;
            if (deadlines.heap[above].key_ms <= entry.key_ms) break;
            deadlines.put(engine, place, deadlines.heap[above]);
            place = above;
        }
        deadlines.put(engine, place, entry);
    }

    fn sink(deadlines: *Deadlines, engine: *Engine, from: u32) void {
        const entry = deadlines.heap[from];
        var place = from;
        while (2 * place + 1 < deadlines.count) {
            var below = 2 * place + 1;
            if (below + 1 < deadlines.count and
                deadlines.heap[below + 1].key_ms < deadlines.heap[below].key_ms) below += 1;
            if (entry.key_ms <= deadlines.heap[below].key_ms) break;
            deadlines.put(engine, place, deadlines.heap[below]);
            place = below;
        }
        deadlines.put(engine, place, entry);
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
    try testing.expectEqual(0, engine.deadlines.count);
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
