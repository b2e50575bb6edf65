//! The limit of operations per second: NOPs on a bare ring, in batches, without any library.
//!
//! Usage: `raw_nop BATCH ROUNDS`. Fills a batch of SQEs, enters once, reaps until it is back;
//! prints the least and the median of the rounds in nanoseconds an operation, as one JSON line.
const std = @import("std");
const thin_ring = @import("thin_ring");

const rounds_max = 4096;
/// Batches in one round: long enough for the clock, short enough for a quiet moment.
const batches_of_round = 256;

pub fn main(init: std.process.Init) !void {
    var arguments = init.minimal.args.iterate();
    _ = arguments.skip();
    const batch = thin_ring.number("BATCH", arguments.next() orelse "64", 1, 1024);
    const rounds = thin_ring.number("ROUNDS", arguments.next() orelse "200", 1, rounds_max);
    var ring: thin_ring.Ring = .init(1024, 4096);
    var results: [rounds_max]f64 = undefined;
    for (results[0..rounds]) |*result| {
        const before = now_ns();
        for (0..batches_of_round) |_| run_batch(&ring, batch);
        const elapsed: f64 = @floatFromInt(now_ns() - before);
        result.* = elapsed / @as(f64, @floatFromInt(batch * batches_of_round));
    }
    std.mem.sort(f64, results[0..rounds], {}, std.sort.asc(f64));
    thin_ring.print("{{\"min_ns\":{d:.1},\"median_ns\":{d:.1}}}\n", .{
        results[0],
        results[rounds / 2],
    });
}

fn run_batch(ring: *thin_ring.Ring, batch: u32) void {
    for (0..batch) |i| {
        const sqe = ring.next_sqe();
        sqe.opcode = .NOP;
        sqe.user_data = i;
    }
    var left = batch;
    while (left > 0) {
        ring.enter(left, null);
        const ready = ring.ready();
        for (0..ready) |i| std.mem.doNotOptimizeAway(ring.completion(@intCast(i)).user_data);
        ring.advance(ready);
        left -= @min(left, ready);
    }
}

fn now_ns() u64 {
    var time: std.os.linux.timespec = undefined;
    _ = std.os.linux.clock_gettime(.MONOTONIC, &time);
    return @as(u64, @intCast(time.sec)) * std.time.ns_per_s + @as(u64, @intCast(time.nsec));
}
