//! How often each operation ended in each way: the proof that a schedule went everywhere.
//!
//! One row for each form of an operation that a kernel treats differently, one column for each kind
//! of outcome. The simulated kernel counts, `testing/schedules.zig` prints and demands.

const std = @import("std");

pub const Row = enum {
    nop,
    timeout,
    accept,
    accept_multishot,
    connect,
    receive_plain,
    receive_selected,
    receive_multishot,
    send,
    send_all,
    sendmsg,
    sendmsg_all,
    send_zero_copy,
    sendmsg_zero_copy,
    /// The second CQE of a zero-copy send: full if nothing was copied, short if it was, cancelled
    /// if the send never began.
    notification,
    shutdown,
    close,
    cancel,
    cancel_all,
    link_timeout,
    receive_datagram,
    send_datagram,
    /// Files, names, new sockets, polls, splices: `testing/operations.zig` counts them by kind.
    system_call,
};

pub const Column = enum {
    /// All that was asked for.
    full,
    /// A success with fewer bytes than asked for; for a receive also the end of the stream.
    short,
    /// A failure of its own.
    errno,
    /// -ECANCELED.
    cancelled,
    /// -ENOBUFS: no provided buffer.
    starved,
};

pub const Outcomes = Table(Row, Column);

/// Counts of how often each row ended in each column.
pub fn Table(comptime RowOf: type, comptime ColumnOf: type) type {
    return struct {
        counts: std.EnumArray(RowOf, std.EnumArray(ColumnOf, u64)) = .initFill(.initFill(0)),

        const Self = @This();

        pub fn count(table: *Self, row: RowOf, column: ColumnOf) void {
            table.counts.getPtr(row).getPtr(column).* += 1;
        }

        pub fn get(table: *const Self, row: RowOf, column: ColumnOf) u64 {
            return table.counts.getPtrConst(row).get(column);
        }

        pub fn add(table: *Self, other: *const Self) void {
            for (std.enums.values(RowOf)) |row| {
                for (std.enums.values(ColumnOf)) |column| {
                    table.counts.getPtr(row).getPtr(column).* += other.get(row, column);
                }
            }
        }

        /// One line a row; a cell that `absent` gives a reason for shows as `-` while it is 0.
        pub fn print(
            table: *const Self,
            writer: *std.Io.Writer,
            absent: *const fn (RowOf, ColumnOf) ?[]const u8,
        ) std.Io.Writer.Error!void {
            try writer.print("{s:<20}", .{"operation"});
            for (std.enums.values(ColumnOf)) |column| try writer.print("{t:>11}", .{column});
            try writer.writeAll("\n");
            for (std.enums.values(RowOf)) |row| {
                try writer.print("{t:<20}", .{row});
                for (std.enums.values(ColumnOf)) |column| {
                    const value = table.get(row, column);
                    if (value == 0 and absent(row, column) != null) {
                        try writer.print("{s:>11}", .{"-"});
                    } else {
                        try writer.print("{d:>11}", .{value});
                    }
                }
                try writer.writeAll("\n");
            }
        }

        /// Prints the table and names each cell that was seen less often than `count_min`.
        pub fn demand(
            table: *const Self,
            writer: *std.Io.Writer,
            absent: *const fn (RowOf, ColumnOf) ?[]const u8,
            count_min: u64,
        ) !void {
            try table.print(writer, absent);
            var missing: u32 = 0;
            for (std.enums.values(RowOf)) |row| {
                for (std.enums.values(ColumnOf)) |column| {
                    const seen = table.get(row, column);
                    if (absent(row, column) != null or seen >= count_min) continue;
                    missing += 1;
                    try writer.print("{t} {t}: {d} < {d}\n", .{ row, column, seen, count_min });
                }
            }
            if (missing > 0) return error.OutcomeTooRare;
        }
    };
}

test "counts add up cell by cell and absent cells print as a dash" {
    var first: Outcomes = .{};
    first.count(.send, .full);
    var second: Outcomes = .{};
    second.count(.send, .full);
    second.count(.nop, .full);
    first.add(&second);
    try std.testing.expectEqual(@as(u64, 2), first.get(.send, .full));
    try std.testing.expectEqual(@as(u64, 1), first.get(.nop, .full));
    var buffer: [4096]u8 = undefined;
    var writer: std.Io.Writer = .fixed(&buffer);
    try first.print(&writer, struct {
        fn absent(row: Row, column: Column) ?[]const u8 {
            return if (row == .nop and column != .full) "a NOP cannot fail" else null;
        }
    }.absent);
    try std.testing.expect(std.mem.indexOf(u8, writer.buffered(), "nop") != null);
    try std.testing.expect(std.mem.indexOf(u8, writer.buffered(), "-") != null);
}
