//! Attempts of the epoll twin to open a file: openat(2), which waits at a FIFO.
//!
//! A FIFO is opened once somebody has its other end (fifo(7)), and no event tells of that: it is
//! opened without waiting, which lets the other side come, and looked at again and again. Whether a
//! reader has a writer shows when tee(2) would wait for data instead of finding the end.

const std = @import("std");
const linux = std.os.linux;
const system = @import("../linux.zig");
const plain = @import("../plain.zig");
const polls = @import("polls.zig");
const Operation = @import("operation.zig").Operation;
const Outcome = @import("attempts.zig").Outcome;
const errno = system.errno;

const again: Outcome = .{ .later = 2 * std.time.ns_per_ms };
const non_blocking: u32 = @bitCast(linux.O{ .NONBLOCK = true });
const no_such_device = -@as(i32, @intFromEnum(linux.E.NXIO));

pub fn open(operation: *Operation) Outcome {
    const sqe = &operation.sqe;
    const flags: linux.O = @bitCast(sqe.rw_flags);
    const never_waits = flags.NONBLOCK or flags.PATH or flags.ACCMODE == .RDWR;
    if (never_waits or !operation.tried and !is_fifo(sqe)) {
        return .{ .done = plain.perform(sqe) };
    }
    if (operation.opened < 0) {
        var entry = sqe.*;
        entry.rw_flags |= non_blocking;
        const fd = plain.perform(&entry);
        if (fd == no_such_device) return again; // nobody reads yet
        if (fd < 0) return .{ .done = fd };
        operation.opened = fd;
    }
    const fd = operation.opened;
    if (flags.ACCMODE == .RDONLY and !has_writer(fd)) return again;
    operation.opened = -1;
    const status = linux.fcntl(fd, linux.F.GETFL, 0);
    _ = linux.fcntl(fd, linux.F.SETFL, status & ~@as(usize, non_blocking));
    return .{ .done = fd };
}

fn is_fifo(sqe: *const system.Sqe) bool {
    if (sqe.addr == 0) return false;
    var status: linux.Statx = undefined;
    const path: [*:0]const u8 = @ptrFromInt(sqe.addr);
    const outcome = linux.statx(sqe.fd, path, 0, .{ .TYPE = true }, &status);
    if (system.result(outcome) < 0) return false;
    return status.mode & linux.S.IFMT == linux.S.IFIFO;
}

/// Has, or had: data and a hang-up tell of one that has gone.
fn has_writer(fd: i32) bool {
    if (polls.ready(fd, linux.EPOLL.IN) != 0) return true;
    var ends: [2]i32 = undefined;
    if (system.result(linux.pipe2(&ends, .{ .CLOEXEC = true })) < 0) return false;
    defer for (ends) |end| system.close(end);
    const reader: usize = @intCast(fd);
    const scratch: usize = @intCast(ends[1]);
    return system.result(linux.syscall4(.tee, reader, scratch, 1, nonblock)) != 0;
}

const nonblock = 2; // SPLICE_F_NONBLOCK
