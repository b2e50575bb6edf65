//! Attempts of the epoll twin to accept and to connect: accept4(2), connect(2).
//!
//! Neither call has a flag that keeps it from blocking. Sockets of the engine's own are
//! non-blocking ones; somebody else's listener is asked by poll(2) first, and somebody else's
//! socket is made non-blocking while it begins to connect.

const std = @import("std");
const linux = std.os.linux;
const system = @import("../linux.zig");
const polls = @import("polls.zig");
const Outcome = @import("attempts.zig").Outcome;
const Epoll = @import("../epoll.zig").Epoll;
const Operation = @import("operation.zig").Operation;
const errno = system.errno;

pub fn accept(kernel: *Epoll, operation: *Operation) Outcome {
    const sqe = &operation.sqe;
    const may_block = !kernel.descriptors.is_non_blocking(operation.named);
    if (may_block and !operation.tried) {
        const refused = check_listener(sqe.fd);
        if (refused < 0) return .{ .done = refused };
    }
    const multishot = sqe.ioprio & system.sqe_flag.accept_multishot != 0;
    while (true) {
        if (may_block and polls.ready(sqe.fd, linux.EPOLL.IN) == 0) break;
        const name: ?*linux.sockaddr = @ptrFromInt(sqe.addr);
        const len: ?*linux.socklen_t = @ptrFromInt(sqe.off);
        const fd = system.result(linux.accept4(sqe.fd, name, len, sqe.rw_flags));
        if (fd == errno.again) break;
        if (fd == errno.intr) continue;
        if (fd < 0 or !multishot) return .{ .done = fd };
        kernel.completions.post(sqe.user_data, fd, system.cqe_flag.more);
        if (kernel.completions.is_full()) break;
    }
    return .{ .ready = linux.EPOLL.IN };
}

/// What can never be accepted from would never become readable either.
fn check_listener(fd: i32) i32 {
    var listens: u32 = 0;
    var len: linux.socklen_t = @sizeOf(u32);
    const bytes = std.mem.asBytes(&listens);
    const outcome = linux.getsockopt(fd, linux.SOL.SOCKET, linux.SO.ACCEPTCONN, bytes, &len);
    if (system.result(outcome) < 0) return system.result(outcome);
    return if (listens == 0) errno.inval else 0;
}

pub fn connect(kernel: *Epoll, operation: *Operation) Outcome {
    const sqe = &operation.sqe;
    const writable: Outcome = .{ .ready = linux.EPOLL.OUT };
    const under_way = operation.watched >= 0;
    if (under_way and polls.ready(sqe.fd, linux.EPOLL.OUT) == 0) return writable;
    const address: *const anyopaque = @ptrFromInt(sqe.addr);
    const len = std.math.cast(linux.socklen_t, sqe.off) orelse return .{ .done = errno.inval };
    const never_blocks = under_way or kernel.descriptors.is_non_blocking(operation.named);
    const restored = if (never_blocks) null else make_non_blocking(sqe.fd);
    // The second call says how it ended, and is what makes the socket a connected one.
    const outcome = system.result(linux.connect(sqe.fd, address, len));
    if (restored) |flags| _ = linux.fcntl(sqe.fd, linux.F.SETFL, flags);
    return switch (outcome) {
        in_progress, errno.intr => writable,
        // A Unix listener whose queue is full, of which no event tells: connect(2).
        errno.again => .{ .later = std.time.ns_per_ms },
        else => .{ .done = outcome },
    };
}

const in_progress = -@as(i32, @intFromEnum(linux.E.INPROGRESS));

/// The flags to be set again, or null if there is nothing to restore.
fn make_non_blocking(fd: i32) ?usize {
    const flags = system.result(linux.fcntl(fd, linux.F.GETFL, 0));
    if (flags < 0) return null;
    const before: u32 = @intCast(flags);
    const non_blocking: u32 = @bitCast(linux.O{ .NONBLOCK = true });
    if (before & non_blocking != 0) return null;
    if (system.result(linux.fcntl(fd, linux.F.SETFL, before | non_blocking)) < 0) return null;
    return before;
}
