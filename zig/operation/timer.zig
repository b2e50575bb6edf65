//! Timer operations: IORING_OP_TIMEOUT and LINK_TIMEOUT.
//!
//! The expected end of a time-out is -ETIME: what that means is its owner's business.

const abi = @import("../abi.zig");
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

/// A time-out for what a worker of the kernel waits in: a LINK_TIMEOUT behind it is armed only when
/// the worker comes back (seen on 6.18), so that it never fires. This TIMEOUT stands by itself,
/// asks for the cancel when it expires, and is cancelled when the operation is faster.
pub const TimeLimit = struct {
    /// none ──submitted──▶ wanted ──next flush, its turn in the chain──▶ running ──its CQE──▶ none
    pub const State = enum(u8) { none, wanted, running };

    /// What a worker does otherwise waits for a device, and no cancel reaches it.
    pub fn is_for(kind: abi.OperationKind) bool {
        return kind == .splice or kind == .openat; // pipes, opening a FIFO: splice(2), fifo(7)
    }

    pub fn prepare(sqe: *kernel.Sqe, operation: *Operation, user_data: UserData) void {
        Timeout.set(sqe, .TIMEOUT, operation.timeout_duration());
        sqe.user_data = @bitCast(user_data);
    }

    pub fn complete(engine: *Engine, user_data: UserData, cqe: *const kernel.Cqe) void {
        engine.pending_cancels -= 1;
        const target = engine.operations.find(user_data.slot, user_data.generation) orelse
            return engine.stale(cqe);
        target.limit = .none;
        if (target.stage == .over) {
            engine.dirty_operations.remove(&engine.operations, user_data.slot);
            engine.settled.append(user_data.slot); // its block goes back
            return engine.operations.retire(user_data.slot);
        }
        if (cqe.res != kernel.errno.time) return;
        target.timed_out = true;
        engine.dirty_operations.push_front(&engine.operations, user_data.slot);
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
