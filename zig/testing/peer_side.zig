//! What the peers of a schedule do, and what they check: bytes as written, FIN after the last one.
//!
//! Each peer sends, reads, pauses and breaks off by the schedule's dice.

const std = @import("std");
const assert = std.debug.assert;
const seam = @import("../kernel.zig");
const simulated = @import("../kernel/simulated.zig");
const model = @import("model.zig");
const pattern = @import("pattern.zig");
const Schedule = @import("schedule.zig").Schedule;
const peers = simulated.peers;
const errno = seam.errno;

const Error = error{ Violation, OutOfMemory };

var scratch: [64 * 1024]u8 = undefined;

/// A peer connects to a listener of the engine.
pub fn connect(schedule: *Schedule, target: *const seam.SocketAddress) Error!void {
    const id = peers.connect(&schedule.kernel.network, target) orelse return;
    try add(schedule, id);
}

fn add(schedule: *Schedule, id: u32) Error!void {
    const peer = try schedule.arena.create(model.Peer);
    const appetites = [_]u8{ 2, 30, 90 };
    peer.* = .{
        .id = id,
        .key = schedule.prng.next(),
        .appetite = if (schedule.peers_idle) 1 else appetites[schedule.below(appetites.len)],
    };
    try schedule.peers.append(schedule.arena, peer);
}

/// Takes the peers that CONNECT made, and looks which connections broke.
pub fn meet(schedule: *Schedule) Error!void {
    for (schedule.kernel.connected.items) |id| try add(schedule, id);
    schedule.kernel.connected.clearRetainingCapacity();
    for (schedule.peers.items) |peer| {
        const view = peers.view(&schedule.kernel.network, peer.id) orelse continue;
        if (view.broken or view.reset) peer.broken = true;
    }
}

/// Whatever broke it: what its peer had sent before came first.
pub fn on_close(schedule: *Schedule, connection: *model.Connection, result: i32) Error!void {
    const verdict = &schedule.verdict;
    try connection.on_close(verdict, result);
    const broke = result == errno.pipe or result == errno.connreset;
    // Or nobody wanted it.
    if (!broke or connection.shut != null or connection.receives_less) return;
    // Or nobody was there to receive it.
    connection.pause(connection.paused, schedule.engine.kernel.now_ns());
    if (connection.kept_waiting) return;
    const peer = connection.peer orelse return;
    const unread = peers.unread(&schedule.kernel.network, peer.id);
    if (unread > 0) return verdict.violation("{d} bytes were never read", .{unread});
}

/// The peer of a connection that has just opened.
pub fn behind(schedule: *Schedule, index: u32) ?*model.Peer {
    if (!schedule.engine.connections.is_claimed(index)) return null;
    const fd = schedule.engine.connections.at(index).fd;
    const id = peers.of_descriptor(&schedule.kernel.network, fd) orelse return null;
    for (schedule.peers.items) |peer| if (peer.id == id) return peer;
    return null;
}

pub fn act(schedule: *Schedule) Error!void {
    var at = schedule.peers.items.len;
    while (at > 0) {
        at -= 1;
        const peer = schedule.peers.items[at];
        const view = peers.view(&schedule.kernel.network, peer.id) orelse {
            _ = schedule.peers.swapRemove(at);
            continue;
        };
        if (peer.closed) continue;
        try read(schedule, peer);
        if (!schedule.resting or schedule.pausing) send(schedule, peer, view.space);
        if (!schedule.pausing) leave(schedule, peer);
    }
}

fn read(schedule: *Schedule, peer: *model.Peer) Error!void {
    if (peer.connection == null) return; // it cannot tell yet whose bytes these are
    const network = &schedule.kernel.network;
    if (schedule.resting or schedule.chance(peer.appetite)) {
        const most = if (schedule.chance(30)) 1 + schedule.below(200) else scratch.len;
        const count = peers.receive(network, peer.id, scratch[0..most]);
        const stream = &peer.connection.?.stream;
        try stream.on_bytes(schedule.arena, &schedule.verdict, scratch[0..count]);
    }
    const view = peers.view(network, peer.id).?;
    if (view.broken or view.reset) peer.broken = true;
    if (!view.ended or peer.broken) return;
    try peer.on_end(&schedule.verdict);
}

fn send(schedule: *Schedule, peer: *model.Peer, space: usize) void {
    if (peer.half_closed or space == 0) return;
    // A run that lends is about the other direction.
    const often: u32 = if (schedule.lends) 2 else 40;
    if (!schedule.peers_flood and !schedule.chance(often)) return;
    const little = schedule.chance(70) and !schedule.peers_flood;
    const most: u32 = @intCast(@min(space, if (little) 200 else scratch.len));
    const count = 1 + schedule.below(most);
    const bytes = pattern.bytes(peer.key, peer.sent, count);
    peer.sent += peers.send(&schedule.kernel.network, peer.id, bytes);
}

fn leave(schedule: *Schedule, peer: *model.Peer) void {
    const network = &schedule.kernel.network;
    const view = peers.view(network, peer.id) orelse return;
    const over = view.reset or view.ended;
    if (!peer.half_closed and (schedule.ending and over or schedule.below(200) == 0)) {
        peers.half_close(network, peer.id);
        peer.half_closed = true;
    }
    if (over and (schedule.ending or schedule.chance(20)) or
        schedule.ending and peer.connection == null or schedule.below(600) == 0)
    {
        close(schedule, peer);
    } else if (!schedule.resting and schedule.below(400) == 0) {
        peers.reset(network, peer.id);
        peer.closed = true;
        peer.broken = true;
    }
}

fn close(schedule: *Schedule, peer: *model.Peer) void {
    peers.close(&schedule.kernel.network, peer.id);
    peer.closed = true;
    peer.half_closed = true;
    const view = peers.view(&schedule.kernel.network, peer.id) orelse return;
    if (view.reset or view.broken) peer.broken = true;
}
