//! setsockopt(2): what each option of the seam is to the kernel.
//!
//! Called by `uring.zig`; a refusal is an errno and changes nothing.

const std = @import("std");
const linux = std.os.linux;
const system = @import("linux.zig");
const Option = @import("../kernel.zig").Option;

pub fn set(fd: i32, option: Option, value: u32) i32 {
    const tcp = linux.IPPROTO.TCP;
    const socket_level = linux.SOL.SOCKET;
    return switch (option) {
        .no_delay => set_word(fd, tcp, linux.TCP.NODELAY, value),
        .reuse_address => set_word(fd, socket_level, linux.SO.REUSEADDR, value),
        .reuse_port => set_word(fd, socket_level, linux.SO.REUSEPORT, value),
        .ipv6_only => set_word(fd, linux.IPPROTO.IPV6, linux.IPV6.V6ONLY, value),
        .linger_reset => set_bytes(fd, socket_level, linux.SO.LINGER, &[2]u32{ 1, 0 }),
        .keep_alive => keep_alive: {
            const on = @intFromBool(value > 0);
            const enabled = set_word(fd, socket_level, linux.SO.KEEPALIVE, on);
            if (enabled < 0 or value == 0) break :keep_alive enabled;
            break :keep_alive set_word(fd, tcp, linux.TCP.KEEPIDLE, value);
        },
    };
}

fn set_word(fd: i32, level: i32, name: u32, value: u32) i32 {
    return set_bytes(fd, level, name, &[1]u32{value});
}

fn set_bytes(fd: i32, level: i32, name: u32, words: []const u32) i32 {
    const bytes = std.mem.sliceAsBytes(words);
    return system.result(linux.setsockopt(fd, level, name, bytes.ptr, @intCast(bytes.len)));
}
