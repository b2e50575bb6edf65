//! CPU time of another process: the sum over its threads, from /proc/PID/task/*/schedstat.
//!
//! The load generator reads it at both ends of the measured window, so that warm-up, start and end
//! of the server are not counted. A thread that ends inside the window is lost; no server under
//! test has one.
const std = @import("std");
const linux = std.os.linux;

/// Nanoseconds on a CPU since the start of the process, or null when it is gone or PID is 0.
pub fn read(pid: u32) ?u64 {
    if (pid == 0) return null;
    var path_buffer: [64]u8 = undefined;
    const path = std.fmt.bufPrintZ(&path_buffer, "/proc/{d}/task", .{pid}) catch unreachable;
    const rc = linux.open(path, .{ .DIRECTORY = true, .CLOEXEC = true }, 0);
    if (linux.errno(rc) != .SUCCESS) return null;
    const directory: i32 = @intCast(rc);
    defer _ = linux.close(directory);
    var total: u64 = 0;
    var entries: [4096]u8 align(8) = undefined;
    while (true) {
        const size = linux.getdents64(directory, &entries, entries.len);
        if (linux.errno(size) != .SUCCESS) return null;
        if (size == 0) return total;
        var at: usize = 0;
        while (at < size) {
            const entry: *align(1) linux.dirent64 = @ptrCast(&entries[at]);
            at += entry.reclen;
            const name = std.mem.span(@as([*:0]const u8, @ptrCast(&entry.name)));
            if (name[0] != '.') total += thread_time(directory, name);
        }
    }
}

/// The first of the three numbers in schedstat is the time spent on a CPU.
fn thread_time(directory: i32, thread: []const u8) u64 {
    var path_buffer: [64]u8 = undefined;
    const path = std.fmt.bufPrintZ(&path_buffer, "{s}/schedstat", .{thread}) catch unreachable;
    const rc = linux.openat(directory, path, .{ .CLOEXEC = true }, 0);
    if (linux.errno(rc) != .SUCCESS) return 0;
    const fd: i32 = @intCast(rc);
    defer _ = linux.close(fd);
    var buffer: [128]u8 = undefined;
    const size = linux.read(fd, &buffer, buffer.len);
    if (linux.errno(size) != .SUCCESS) return 0;
    const end = std.mem.indexOfScalar(u8, buffer[0..size], ' ') orelse return 0;
    return std.fmt.parseInt(u64, buffer[0..end], 10) catch 0;
}
