//! The notifications of zero-copy sends: the second CQE, which gives the memory back.
//!
//! A send that was begun promises it with F_MORE, whatever its result (K6); a member that its chain
//! took along before it began gets one unpromised (K7). It comes when the peer has taken the last
//! byte or all are lost, which may be long after the connection is gone (K8), or at once if the
//! kernel copied after all; those of several sends come in any order. Until then the memory must
//! hold what was sent. Called by `operations.zig` and `simulated.zig`.

const std = @import("std");
const system = @import("../linux.zig");
const simulated = @import("../simulated.zig");
const operations = @import("operations.zig");
const Operation = operations.Operation;
const Simulated = simulated.Simulated;

/// Where in its stream a send's last byte lies.
pub const Reach = struct { peer: u32, id: u32, end: u64 };

const known_flags = system.sqe_flag.report_usage | system.sqe_flag.fixed_buffer;

pub fn is_zero_copy(operation: *const Operation) bool {
    return operation.row == .send_zero_copy or operation.row == .sendmsg_zero_copy;
}

/// What was wrong with it when it was taken leaves nothing to be notified of.
pub fn promises(operation: *const Operation) bool {
    return is_zero_copy(operation) and operation.refused == 0;
}

pub fn check(kernel: *Simulated, sqe: *const system.Sqe) void {
    const in_buffer = sqe.ioprio & system.sqe_flag.fixed_buffer != 0;
    if (sqe.ioprio & ~known_flags != 0 or in_buffer and sqe.opcode == .SENDMSG_ZC) {
        kernel.violate("a zero-copy send has a flag that is not simulated");
    }
}

/// Bytes of the operation went into its stream.
pub fn sent(kernel: *Simulated, operation: *Operation) void {
    const network = &kernel.network;
    const index = network.sockets[operation.socket].peer;
    const peer = &network.peers[index];
    operation.reach = .{ .peer = index, .id = peer.id, .end = peer.from_engine.written };
}

/// Its result is posted, or it never began: from here on only the notification is owed.
pub fn owe(kernel: *Simulated, operation: *Operation) void {
    operation.next = null;
    operation.copied = kernel.fate.strikes("copied");
    kernel.notifications.append(kernel.allocator, operation) catch simulated.out_of_memory();
}

/// Notifies of what is over; with `delays`, later now and then.
pub fn notify(kernel: *Simulated, delays: bool) void {
    const owed = &kernel.notifications;
    if (owed.items.len == 0) return;
    const first = kernel.fate.below(@intCast(owed.items.len));
    var at = owed.items.len;
    while (at > 0) {
        at -= 1;
        const place = (first + at) % owed.items.len;
        const operation = owed.items[place];
        if (!operation.copied and is_under_way(kernel, operation)) continue;
        if (delays and kernel.fate.strikes("notify_late")) continue;
        _ = owed.swapRemove(place);
        post(kernel, operation);
        if (owed.items.len == 0) return;
    }
}

/// Somebody may still read the memory.
fn is_under_way(kernel: *Simulated, operation: *const Operation) bool {
    const reach = operation.reach orelse return false;
    const peer = &kernel.network.peers[reach.peer];
    if (!peer.in_use or peer.id != reach.id or peer.closed) return false;
    return peer.from_engine.written - peer.from_engine.len < reach.end;
}

fn post(kernel: *Simulated, operation: *Operation) void {
    operations.verify_memory(kernel, operation);
    const reports = operation.sqe.ioprio & system.sqe_flag.report_usage != 0;
    const usage = if (reports and operation.copied) system.notification_copied else 0;
    kernel.outcomes.count(.notification, if (operation.stage == .taken)
        .cancelled
    else if (operation.copied) .short else .full);
    const flags = system.cqe_flag.notification;
    kernel.post(operation.user_data, usage, flags);
    if (kernel.fate.strikes("notify_stray")) kernel.post(operation.user_data, usage, flags);
    operations.recycle(kernel, operation);
}

/// The ring is closed: nobody is notified any more, and the memory must still be there.
pub fn abandon(kernel: *Simulated) void {
    for (kernel.notifications.items) |operation| {
        if (is_under_way(kernel, operation)) operations.verify_memory(kernel, operation);
    }
}
