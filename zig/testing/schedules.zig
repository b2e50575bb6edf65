//! Many random runs of the engine on the simulated kernel: at least a million completions.
//!
//! Each run has a seed of its own, printed when it fails; `zig build test -- --seed=N` with that
//! number makes it the first run. At the end the table of outcomes is demanded (`coverage.zig`):
//! schedules that no longer reach a case fail, too.

const std = @import("std");
const outcomes = @import("../kernel/simulated/outcomes.zig");
const coverage = @import("coverage.zig");
const fault_coverage = @import("fault_coverage.zig");
const poison = @import("../poison.zig");
const Schedule = @import("schedule.zig").Schedule;

pub const Summary = struct {
    events: u64 = 0,
    runs: u32 = 0,
    seen: outcomes.Outcomes = .{},
    faults: fault_coverage.Seen = .{},
    /// What was wrong, and with which seed, if it was.
    message: [256]u8 = undefined,
    message_len: usize = 0,
    seed: u32 = 0,
};

/// Runs until so many completions were seen, or one run found a violation.
pub fn run(summary: *Summary, seed_first: u32, events: u64) !void {
    var arena: std.heap.ArenaAllocator = .init(std.heap.page_allocator);
    defer arena.deinit();
    var seed = seed_first;
    while (summary.events < events) : (seed +%= 0x9e37_79b9) {
        _ = arena.reset(.retain_capacity);
        summary.seed = seed;
        const schedule = try Schedule.create(arena.allocator(), seed, null);
        defer schedule.destroy();
        const outcome = schedule.run(events_of_one);
        summary.events += schedule.kernel.events;
        summary.runs += 1;
        summary.seen.add(&schedule.kernel.outcomes);
        summary.faults.take(schedule.kernel);
        outcome catch |failure| {
            const message = schedule.verdict.message;
            summary.message_len = message.len;
            @memcpy(summary.message[0..message.len], message);
            return failure;
        };
    }
}

/// Short runs: many configurations, and a short way to a failure.
pub const events_of_one = 2000;

const events_all = 1_500_000;
/// Under valgrind, where they look for memory and cannot reach everything.
const events_watched = 200_000;

test "a million completions in any order leave no byte lost and nothing behind" {
    const summary = try std.testing.allocator.create(Summary);
    defer std.testing.allocator.destroy(summary);
    summary.* = .{};
    const events: u64 = if (poison.is_watched()) events_watched else events_all;
    run(summary, std.testing.random_seed, events) catch |failure| {
        std.debug.print("schedule: seed {d} after {d} completions: {s}\n", .{
            summary.seed,
            summary.events,
            summary.message[0..summary.message_len],
        });
        return failure;
    };
    if (poison.is_watched()) return;
    var buffer: [16384]u8 = undefined;
    var writer: std.Io.Writer = .fixed(&buffer);
    const demanded = coverage.demand(&summary.seen, &writer);
    const struck = summary.faults.demand(&writer, .connections);
    // Always shown: how often each outcome was met is part of what the run says.
    std.debug.print("{s}", .{writer.buffered()});
    try demanded;
    try struck;
}
