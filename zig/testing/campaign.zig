//! One run of any kind by its seed, in memory that outlives the child in which it may die.
//!
//! `simulate.zig` makes many, `shrink.zig` makes one shorter. A run that ends badly leaves its seed
//! and what was wrong here; an assert of the engine leaves the words of its panic.

const std = @import("std");
const runner = @import("root");
const outcomes = @import("../kernel/simulated/outcomes.zig");
const fork = @import("../kernel/fork.zig");
const mutation = @import("mutation.zig");
const schedules = @import("schedules.zig");
const datagram_schedules = @import("datagram_schedules.zig");
const failures = @import("operations/failures.zig");
const fault_coverage = @import("fault_coverage.zig");
const operation_schedules = @import("operations/schedules.zig");
const operation_model = @import("operations/model.zig");
const stepping = @import("steps.zig");
const Schedule = @import("schedule.zig").Schedule;
const Operations = @import("operations.zig").Run;
const Datagrams = @import("datagrams.zig").Run;

pub const Kind = enum { connections, operations, datagrams };

/// Bounds of what is written down of one run: a run has some thousand steps.
pub const names_max = 1 << 17;
pub const text_max = 1 << 20;

/// Lies in memory that is shared with forked children.
pub const Shared = struct {
    kind: Kind = .connections,
    seed: u32 = 0,
    bug: mutation.Mutation = .none,
    plan: stepping.Plan = .{},
    /// Completions of all runs so far, and runs.
    events: u64 = 0,
    /// After so many a slice ends early.
    events_max: u64 = std.math.maxInt(u64),
    runs: u64 = 0,
    seen: outcomes.Outcomes = .{},
    seen_operations: operation_model.Table = .{},
    failed_operations: failures.Failures = .{},
    faults: std.EnumArray(Kind, fault_coverage.Seen) = .initFill(.{}),
    /// What was wrong with the last run, if anything.
    words: [256]u8 = undefined,
    words_len: usize = 0,
    names: [names_max]stepping.Name = undefined,
    kept: [names_max]stepping.Name = undefined,
    text: [text_max]u8 = undefined,

    pub fn map() !*Shared {
        const shared = try fork.share(Shared);
        // Field by field: the large ones stay untouched.
        inline for (std.meta.fields(Shared)) |field| {
            if (field.defaultValue()) |value| @field(shared, field.name) = value;
        }
        return shared;
    }

    pub fn unmap(shared: *Shared) void {
        fork.unshare(shared);
    }

    pub fn message(shared: *const Shared) []const u8 {
        return shared.words[0..shared.words_len];
    }
};

/// CPU time of a child; a run takes some milliseconds, a slice of a campaign some seconds.
const seconds_max = 300;

/// What `function` does in a child: null if it did well, or what was wrong.
pub fn in_child(shared: *Shared, function: fn (*Shared) u8) !?[]const u8 {
    shared.words_len = 0;
    const outcome = try fork.run(seconds_max, shared, function);
    const words: []const u8 = switch (outcome) {
        .returned => |value| switch (value) {
            0 => return null,
            violated => return shared.message(),
            else => "out of memory",
        },
        .died => if (shared.words_len > 0) return shared.message() else "the process died",
        .too_long => "it does not end",
    };
    @memcpy(shared.words[0..words.len], words);
    shared.words_len = words.len;
    return shared.message();
}

/// One run; 0 if nothing was wrong. An assert that fails ends the process.
pub fn run_one(shared: *Shared) u8 {
    prepare(shared);
    var arena: std.heap.ArenaAllocator = .init(std.heap.page_allocator);
    defer arena.deinit();
    return perform(shared, arena.allocator(), &shared.plan);
}

/// Runs with one seed after the other, until so many completions were seen.
pub fn run_slice(shared: *Shared) u8 {
    prepare(shared);
    var arena: std.heap.ArenaAllocator = .init(std.heap.page_allocator);
    defer arena.deinit();
    const events_max = @min(shared.events + slice_events, shared.events_max);
    while (shared.events < events_max) {
        _ = arena.reset(.retain_capacity);
        const wrong = perform(shared, arena.allocator(), null);
        if (wrong != 0) return wrong;
        shared.seed +%= seed_step;
        shared.runs += 1;
    }
    return 0;
}

pub const slice_events = 500_000;
/// The golden ratio's: seeds that look nothing like each other.
pub const seed_step = 0x9e37_79b9;

fn prepare(shared: *Shared) void {
    runner.panics_quietly = true;
    runner.last_words = .{ .buffer = &shared.words, .len = &shared.words_len };
    mutation.activate(shared.bug);
}

fn perform(shared: *Shared, arena: std.mem.Allocator, plan: ?*stepping.Plan) u8 {
    return switch (shared.kind) {
        .connections => kind: {
            const run = Schedule.create(arena, shared.seed, plan) catch return out_of_memory;
            defer run.destroy();
            const outcome = run.run(schedules.events_of_one);
            shared.seen.add(&run.kernel.outcomes);
            break :kind judge(shared, run, outcome);
        },
        .operations => kind: {
            const run = Operations.create(arena, shared.seed, plan) catch return out_of_memory;
            defer run.destroy();
            const outcome = run.perform(operation_schedules.operations_of_one);
            shared.seen_operations.add(&run.seen);
            shared.failed_operations.add(&run.failed);
            break :kind judge(shared, run, outcome);
        },
        .datagrams => kind: {
            const run = Datagrams.create(arena, shared.seed, plan) catch return out_of_memory;
            defer run.destroy();
            const outcome = run.perform(datagram_schedules.events_of_one);
            shared.seen.add(&run.kernel.outcomes);
            break :kind judge(shared, run, outcome);
        },
    };
}

const violated = 1;
const out_of_memory = 2;

fn judge(shared: *Shared, run: anytype, outcome: anytype) u8 {
    shared.events += run.kernel.events;
    shared.faults.getPtr(shared.kind).take(run.kernel);
    if (outcome) |_| return 0 else |_| {}
    const message = run.verdict.message;
    @memcpy(shared.words[0..message.len], message);
    shared.words_len = message.len;
    return violated;
}
