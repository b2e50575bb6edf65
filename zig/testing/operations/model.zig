//! What a schedule of operations remembers of each of them, and what every outcome must obey.
//!
//! The rules that hold for every kind stand here: one terminal record each, in the order of the
//! chain; -ECANCELED only where a cancel was asked for or a chain broke, -ETIMEDOUT only after the
//! time, a member behind a break never runs. What a kind's own result must be is `settle.zig`'s.

const std = @import("std");
const abi = @import("../../abi.zig");
const seam = @import("../../kernel.zig");
const Descriptor = @import("descriptors.zig").Descriptor;
const Node = @import("names.zig").Node;
const outcomes = @import("../../kernel/simulated/outcomes.zig");
const errno = seam.errno;

pub const Kind = abi.OperationKind;

/// How an operation ended, as its record says.
pub const Column = enum {
    /// All that was asked for.
    full,
    /// Fewer bytes than asked for.
    short,
    /// A failure of its own.
    failed,
    /// A cancel was asked for, before or after the flush.
    cancelled,
    /// Its linked time-out.
    timed_out,
    /// Its chain broke before it.
    unlinked,
};

pub const Table = outcomes.Table(Kind, Column);

pub const Link = enum { none, soft, hard };

pub const Operation = struct {
    kind: Kind,
    arguments: abi.Arguments,
    index: u32 = 0,
    generation: u32 = 0,
    started_ns: u64 = 0,
    /// Done by a plain call: masked in this run.
    masked: bool = false,
    cancelled: bool = false,
    /// Cancelled before the flush: it never reached the kernel.
    withdrawn: bool = false,
    settled: bool = false,
    /// Its end ends what follows it by a soft link.
    broken: bool = false,
    /// Its chain broke before it, which ends all the rest.
    unlinked: bool = false,
    link: Link = .none,
    /// The member of the chain before it.
    previous: ?*Operation = null,
    /// What it must be refused with when it starts, or 0.
    refusal: i32 = 0,
    /// What it must fail with, or 0.
    failure: i32 = 0,

    descriptor: ?*Descriptor = null,
    /// The other end of a splice.
    second: ?*Descriptor = null,
    /// It reads from the descriptor's stream, or writes to it.
    takes_in: bool = false,
    takes_out: bool = false,
    /// Alone with its descriptor.
    alone: bool = false,
    /// Bytes of a file that it reads or, exclusively, changes.
    node: ?*Node = null,
    first: u64 = 0,
    end: u64 = 0,
    exclusive: bool = false,
    names: [2]?u8 = .{ null, null },
    /// Where a new symbolic link leads.
    target: u8 = 0,
    /// What is written or sent.
    data: []const u8 = &.{},
    /// Memory of the user's own that is read into.
    native: []u8 = &.{},
    uses_buffer: bool = false,
    uses_file: bool = false,

    pub fn option(operation: *const Operation, comptime bit: abi.OperationOption) bool {
        return operation.arguments.options >> @intFromEnum(bit) & 1 != 0;
    }

    pub fn set_option(operation: *Operation, comptime bit: abi.OperationOption) void {
        operation.arguments.options |= 1 << @intFromEnum(bit);
    }

    pub fn has_timeout(operation: *const Operation) bool {
        return operation.arguments.timeout_ms >= 0;
    }

    pub fn length(operation: *const Operation) u32 {
        return operation.arguments.length;
    }

    /// Whether `other` runs before this one, because the chain says so.
    pub fn follows(operation: *const Operation, other: *const Operation) bool {
        var before = operation.previous;
        while (before) |member| : (before = member.previous) if (member == other) return true;
        return false;
    }

    /// The first byte that a write to there changes in a file of this size: one beyond the end
    /// fills the gap, and a member of a chain may find any size when its turn comes.
    pub fn write_begins(operation: *const Operation, offset: u64, size: u64) u64 {
        return if (operation.previous != null) 0 else @min(offset, size);
    }

    /// Whether a break ahead must have ended it.
    pub fn is_cut_off(operation: *const Operation) bool {
        const previous = operation.previous orelse return false;
        return previous.unlinked or (previous.broken and previous.link == .soft);
    }

    /// Whether its time-out can have struck by now.
    pub fn is_late(operation: *const Operation, now_ns: u64) bool {
        if (!operation.has_timeout()) return false;
        const milliseconds: u64 = @intFromFloat(operation.arguments.timeout_ms);
        return now_ns - operation.started_ns >= milliseconds * std.time.ns_per_ms;
    }

    /// Whether an end like this breaks a soft link: every failure does, and what is not whole
    /// where whole is expected (io_uring_enter(2)).
    pub fn is_break(operation: *const Operation, result: i32, column: Column) bool {
        if (result < 0) return true;
        if (column != .short or operation.masked) return false;
        return switch (operation.kind) {
            .send, .recv, .sendmsg, .recvmsg => operation.arguments.flags &
                seam.socket_flag.wait_all != 0,
            else => true,
        };
    }
};

/// Kinds that no plain system call stands for: those that wait for a peer or a clock.
pub fn has_no_plain_call(kind: Kind) bool {
    return switch (kind) {
        .accept, .connect, .send, .recv, .sendmsg, .recvmsg => true,
        .poll, .timeout, .read_fixed, .write_fixed => true,
        else => false,
    };
}

test "a break ends all that follows, a hard link goes on" {
    const arguments = std.mem.zeroes(abi.Arguments);
    var first: Operation = .{ .kind = .nop, .arguments = arguments, .link = .soft };
    var second: Operation = .{ .kind = .nop, .arguments = arguments, .link = .hard };
    var third: Operation = .{ .kind = .nop, .arguments = arguments };
    second.previous = &first;
    third.previous = &second;
    try std.testing.expect(third.follows(&first) and !first.follows(&third));
    first.broken = true;
    try std.testing.expect(second.is_cut_off());
    second.unlinked = true;
    try std.testing.expect(third.is_cut_off());
    second.unlinked = false;
    second.broken = true;
    try std.testing.expect(!third.is_cut_off());
}

test "a write beyond the end changes all from the end on, and behind another any byte before it" {
    const arguments = std.mem.zeroes(abi.Arguments);
    var first: Operation = .{ .kind = .ftruncate, .arguments = arguments, .link = .soft };
    var second: Operation = .{ .kind = .write, .arguments = arguments };
    try std.testing.expectEqual(100, second.write_begins(200, 100));
    try std.testing.expectEqual(50, second.write_begins(50, 100));
    second.previous = &first; // which may cut the file
    try std.testing.expectEqual(0, second.write_begins(50, 100));
}
