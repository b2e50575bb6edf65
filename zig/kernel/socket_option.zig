//! Socket options of Linux by the seam's names, and what a descriptor from elsewhere needs.
//!
//! Plain system calls, for every kernel that works on real descriptors: setsockopt(2),
//! getsockopt(2), fcntl(2). What an option does to a socket that has no such thing is the kernel's
//! business: its errno is returned.

const std = @import("std");
const linux = std.os.linux;
const system = @import("linux.zig");
const seam = @import("../kernel.zig");

const tcp = linux.IPPROTO.TCP;
const socket_level = linux.SOL.SOCKET;

const Name = struct { level: i32, name: u32 };

/// Options that are one word, read and written alike.
fn name_of(fd: i32, option: seam.Option) ?Name {
    return switch (option) {
        .no_delay => .{ .level = tcp, .name = linux.TCP.NODELAY },
        .reuse_address => .{ .level = socket_level, .name = linux.SO.REUSEADDR },
        .reuse_port => .{ .level = socket_level, .name = linux.SO.REUSEPORT },
        .ipv6_only => .{ .level = linux.IPPROTO.IPV6, .name = linux.IPV6.V6ONLY },
        .broadcast => .{ .level = socket_level, .name = linux.SO.BROADCAST },
        .receive_buffer => .{ .level = socket_level, .name = linux.SO.RCVBUF },
        .send_buffer => .{ .level = socket_level, .name = linux.SO.SNDBUF },
        .udp_gro => .{ .level = linux.IPPROTO.UDP, .name = linux.UDP.GRO },
        .type_of_service => by_family(fd, linux.IP.TOS, linux.IPV6.TCLASS),
        .ttl => by_family(fd, linux.IP.TTL, linux.IPV6.UNICAST_HOPS),
        .multicast_ttl => by_family(fd, linux.IP.MULTICAST_TTL, linux.IPV6.MULTICAST_HOPS),
        .multicast_loop => by_family(fd, linux.IP.MULTICAST_LOOP, linux.IPV6.MULTICAST_LOOP),
        .linger_reset, .keep_alive, .non_blocking => null,
    };
}

fn by_family(fd: i32, ipv4: u32, ipv6: u32) ?Name {
    return switch (word(fd, socket_level, linux.SO.DOMAIN)) {
        linux.AF.INET => .{ .level = linux.IPPROTO.IP, .name = ipv4 },
        linux.AF.INET6 => .{ .level = linux.IPPROTO.IPV6, .name = ipv6 },
        else => null,
    };
}

pub fn set(fd: i32, option: seam.Option, value: u32) i32 {
    if (name_of(fd, option)) |known| return set_word(fd, known.level, known.name, value);
    switch (option) {
        .linger_reset => return set_bytes(fd, socket_level, linux.SO.LINGER, &[2]u32{ 1, 0 }),
        .keep_alive => {
            const on = @intFromBool(value > 0);
            const enabled = set_word(fd, socket_level, linux.SO.KEEPALIVE, on);
            if (enabled < 0 or value == 0) return enabled;
            return set_word(fd, tcp, linux.TCP.KEEPIDLE, value);
        },
        .non_blocking => return set_non_blocking(fd, value != 0),
        else => return system.errno.notsup,
    }
}

/// The option's value, or a negative errno.
pub fn get(fd: i32, option: seam.Option) i32 {
    const known = name_of(fd, option) orelse return system.errno.notsup;
    return word(fd, known.level, known.name);
}

/// It blocks from here on, as the ring's own do: where no poll can be armed, O_NONBLOCK would make
/// an operation answer -EAGAIN.
pub fn adopt(fd: i32) i32 {
    const kind = word(fd, socket_level, linux.SO.TYPE);
    if (kind < 0) return kind;
    if (kind != linux.SOCK.STREAM) return system.errno.inval;
    const cleared = set_non_blocking(fd, false);
    if (cleared < 0) return cleared;
    return system.result(linux.fcntl(fd, linux.F.SETFD, linux.FD_CLOEXEC));
}

fn set_non_blocking(fd: i32, on: bool) i32 {
    const flags = system.result(linux.fcntl(fd, linux.F.GETFL, 0));
    if (flags < 0) return flags;
    const bit: u32 = @bitCast(linux.O{ .NONBLOCK = true });
    const others = @as(u32, @intCast(flags)) & ~bit;
    return system.result(linux.fcntl(fd, linux.F.SETFL, if (on) others | bit else others));
}

fn word(fd: i32, level: i32, name: u32) i32 {
    var value: i32 = 0;
    var len: linux.socklen_t = @sizeOf(i32);
    const bytes = std.mem.asBytes(&value);
    const outcome = system.result(linux.getsockopt(fd, level, name, bytes, &len));
    return if (outcome < 0) outcome else value;
}

fn set_word(fd: i32, level: i32, name: u32, value: u32) i32 {
    return set_bytes(fd, level, name, &[1]u32{value});
}

fn set_bytes(fd: i32, level: i32, name: u32, words: []const u32) i32 {
    const bytes = std.mem.sliceAsBytes(words);
    return system.result(linux.setsockopt(fd, level, name, bytes.ptr, @intCast(bytes.len)));
}
