//! Timer operations: IORING_OP_TIMEOUT, for users and for the listener's back-off.
//!
//! The expected end of a time-out is -ETIME: what that means is its owner's business.

const kernel = @import("../kernel.zig");
const Engine = @import("../engine.zig").Engine;
const UserData = @import("../slots.zig").UserData;

/// IORING_OP_TIMEOUT, relative: completes with -ETIME when it expires, -ECANCELED when cancelled.
pub const Timeout = struct {
    /// `duration` is read when the SQE is submitted and must stand until then.
    pub fn prepare(sqe: *kernel.Sqe, duration: *const kernel.Timespec, user_data: UserData) void {
        sqe.opcode = .TIMEOUT;
        sqe.fd = -1;
        sqe.addr = @intFromPtr(duration);
        sqe.len = 1; // one timespec
        sqe.user_data = @bitCast(user_data);
    }

    pub fn complete(engine: *Engine, user_data: UserData, cqe: *const kernel.Cqe) void {
        engine.settle(user_data, cqe);
    }
};

/// A listener that ran out of descriptors waits this long before it accepts again.
pub const AcceptRetry = struct {
    const duration: kernel.Timespec = .{ .sec = 0, .nsec = 100 * 1_000_000 };

    pub fn prepare(sqe: *kernel.Sqe, user_data: UserData) void {
        Timeout.prepare(sqe, &duration, user_data);
    }

    pub fn complete(engine: *Engine, user_data: UserData, cqe: *const kernel.Cqe) void {
        const listener = engine.listeners.find(user_data.slot, user_data.generation) orelse
            return engine.stale(cqe);
        listener.on_retry(engine, user_data.slot);
    }
};
