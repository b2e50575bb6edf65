//! The doorbell of a ring: how any thread wakes the one that owns it.
//!
//! A plain value that is rung without the ring: its descriptors are its own, so that they stay
//! what they are while the ring is being closed. Two kinds lead to the same CQE in the target:
//!   * `event`: an eventfd, which the target watches by a multishot poll;
//!   * `message`: IORING_OP_MSG_RING, performed by io_uring_register(2) without a ring of one's own
//!     (6.13). It needs no poll, but costs more: see "Decisions" in `zig/README.md`.
//! It carries nothing: what the owner is told lies in its mailbox. Called by `mailbox.zig`.

const std = @import("std");
const builtin = @import("builtin");
const linux = std.os.linux;
const system = @import("linux.zig");
const Simulated = @import("simulated.zig").Simulated;
const bells = @import("simulated/bells.zig");

pub const Bell = union(enum) {
    event: i32,
    message: Message,
    simulated: if (builtin.is_test) *Simulated else noreturn,
    /// Counts: for tests without a ring.
    counter: if (builtin.is_test) *u32 else noreturn,

    const Message = struct { ring_fd: i32, user_data: u64 };

    pub const By = enum { event, message };
    pub const Opened = union(enum) { bell: Bell, refused: i32 };

    /// The bell of the ring behind `ring_fd`; a message carries `user_data`.
    pub fn open(by: By, ring_fd: i32, user_data: u64) Opened {
        const fd = switch (by) {
            .event => system.eventfd(),
            .message => system.duplicate(ring_fd),
        };
        if (fd < 0) return .{ .refused = fd };
        return .{ .bell = switch (by) {
            .event => .{ .event = fd },
            .message => .{ .message = .{ .ring_fd = fd, .user_data = user_data } },
        } };
    }

    /// 0, or the negative errno: then nobody was woken. On any thread.
    pub fn ring(bell: *const Bell) i32 {
        switch (bell.*) {
            .event => |fd| {
                // Nobody reads it: the poll tells each write. It is full after 2^64 rings.
                const one: u64 = 1;
                return @min(system.write(fd, std.mem.asBytes(&one)), 0);
            },
            .message => |message| return send(message),
            .simulated => |kernel| {
                bells.ring(kernel);
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
            .event => |fd| fd,
            .message, .counter => -1,
            .simulated => |kernel| kernel.bell.fd,
        };
    }

    pub fn close(bell: *const Bell) void {
        switch (bell.*) {
            .event => |fd| system.close(fd),
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
