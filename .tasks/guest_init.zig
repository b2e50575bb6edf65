//! The first process of an emulated machine: mounts what a Linux has, raises the loopback device,
//! runs its arguments as a command, waits for it, and turns the machine off.
//!
//! Bun cannot be that process: it wants /proc and /dev when it starts.

const std = @import("std");
const linux = std.os.linux;

pub fn main(init: std.process.Init.Minimal) void {
    for ([_][2][*:0]const u8{
        .{ "proc", "/proc" },
        .{ "sysfs", "/sys" },
        .{ "devtmpfs", "/dev" },
        .{ "tmpfs", "/tmp" },
        .{ "tmpfs", "/dev/shm" },
    }) |mount| {
        _ = linux.mkdir(mount[1], 0o755);
        _ = linux.mount(mount[0], mount[1], mount[0], 0, 0);
    }
    raise_loopback();
    name_host();
    const child = linux.fork();
    if (child == 0) {
        const arguments = init.args.vector;
        var command: [16:null]?[*:0]const u8 = @splat(null);
        for (arguments[1..], 0..) |argument, i| command[i] = argument;
        const environment = [_:null]?[*:0]const u8{ "HOME=/tmp", "TMPDIR=/tmp", "PATH=/bin" };
        _ = linux.execve(command[0].?, &command, &environment);
        linux.exit(127);
    }
    var status: u32 = 0;
    while (linux.waitpid(-1, &status, 0) != child) {} // orphans come here, too
    _ = linux.reboot(.MAGIC1, .MAGIC2, .POWER_OFF, null);
}

/// Bun resolves "localhost" and the like with the C library, which wants to know who it is.
fn name_host() void {
    const name = "guest";
    const fd: i32 = @intCast(linux.open("/proc/sys/kernel/hostname", .{ .ACCMODE = .WRONLY }, 0));
    _ = linux.write(fd, name, name.len);
    _ = linux.close(fd);
}

const get_flags = 0x8913; // SIOCGIFFLAGS
const set_flags = 0x8914;

fn raise_loopback() void {
    var request: extern struct { name: [16]u8, flags: u16, rest: [22]u8 } = undefined;
    @memset(std.mem.asBytes(&request), 0);
    @memcpy(request.name[0..2], "lo");
    const fd: i32 = @intCast(linux.socket(linux.AF.INET, linux.SOCK.DGRAM, 0));
    _ = linux.ioctl(fd, get_flags, @intFromPtr(&request));
    request.flags |= 1; // IFF_UP
    _ = linux.ioctl(fd, set_flags, @intFromPtr(&request));
}
