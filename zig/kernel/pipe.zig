//! Pipes, through which bytes go from one stream to another inside of the kernel: pipe(2),
//! splice(2).
//!
//! Plain system calls that never wait, for every kernel with real descriptors. Neither end of a
//! pipe blocks, and the sockets must not either (`seam.Option.non_blocking`): of a TCP socket
//! splice(2) asks O_NONBLOCK, whatever its own flags say. The ring's SPLICE is no way to this: it
//! runs in a worker of the kernel, which each stalled connection would occupy.

const std = @import("std");
const linux = std.os.linux;
const system = @import("linux.zig");

/// What is written to `write` is read from `read`.
pub const Pipe = struct { read: i32, write: i32 };

/// splice(2): pages are moved, not copied; the pipe does not wait.
const splice_flags = 1 | 2;

/// The calls of `seam.Contract`, for a kernel to take over as they are.
pub fn Calls(comptime Self: type) type {
    return struct {
        pub fn pipe_open(_: *Self, size: u32, out: *Pipe) i32 {
            return open(size, out);
        }

        pub fn pipe_fill(_: *Self, pipe: Pipe, from: i32, len: u32) i32 {
            return splice(from, pipe.write, len);
        }

        pub fn pipe_drain(_: *Self, pipe: Pipe, to: i32, len: u32) i32 {
            return drain(pipe, to, len);
        }
    };
}

fn open(size: u32, out: *Pipe) i32 {
    var ends: [2]i32 = undefined;
    const made = system.result(linux.pipe2(&ends, .{ .CLOEXEC = true, .NONBLOCK = true }));
    if (made < 0) return made;
    // EPERM: all pipes of the user's are too large together, and this one holds a page or two.
    const sized = system.result(linux.fcntl(ends[1], linux.F.SETPIPE_SZ, size));
    if (sized < 0) {
        for (ends) |end| system.close(end);
        return sized;
    }
    out.* = .{ .read = ends[0], .write = ends[1] };
    return 0;
}

fn splice(from: i32, to: i32, len: u32) i32 {
    const source: usize = @bitCast(@as(isize, from));
    const target: usize = @bitCast(@as(isize, to));
    return system.result(linux.syscall6(.splice, source, 0, target, 0, len, splice_flags));
}

/// splice(2) cannot be told MSG_NOSIGNAL. Bun ignores SIGPIPE, but a program that had a listener
/// for it and took it away dies of it. So it waits, and what comes is taken back: 2 % of what it
/// costs to forward 16 KiB.
fn drain(pipe: Pipe, to: i32, len: u32) i32 {
    var before: linux.sigset_t = undefined;
    var signal = linux.sigemptyset();
    linux.sigaddset(&signal, .PIPE);
    _ = linux.sigprocmask(linux.SIG.BLOCK, &signal, &before);
    const outcome = splice(pipe.read, to, len);
    // Also behind a success, if it is a part.
    if (outcome < @as(i64, len)) take(&signal);
    _ = linux.sigprocmask(linux.SIG.SETMASK, &before, null);
    return outcome;
}

/// rt_sigtimedwait(2), without a wait: this thread's own first.
fn take(signal: *const linux.sigset_t) void {
    const no_time: linux.timespec = .{ .sec = 0, .nsec = 0 };
    const set = @intFromPtr(signal);
    const time = @intFromPtr(&no_time);
    _ = linux.syscall4(.rt_sigtimedwait, set, 0, time, linux.NSIG / 8);
}
