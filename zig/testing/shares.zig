//! What must hold of connections that receive: nobody beyond a share, nobody in line for ever.
//!
//! Looked at after each turn, before its records are read: what is on loan then is what the engine
//! knew when the turn began.

const model = @import("model.zig");
const slots = @import("../slots.zig");
const Schedule = @import("schedule.zig").Schedule;

const Error = error{ Violation, OutOfMemory };

/// Turns in which others get buffers while one stands in line.
const served_meanwhile_max = 200;

pub fn check(schedule: *Schedule) Error!void {
    schedule.turns_serving += @intFromBool(schedule.serves);
    schedule.serves = false;
    for (schedule.connections, 0..) |entry, index| {
        const connection = entry orelse continue;
        const slot: u32 = @intCast(index);
        const connections = &schedule.engine.connections;
        const is_there = connection.stage == .open and
            connections.find(slot, connection.generation) != null;
        if (!is_there) continue;
        try check_share(schedule, slot, connection);
        try check_line(schedule, slot, connection);
    }
}

/// Who holds a share on loan alone has no receive armed that is not being cancelled, and who has
/// half of it back goes on (I9).
fn check_share(schedule: *Schedule, index: u32, connection: *const model.Connection) Error!void {
    const engine = schedule.engine;
    const most = .{ engine.config.hold_buffers, engine.config.hold_bytes };
    const state = engine.connections.at(index);
    const is_marked = state.dirty.next != (slots.Link{}).next;
    // To be looked at yet, or never again.
    if (is_marked or state.is_dying() or state.stage == .closing) return;
    const receiving = &state.receiving;
    if (connection.lent_buffers >= most[0] or connection.lent_bytes >= most[1]) {
        if (receiving.arm != .armed or receiving.cancelled) return;
        return schedule.verdict.violation("who holds a share goes on receiving", .{});
    }
    const half_back = connection.lent_buffers <= most[0] / 2 and
        connection.lent_bytes <= most[1] / 2;
    if (half_back and receiving.full and receiving.turn != engine.counters.turns) {
        return schedule.verdict.violation("who has half a share back does not go on", .{});
    }
}

/// Everybody ahead is served, and those that were armed until they are cancelled: a few times all.
fn check_line(schedule: *Schedule, index: u32, connection: *model.Connection) Error!void {
    switch (schedule.engine.connections.at(index).receiving.arm) {
        .idle, .armed => connection.in_line_since = null,
        .parked => {
            const since = connection.in_line_since orelse schedule.turns_serving;
            connection.in_line_since = since;
            if (schedule.turns_serving - since <= served_meanwhile_max) return;
            return schedule.verdict.violation("others are served while one stands in line", .{});
        },
    }
}
