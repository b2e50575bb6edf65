//! The table of operations: one kind, one struct with `prepare` and `complete`.
//!
//! `prepare` fills an SQE from plain arguments; `complete` takes the slot's CQE and moves whatever
//! state the operation belongs to. Dispatch is this comptime table: no file grows a switch over
//! everything, and a kind without a struct does not compile. Steps 5 and 9 of the straight line.

const std = @import("std");
const kernel = @import("kernel.zig");
const Engine = @import("engine.zig").Engine;
const UserData = @import("slots.zig").UserData;
const control = @import("operation/control.zig");
const socket = @import("operation/socket.zig");
const timer = @import("operation/timer.zig");

/// The kind of an operation, as `user_data` carries it. 0 is no kind: a CQE with it is stray.
pub const Kind = enum(u8) {
    none = 0,
    nop,
    timeout,
    cancel,
    accept,
    accept_retry,
    connect,
    receive,
    receive_cancel,
    send,
    shutdown,
    close,
    connection_cancel,
    listener_cancel,
    listener_close,
    _,
};

fn Operation(comptime kind: Kind) type {
    return switch (kind) {
        .nop => control.Nop,
        .cancel => control.Cancel,
        .timeout => timer.Timeout,
        .accept => socket.Accept,
        .accept_retry => timer.AcceptRetry,
        .connect => socket.Connect,
        .receive => socket.Receive,
        .receive_cancel => socket.ReceiveCancel,
        .send => socket.Send,
        .shutdown => socket.Shutdown,
        .close => socket.Close,
        .connection_cancel => socket.ConnectionCancel,
        .listener_cancel => socket.ListenerCancel,
        .listener_close => socket.ListenerClose,
        .none, _ => unreachable,
    };
}

/// Hands a CQE to its operation. What has no kind is counted as stale and ignored (I3).
pub fn complete(engine: *Engine, cqe: *const kernel.Cqe) void {
    const user_data: UserData = @bitCast(cqe.user_data);
    switch (user_data.kind) {
        .none, _ => engine.stale(cqe),
        inline else => |kind| Operation(kind).complete(engine, user_data, cqe),
    }
}
