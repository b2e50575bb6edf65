//! Many random runs of timers, and what a crowd of them costs.
//!
//! Each run has a seed of its own, printed when it fails; `zig build test -- --seed=N` with that
//! number makes it the first run.

const std = @import("std");
const poison = @import("../poison.zig");
const timers = @import("../timers.zig");
const Run = @import("timers.zig").Run;
const Scene = @import("scene.zig").Scene;
const expectEqual = std.testing.expectEqual;

pub const Summary = struct {
    ended: u64 = 0,
    seen: @FieldType(Run, "seen") = .{},
    /// What was wrong, and with which seed, if it was.
    message: [256]u8 = undefined,
    message_len: usize = 0,
    seed: u32 = 0,
};

/// Runs until so many timers have ended, or one run found a violation.
pub fn run(summary: *Summary, seed_first: u32, ends: u64) !void {
    var arena: std.heap.ArenaAllocator = .init(std.heap.page_allocator);
    defer arena.deinit();
    var seed = seed_first;
    while (summary.ended < ends) : (seed +%= 0x9e37_79b9) {
        _ = arena.reset(.retain_capacity);
        summary.seed = seed;
        const one = try Run.create(arena.allocator(), seed);
        defer one.destroy();
        const outcome = one.perform(ends_of_one);
        summary.ended += one.ended;
        inline for (@typeInfo(@TypeOf(summary.seen)).@"struct".fields) |field| {
            @field(summary.seen, field.name) += @field(one.seen, field.name);
        }
        outcome catch |failure| {
            const message = one.verdict.message;
            summary.message_len = message.len;
            @memcpy(summary.message[0..message.len], message);
            return failure;
        };
    }
}

const ends_of_one = 10_000;
const ends_all = 400_000;
/// Under valgrind, where they look for memory.
const ends_watched = 30_000;
const count_min = 2000;

test "timers end once each, in order and never early, whatever is cancelled" {
    var summary: Summary = .{};
    const ends: u64 = if (poison.is_watched()) ends_watched else ends_all;
    run(&summary, std.testing.random_seed, ends) catch |failure| {
        std.debug.print("timers: seed {d} after {d} ends: {s}\n", .{
            summary.seed,
            summary.ended,
            summary.message[0..summary.message_len],
        });
        return failure;
    };
    if (poison.is_watched()) return;
    inline for (@typeInfo(@TypeOf(summary.seen)).@"struct".fields) |field| {
        if (@field(summary.seen, field.name) < count_min) {
            std.debug.print("timers: {s} is too rare: {any}\n", .{ field.name, summary.seen });
            return error.OutcomeTooRare;
        }
    }
}

test "ten thousand timers of one moment cost one entry, and a cancel of all of them none" {
    const count = 10_000;
    var scene: Scene = try .open(.{ .operations = count });
    const engine = scene.engine;
    for ([_]bool{ false, true }) |cancels| {
        const sqes = engine.counters.sqes;
        for (0..count) |_| try std.testing.expect(timers.start(engine, 50, -1, 0) >= 0);
        _ = engine.turn(0);
        try expectEqual(sqes + 1, engine.counters.sqes);
        if (cancels) for (0..count) |slot| {
            const generation = engine.operations.generation(@intCast(slot));
            const calls = @import("../calls.zig");
            try expectEqual(0, calls.cancel(engine, @intCast(slot), generation));
        };
        var ended: usize = 0;
        for (0..200) |_| {
            if (ended == count) break;
            ended += @intCast(@max(engine.turn(100), 0));
        }
        try expectEqual(count, ended);
        _ = engine.turn(0);
    }
    // The second kernel time-out may still be armed, for nobody.
    try scene.close();
}

test "a timer of nothing ends in the turn that follows, and odd ones are refused" {
    var scene: Scene = try .open(.{});
    const now = try scene.handle(timers.start(scene.engine, 0, -1, 0));
    try scene.turn(1000);
    try expectEqual(-62, try scene.result(now)); // -ETIME
    const nan = std.math.nan(f64);
    const inf = std.math.inf(f64);
    for ([_]f64{ -1, nan, inf, -inf, 3e9 }) |milliseconds| {
        try expectEqual(-22, timers.start(scene.engine, milliseconds, -1, 0));
        try expectEqual(-22, timers.start(scene.engine, milliseconds, -1, 2));
    }
    try expectEqual(-22, timers.start(scene.engine, 1, nan, 0));
    try expectEqual(-22, timers.start(scene.engine, 1, 5, 2)); // a limit of an interval
    try expectEqual(-22, timers.start(scene.engine, 0.5, -1, 2)); // an interval that only spins
    try expectEqual(-22, timers.start(scene.engine, 5, -1, 3)); // a moment again and again
    try scene.close();
}

test "a ring with nothing but timers is quiet until the nearest" {
    const calls = @import("../calls.zig");
    var scene: Scene = try .open(.{});
    const engine = scene.engine;
    try expectEqual(0, timers.quiet_ms(engine));
    _ = try scene.handle(timers.start(engine, 5000, -1, 0));
    const near = try scene.handle(timers.start(engine, 1000, -1, 0));
    try expectEqual(0, timers.quiet_ms(engine)); // not before they are counted
    try scene.turn(0);
    const quiet_ms = timers.quiet_ms(engine);
    try std.testing.expect(quiet_ms > 900 and quiet_ms <= 1000);
    const nop = try scene.handle(calls.nop(engine));
    try expectEqual(0, timers.quiet_ms(engine));
    try scene.expect_outcome(nop, 0);
    try expectEqual(0, scene.cancel(near));
    try expectEqual(0, timers.quiet_ms(engine));
    try scene.expect_outcome(near, -125); // -ECANCELED
    try std.testing.expect(timers.quiet_ms(engine) > 4000);
    const connection = try scene.connection();
    try expectEqual(0, timers.quiet_ms(engine));
    _ = connection;
    try scene.close();
}

test "a teardown without time leaves the kernel one time-out, not each timer" {
    const teardown = @import("../teardown.zig");
    var scene: Scene = try .open(.{});
    for (0..5) |_| _ = try scene.handle(timers.start(scene.engine, 5000, -1, 0));
    try scene.turn(0);
    _ = try scene.handle(timers.start(scene.engine, 5000, -1, 0));
    try expectEqual(6, timers.waiting(scene.engine));
    try expectEqual(1, teardown.cancel_everything(scene.engine, 0));
    try expectEqual(0, teardown.cancel_everything(scene.engine, 1000));
    try expectEqual(0, timers.waiting(scene.engine));
    scene.free();
}
