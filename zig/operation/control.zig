//! Operations on the ring itself: NOP and ASYNC_CANCEL.
//!
//! A cancel request is an operation of its own kind: its CQE never settles the target (I2).

const kernel = @import("../kernel.zig");
const Engine = @import("../engine.zig").Engine;
const Operation = @import("../operation.zig").Operation;
const UserData = @import("../slots.zig").UserData;
const mutation = @import("../testing/mutation.zig");

/// IORING_OP_NOP: completes with 0 in the turn that submits it.
pub const Nop = struct {
    pub fn prepare(sqe: *kernel.Sqe, operation: *Operation) void {
        _ = operation;
        sqe.opcode = .NOP;
    }
};

/// IORING_OP_ASYNC_CANCEL by `user_data`. Its result settles nothing: the target's own CQE says
/// what became of it. Only -ENOENT of a target that is still there asks for another try.
pub const Cancel = struct {
    pub fn prepare(sqe: *kernel.Sqe, target: UserData, user_data: UserData) void {
        sqe.opcode = .ASYNC_CANCEL;
        sqe.fd = -1;
        sqe.addr = @bitCast(target);
        sqe.user_data = @bitCast(user_data);
    }

    pub fn complete(engine: *Engine, user_data: UserData, cqe: *const kernel.Cqe) void {
        engine.pending_cancels -= 1;
        if (mutation.is(.cancel_settles)) engine.settle(user_data, cqe);
        if (cqe.res == kernel.errno.noent) engine.cancel_missed(user_data);
    }
};

/// IORING_OP_POLL_ADD, multishot, of the bell's eventfd; or the CQE of a message from another
/// thread. Readable is all that it says: the mailbox says what for.
pub const Bell = struct {
    pub fn prepare(sqe: *kernel.Sqe, fd: i32, user_data: UserData) void {
        sqe.opcode = .POLL_ADD;
        sqe.fd = fd;
        sqe.len = kernel.sqe_flag.poll_multishot;
        sqe.rw_flags = kernel.sqe_flag.poll_in;
        sqe.user_data = @bitCast(user_data);
    }

    pub fn complete(engine: *Engine, _: UserData, cqe: *const kernel.Cqe) void {
        engine.posts.on_bell(engine, cqe);
    }
};

/// IORING_OP_ASYNC_CANCEL of that poll.
pub const BellCancel = struct {
    pub const prepare = Cancel.prepare;

    pub fn complete(engine: *Engine, _: UserData, _: *const kernel.Cqe) void {
        engine.posts.on_cancel_done();
    }
};

/// IORING_OP_POLL_ADD, once, of another loop's epoll descriptor, see `companion.zig`.
pub const Companion = struct {
    pub fn prepare(sqe: *kernel.Sqe, fd: i32, user_data: UserData) void {
        Bell.prepare(sqe, fd, user_data);
        sqe.len = 0;
    }

    pub fn complete(engine: *Engine, _: UserData, cqe: *const kernel.Cqe) void {
        engine.companion.on_ready(engine, cqe);
    }
};

pub const CompanionCancel = struct {
    pub const prepare = Cancel.prepare;

    pub fn complete(engine: *Engine, _: UserData, _: *const kernel.Cqe) void {
        engine.companion.on_cancel_done();
    }
};
