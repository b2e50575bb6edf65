//! Timer operations: IORING_OP_TIMEOUT and LINK_TIMEOUT.
//!
//! The expected end of a time-out is -ETIME: what that means is its owner's business.

const kernel = @import("../kernel.zig");
const connection = @import("connection.zig");
const Engine = @import("../engine.zig").Engine;
const Operation = @import("../operation.zig").Operation;
const UserData = @import("../slots.zig").UserData;

/// Relative: completes with -ETIME when it expires, -ECANCELED when cancelled. `offset` is the
/// duration in milliseconds.
pub const Timeout = struct {
    pub fn prepare(sqe: *kernel.Sqe, operation: *Operation) void {
        set(sqe, .TIMEOUT, operation.duration());
    }

    fn set(sqe: *kernel.Sqe, opcode: kernel.Op, duration: *const kernel.Timespec) void {
        sqe.opcode = opcode;
        sqe.fd = -1;
        sqe.addr = @intFromPtr(duration);
        sqe.len = 1; // one timespec
    }
};

/// Cancels the operation whose SQE it follows. The operation's own CQE says what became of it (I2);
/// this one's comes before it and says whether the time-out was the cause.
pub const LinkTimeout = struct {
    pub fn prepare(sqe: *kernel.Sqe, operation: *Operation, user_data: UserData) void {
        Timeout.set(sqe, .LINK_TIMEOUT, operation.timeout_duration());
        sqe.user_data = @bitCast(user_data);
    }

    pub fn complete(engine: *Engine, user_data: UserData, cqe: *const kernel.Cqe) void {
        engine.pending_cancels -= 1;
        const fired = cqe.res == kernel.errno.time or cqe.res == kernel.errno.already;
        if (!fired) return;
        const target = engine.operations.find(user_data.slot, user_data.generation) orelse return;
        target.timed_out = true;
    }
};

/// A listener that ran out of descriptors waits this long before it accepts again.
pub const AcceptRetry = struct {
    const duration: kernel.Timespec = .{ .sec = 0, .nsec = 100 * 1_000_000 };

    pub fn prepare(sqe: *kernel.Sqe, user_data: UserData) void {
        Timeout.set(sqe, .TIMEOUT, &duration);
        sqe.user_data = @bitCast(user_data);
    }

    pub fn complete(engine: *Engine, user_data: UserData, cqe: *const kernel.Cqe) void {
        const listener = engine.listeners.find(user_data.slot, user_data.generation) orelse
            return engine.stale(cqe);
        listener.on_retry(engine, user_data.slot);
    }
};

/// The nearest deadline of all connections, see `deadlines.zig`.
pub const Deadline = struct {
    pub fn prepare(sqe: *kernel.Sqe, duration: *const kernel.Timespec, user_data: UserData) void {
        Timeout.set(sqe, .TIMEOUT, duration);
        sqe.user_data = @bitCast(user_data);
    }

    pub fn complete(engine: *Engine, _: UserData, cqe: *const kernel.Cqe) void {
        engine.deadlines.on_timeout(engine, cqe);
    }
};

/// ASYNC_CANCEL of it by its `user_data`.
pub const DeadlineCancel = struct {
    pub const prepare = connection.ReceiveCancel.prepare;

    pub fn complete(engine: *Engine, _: UserData, _: *const kernel.Cqe) void {
        engine.deadlines.on_cancel_done();
    }
};
