//! The end of a ring: everything pending is cancelled, and what it owns is closed.
//!
//! Bounded in time (I10): what the kernel has not given back by then is counted, its memory stays
//! mapped for ever. It allocates nothing and never panics, as it also runs from a deallocator.
//! Called by `rings.zig`, on the owner's thread but for `in_flight` and `close_descriptors`.

const std = @import("std");
const slots = @import("slots.zig");
const calls = @import("calls.zig");
const passing = @import("passing.zig");
const splicing = @import("splicing.zig");
const submission = @import("submission.zig");
const timers = @import("timers.zig");
const registration = @import("registration.zig");
const Kernel = @import("kernel.zig").Kernel;
const linux = @import("kernel.zig").linux;
const Engine = @import("engine.zig").Engine;
const mutation = @import("testing/mutation.zig");

/// One wait: short enough to look at the clock often.
const step_ms = 10;
/// A thread that gets no processor has not waited: when the time is up it must also have looked so
/// often, and seen nothing end.
const late_looks = 10;
/// For that it may be late by so much.
const late_ns = 900 * std.time.ns_per_ms;

/// The number of operations that the kernel still holds when the time is up, as long as some end
/// even a little later.
pub fn cancel_everything(engine: *Engine, timeout_ms: u32) u32 {
    for (0..engine.listeners.fresh) |index| {
        const slot: u32 = @intCast(index);
        if (engine.listeners.is_claimed(slot)) engine.listeners.at(slot).stop(engine, slot);
    }
    for (0..engine.connections.fresh) |index| {
        const slot: u32 = @intCast(index);
        if (!engine.connections.is_claimed(slot)) continue;
        engine.connections.at(slot).shut_down(engine, slot, .terminate, 0);
    }
    engine.deadlines.closing = true;
    engine.posts.shut();
    _ = engine.companion.set(engine, -1);
    engine.datagrams.end_all(engine);
    engine.batch = null;
    // From the end, as each request goes in front: the kernel finds its oldest timer first.
    var slot = engine.operations.fresh;
    while (slot > 0) {
        slot -= 1;
        if (!engine.operations.is_claimed(slot)) continue;
        _ = calls.cancel(engine, slot, engine.operations.generation(slot));
        // Nobody waits for another thread; what it posts finds no one.
        if (engine.operations.at(slot).stage == .offloaded) engine.posts.forget(engine, slot);
    }
    const deadline = engine.kernel.now_ns() + @as(u64, timeout_ms) * std.time.ns_per_ms;
    const looks_min = @min(timeout_ms / step_ms, late_looks);
    var looks: u32 = 0;
    // The counter bounds the loop even if waits are interrupted all the time.
    var turns: u32 = 0;
    while (unsettled(engine) > 0 and engine.fatal == 0 and turns < 10_000) : (turns += 1) {
        const now = engine.kernel.now_ns();
        if (now >= deadline + late_ns or (now >= deadline and looks >= looks_min)) break;
        const left = unsettled(engine);
        const count = engine.turn(step_ms);
        close_produced(engine, @intCast(@max(count, 0)));
        looks = if (unsettled(engine) < left) 0 else looks + 1;
    }
    close_descriptors(engine, &engine.kernel);
    engine.posts.close();
    return in_flight(engine);
}

/// Descriptors that operations made while nobody reads their records any more (I4).
fn close_produced(engine: *Engine, count: u32) void {
    if (mutation.is(.keep_descriptor)) return;
    for (engine.records[0..count]) |*record| {
        if (record.event != .completion or record.result < 0) continue;
        const operation = &engine.operations.entries[record.index].value;
        switch (operation.kind) {
            .accept, .openat, .socket => engine.kernel.close_fd(record.result),
            .recvmsg => submission.drop_descriptors(engine, operation),
            else => {},
        }
    }
}

/// What the kernel holds: of timers it has only the time-out for the nearest.
pub fn in_flight(engine: *const Engine) u32 {
    return unsettled(engine) - timers.waiting(engine);
}

fn unsettled(engine: *const Engine) u32 {
    return engine.connections.claimed_count + engine.listeners.claimed_count +
        engine.datagrams.sockets.claimed_count +
        engine.operations.claimed_count + engine.segments.claimed_count +
        engine.pending_cancels + engine.deadlines.in_flight() +
        engine.posts.in_flight() + engine.companion.in_flight();
}

/// Closes the descriptors of whatever is left: through the kernel, or plainly if it is closed.
pub fn close_descriptors(engine: *Engine, kernel: ?*Kernel) void {
    for (0..engine.listeners.fresh) |index| {
        const slot: u32 = @intCast(index);
        if (!engine.listeners.is_claimed(slot)) continue;
        const listener = engine.listeners.at(slot);
        if (listener.stage != .closing) close(kernel, listener.fd);
    }
    for (0..engine.connections.fresh) |index| {
        const slot: u32 = @intCast(index);
        if (!engine.connections.is_claimed(slot)) continue;
        const connection = engine.connections.at(slot);
        if (connection.stage != .closing) close(kernel, connection.fd);
    }
    passing.close_all(engine, kernel);
    splicing.close_all(engine, kernel);
    const files = &engine.registered_user_files;
    for (files.entries[0..files.count]) |*entry| {
        if (registration.take_duplicate(entry)) |fd| close(kernel, fd);
    }
    const sockets = &engine.datagrams.sockets;
    for (0..sockets.fresh) |index| {
        const slot: u32 = @intCast(index);
        if (!sockets.is_claimed(slot)) continue;
        if (sockets.at(slot).stage != .closing) close(kernel, sockets.at(slot).fd);
    }
}

fn close(kernel: ?*Kernel, fd: i32) void {
    if (kernel) |open| open.close_fd(fd) else linux.close(fd);
}
