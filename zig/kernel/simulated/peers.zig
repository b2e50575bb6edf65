//! The other ends of simulated connections, as the test drives them.
//!
//! A peer is named by an id that is never used again. Every call answers at once; what the engine
//! learns of it, and when, is up to the schedule of the kernel. A peer that sends to an end that is
//! gone gets RST, as from a real one.

const std = @import("std");
const assert = std.debug.assert;
const errno = @import("../linux.zig").errno;
const SocketAddress = @import("../address.zig").SocketAddress;
const network_file = @import("network.zig");
const Network = network_file.Network;
const Parcel = @import("parcels.zig").Parcel;
const none = network_file.none;

/// What the peer knows of the engine's end.
pub const View = struct {
    /// The engine's end sent FIN and all before it was read.
    ended: bool,
    /// The engine's end sent RST, or this end did; what was on the way may be lost.
    reset: bool,
    /// The connection broke underneath, whether or not this end has noticed.
    broken: bool,
    /// Bytes that can be read.
    waiting: usize,
    /// Bytes that can be sent.
    space: usize,
    /// The connection was accepted, or made by CONNECT.
    joined: bool,
};

/// Connects to a listening socket; null if none has this address or its backlog is full.
pub fn connect(network: *Network, target: *const SocketAddress) ?u32 {
    for (network.sockets) |*listener| {
        if (listener.references == 0 or listener.state != .listening) continue;
        if (!std.mem.eql(u8, &listener.local.bytes, &target.bytes)) continue;
        if (listener.waiting_count == listener.backlog) return null;
        const index = network.claim_peer() orelse return null;
        listener.waiting[listener.waiting_count] = index;
        listener.waiting_count += 1;
        return network.peers[index].id;
    }
    return null;
}

fn find(network: *Network, id: u32) ?u32 {
    const index: u32 = @intCast(id % network.peers.len); // as `claim_peer` made it
    const peer = &network.peers[index];
    return if (peer.in_use and peer.id == id) index else null;
}

/// The peer at the other end of an open descriptor, or null if it has none.
pub fn of_descriptor(network: *Network, fd: i32) ?u32 {
    const index = network.find(fd) orelse return null;
    const peer = network.sockets[index].peer;
    return if (peer == none) null else network.peers[peer].id;
}

/// Bytes that the engine's end has not read, also when it is gone.
pub fn unread(network: *const Network, id: u32) usize {
    const peer = &network.peers[id % network.peers.len];
    return if (peer.id == id) peer.to_engine.len else 0;
}

/// Null once the connection is over on both ends.
pub fn view(network: *Network, id: u32) ?View {
    const peer = &network.peers[find(network, id) orelse return null];
    return .{
        .ended = peer.ended and peer.from_engine.len == 0,
        .reset = peer.reset or peer.sent_reset,
        .broken = peer.broken,
        .waiting = peer.from_engine.len,
        .space = if (peer.half_closed or peer.reset) 0 else peer.to_engine.space(),
        .joined = peer.socket != none,
    };
}

/// The number of bytes taken; 0 when there is no room, or nobody to send to.
pub fn send(network: *Network, id: u32, bytes: []const u8) usize {
    const index = find(network, id) orelse return 0;
    const peer = &network.peers[index];
    assert(!peer.half_closed and !peer.closed);
    if (peer.reset) return 0;
    if (!peer.attached) {
        network.reset_peer(index); // sent to an end that is gone
        return 0;
    }
    if (peer.socket != none and network.sockets[peer.socket].state == .dead) return 0;
    return peer.to_engine.write(bytes);
}

/// The same, with files by their numbers: all of them, or nothing is sent.
pub fn send_with(network: *Network, id: u32, bytes: []const u8, numbers: []const u64) usize {
    const peer = &network.peers[find(network, id) orelse return 0];
    if (peer.parcels_to_engine.is_full()) return 0;
    var parcel: Parcel = .{ .at = peer.to_engine.written, .count = @intCast(numbers.len) };
    @memcpy(parcel.files[0..numbers.len], numbers);
    const sent = send(network, id, bytes);
    if (sent > 0) peer.parcels_to_engine.push(parcel);
    return sent;
}

/// The files that came with the bytes read so far: their numbers, of one send.
pub fn files(network: *Network, id: u32) ?Parcel {
    const peer = &network.peers[find(network, id) orelse return null];
    return peer.parcels_from_engine.pop_before(peer.from_engine.taken);
}

pub fn receive(network: *Network, id: u32, out: []u8) usize {
    const index = find(network, id) orelse return 0;
    assert(!network.peers[index].closed);
    return network.peers[index].from_engine.read(out);
}

/// FIN behind everything sent so far.
pub fn half_close(network: *Network, id: u32) void {
    const index = find(network, id) orelse return;
    network.peers[index].half_closed = true;
}

/// RST: of what is on the way to the engine, any part may be lost.
pub fn reset(network: *Network, id: u32) void {
    const index = find(network, id) orelse return;
    const peer = &network.peers[index];
    assert(!peer.closed);
    peer.closed = true;
    peer.sent_reset = true;
    peer.from_engine.truncate(0);
    if (network.fate.chance(500)) {
        // FIN was behind what is lost, so it is lost too.
        peer.half_closed = false;
        peer.to_engine.truncate(network.fate.below(@as(u32, @intCast(peer.to_engine.len)) + 1));
    }
    if (peer.socket != none and network.sockets[peer.socket].state == .connected) {
        network.break_socket(peer.socket, errno.connreset);
    }
    network.free_peer_if_done(index);
}

/// close(2) at the peer: FIN, or RST if something was not read.
pub fn close(network: *Network, id: u32) void {
    const index = find(network, id) orelse return;
    const peer = &network.peers[index];
    if (peer.from_engine.len > 0 and peer.attached) return reset(network, id);
    peer.half_closed = true;
    peer.closed = true;
    network.free_peer_if_done(index);
}
