//! The schedules find bugs: each bug of `mutation.zig` is put in, and a violation must come of it.
//!
//! A schedule that cannot fail proves nothing. A new kind of bug that slipped through gets a
//! mutation here first, then the check that finds it.

const std = @import("std");
const mutation = @import("mutation.zig");
const schedules = @import("schedules.zig");
const Mutation = mutation.Mutation;

/// Far fewer are needed; each mutation must be found within so many completions.
const events_max = 1_000_000;

fn expect_found(bug: Mutation) !void {
    const summary = try std.testing.allocator.create(schedules.Summary);
    defer std.testing.allocator.destroy(summary);
    summary.* = .{};
    mutation.activate(bug);
    defer mutation.activate(.none);
    if (schedules.run(summary, std.testing.random_seed, events_max)) |_| {
        std.debug.print("canary: {t} was not found\n", .{bug});
        return error.MutationNotFound;
    } else |failure| {
        try std.testing.expectEqual(error.Violation, failure);
        try std.testing.expect(summary.message_len > 0);
    }
}

test "each bug that is put in on purpose is found by the schedules" {
    for (std.enums.values(Mutation)) |bug| if (bug != .none) try expect_found(bug);
}
