//! ASYNC_CANCEL of the simulated kernel: by `user_data`, or by descriptor; one target or all.
//!
//! A cancel wins (0, and the target ends with -ECANCELED or what it had done), finds nothing
//! (-ENOENT: never there, or completed already), or comes while its target runs (-EALREADY: the
//! target soon ends either way). The CQEs of cancel and target come in any order.

const std = @import("std");
const system = @import("../linux.zig");
const operations = @import("operations.zig");
const Operation = operations.Operation;
const Simulated = @import("../simulated.zig").Simulated;
const errno = system.errno;

/// What is to be cancelled.
const Target = union(enum) { user_data: u64, socket: u32 };

/// The answer, which is posted already.
pub fn submit(kernel: *Simulated, sqe: *const system.Sqe) i32 {
    const flags = sqe.rw_flags;
    const all = flags & system.sqe_flag.cancel_all != 0;
    const known = system.sqe_flag.cancel_all | system.sqe_flag.cancel_fd;
    if (flags & ~known != 0) kernel.violate("a cancel has a flag that is not simulated");
    const target: Target = if (flags & system.sqe_flag.cancel_fd != 0) target: {
        const socket = kernel.network.find(sqe.fd) orelse
            return answer(kernel, sqe.user_data, all, errno.badf);
        break :target .{ .socket = socket };
    } else .{ .user_data = sqe.addr };
    var found: i32 = 0;
    var outcome: i32 = errno.noent;
    const answers_first = kernel.fate.chance(500);
    var ended: [ended_max]*Operation = undefined;
    var ended_count: usize = 0;
    for (kernel.pending.items) |operation| {
        if (!matches(operation, target)) continue;
        if (found > 0 and !all) break;
        found += 1;
        outcome = cancel_one(kernel, operation);
        if (outcome == 0 and !kernel.fate.strikes("cancel_late") and ended_count < ended_max) {
            ended[ended_count] = operation;
            ended_count += 1;
        }
    }
    const result = if (all) found else outcome;
    if (answers_first) _ = answer(kernel, sqe.user_data, all, result);
    for (ended[0..ended_count]) |operation| operations.finish_cancelled(kernel, operation);
    if (!answers_first) _ = answer(kernel, sqe.user_data, all, result);
    return result;
}

/// So many targets of one request end at once; more end in later enters.
const ended_max = 16;

fn answer(kernel: *Simulated, user_data: u64, all: bool, result: i32) i32 {
    const row: @import("outcomes.zig").Row = if (all) .cancel_all else .cancel;
    kernel.outcomes.count(row, if (result < 0) .errno else .full);
    kernel.post(user_data, result, 0);
    return result;
}

fn matches(operation: *const Operation, target: Target) bool {
    return switch (target) {
        .user_data => |user_data| operation.user_data == user_data,
        .socket => |socket| operation.socket == socket or operation.source == socket,
    };
}

pub fn cancel_one(kernel: *Simulated, operation: *Operation) i32 {
    if (operation.stage != .going) return errno.already;
    // close(2) has begun when its SQE is taken, and can't be taken back.
    if (operation.row == .close) return errno.already;
    if (kernel.fate.strikes("cancel_already")) {
        operation.stage = .running;
        return errno.already;
    }
    operation.stage = .cancelled;
    return 0;
}
