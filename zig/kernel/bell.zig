//! The doorbell of a ring: how any thread wakes the one that owns it.
//!
//! A plain value that is rung without the ring: its descriptors are its own, so that they stay
//! what they are while the ring is being closed. It carries nothing: what the owner is told lies in
//! its mailbox. Two kinds:
//!   * `event`: an eventfd, which the ring polls (multishot), ends a blocked wait. One that sleeps
//!     in Bun's loop is woken by the wake fd that Bun watches: the kernel defers the signal of a
//!     completion that an eventfd caused, and drops the second one (seen on 6.18);
//!   * `message`: IORING_OP_MSG_RING, performed by io_uring_register(2) without a ring of one's own
//!     (6.13), ends both. It costs more: see "Decisions" in `zig/README.md`.
//! Called by `mailbox.zig`.

const std = @import("std");
const builtin = @import("builtin");
const linux = std.os.linux;
const system = @import("linux.zig");
const Simulated = @import("simulated.zig").Simulated;
const bells = @import("simulated/bells.zig");

pub const Bell = union(enum) {
    event: Event,
    message: Message,
    simulated: if (builtin.is_test) *Simulated else noreturn,
    /// Counts: for tests without a ring.
    counter: if (builtin.is_test) *u32 else noreturn,

    const Event = struct { fd: i32, wake_fd: i32 };
    const Message = struct { ring_fd: i32, user_data: u64 };

    pub const By = enum { event, message };
    /// Where the owner sleeps.
    pub const Sleeper = enum { waits, in_loop };
    pub const Opened = union(enum) { bell: Bell, refused: i32 };

    /// An eventfd and the loop's `wake_fd`, which may be -1; or messages with `user_data` to the
    /// ring behind `ring_fd`.
    pub fn open(by: By, wake_fd: i32, ring_fd: i32, user_data: u64) Opened {
        return switch (by) {
            .event => of_events(wake_fd),
            .message => of_messages(ring_fd, user_data),
        };
    }

    fn of_events(wake_fd: i32) Opened {
        const fd = system.eventfd();
        if (fd < 0) return .{ .refused = fd };
        const duplicate = if (wake_fd < 0) -1 else system.duplicate(wake_fd);
        if (wake_fd >= 0 and duplicate < 0) {
            system.close(fd);
            return .{ .refused = duplicate };
        }
        return .{ .bell = .{ .event = .{ .fd = fd, .wake_fd = duplicate } } };
    }

    fn of_messages(ring_fd: i32, user_data: u64) Opened {
        const fd = system.duplicate(ring_fd);
        if (fd < 0) return .{ .refused = fd };
        return .{ .bell = .{ .message = .{ .ring_fd = fd, .user_data = user_data } } };
    }

    /// 0, or the negative errno: then nobody was woken. On any thread.
    pub fn ring(bell: *const Bell, sleeper: Sleeper) i32 {
        switch (bell.*) {
            .event => |event| {
                // Nobody reads the polled one: it tells each write, and is full after 2^64 of them.
                const one: u64 = 1;
                const in_loop = sleeper == .in_loop and event.wake_fd >= 0;
                const fd = if (in_loop) event.wake_fd else event.fd;
                const outcome = system.write(fd, std.mem.asBytes(&one));
                // Readable already is all that is wanted.
                return if (outcome == system.errno.again) 0 else @min(outcome, 0);
            },
            .message => |message| return send(message),
            .simulated => |kernel| {
                bells.ring(kernel, sleeper);
                return 0;
            },
            .counter => |count| {
                _ = @atomicRmw(u32, count, .Add, 1, .seq_cst);
                return 0;
            },
        }
    }

    /// The descriptor that the target polls, or -1.
    pub fn poll_fd(bell: *const Bell) i32 {
        return switch (bell.*) {
            .event => |event| event.fd,
            .message, .counter => -1,
            .simulated => |kernel| kernel.bell.fd,
        };
    }

    pub fn close(bell: *const Bell) void {
        switch (bell.*) {
            .event => |event| {
                system.close(event.fd);
                if (event.wake_fd >= 0) system.close(event.wake_fd);
            },
            .message => |message| system.close(message.ring_fd),
            .simulated => |kernel| bells.close(kernel),
            .counter => {},
        }
    }

    /// IORING_REGISTER_SEND_MSG_RING, which std does not name.
    const register_send_message: u32 = 31;

    fn send(message: Message) i32 {
        var sqe = std.mem.zeroes(system.Sqe);
        sqe.opcode = .MSG_RING;
        sqe.fd = message.ring_fd;
        sqe.off = message.user_data;
        const no_ring: usize = @bitCast(@as(isize, -1));
        return system.result(linux.syscall4(
            .io_uring_register,
            no_ring,
            register_send_message,
            @intFromPtr(&sqe),
            1,
        ));
    }
};
