//! Descriptors on their way between two ends of a simulated stream, and where in it they are.
//!
//! A file is known by a number, its socket's `position`, which a test chooses. As the real kernel
//! does, a receive may take bytes before those that descriptors go with, but never goes from one
//! parcel into the next; without room for them they are gone. What is sent must be open when its
//! first byte is taken.

const std = @import("std");
const system = @import("../linux.zig");
const rights = @import("../rights.zig");
const simulated = @import("../simulated.zig");
const Network = @import("network.zig").Network;
const Operation = @import("operations.zig").Operation;
const Simulated = simulated.Simulated;
const errno = system.errno;

/// Fewer than the real kernel's 253 and as many as tests need.
pub const files_max = 8;
const waiting_max = 16;

pub const Parcel = struct {
    /// The position in the stream of the byte that they go with.
    at: u64,
    count: u32 = 0,
    files: [files_max]u64 = undefined,
};

pub const Parcels = struct {
    list: [waiting_max]Parcel = undefined,
    count: u32 = 0,

    pub fn is_full(parcels: *const Parcels) bool {
        return parcels.count == waiting_max;
    }

    pub fn push(parcels: *Parcels, parcel: Parcel) void {
        parcels.list[parcels.count] = parcel;
        parcels.count += 1;
    }

    /// The first one if its byte is before `position`.
    pub fn pop_before(parcels: *Parcels, position: u64) ?Parcel {
        if (parcels.count == 0 or parcels.list[0].at >= position) return null;
        const first = parcels.list[0];
        parcels.count -= 1;
        std.mem.copyForwards(
            Parcel,
            parcels.list[0..parcels.count],
            parcels.list[1 .. parcels.count + 1],
        );
        return first;
    }
};

// Receiving.

/// Of `waiting` bytes, those that one receive takes at most.
pub fn bound(network: *Network, socket: u32, waiting: usize) usize {
    const peer = &network.peers[network.sockets[socket].peer];
    if (peer.parcels_to_engine.count < 2) return waiting;
    return @min(waiting, peer.parcels_to_engine.list[1].at - peer.to_engine.taken);
}

/// Bytes were received: what goes with them is delivered, or lost.
pub fn deliver(kernel: *Simulated, operation: *const Operation) void {
    const network = &kernel.network;
    const peer = &network.peers[network.sockets[operation.socket].peer];
    const parcel = peer.parcels_to_engine.pop_before(peer.to_engine.taken);
    if (operation.sqe.opcode != .RECVMSG) return;
    const header: *system.MessageHeader = @ptrFromInt(operation.sqe.addr);
    const room: usize = header.controllen;
    header.controllen = 0;
    header.flags = 0;
    const passed = parcel orelse return;
    if (operation.sqe.rw_flags & system.socket_flag.cmsg_cloexec == 0) {
        kernel.violate("descriptors are received that are not close-on-exec");
    }
    var made: [files_max]i32 = undefined;
    var count: u32 = 0;
    while (count < passed.count) : (count += 1) {
        const fits = rights.room_for(count + 1) <= room;
        const opened = if (fits and !kernel.fate.strikes("passing")) network.open() else break;
        made[count] = switch (opened) {
            .fd => |fd| fd,
            .refused => break,
        };
        network.sockets[network.find(made[count]).?].position = passed.files[count];
    }
    if (count < passed.count) header.flags = system.socket_flag.control_truncated;
    if (count == 0) return;
    const control: [*]align(rights.alignment) u8 = @ptrCast(@alignCast(@constCast(header.control)));
    rights.write(control[0..rights.size_of(count)], made[0..count]);
    header.controllen = rights.room_for(count);
}

// Sending.

/// Before the first byte: what goes with it. An errno if one of them is not open, null if there is
/// no room for more; then the send waits.
pub fn prepare(kernel: *Simulated, operation: *const Operation) ?union(enum) {
    parcel: Parcel,
    refused: i32,
} {
    var parcel: Parcel = .{ .at = 0 };
    const is_message = operation.sqe.opcode == .SENDMSG or operation.sqe.opcode == .SENDMSG_ZC;
    if (!is_message or operation.done > 0) return .{ .parcel = parcel };
    const header: *const system.MessageHeader = @ptrFromInt(operation.sqe.addr);
    if (header.controllen == 0) return .{ .parcel = parcel };
    const network = &kernel.network;
    const socket = &network.sockets[operation.socket];
    if (socket.state == .connected) {
        const peer = &network.peers[socket.peer];
        if (peer.parcels_from_engine.is_full()) return null;
        parcel.at = peer.from_engine.written;
    }
    const control: [*]const u8 = @ptrCast(header.control.?);
    var descriptors = rights.iterate(control[0..header.controllen]);
    while (descriptors.next()) |fd| : (parcel.count += 1) {
        if (parcel.count == files_max) return .{ .refused = errno.toomanyrefs };
        const index = network.find(fd) orelse return .{ .refused = errno.badf };
        parcel.files[parcel.count] = network.sockets[index].position;
    }
    return .{ .parcel = parcel };
}

/// The first byte was taken.
pub fn send(network: *Network, socket: u32, parcel: Parcel) void {
    if (parcel.count == 0) return;
    network.peers[network.sockets[socket].peer].parcels_from_engine.push(parcel);
}
