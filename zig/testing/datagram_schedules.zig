//! Many random runs of datagram sockets: several hundred thousand completions, and the table of how
//! operations ended in them.
//!
//! Each run has a seed of its own, printed when it fails; `zig build test -- --seed=N` with that
//! number makes it the first run.

const std = @import("std");
const outcomes = @import("../kernel/simulated/outcomes.zig");
const fault_coverage = @import("fault_coverage.zig");
const Run = @import("datagrams.zig").Run;

pub const Summary = struct {
    events: u64 = 0,
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
        const one = try Run.create(arena.allocator(), seed, null);
        defer one.destroy();
        const outcome = one.perform(events_of_one);
        summary.events += one.kernel.events;
        summary.seen.add(&one.kernel.outcomes);
        summary.faults.take(one.kernel);
        outcome catch |failure| {
            const message = one.verdict.message;
            summary.message_len = message.len;
            @memcpy(summary.message[0..message.len], message);
            return failure;
        };
    }
}

pub const events_of_one = 1500;
const events_all = 400_000;
const count_min = 100;

test "datagrams are sent and received once each, whole, and nothing is left behind" {
    const summary = try std.testing.allocator.create(Summary);
    defer std.testing.allocator.destroy(summary);
    summary.* = .{};
    run(summary, std.testing.random_seed, events_all) catch |failure| {
        std.debug.print("datagrams: seed {d} after {d} completions: {s}\n", .{
            summary.seed,
            summary.events,
            summary.message[0..summary.message_len],
        });
        return failure;
    };
    // Whatever can become of a datagram's operations was met.
    for ([_]struct { outcomes.Row, outcomes.Column }{
        .{ .receive_datagram, .full },
        .{ .receive_datagram, .errno },
        .{ .receive_datagram, .cancelled },
        .{ .receive_datagram, .starved },
        .{ .send_datagram, .full },
        .{ .send_datagram, .errno },
        .{ .timeout, .full },
        .{ .system_call, .full },
    }) |cell| {
        if (summary.seen.get(cell[0], cell[1]) >= count_min) continue;
        std.debug.print("datagrams: {t} {t} was met {d} times\n", .{
            cell[0], cell[1], summary.seen.get(cell[0], cell[1]),
        });
        return error.OutcomeTooRare;
    }
    var buffer: [8192]u8 = undefined;
    var writer: std.Io.Writer = .fixed(&buffer);
    const struck = summary.faults.demand(&writer, .datagrams);
    std.debug.print("{s}", .{writer.buffered()});
    try struck;
}
