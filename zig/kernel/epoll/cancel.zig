//! ASYNC_CANCEL, POLL_REMOVE and TIMEOUT_REMOVE of the epoll twin.
//!
//! The request's own CQE comes first, then those of what it found: -ECANCELED, or the part that was
//! moved already (K3). Only what waits is found: a member of a chain that has not started is not
//! (K4), and nothing is ever half-way, so there is no -EALREADY. By `user_data` the oldest is hit,
//! by descriptor whatever waits longest on it (K14).

const std = @import("std");
const linux = std.os.linux;
const system = @import("../linux.zig");
const chains = @import("chains.zig");
const operations = @import("operation.zig");
const Descriptors = @import("descriptors.zig").Descriptors;
const Epoll = @import("../epoll.zig").Epoll;
const Operation = operations.Operation;
const errno = system.errno;

/// What is to be ended.
const Target = struct {
    all: bool = false,
    user_data: ?u64 = null,
    fd: ?i32 = null,
    opcode: ?system.Op = null,
    /// Whether all who wait on `fd` are in its list; decided once, since finding some changes it.
    in_list: bool = false,

    const known = linux.IORING_ASYNC_CANCEL_ALL | linux.IORING_ASYNC_CANCEL_FD |
        linux.IORING_ASYNC_CANCEL_ANY | flag_user_data | flag_opcode;
    /// IORING_ASYNC_CANCEL_USERDATA and _OP.
    const flag_user_data = 1 << 4;
    const flag_opcode = 1 << 5;

    fn of(sqe: *const system.Sqe) ?Target {
        switch (sqe.opcode) {
            .POLL_REMOVE => return .{ .user_data = sqe.addr, .opcode = .POLL_ADD },
            .TIMEOUT_REMOVE => return .{ .user_data = sqe.addr, .opcode = .TIMEOUT },
            else => {},
        }
        const flags = sqe.rw_flags;
        if (flags & ~@as(u32, known) != 0) return null;
        const any = flags & linux.IORING_ASYNC_CANCEL_ANY != 0;
        const by_fd = flags & linux.IORING_ASYNC_CANCEL_FD != 0;
        const by_opcode = flags & flag_opcode != 0;
        const by_user_data = flags & flag_user_data != 0 or !(any or by_fd or by_opcode);
        return .{
            .all = any or flags & linux.IORING_ASYNC_CANCEL_ALL != 0,
            .fd = if (by_fd) sqe.fd else null,
            .user_data = if (by_user_data) sqe.addr else null,
            .opcode = if (by_opcode) @enumFromInt(@as(u8, @truncate(sqe.len))) else null,
        };
    }

    fn matches(target: *const Target, operation: *const Operation) bool {
        // A linked time-out ends with its operation, and by nothing else.
        if (operation.stage != .waiting or operation.sqe.opcode == .LINK_TIMEOUT) return false;
        if (target.user_data) |user_data| if (operation.sqe.user_data != user_data) return false;
        if (target.fd) |fd| if (operation.named != fd) return false;
        if (target.opcode) |opcode| if (operation.sqe.opcode != opcode) return false;
        return true;
    }
};

pub fn run(kernel: *Epoll, operation: *Operation) void {
    var target = Target.of(&operation.sqe) orelse
        return chains.finish(kernel, operation, errno.inval);
    if (target.fd) |fd| {
        const flags = system.result(linux.fcntl(fd, linux.F.GETFD, 0));
        if (flags < 0) return chains.finish(kernel, operation, flags);
        target.in_list = !kernel.descriptors.is_lent(fd);
    }
    const most: u32 = if (target.all) std.math.maxInt(u32) else 1;
    const found = count(kernel, &target, most);
    const result: i32 = if (target.all)
        @intCast(found)
    else if (found == 0)
        errno.noent
    else
        0;
    chains.finish(kernel, operation, result);
    for (0..found) |_| {
        const ended = search(kernel, &target, null).?;
        chains.finish(kernel, ended, ended.part_or(errno.canceled));
    }
}

fn count(kernel: *Epoll, target: *const Target, most: u32) u32 {
    var found: u32 = 0;
    var last: ?*Operation = null;
    while (found < most) : (found += 1) last = search(kernel, target, last) orelse break;
    return found;
}

/// The next that matches after one that did; null from the first one on.
fn search(kernel: *Epoll, target: *const Target, after: ?*Operation) ?*Operation {
    if (target.user_data) |user_data| {
        const Bucket = operations.List("in_bucket");
        var next = if (after) |last| Bucket.after(last) else kernel.pool.bucket(user_data).first;
        while (next) |candidate| : (next = Bucket.after(candidate)) {
            if (target.matches(candidate)) return candidate;
        }
        return null;
    }
    if (target.in_list) {
        const next_waiting = Descriptors.next_waiting;
        const first = kernel.descriptors.first_waiting(target.fd.?);
        var next = if (after) |last| next_waiting(last) else first;
        while (next) |candidate| : (next = next_waiting(candidate)) {
            if (target.matches(candidate)) return candidate;
        }
        return null;
    }
    const all = kernel.pool.all();
    var at: usize = 0;
    if (after) |last| at = 1 + (@intFromPtr(last) - @intFromPtr(all.ptr)) / @sizeOf(Operation);
    while (at < all.len) : (at += 1) if (target.matches(&all[at])) return &all[at];
    return null;
}
