//! The way of an SQE through the epoll twin: taken, started in its turn, attempted, finished.
//!
//! An attempt is the plain system call without blocking; what would block waits on its descriptor
//! and is attempted again when epoll says so. Members of a chain start one after the other: one
//! that fails, or comes short where all was asked for, ends those behind it unless its link is a
//! hard one, and a chain ends with its submission (K1 to K4). What is to start waits in a queue, so
//! that neither long chains nor cancels among them nest.

const std = @import("std");
const assert = std.debug.assert;
const linux = std.os.linux;
const system = @import("../linux.zig");
const attempts = @import("attempts.zig");
const cancel = @import("cancel.zig");
const Epoll = @import("../epoll.zig").Epoll;
const Operation = @import("operation.zig").Operation;
const errno = system.errno;

const link_flags = system.sqe_flag.io_link | system.sqe_flag.io_hardlink;
const known_flags = link_flags | system.sqe_flag.buffer_select | system.sqe_flag.fixed_file;

pub fn is_linked(sqe: *const system.Sqe) bool {
    return sqe.flags & link_flags != 0;
}

// Submission -----------------------------------------------------------------------------------

/// Entries that belong together, from the first of these: a chain, or one alone.
pub fn submit(kernel: *Epoll, count: u32) void {
    var head: ?*Operation = null;
    var tail: ?*Operation = null;
    var refused = false;
    for (0..count) |_| {
        const operation = kernel.pool.take(kernel.take_sqe());
        operation.refused = check(operation, tail);
        refused = refused or operation.refused < 0;
        if (operation.sqe.opcode == .LINK_TIMEOUT and operation.refused == 0) {
            tail.?.timeout = operation;
            operation.timed = tail;
            continue;
        }
        if (tail) |last| last.next = operation else head = operation;
        tail = operation;
    }
    // What is wrong with one member ends the chain before it starts.
    if (refused) return break_chain(kernel, head.?);
    start(kernel, head.?);
}

/// What the real ring refuses when it takes the entry.
fn check(operation: *Operation, before: ?*Operation) i32 {
    const sqe = &operation.sqe;
    if (sqe.flags & ~known_flags != 0) return errno.inval;
    if (!attempts.is_known(sqe.opcode)) return errno.inval;
    if (sqe.opcode != .TIMEOUT and sqe.opcode != .LINK_TIMEOUT) return 0;
    if (sqe.opcode == .LINK_TIMEOUT) {
        const timed = before orelse return errno.inval;
        if (timed.timeout != null) return errno.inval;
    }
    const known: u32 = linux.IORING_TIMEOUT_ABS | linux.IORING_TIMEOUT_ETIME_SUCCESS;
    if (sqe.len != 1 or sqe.off != 0 or sqe.rw_flags & ~known != 0) return errno.inval;
    const duration: *const system.Timespec = @ptrFromInt(sqe.addr);
    if (duration.sec < 0 or duration.nsec < 0) return errno.inval;
    operation.at_ns = @as(u64, @intCast(duration.sec)) *| std.time.ns_per_s +|
        @as(u64, @intCast(duration.nsec));
    return 0;
}

// The start ------------------------------------------------------------------------------------

fn start(kernel: *Epoll, operation: *Operation) void {
    assert(operation.stage == .taken);
    operation.stage = .going;
    switch (operation.sqe.opcode) {
        .ASYNC_CANCEL, .POLL_REMOVE, .TIMEOUT_REMOVE => cancel.run(kernel, operation),
        .TIMEOUT => {
            wait_for_time(kernel, operation);
            arm_timeout(kernel, operation);
        },
        else => attempt(kernel, operation),
    }
}

fn wait_for_time(kernel: *Epoll, operation: *Operation) void {
    const is_absolute = operation.sqe.rw_flags & linux.IORING_TIMEOUT_ABS != 0;
    if (!is_absolute) operation.at_ns +|= kernel.now_ns();
    operation.stage = .waiting;
    kernel.pool.list(operation);
    kernel.timers.add(operation);
}

/// A linked time-out runs from the first time that its operation waits.
fn arm_timeout(kernel: *Epoll, operation: *Operation) void {
    const timeout = operation.timeout orelse return;
    if (timeout.stage == .taken) wait_for_time(kernel, timeout);
}

/// Everything that was made to start meanwhile.
pub fn run_started(kernel: *Epoll) void {
    while (kernel.starting.first) |operation| {
        kernel.starting.remove(operation);
        start(kernel, operation);
    }
}

// Attempts -------------------------------------------------------------------------------------

pub fn attempt(kernel: *Epoll, operation: *Operation) void {
    const outcome = attempts.attempt(kernel, operation);
    operation.tried = true;
    switch (outcome) {
        .done => |result| return finish(kernel, operation, result),
        .done_into => |buffer| return finish_with(kernel, operation, buffer.len, buffer.flags()),
        .ready, .source_ready => |events| {
            // The usual end of an attempt: it waits for more of the same, where it did before.
            const as_before = operation.stage == .waiting and operation.interest == events;
            if (as_before and outcome == .ready) return;
            hold(kernel, operation, events);
            const at_source = outcome == .source_ready;
            const fd = if (at_source) operation.sqe.splice_fd_in else operation.sqe.fd;
            const refused = kernel.descriptors.wait(operation, fd, events);
            if (refused < 0) return finish(kernel, operation, operation.part_or(refused));
        },
        .later => |delay_ns| {
            // What is opened is named by a path.
            if (!operation.is_apart and operation.sqe.opcode != .OPENAT) {
                operation.is_apart = kernel.descriptors.wait_apart(operation.named);
            }
            kernel.timers.remove(operation);
            operation.at_ns = kernel.now_ns() + delay_ns;
            kernel.timers.add(operation);
        },
    }
    operation.stage = .waiting;
    kernel.pool.list(operation);
    arm_timeout(kernel, operation);
}

/// The numbers that it was given may become somebody else's while it waits. Without a free number
/// (EMFILE) it waits on them all the same. A multishot poll waits in a way of its own.
fn hold(kernel: *Epoll, operation: *Operation, events: u32) void {
    const sqe = &operation.sqe;
    const apart = events & linux.EPOLL.ET != 0;
    if (!operation.holds and (apart or !kernel.descriptors.is_own(sqe.fd))) {
        const duplicate = kernel.descriptors.lend(sqe.fd);
        if (duplicate >= 0) {
            operation.holds = true;
            sqe.fd = duplicate;
        }
    }
    if (sqe.opcode == .SPLICE and !operation.holds_source) {
        operation.named_source = sqe.splice_fd_in;
        const duplicate = kernel.descriptors.lend(sqe.splice_fd_in);
        if (duplicate >= 0) {
            operation.holds_source = true;
            sqe.splice_fd_in = duplicate;
        }
    }
}

/// The descriptor is about to be closed: that ends nothing that waits on it.
pub fn keep_waiting(kernel: *Epoll, fd: i32) void {
    while (kernel.descriptors.first_waiting(fd)) |operation| {
        const events = operation.interest;
        kernel.descriptors.leave_list(operation);
        hold(kernel, operation, events);
        const kept = operation.holds and operation.sqe.fd != fd;
        const refused = if (kept)
            kernel.descriptors.wait(operation, operation.sqe.fd, events)
        else
            errno.badf;
        if (refused < 0) finish(kernel, operation, operation.part_or(refused));
    }
}

fn let_go(kernel: *Epoll, operation: *Operation) void {
    kernel.timers.remove(operation);
    kernel.descriptors.leave_list(operation);
    const sqe = &operation.sqe;
    const descriptors = &kernel.descriptors;
    if (operation.opened >= 0) system.close(operation.opened);
    if (operation.is_apart) descriptors.end_apart(operation.named);
    if (operation.holds) descriptors.take_back(operation.named, sqe.fd);
    if (operation.holds_source) descriptors.take_back(operation.named_source, sqe.splice_fd_in);
}

/// Its time has come.
pub fn expire(kernel: *Epoll, operation: *Operation) void {
    switch (operation.sqe.opcode) {
        .TIMEOUT => finish(kernel, operation, errno.time),
        .LINK_TIMEOUT => {
            const timed = operation.timed.?;
            timed.timeout = null;
            // Its own CQE comes first, and says what was the cause.
            finish(kernel, operation, errno.time);
            finish(kernel, timed, timed.part_or(errno.canceled));
        },
        else => attempt(kernel, operation),
    }
}

// The end --------------------------------------------------------------------------------------

pub fn finish(kernel: *Epoll, operation: *Operation, result: i32) void {
    finish_with(kernel, operation, result, 0);
}

/// The last CQE; behind a zero-copy send's comes its notification (K6).
fn finish_with(kernel: *Epoll, operation: *Operation, result: i32, flags: u32) void {
    const user_data = operation.sqe.user_data;
    if (operation.is_zero_copy()) {
        kernel.completions.post(user_data, result, flags | system.cqe_flag.more);
        kernel.completions.post(user_data, usage(operation), system.cqe_flag.notification);
    } else {
        kernel.completions.post(user_data, result, flags);
    }
    retire(kernel, operation, result);
}

/// What its notification says: everything was copied, if anybody asks.
fn usage(operation: *const Operation) i32 {
    const asks = operation.sqe.ioprio & linux.IORING_SEND_ZC_REPORT_USAGE != 0;
    return if (asks) @bitCast(@as(u32, linux.IORING_NOTIF_USAGE_ZC_COPIED)) else 0;
}

/// Its CQE is posted: lets go of all that it held, and of those behind it.
pub fn retire(kernel: *Epoll, operation: *Operation, result: i32) void {
    let_go(kernel, operation);
    if (operation.timeout) |timeout| drop(kernel, timeout, errno.canceled);
    const next = operation.next;
    const goes_on = operation.hard or next == null or !breaks(operation, result);
    kernel.pool.give_back(operation);
    const follower = next orelse return;
    if (!goes_on) return break_chain(kernel, follower);
    kernel.starting.append(follower);
}

/// What has not all been read or written breaks a chain; so does a send or receive that was to be
/// whole, and every failure, an expired time-out among them.
fn breaks(operation: *const Operation, result: i32) bool {
    const sqe = &operation.sqe;
    if (sqe.opcode == .TIMEOUT and result == errno.time) {
        return sqe.rw_flags & linux.IORING_TIMEOUT_ETIME_SUCCESS == 0;
    }
    if (result < 0) return true;
    const whole = attempts.whole(sqe) orelse return false;
    return result < whole;
}

fn break_chain(kernel: *Epoll, first: *Operation) void {
    var rest: ?*Operation = first;
    while (rest) |operation| {
        rest = operation.next;
        assert(operation.stage == .taken);
        const timeout = operation.timeout;
        drop(kernel, operation, if (operation.refused < 0) operation.refused else errno.canceled);
        if (timeout) |linked| drop(kernel, linked, errno.canceled);
    }
}

/// Ended by somebody else's end: one CQE and nothing more.
fn drop(kernel: *Epoll, operation: *Operation, result: i32) void {
    kernel.completions.post(operation.sqe.user_data, result, 0);
    let_go(kernel, operation);
    kernel.pool.give_back(operation);
}
