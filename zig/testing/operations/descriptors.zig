//! The model of descriptors: files, sockets, pipes, listeners, and the peers at the other ends.
//!
//! Each direction of a stream has one operation at a time, so that its bytes have one order. What a
//! peer sends is a window on the pattern; what it gets must be what operations reported as sent,
//! and at most what the one in flight offers.

const std = @import("std");
const seam = @import("../../kernel.zig");
const simulated = @import("../../kernel/simulated.zig");
const pattern = @import("../pattern.zig");
const Node = @import("names.zig").Node;
const Run = @import("../operations.zig").Run;
const Error = @import("../operations.zig").Error;
const peers = simulated.peers;
const none = std.math.maxInt(u32);

pub const Kind = enum { file, fresh, bound, listening, stream, dead };

pub const Descriptor = struct {
    fd: i32,
    kind: Kind,
    is_pipe: bool = false,
    /// Operations in flight on it.
    uses: u32 = 0,
    closing: bool = false,
    /// Places of registered files that name it.
    places: u32 = 0,

    node: ?*Node = null,
    position: u64 = 0,

    peer: u32 = none,
    /// Names the peer's stream; bytes that it sent, and that operations reported.
    key: u64 = 0,
    sent: u64 = 0,
    consumed: u64 = 0,
    half_closed: bool = false,
    peer_closed: bool = false,
    broken: bool = false,
    shut: bool = false,
    in_use: bool = false,
    out_use: bool = false,
    /// Bytes reported as sent, those of the operation in flight, and how many the peer got.
    out: std.ArrayList(u8) = .empty,
    out_ahead: []const u8 = &.{},
    received: usize = 0,

    pub fn is_stream(descriptor: *const Descriptor) bool {
        return descriptor.kind == .stream;
    }

    pub fn is_usable(descriptor: *const Descriptor) bool {
        return !descriptor.closing;
    }
};

pub fn add(run: *Run, fd: i32, kind: Kind) Error!*Descriptor {
    const descriptor = try run.arena.create(Descriptor);
    descriptor.* = .{ .fd = fd, .kind = kind };
    for (run.descriptors.items) |other| {
        if (other.fd == fd and !other.closing) {
            return run.verdict.violation("descriptor {d} was given out twice", .{fd});
        }
    }
    try run.descriptors.append(run.arena, descriptor);
    return descriptor;
}

/// A stream whose peer is known from here on.
pub fn become_stream(run: *Run, descriptor: *Descriptor) Error!void {
    const id = peers.of_descriptor(&run.kernel.network, descriptor.fd) orelse
        return run.verdict.violation("a stream without a peer", .{});
    descriptor.kind = .stream;
    descriptor.peer = id;
    descriptor.key = run.prng.next();
    for (run.strangers.items, 0..) |stranger, i| if (stranger == id) {
        _ = run.strangers.swapRemove(i);
        break;
    };
}

pub fn add_pipe(run: *Run) Error!void {
    const pipe = run.kernel.network.pipe() orelse return;
    const descriptor = try add(run, pipe.fd, .stream);
    descriptor.is_pipe = true;
    descriptor.peer = pipe.peer;
    descriptor.key = run.prng.next();
}

/// Sockets that nothing was done with yet are used up fast: some come from elsewhere.
pub fn add_sockets(run: *Run) Error!void {
    var fresh: u32 = 0;
    for (run.descriptors.items) |descriptor| fresh += @intFromBool(descriptor.kind == .fresh);
    while (fresh < 2 and run.descriptors.items.len < run.descriptors_max) : (fresh += 1) {
        const fd = run.kernel.network.create();
        if (fd < 0) return;
        _ = try add(run, fd, .fresh);
    }
}

/// It is closed, and forgotten.
pub fn remove(run: *Run, descriptor: *Descriptor) void {
    const at = std.mem.indexOfScalar(*Descriptor, run.descriptors.items, descriptor).?;
    _ = run.descriptors.swapRemove(at);
    if (descriptor.peer == none or descriptor.peer_closed) return;
    descriptor.peer_closed = true;
    peers.close(&run.kernel.network, descriptor.peer);
}

pub fn look(run: *Run, descriptor: *Descriptor) void {
    if (descriptor.peer == none) return;
    const view = peers.view(&run.kernel.network, descriptor.peer) orelse {
        descriptor.broken = true;
        return;
    };
    if (view.broken or view.reset) descriptor.broken = true;
}

var scratch: [8192]u8 = undefined;

/// What all the peers do between two turns.
pub fn act(run: *Run) Error!void {
    for (run.descriptors.items) |descriptor| {
        if (descriptor.kind == .listening and run.chance(40)) try knock(run, descriptor);
        if (!descriptor.is_stream()) continue;
        look(run, descriptor);
        if (descriptor.peer_closed) continue;
        if (run.chance(60)) send(run, descriptor);
        if (run.chance(run.appetite)) try receive(run, descriptor);
        if (!descriptor.half_closed and run.below(150) == 0) {
            peers.half_close(&run.kernel.network, descriptor.peer);
            descriptor.half_closed = true;
        }
        if (run.below(400) == 0) {
            peers.reset(&run.kernel.network, descriptor.peer);
            descriptor.half_closed = true;
            descriptor.peer_closed = true;
            descriptor.broken = true;
        }
    }
}

fn knock(run: *Run, listener: *Descriptor) Error!void {
    var address: seam.SocketAddress = undefined;
    if (run.kernel.network.name_of(listener.fd, .local, &address) < 0) return;
    const id = peers.connect(&run.kernel.network, &address) orelse return;
    try run.strangers.append(run.arena, id);
}

fn send(run: *Run, descriptor: *Descriptor) void {
    if (descriptor.half_closed) return;
    const network = &run.kernel.network;
    const view = peers.view(network, descriptor.peer) orelse return;
    if (view.space == 0) return;
    const most: u32 = @intCast(@min(view.space, run.one_of(&.{ 300, 300, 300, 4000 })));
    const bytes = pattern.bytes(descriptor.key, descriptor.sent, 1 + run.below(most));
    descriptor.sent += peers.send(network, descriptor.peer, bytes);
}

fn receive(run: *Run, descriptor: *Descriptor) Error!void {
    const network = &run.kernel.network;
    const most = if (run.chance(50)) 1 + run.below(300) else scratch.len;
    const count = peers.receive(network, descriptor.peer, scratch[0..most]);
    for (scratch[0..count], descriptor.received..) |byte, at| {
        const settled = descriptor.out.items;
        const expected = if (at < settled.len)
            settled[at]
        else if (at - settled.len < descriptor.out_ahead.len)
            descriptor.out_ahead[at - settled.len]
        else
            return run.verdict.violation("a peer got more than was sent", .{});
        if (byte != expected) return run.verdict.violation("a peer got a wrong byte", .{});
    }
    descriptor.received += count;
}

/// What an operation reported as sent; the rest of what it offered was not.
pub fn sent(run: *Run, descriptor: *Descriptor, result: i32) Error!void {
    if (result > 0) {
        const taken = descriptor.out_ahead[0..@intCast(result)];
        try descriptor.out.appendSlice(run.arena, taken);
    }
    descriptor.out_ahead = &.{};
    if (descriptor.received <= descriptor.out.items.len) return;
    return run.verdict.violation("a peer got more than was reported as sent", .{});
}
