//! Root of `zig build simulate`: random runs of every kind until so many completions were seen.
//!
//! A run that fails is made short and told step by step, with the command that repeats it. Built
//! with LLVM, as the library is; runs in slices, each in a child, so that an assert tells its seed.
//! Options: `--events=N`, `--seed=N`, `--kind=connections|operations|datagrams`, `--bug=NAME` of
//! `testing/mutation.zig`, which then must be found.

const std = @import("std");
const runner = @import("root");
const campaign = @import("testing/campaign.zig");
const coverage = @import("testing/coverage.zig");
const operation_coverage = @import("testing/operations/coverage.zig");
const shrink = @import("testing/shrink.zig");
const Mutation = @import("testing/mutation.zig").Mutation;

const print = std.debug.print;
const events_default = 10_000_000;

/// Of ten slices; datagram sockets have the fewest states.
const turns = [_]campaign.Kind{
    .connections, .operations,  .connections, .operations, .connections,
    .datagrams,   .connections, .operations,  .operations, .connections,
};

test "simulate" {
    const shared: *campaign.Shared = try .map();
    defer shared.unmap();
    const events = try number(u64, "events") orelse events_default;
    const kind_only = try choice(campaign.Kind, "kind");
    shared.bug = try choice(Mutation, "bug") orelse .none;
    const seed_first: u32 = std.testing.random_seed;
    shared.seed = seed_first;
    var slices: usize = 0;
    var told: u64 = 0;
    while (shared.events < events) : (slices += 1) {
        shared.kind = kind_only orelse kind_for(shared.bug) orelse turns[slices % turns.len];
        shared.events_max = events;
        if (try campaign.in_child(shared, campaign.run_slice)) |message| {
            try tell_failure(shared, message);
            return if (shared.bug == .none) error.Violation else {};
        }
        if (shared.events - told < 10_000_000) continue;
        told = shared.events;
        print("{d} completions in {d} runs\n", .{ shared.events, shared.runs });
    }
    if (shared.bug != .none) {
        print("{t} was not found in {d} completions\n", .{ shared.bug, shared.events });
        return error.MutationNotFound;
    }
    try tell_coverage(shared);
    print("{d} completions in {d} runs from seed {d}: no violation\n", .{
        shared.events, shared.runs, seed_first,
    });
}

fn kind_for(bug: Mutation) ?campaign.Kind {
    if (bug == .none) return null;
    if (bug.is_of_datagrams()) return .datagrams;
    return if (bug.is_of_operations()) .operations else .connections;
}

fn tell_failure(shared: *campaign.Shared, message: []const u8) !void {
    const seed = shared.seed;
    print("{t}, seed {d}, after {d} completions: {s}\n", .{
        shared.kind, seed, shared.events, message,
    });
    const short = try shrink.shrink(std.testing.allocator, shared) orelse {
        return print("It did not fail again: the run depends on more than its seed.\n", .{});
    };
    print("{s}{s}\n", .{ short.text, short.message });
    print("{d} of {d} steps, {d} kinds of faults; repeat it: npm run simulate -- " ++
        "--kind {t} --seed {d} --events 1", .{
        short.steps, short.steps_before, short.faults, shared.kind, seed,
    });
    if (shared.bug != .none) print(" --bug {t}", .{shared.bug});
    print("\n", .{});
}

/// Shown, not demanded: how far a run came depends on how many events it was given.
fn tell_coverage(shared: *campaign.Shared) !void {
    var buffer: [16384]u8 = undefined;
    var writer: std.Io.Writer = .fixed(&buffer);
    try shared.seen.print(&writer, coverage.absent);
    try shared.seen_operations.print(&writer, operation_coverage.absent);
    try shared.failed_operations.print(&writer);
    for (std.enums.values(campaign.Kind)) |kind| {
        try shared.faults.getPtr(kind).print(&writer, kind);
    }
    print("{s}", .{writer.buffered()});
}

// Options --------------------------------------------------------------------------------------

fn option(comptime name: []const u8) ?[]const u8 {
    const prefix = "--" ++ name ++ "=";
    for (runner.options) |text| {
        if (std.mem.startsWith(u8, text, prefix)) return text[prefix.len..];
    }
    return null;
}

fn number(comptime T: type, comptime name: []const u8) !?T {
    const text = option(name) orelse return null;
    return std.fmt.parseUnsigned(T, text, 0) catch {
        print("--{s} takes a number, not \"{s}\"\n", .{ name, text });
        return error.WrongOption;
    };
}

fn choice(comptime T: type, comptime name: []const u8) !?T {
    const text = option(name) orelse return null;
    return std.meta.stringToEnum(T, text) orelse {
        print("--{s} is none of:", .{name});
        for (std.enums.values(T)) |value| print(" {t}", .{value});
        print("\n", .{});
        return error.WrongOption;
    };
}
