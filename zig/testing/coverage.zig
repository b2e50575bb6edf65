//! Which outcomes the schedules must have seen, and why the others cannot be.
//!
//! A cell without a reason to be absent must have occurred often, else the schedules prove less
//! than they claim: a change that keeps them from going somewhere fails here.

const std = @import("std");
const outcomes = @import("../kernel/simulated/outcomes.zig");
const Row = outcomes.Row;
const Column = outcomes.Column;

/// Each cell occurs at least so often in one run of the schedules. The rarest, a zero-copy message
/// that is cancelled, does so about a thousand times, more or less with the seed.
pub const count_min = 500;

const whole_row_absent = std.EnumArray(Row, ?[]const u8).initDefault(@as(?[]const u8, null), .{
    .receive_plain = "the engine receives into provided buffers only",
    .send = "every stream send carries MSG_WAITALL (K1)",
    .sendmsg = "every stream send carries MSG_WAITALL (K1)",
    .receive_datagram = "datagram sockets have schedules of their own",
    .cancel_all = "connections cancel by name; datagram sockets have schedules of their own",
    .send_datagram = "datagram sockets have schedules of their own",
    .link_timeout = "connections and listeners set no time-outs",
    .system_call = "a user's operation: operations/coverage.zig demands it by kind",
});

/// Why an outcome cannot be, or null if it must have been seen.
pub fn absent(row: Row, column: Column) ?[]const u8 {
    if (whole_row_absent.get(row)) |reason| return reason;
    return switch (column) {
        .full => null,
        .short => switch (row) {
            .receive_selected, .receive_multishot, .send_all, .sendmsg_all => null,
            .send_zero_copy, .sendmsg_zero_copy, .notification => null,
            else => "it moves no bytes",
        },
        .errno => switch (row) {
            .nop, .timeout => "it touches nothing that could fail",
            .notification => "it says that memory is free, and nothing else",
            else => null,
        },
        .cancelled => switch (row) {
            .nop, .cancel => "it completes as it is submitted",
            .close => "close(2) cannot be taken back",
            .shutdown => "nobody cancels what ends by itself",
            else => null,
        },
        .starved => switch (row) {
            .receive_selected, .receive_multishot => null,
            else => "it takes no provided buffer",
        },
    };
}

pub fn demand(seen: *const outcomes.Outcomes, writer: *std.Io.Writer) !void {
    try seen.demand(writer, absent, count_min);
}

test "a run that saw nothing is refused, one that saw all is not" {
    var buffer: [16384]u8 = undefined;
    var writer: std.Io.Writer = .fixed(&buffer);
    var seen: outcomes.Outcomes = .{};
    try std.testing.expectError(error.OutcomeTooRare, demand(&seen, &writer));
    for (std.enums.values(Row)) |row| {
        for (std.enums.values(Column)) |column| {
            if (absent(row, column) != null) continue;
            for (0..count_min) |_| seen.count(row, column);
        }
    }
    writer.end = 0;
    try demand(&seen, &writer);
}
