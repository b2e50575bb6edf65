//! Many random runs of operations: at least a million of them, of every kind, with every end.
//!
//! Each run has a seed of its own, printed when it fails; `zig build test -- --seed=N` with that
//! number makes it the first run. At the end the table of ends is demanded (`coverage.zig`).

const std = @import("std");
const coverage = @import("coverage.zig");
const poison = @import("../../poison.zig");
const failures = @import("failures.zig");
const fault_coverage = @import("../fault_coverage.zig");
const model = @import("model.zig");
const Run = @import("../operations.zig").Run;

pub const Summary = struct {
    operations: u64 = 0,
    seen: model.Table = .{},
    failed: failures.Failures = .{},
    faults: fault_coverage.Seen = .{},
    /// What was wrong, and with which seed, if it was.
    message: [256]u8 = undefined,
    message_len: usize = 0,
    seed: u32 = 0,
};

/// Runs until so many operations have ended, or one run found a violation.
pub fn run(summary: *Summary, seed_first: u32, operations: u64) !void {
    var arena: std.heap.ArenaAllocator = .init(std.heap.page_allocator);
    defer arena.deinit();
    var seed = seed_first;
    while (summary.operations < operations) : (seed +%= 0x9e37_79b9) {
        _ = arena.reset(.retain_capacity);
        summary.seed = seed;
        const one = try Run.create(arena.allocator(), seed, null);
        defer one.destroy();
        const outcome = one.perform(operations_of_one);
        summary.operations += one.ended;
        summary.seen.add(&one.seen);
        summary.failed.add(&one.failed);
        summary.faults.take(one.kernel);
        outcome catch |failure| {
            const message = one.verdict.message;
            summary.message_len = message.len;
            @memcpy(summary.message[0..message.len], message);
            return failure;
        };
    }
}

/// Short runs: many configurations, and a short way to a failure.
pub const operations_of_one = 2500;

const operations_all = 1_100_000;
/// Under valgrind, where they look for memory and cannot reach everything.
const operations_watched = 200_000;

test "a million operations of every kind end once each and leave nothing behind" {
    const summary = try std.testing.allocator.create(Summary);
    defer std.testing.allocator.destroy(summary);
    summary.* = .{};
    const operations: u64 = if (poison.is_watched()) operations_watched else operations_all;
    run(summary, std.testing.random_seed, operations) catch |failure| {
        std.debug.print("operations: seed {d} after {d} operations: {s}\n", .{
            summary.seed,
            summary.operations,
            summary.message[0..summary.message_len],
        });
        return failure;
    };
    if (poison.is_watched()) return;
    var buffer: [16384]u8 = undefined;
    var writer: std.Io.Writer = .fixed(&buffer);
    const demanded = summary.seen.demand(&writer, coverage.absent, coverage.count_min);
    const failed = summary.failed.demand(&writer);
    const struck = summary.faults.demand(&writer, .operations);
    // Always shown: how often each end was met is part of what the run says.
    std.debug.print("{s}", .{writer.buffered()});
    try demanded;
    try failed;
    try struck;
}
