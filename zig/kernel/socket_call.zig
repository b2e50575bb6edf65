//! The seam's calls on sockets that are plain system calls on every kernel with real descriptors.
//!
//! None of them waits: bind(2), listen(2), shutdown(2), getsockname(2), getpeername(2), send(2).
//! Options stand in `socket_option.zig`.

const std = @import("std");
const linux = std.os.linux;
const system = @import("linux.zig");
const seam = @import("../kernel.zig");
const SocketAddress = @import("address.zig").SocketAddress;

pub fn bind(fd: i32, target: *const SocketAddress) i32 {
    return system.result(linux.bind(fd, @ptrCast(&target.bytes), target.len));
}

pub fn listen(fd: i32, backlog: u32) i32 {
    return system.result(linux.listen(fd, backlog));
}

pub fn shut(fd: i32, side: seam.Side) void {
    // A Unix listener may refuse; its path is what makes the place free there. A stream refuses if
    // the peer is gone already: then its end has come by itself.
    _ = linux.shutdown(fd, if (side == .both) linux.SHUT.RDWR else linux.SHUT.RD);
}

pub fn address(fd: i32, end: seam.End, out: *SocketAddress) i32 {
    out.* = .{ .bytes = @splat(0), .len = out.bytes.len };
    return system.result(switch (end) {
        .local => linux.getsockname(fd, @ptrCast(&out.bytes), &out.len),
        .remote => linux.getpeername(fd, @ptrCast(&out.bytes), &out.len),
    });
}

pub fn send_now(fd: i32, bytes: []const u8) i32 {
    const flags = system.socket_flag.dont_wait | system.socket_flag.no_signal;
    return system.result(linux.sendto(fd, bytes.ptr, bytes.len, flags, null, 0));
}

pub fn is_open(fd: i32) bool {
    return system.result(linux.fcntl(fd, linux.F.GETFD, 0)) >= 0;
}
