//! The schedules find bugs: each bug of `mutation.zig` is put in, and must be found.
//!
//! A schedule that cannot fail proves nothing. A new kind of bug that slipped through gets a
//! mutation here first, then the check that finds it. Each runs in a forked child: found means that
//! the schedule reported a violation, or that an assert of the engine ended the child.

const std = @import("std");
const runner = @import("root");
const mutation = @import("mutation.zig");
const schedules = @import("schedules.zig");
const datagram_schedules = @import("datagram_schedules.zig");
const timer_schedules = @import("timer_schedules.zig");
const operation_schedules = @import("operations/schedules.zig");
const fork = @import("../kernel/fork.zig");
const poison = @import("../poison.zig");
const Mutation = mutation.Mutation;

/// Far fewer are needed; each mutation must be found within so many completions.
const events_max = 1_000_000;
const seconds_max = 30;

const not_found = 0;
const reported = 1;
const failed_otherwise = 2;

fn search(bug: Mutation) u8 {
    runner.panics_quietly = true;
    mutation.activate(bug);
    if (bug.is_of_timers()) return search_in(timer_schedules);
    if (bug.is_of_datagrams()) return search_in(datagram_schedules);
    return if (bug.is_of_operations()) search_in(operation_schedules) else search_in(schedules);
}

fn search_in(comptime kind: type) u8 {
    var summary: kind.Summary = .{};
    kind.run(&summary, std.testing.random_seed, events_max) catch |failure| {
        const is_report = failure == error.Violation and summary.message_len > 0;
        return if (is_report) reported else failed_otherwise;
    };
    return not_found;
}

fn expect_found(bug: Mutation) !void {
    if (poison.is_watched()) return; // it would take an hour, and is not about memory
    const end = try fork.run(seconds_max, bug, search);
    const found = switch (end) {
        .returned => |value| value == reported,
        .died => true,
        .too_long => false,
    };
    if (found) return;
    std.debug.print("canary: {t} was not found: {any}\n", .{ bug, end });
    return error.MutationNotFound;
}

test "each bug that is put in on purpose is found by the schedules" {
    for (std.enums.values(Mutation)) |bug| {
        const others = bug.is_of_operations() or bug.is_of_datagrams() or bug.is_of_timers();
        if (bug != .none and !others) try expect_found(bug);
    }
}

test "each bug of users' operations is found by the schedules of operations" {
    for (std.enums.values(Mutation)) |bug| {
        if (bug.is_of_operations()) try expect_found(bug);
    }
}

test "each bug of datagram sockets is found by their schedules" {
    for (std.enums.values(Mutation)) |bug| {
        if (bug.is_of_datagrams()) try expect_found(bug);
    }
}

test "each bug of timers is found by their schedules" {
    for (std.enums.values(Mutation)) |bug| {
        if (bug.is_of_timers()) try expect_found(bug);
    }
}
