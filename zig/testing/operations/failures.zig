//! Failures by chance: each errno of each kind's man page, how often it was met, and what is true
//! of its operation afterwards.

const std = @import("std");
const failures = @import("../../kernel/failures.zig");
const seam = @import("../../kernel.zig");
const slots = @import("../../slots.zig");
const descriptors = @import("descriptors.zig");
const model = @import("model.zig");
const kinds = @import("../../operation.zig").kinds;
const Error = @import("../operations.zig").Error;
const Run = @import("../operations.zig").Run;
const Column = model.Column;
const Operation = model.Operation;
const Kind = model.Kind;
const errno = seam.errno;

/// Each errno is met at least so often in one run of the schedules.
pub const count_min = 20;

/// What stands in the man page of this kind.
pub fn listed(kind: Kind) []const i32 {
    return failures.of(opcode_of(kind));
}

/// The opcode by which the kernel performs it.
pub fn opcode_of(kind: Kind) seam.Op {
    return switch (kind) {
        .nop => .NOP,
        .read => .READ,
        .write => .WRITE,
        .readv => .READV,
        .writev => .WRITEV,
        .fsync, .datasync => .FSYNC,
        .openat => .OPENAT,
        .close => .CLOSE,
        .statx => .STATX,
        .fallocate => .FALLOCATE,
        .ftruncate => .FTRUNCATE,
        .sync_file_range => .SYNC_FILE_RANGE,
        .socket => .SOCKET,
        .bind => .BIND,
        .listen => .LISTEN,
        .accept => .ACCEPT,
        .connect => .CONNECT,
        .send => .SEND,
        .recv => .RECV,
        .sendmsg => .SENDMSG,
        .recvmsg => .RECVMSG,
        .shutdown => .SHUTDOWN,
        .poll => .POLL_ADD,
        .timeout => .TIMEOUT,
        .splice => .SPLICE,
        .rename => .RENAMEAT,
        .unlink => .UNLINKAT,
        .mkdir => .MKDIRAT,
        .link => .LINKAT,
        .symlink => .SYMLINKAT,
        .read_fixed => .READ_FIXED,
        .write_fixed => .WRITE_FIXED,
    };
}

/// How often each kind ended with each errno that is listed for it, in the list's order.
pub const Failures = struct {
    counts: [kinds][failures.count_max]u64 =
        @splat(@as([failures.count_max]u64, @splat(0))),

    pub fn count(seen: *Failures, kind: Kind, code: i32) void {
        // The kernel has drawn it from there.
        const at = std.mem.indexOfScalar(i32, listed(kind), code).?;
        seen.counts[@intFromEnum(kind)][at] += 1;
    }

    pub fn add(seen: *Failures, other: *const Failures) void {
        for (&seen.counts, &other.counts) |*mine, *more| {
            for (mine, more) |*sum, one| sum.* += one;
        }
    }

    /// One line a kind: how many errnos, and the rarest of them.
    pub fn print(seen: *const Failures, writer: *std.Io.Writer) std.Io.Writer.Error!void {
        try writer.print("{s:<20}{s:>11}{s:>11}\n", .{ "operation", "errnos", "rarest" });
        for (std.enums.values(Kind)) |kind| {
            const list = listed(kind);
            if (list.len == 0) continue;
            const counts = seen.counts[@intFromEnum(kind)][0..list.len];
            const rarest = std.mem.indexOfMin(u64, counts);
            const name: std.posix.E = @enumFromInt(-list[rarest]);
            try writer.print("{t:<20}{d:>11}{d:>11} E{t}\n", .{
                kind, list.len, counts[rarest], name,
            });
        }
    }

    /// Prints it, and refuses an errno that was met less often.
    pub fn demand(seen: *const Failures, writer: *std.Io.Writer) !void {
        try seen.print(writer);
        for (std.enums.values(Kind)) |kind| {
            for (seen.counts[@intFromEnum(kind)][0..listed(kind).len]) |count_seen| {
                if (count_seen < count_min) return error.FailureTooRare;
            }
        }
    }
};

/// How the operation ended if its kernel has let it fail by chance; null if it has not.
pub fn judge(run: *Run, operation: *Operation, result: i32) Error!?Column {
    const user_data: slots.UserData = .{
        .slot = @intCast(operation.index),
        .kind = .of(operation.kind),
        .generation = operation.generation,
    };
    const code = run.kernel.chance.take(@bitCast(user_data)) orelse return null;
    run.failed.count(operation.kind, code);
    const column: Column = if (result == code)
        .failed
    else if (code == errno.intr and operation.cancelled and result == errno.canceled)
        .cancelled // as a worker says it that a cancel has interrupted
    else if (code == errno.intr and operation.is_late(run.kernel.clock.now) and
        result == errno.timedout)
        .timed_out
    else
        return run.verdict.violation("{t} failed with {d} and ended with {d}", .{
            operation.kind, code, result,
        });
    if (operation.descriptor) |descriptor| switch (operation.kind) {
        .close => descriptors.remove(run, descriptor), // whatever it says
        .connect => descriptor.kind = .dead,
        else => {},
    };
    return column;
}

test "an errno that was not met is missed" {
    var buffer: [8192]u8 = undefined;
    var writer: std.Io.Writer = .fixed(&buffer);
    var seen: Failures = .{};
    for (std.enums.values(Kind)) |kind| {
        for (listed(kind)) |code| {
            for (0..count_min) |_| seen.count(kind, code);
        }
    }
    try seen.demand(&writer);
    seen.counts[@intFromEnum(Kind.read)][0] -= 1;
    writer.end = 0;
    try std.testing.expectError(error.FailureTooRare, seen.demand(&writer));
}
