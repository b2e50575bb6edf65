//! How often each fault of the simulated kernel struck, and which a kind of schedules does without.
//!
//! A fault without a reason to be absent must have struck often: a schedule whose kernel never runs
//! out, never interrupts and never overflows proves little about one that does.

const std = @import("std");
const simulated = @import("../kernel/simulated.zig");
const Kind = @import("campaign.zig").Kind;
const Fault = std.meta.FieldEnum(simulated.Faults);

/// Each fault strikes at least so often in one run of the schedules; those of datagrams are short.
fn count_min(kind: Kind) u64 {
    return if (kind == .datagrams) 100 else 1000;
}

pub const Seen = struct {
    struck: simulated.Struck = .{},
    /// Completions that found their queue full.
    overflowed: u64 = 0,

    pub fn take(seen: *Seen, kernel: *const simulated.Simulated) void {
        seen.struck.add(&kernel.fate.struck);
        seen.overflowed += kernel.overflow_count;
    }

    pub fn add(seen: *Seen, other: *const Seen) void {
        seen.struck.add(&other.struck);
        seen.overflowed += other.overflowed;
    }

    pub fn print(seen: *const Seen, writer: *std.Io.Writer, kind: Kind) !void {
        try seen.struck.print(writer, reasons(kind));
        try writer.print("{s:<20}{d:>11}\n", .{ "overflowed", seen.overflowed });
    }

    pub fn demand(seen: *const Seen, writer: *std.Io.Writer, kind: Kind) !void {
        const demanded = seen.struck.demand(writer, reasons(kind), count_min(kind));
        try writer.print("{s:<20}{d:>11}\n", .{ "overflowed", seen.overflowed });
        try demanded;
        if (seen.overflowed < count_min(kind)) return error.OverflowTooRare;
    }
};

const Column = @FieldType(simulated.Struck, "counts").Value.Key;

fn reasons(kind: Kind) *const fn (Fault, Column) ?[]const u8 {
    return switch (kind) {
        .connections => in_connections,
        .operations => in_operations,
        .datagrams => in_datagrams,
    };
}

const one_end = "the ring is lost with it: engine_tests.zig";
const of_users = "operations have it";
const of_datagrams = "datagrams have it";
const of_connections = "connections have it";

fn in_connections(fault: Fault, _: Column) ?[]const u8 {
    return switch (fault) {
        .enter_lost => one_end,
        .call, .short, .slow, .buffer_set => of_users,
        .datagram_full, .datagram_refused, .datagram_whole, .datagram_answered => of_datagrams,
        .passing => "passing_tests.zig",
        else => null,
    };
}

fn in_operations(fault: Fault, _: Column) ?[]const u8 {
    return switch (fault) {
        .enter_lost => one_end,
        .gives_up, .zero_copy, .copied, .notify_late, .notify_stray => of_connections,
        .socket, .bind, .listen, .address, .option, .send_now => of_connections,
        .splice, .pipe => of_connections,
        .accept, .connect, .shutdown, .broken, .multishot_ends => of_connections, // seldom here
        .datagram_full, .datagram_refused, .datagram_whole, .datagram_answered => of_datagrams,
        .passing => "passing_tests.zig",
        else => null,
    };
}

fn in_datagrams(fault: Fault, _: Column) ?[]const u8 {
    return switch (fault) {
        .enter_busy, .enter_again, .enter_partial, .delayed, .multishot_ends => null,
        .cancel_already, .cancel_late => null,
        .datagram_full, .datagram_refused, .datagram_whole, .datagram_answered => null,
        else => of_connections,
    };
}

test "a fault that never struck is missed" {
    var buffer: [8192]u8 = undefined;
    var writer: std.Io.Writer = .fixed(&buffer);
    const enough = count_min(.operations);
    var seen: Seen = .{ .overflowed = enough };
    for (std.enums.values(Fault)) |fault| {
        for (0..enough) |_| seen.struck.count(fault, .struck);
    }
    try seen.demand(&writer, .operations);
    seen.struck.counts.getPtr(.enter_busy).set(.struck, enough - 1);
    writer.end = 0;
    try std.testing.expectError(error.OutcomeTooRare, seen.demand(&writer, .operations));
}
