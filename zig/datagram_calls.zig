//! What JavaScript asks of datagram sockets: arguments checked, handles resolved, state changed.
//!
//! As in `calls.zig`, nothing here trusts its caller, and nothing is submitted before the next
//! flush. Called by `exports.zig` and by the schedules of the tests.

const std = @import("std");
const abi = @import("abi.zig");
const seam = @import("kernel.zig");
const queue = @import("datagram_queue.zig");
const Datagram = @import("datagram.zig").Datagram;
const Engine = @import("engine.zig").Engine;
const Family = @import("datagram.zig").Family;
const SocketAddress = seam.SocketAddress;
const errno = seam.errno;

fn flag(flags: u32, comptime bit: abi.DatagramOpenFlag) bool {
    return flags >> @intFromEnum(bit) & 1 != 0;
}

// Opening --------------------------------------------------------------------------------------

/// Without `local` a Unix socket gets a name from the kernel, so that a peer can answer.
pub fn open(
    engine: *Engine,
    local: ?*const abi.Address,
    remote: ?*const abi.Address,
    flags: u32,
) i32 {
    if (engine.fatal != 0) return engine.fatal;
    var target: ?SocketAddress = null;
    if (remote) |text| target = SocketAddress.from_boundary(text) orelse return errno.inval;
    const own = if (local) |text|
        SocketAddress.from_boundary(text) orelse return errno.inval
    else if (target != null and target.?.is_unix())
        SocketAddress.unnamed_unix()
    else
        return errno.inval;
    const family = family_of(&own);
    if (target) |*peer| {
        if (family_of(peer) != family) {
            target = reach(family, peer) orelse return errno.afnosupport;
        }
    }
    engine.datagrams.prepare(engine) catch return errno.nomem;
    const fd = make_socket(engine, own.family());
    if (fd < 0) return fd;
    const outcome = set_up(engine, fd, family, &own, if (target) |*peer| peer else null, flags);
    if (outcome < 0) {
        engine.kernel.close_fd(fd);
        return outcome;
    }
    const index = engine.datagrams.sockets.claim() orelse {
        engine.kernel.close_fd(fd);
        return errno.nomem;
    };
    engine.kernel.own(fd);
    const socket = engine.datagrams.sockets.at(index);
    socket.* = .{ .fd = fd, .family = family, .connected = target != null };
    socket.outgoing.in_order = family == .unix;
    const splits = family != .unix and engine.has(.udp_gso);
    socket.outgoing.segment_max = if (splits) std.math.maxInt(u16) else 0;
    engine.control.generation = engine.datagrams.sockets.generation(index);
    engine.datagrams.mark(index);
    return @intCast(index);
}

fn family_of(address: *const SocketAddress) Family {
    if (address.is_unix()) return .unix;
    return if (address.is_ipv6()) .ipv6 else .ipv4;
}

fn make_socket(engine: *Engine, family: u16) i32 {
    var entry = std.mem.zeroes(seam.Sqe);
    entry.opcode = .SOCKET;
    entry.fd = family;
    entry.off = seam.socket_flag.datagram | seam.socket_flag.cloexec;
    return engine.kernel.plain(&entry);
}

fn set_up(
    engine: *Engine,
    fd: i32,
    family: Family,
    own: *const SocketAddress,
    target: ?*const SocketAddress,
    flags: u32,
) i32 {
    const kernel = &engine.kernel;
    if (family != .unix) {
        if (flag(flags, .reuse_address)) {
            if (failed(kernel.set_option(fd, .reuse_address, 1))) |code| return code;
        }
        if (flag(flags, .reuse_port)) {
            if (failed(kernel.set_option(fd, .reuse_port, 1))) |code| return code;
        }
        if (family == .ipv6) {
            const only = @intFromBool(flag(flags, .ipv6_only));
            if (failed(kernel.set_option(fd, .ipv6_only, only))) |code| return code;
        }
        // Refused by kernels before 5.0: then each datagram comes alone.
        if (engine.has(.udp_gro)) _ = kernel.set_option(fd, .udp_gro, 1);
    }
    if (failed(named(engine, .BIND, fd, own))) |code| return code;
    // Connecting a datagram socket only notes the address.
    return if (target) |peer| named(engine, .CONNECT, fd, peer) else 0;
}

fn failed(outcome: i32) ?i32 {
    return if (outcome < 0) outcome else null;
}

fn named(engine: *Engine, opcode: seam.Op, fd: i32, address: *const SocketAddress) i32 {
    var entry = std.mem.zeroes(seam.Sqe);
    entry.opcode = opcode;
    entry.fd = fd;
    entry.addr = @intFromPtr(&address.bytes);
    entry.off = address.len;
    return engine.kernel.plain(&entry);
}

/// An address as a socket of the family can reach it, or null.
fn reach(family: Family, address: *const SocketAddress) ?SocketAddress {
    return if (family == .ipv6) address.mapped() else null;
}

// Sending --------------------------------------------------------------------------------------

/// UDP's limits: what is left of 65535 bytes without the headers of IPv4 (and it counts its own).
fn size_max(family: Family) u32 {
    return switch (family) {
        .ipv4 => 65507,
        .ipv6 => 65527,
        .unix => abi.datagram_size_max,
    };
}

/// 1: taken; 0: the queue is full, a `datagram_drain` record will follow.
pub fn send(
    engine: *Engine,
    index: u32,
    generation: u32,
    bytes: ?[*]const u8,
    len: u32,
    address: ?*const abi.Address,
) i32 {
    if (engine.fatal != 0) return engine.fatal;
    const socket = find(engine, index, generation) orelse return errno.noent;
    if (len > size_max(socket.family)) return errno.msgsize;
    const source: []const u8 = if (len == 0) &.{} else (bytes orelse return errno.inval)[0..len];
    const text = address orelse {
        if (!socket.connected) return errno.destaddrreq;
        return submit(socket, engine, index, null, source);
    };
    if (socket.connected) return errno.isconn;
    var target = SocketAddress.from_boundary(text) orelse return errno.inval;
    if (family_of(&target) != socket.family) {
        target = reach(socket.family, &target) orelse return errno.afnosupport;
    }
    return submit(socket, engine, index, &target, source);
}

fn submit(
    socket: *Datagram,
    engine: *Engine,
    index: u32,
    target: ?*const SocketAddress,
    bytes: []const u8,
) i32 {
    const taken = queue.append(socket, engine, index, target, bytes);
    if (taken > 0) engine.datagrams.mark(index);
    return taken;
}

pub fn close(engine: *Engine, index: u32, generation: u32) i32 {
    const socket = engine.datagrams.sockets.find(index, generation) orelse return errno.noent;
    socket.close(engine, index);
    return 0;
}

// What it says of itself, and options ------------------------------------------------------------

/// One that is not on its way out: its descriptor is its own.
fn find(engine: *Engine, index: u32, generation: u32) ?*Datagram {
    const socket = engine.datagrams.sockets.find(index, generation) orelse return null;
    return if (socket.is_ending()) null else socket;
}

pub fn local_address(engine: *Engine, index: u32, generation: u32, out: *abi.Address) i32 {
    const socket = find(engine, index, generation) orelse return errno.noent;
    var address: SocketAddress = undefined;
    const outcome = engine.kernel.address(socket.fd, .local, &address);
    if (outcome < 0) return outcome;
    address.print(out);
    return 0;
}

pub fn set_option(engine: *Engine, index: u32, generation: u32, option: u32, value: u32) i32 {
    const socket = find(engine, index, generation) orelse return errno.noent;
    const asked = std.enums.fromInt(abi.DatagramOption, option) orelse return errno.inval;
    return engine.kernel.set_option(socket.fd, switch (asked) {
        .broadcast => .broadcast,
        .receive_buffer => .receive_buffer,
        .send_buffer => .send_buffer,
        .ttl => .ttl,
        .multicast_ttl => .multicast_ttl,
        .multicast_loopback => .multicast_loop,
    }, value);
}

pub fn membership(
    engine: *Engine,
    index: u32,
    generation: u32,
    action: u32,
    group: ?*const abi.Address,
    source: ?*const abi.Address,
    interface: ?*const abi.Address,
) i32 {
    const socket = find(engine, index, generation) orelse return errno.noent;
    if (socket.family == .unix) return errno.notsup;
    var change: seam.Membership = .{
        .action = std.enums.fromInt(abi.MembershipAction, action) orelse return errno.inval,
        .group = undefined,
        .source = null,
        .interface = null,
    };
    if (change.action != .send_by) {
        const text = group orelse return errno.inval;
        change.group = address_for(socket, text) orelse return errno.inval;
    }
    if (source) |text| change.source = address_for(socket, text) orelse return errno.inval;
    if (interface) |text| change.interface = address_for(socket, text) orelse return errno.inval;
    return engine.kernel.membership(socket.fd, &change);
}

/// Of the socket's own family: groups are not mapped.
fn address_for(socket: *const Datagram, text: *const abi.Address) ?SocketAddress {
    const address = SocketAddress.from_boundary(text) orelse return null;
    return if (family_of(&address) == socket.family) address else null;
}

// What was received ----------------------------------------------------------------------------

/// Copies from a buffer that a `datagram` record of this turn named.
pub fn read(engine: *Engine, buffer: u32, offset: u32, target: ?[*]u8, len: u32) i32 {
    const buffers = &engine.datagrams.buffers;
    if (!buffers.is_delivered(buffer)) return errno.noent;
    const bytes = buffers.bytes(@intCast(buffer));
    if (@as(u64, offset) + len > bytes.len) return errno.inval;
    const out = target orelse return errno.inval;
    @memcpy(out[0..len], bytes[offset..][0..len]);
    return 0;
}

/// The sender of the datagrams in such a buffer.
pub fn sender(
    engine: *Engine,
    index: u32,
    generation: u32,
    buffer: u32,
    out: *abi.Address,
) i32 {
    const socket = engine.datagrams.sockets.find(index, generation) orelse return errno.noent;
    if (!engine.datagrams.buffers.is_delivered(buffer)) return errno.noent;
    socket.sender_of(&engine.datagrams, @intCast(buffer)).print(out);
    return 0;
}
