//! Attempts of the epoll twin to poll: poll(2) first, then a wait for the events themselves.
//!
//! A multishot poll tells of each wake-up, not of a state that lasts: edge-triggered, on a
//! duplicate of its own, so that nobody else's interest is.

const std = @import("std");
const linux = std.os.linux;
const system = @import("../linux.zig");
const Outcome = @import("attempts.zig").Outcome;
const Epoll = @import("../epoll.zig").Epoll;
const Operation = @import("operation.zig").Operation;
const errno = system.errno;

/// Asked for or not, these are told.
const always: u32 = linux.EPOLL.ERR | linux.EPOLL.HUP;
/// What poll(2) knows; the rest of a mask is how to wait.
const poll_mask: u32 = 0xffff & ~@as(u32, invalid);
const invalid = 0x20; // POLLNVAL

pub fn poll(kernel: *Epoll, operation: *Operation) Outcome {
    const sqe = &operation.sqe;
    const multishot = sqe.len & system.sqe_flag.poll_multishot != 0;
    const mask = sqe.rw_flags & poll_mask;
    if (sqe.len & ~system.sqe_flag.poll_multishot != 0) return .{ .done = errno.inval };
    if (sqe.fd < 0) return .{ .done = errno.badf }; // which poll(2) passes over
    const events = if (operation.watched >= 0)
        operation.events & (mask | always)
    else
        ready(sqe.fd, mask);
    if (events == invalid) return .{ .done = errno.badf };
    if (events != 0 and !multishot) return .{ .done = @intCast(events) };
    // What is ready when it starts is told by epoll itself, once.
    if (events != 0 and operation.watched >= 0) {
        kernel.completions.post(sqe.user_data, @intCast(events), system.cqe_flag.more);
    }
    return .{ .ready = if (multishot) mask | linux.EPOLL.ET else mask };
}

/// The events that a descriptor has now, errors and hang-ups among them.
pub fn ready(fd: i32, events: u32) u32 {
    const asked: u16 = @truncate(events);
    var fds = [_]linux.pollfd{.{ .fd = fd, .events = @bitCast(asked), .revents = 0 }};
    if (system.result(linux.poll(&fds, 1, 0)) != 1) return 0;
    return @as(u16, @bitCast(fds[0].revents));
}
