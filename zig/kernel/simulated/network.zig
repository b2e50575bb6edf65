//! The simulated network: descriptors, sockets, and the peers at the other ends.
//!
//! A descriptor is the lowest free number, as in a real process, so that a use after close meets
//! its successor. A socket lives until its descriptor is closed *and* no pending operation or place
//! of a registered file names it (KERNEL: closing completes nothing). A peer is one connection's
//! other end; the test drives it through `peers.zig`. Stream semantics are TCP's: data before FIN
//! or RST stays readable, an error is reported once, closing with unread data resets. An open file
//! of the volume has a descriptor and a socket's place, too; a pipe is a stream that is no socket.

const std = @import("std");
const failures = @import("../failures.zig");
const assert = std.debug.assert;
const system = @import("../linux.zig");
const seam = @import("../../kernel.zig");
const SocketAddress = @import("../address.zig").SocketAddress;
const ByteQueue = @import("byte_queue.zig").ByteQueue;
const Parcels = @import("parcels.zig").Parcels;
const Fate = @import("fate.zig").Fate;
const Volume = @import("volume.zig").Volume;
const socket_state = @import("socket_state.zig");
pub const SocketState = socket_state.SocketState;
pub const Socket = socket_state.Socket;
const unset = socket_state.unset;
const errno = system.errno;

pub const none = socket_state.none;
/// The standard streams of a real process are below.
const fd_first = 3;
pub const backlog_max = socket_state.backlog_max;
const shut_read = 0;

pub const Limits = struct {
    descriptors: u32 = 128,
    peers: u32 = 128,
    /// Each direction of each connection gets between 1 and this many bytes on the way.
    stream_bytes: u32 = 64 * 1024,
};

pub const Peer = struct {
    in_use: bool = false,
    /// Names this peer to the test; never used again.
    id: u32 = 0,
    /// The engine's end; `none` before it was accepted and after it was released.
    socket: u32 = none,
    /// The connection exists, whether or not it was accepted.
    attached: bool = false,
    to_engine: ByteQueue = .{ .memory = &.{} },
    from_engine: ByteQueue = .{ .memory = &.{} },
    parcels_to_engine: Parcels = .{},
    parcels_from_engine: Parcels = .{},
    /// The peer sent FIN.
    half_closed: bool = false,
    /// The peer sent RST.
    sent_reset: bool = false,
    /// The connection broke, whoever noticed.
    broken: bool = false,
    /// The peer is gone: it reads no more.
    closed: bool = false,
    /// FIN from the engine's end, behind `from_engine`.
    ended: bool = false,
    /// RST from the engine's end.
    reset: bool = false,
    address: SocketAddress = unset,
};

pub const Network = struct {
    fate: *Fate,
    volume: *Volume,
    limits: Limits,
    descriptors: []u32,
    sockets: []Socket,
    peers: []Peer,
    memory: []u8,
    peers_claimed: u32 = 0,
    next_port: u16 = 1024,
    /// Descriptors closed while an operation named their socket.
    closed_under_operation: u32 = 0,
    /// Uses of a descriptor that was not open.
    bad_descriptors: u32 = 0,

    pub fn init(
        allocator: std.mem.Allocator,
        limits: Limits,
        fate: *Fate,
        volume: *Volume,
    ) !Network {
        const stream_memory = @as(usize, limits.peers) * 2 * limits.stream_bytes;
        const descriptors = try allocator.alloc(u32, limits.descriptors);
        errdefer allocator.free(descriptors);
        // A socket can outlive its descriptor, so there are more of them.
        const sockets = try allocator.alloc(Socket, limits.descriptors * 2);
        errdefer allocator.free(sockets);
        const peers = try allocator.alloc(Peer, limits.peers);
        errdefer allocator.free(peers);
        @memset(descriptors, none);
        for (sockets) |*socket| socket.references = 0;
        @memset(peers, .{});
        return .{
            .fate = fate,
            .volume = volume,
            .limits = limits,
            .descriptors = descriptors,
            .sockets = sockets,
            .peers = peers,
            .memory = try allocator.alloc(u8, stream_memory),
        };
    }

    pub fn deinit(network: *Network, allocator: std.mem.Allocator) void {
        allocator.free(network.descriptors);
        allocator.free(network.sockets);
        allocator.free(network.peers);
        allocator.free(network.memory);
    }

    pub fn open_descriptors(network: *const Network) u32 {
        var count: u32 = 0;
        for (network.descriptors) |socket| count += @intFromBool(socket != none);
        return count;
    }

    /// The socket behind a descriptor, or null (EBADF).
    pub fn find(network: *Network, fd: i32) ?u32 {
        if (network.is_open(fd)) return network.descriptors[@intCast(fd - fd_first)];
        network.bad_descriptors += 1;
        return null;
    }

    pub fn is_open(network: *const Network, fd: i32) bool {
        const index = fd - fd_first;
        if (index < 0 or index >= network.descriptors.len) return false;
        return network.descriptors[@intCast(index)] != none;
    }

    /// fcntl(2), F_DUPFD.
    pub fn duplicate(network: *Network, fd: i32) i32 {
        const socket = network.find(fd) orelse return errno.badf;
        const index = std.mem.indexOfScalar(u32, network.descriptors, none) orelse
            return errno.mfile;
        network.add_reference(socket);
        network.descriptors[index] = socket;
        return @as(i32, @intCast(index)) + fd_first;
    }

    /// A fresh socket behind the lowest free descriptor.
    pub fn open(network: *Network) union(enum) { fd: i32, refused: i32 } {
        const index = std.mem.indexOfScalar(u32, network.descriptors, none) orelse
            return .{ .refused = errno.mfile };
        for (network.sockets, 0..) |*socket, i| {
            if (socket.references > 0) continue;
            socket.* = .{ .state = .fresh, .references = 1 };
            network.descriptors[index] = @intCast(i);
            return .{ .fd = @as(i32, @intCast(index)) + fd_first };
        }
        return .{ .refused = errno.nfile };
    }

    /// Takes back a descriptor that `open` has just made.
    pub fn abandon(network: *Network, fd: i32) void {
        network.drop_reference(network.find(fd).?);
        network.descriptors[@intCast(fd - fd_first)] = none;
    }

    /// close(2).
    pub fn close(network: *Network, fd: i32) i32 {
        const socket = network.find(fd) orelse return errno.badf;
        network.descriptors[@intCast(fd - fd_first)] = none;
        const held = network.sockets[socket].references - network.sockets[socket].places;
        const names = std.mem.count(u32, network.descriptors, &.{socket});
        if (held > 1 + names) network.closed_under_operation += 1;
        network.drop_reference(socket);
        // The descriptor is gone whatever close(2) says.
        return if (network.fate.strikes("close")) errno.io else 0;
    }

    pub fn add_reference(network: *Network, index: u32) void {
        assert(network.sockets[index].references > 0);
        network.sockets[index].references += 1;
    }

    pub fn drop_reference(network: *Network, index: u32) void {
        const socket = &network.sockets[index];
        assert(socket.references > 0);
        socket.references -= 1;
        if (socket.references > 0) return;
        if (socket.state == .file) return network.volume.close(socket.node);
        for (socket.waiting[0..socket.waiting_count]) |peer| network.reset_peer(peer);
        if (socket.peer == none) return;
        const peer = &network.peers[socket.peer];
        assert(peer.socket == index);
        peer.socket = none;
        if (socket.linger_reset or socket.state == .dead or peer.to_engine.len > 0) {
            network.reset_peer(socket.peer);
        } else {
            peer.ended = true;
        }
        peer.attached = false;
        network.free_peer_if_done(socket.peer);
    }

    /// RST towards a peer: of what is on the way, any part may be lost.
    pub fn reset_peer(network: *Network, index: u32) void {
        const peer = &network.peers[index];
        peer.reset = true;
        peer.attached = false;
        const on_the_way: u32 = @intCast(peer.from_engine.len);
        peer.from_engine.truncate(network.fate.below(on_the_way + 1));
        network.free_peer_if_done(index);
    }

    pub fn free_peer_if_done(network: *Network, index: u32) void {
        const peer = &network.peers[index];
        if (peer.in_use and peer.closed and !peer.attached) peer.in_use = false;
    }

    /// A new connection's other end, with buffers of random size; null when there are too many.
    pub fn claim_peer(network: *Network) ?u32 {
        const index: u32 = for (network.peers, 0..) |*peer, i| {
            if (!peer.in_use) break @intCast(i);
        } else return null;
        const stream_bytes = network.limits.stream_bytes;
        const memory = network.memory[@as(usize, index) * 2 * stream_bytes ..];
        network.peers_claimed += 1;
        const id = network.peers_claimed * @as(u32, @intCast(network.peers.len)) + index;
        network.peers[index] = .{
            .in_use = true,
            .id = id,
            .attached = true,
            .to_engine = .{ .memory = memory[0..network.stream_size()] },
            .from_engine = .{ .memory = memory[stream_bytes..][0..network.stream_size()] },
            .address = loopback(id),
        };
        return index;
    }

    fn stream_size(network: *Network) usize {
        const most = network.limits.stream_bytes;
        // Small ones block often, large ones carry long messages.
        return 1 + network.fate.below(if (network.fate.chance(300)) @min(most, 700) else most);
    }

    /// An address of its own for each peer: 10.0.0.0/8 and a port, from the id.
    fn loopback(id: u32) SocketAddress {
        var address: SocketAddress = .{ .bytes = @splat(0), .len = 16 };
        std.mem.writeInt(u16, address.bytes[0..2], std.os.linux.AF.INET, .native);
        std.mem.writeInt(u16, address.bytes[2..4], @intCast(1024 + id % 60_000), .big);
        std.mem.writeInt(u32, address.bytes[4..8], 0x0a00_0000 + id / 60_000, .big);
        return address;
    }

    /// For tests: one end of a pipe behind a descriptor, a peer at the other end; null when there
    /// are too many. It is a stream in both directions, as a pair of pipes would be.
    pub fn pipe(network: *Network) ?struct { fd: i32, peer: u32 } {
        const peer = network.claim_peer() orelse return null;
        const fd = switch (network.open()) {
            .fd => |fd| fd,
            .refused => {
                network.peers[peer].in_use = false;
                return null;
            },
        };
        const index = network.find(fd).?;
        network.join(index, peer);
        network.sockets[index].is_pipe = true;
        return .{ .fd = fd, .peer = network.peers[peer].id };
    }

    pub fn is_socket(network: *const Network, index: u32) bool {
        const self = &network.sockets[index];
        return self.state != .file and self.state != .tube and !self.is_pipe;
    }

    /// Room for bytes to send, or an error that a send would meet at once.
    pub fn is_writable(network: *const Network, index: u32) bool {
        const self = &network.sockets[index];
        if (self.state != .connected or self.shut_write or self.failure != 0) return true;
        return network.peers[self.peer].from_engine.space() > 0 or network.peers[self.peer].closed;
    }

    // Side calls of the seam.

    pub fn create(network: *Network) i32 {
        if (network.fate.strikes("socket")) return errno.mfile;
        return switch (network.open()) {
            inline else => |outcome| outcome,
        };
    }

    pub fn bind(network: *Network, fd: i32, target: *const SocketAddress) i32 {
        return network.bind_socket(network.find(fd) orelse return errno.badf, target);
    }

    pub fn bind_socket(network: *Network, index: u32, target: *const SocketAddress) i32 {
        const self = &network.sockets[index];
        if (self.state != .fresh) return errno.inval;
        if (network.fate.strikes("bind")) return errno.acces;
        if (network.has_taken(self, target)) return errno.addrinuse;
        self.local = target.*;
        if (!target.is_unix() and std.mem.readInt(u16, target.bytes[2..4], .big) == 0) {
            std.mem.writeInt(u16, self.local.bytes[2..4], network.next_port, .big);
            network.next_port = @max(network.next_port +% 1, 1024);
        }
        self.state = .bound;
        return 0;
    }

    /// Somebody listens there, and does not share with this one. socket(7), SO_REUSEPORT
    fn has_taken(network: *const Network, self: *const Socket, target: *const SocketAddress) bool {
        if (target.is_unix()) return false;
        for (network.sockets) |*other| {
            if (other.references == 0) continue;
            if (other.state != .listening or (other.shares_port and self.shares_port)) continue;
            if (std.mem.eql(u8, other.local.bytes[0..8], target.bytes[0..8])) return true;
        }
        return false;
    }

    pub fn listen(network: *Network, fd: i32, backlog: u32) i32 {
        return network.listen_socket(network.find(fd) orelse return errno.badf, backlog);
    }

    pub fn listen_socket(network: *Network, index: u32, backlog: u32) i32 {
        const self = &network.sockets[index];
        if (self.state != .bound) return errno.inval;
        if (network.fate.strikes("listen")) return errno.nomem;
        self.state = .listening;
        self.backlog = std.math.clamp(backlog, 1, backlog_max);
        return 0;
    }

    pub fn name_of(network: *Network, fd: i32, end: seam.End, out: *SocketAddress) i32 {
        const self = &network.sockets[network.find(fd) orelse return errno.badf];
        if (network.fate.strikes("address")) return errno.nomem;
        if (end == .remote and self.state != .connected) return errno.notconn;
        out.* = if (end == .remote) self.remote else self.local;
        return 0;
    }

    pub fn set_option(network: *Network, fd: i32, option: seam.Option, value: u32) i32 {
        const self = &network.sockets[network.find(fd) orelse return errno.badf];
        if (network.fate.strikes("option")) return errno.inval;
        if (option == .linger_reset) self.linger_reset = true;
        if (option == .non_blocking) self.non_blocking = value != 0;
        if (option == .reuse_port) self.shares_port = value != 0;
        return 0;
    }

    // What operations do to a stream.

    pub const Attempt = union(enum) { done: i32, blocked };

    /// What a receive of at least one byte would meet: a positive count of bytes that wait, 0 at
    /// the end of the stream, or the errno.
    pub fn receive_state(network: *Network, index: u32) Attempt {
        const self = &network.sockets[index];
        if (self.peer == none) {
            return .{ .done = if (self.failure != 0) take_failure(self) else errno.notconn };
        }
        const peer = &network.peers[self.peer];
        if (peer.to_engine.len > 0) return .{ .done = @intCast(peer.to_engine.len) };
        if (peer.half_closed or self.shut_receiving) return .{ .done = 0 };
        if (self.failure != 0) return .{ .done = take_failure(self) };
        if (self.state == .dead) return .{ .done = 0 };
        return .blocked;
    }

    /// Whether a receive would find bytes, the end or an error.
    pub fn is_readable(network: *const Network, index: u32) bool {
        const self = &network.sockets[index];
        if (self.peer == none or self.failure != 0 or self.state == .dead) return true;
        const peer = &network.peers[self.peer];
        return peer.to_engine.len > 0 or peer.half_closed or self.shut_receiving;
    }

    pub fn receive(network: *Network, index: u32, out: []u8) usize {
        return network.peers[network.sockets[index].peer].to_engine.read(out);
    }

    pub fn take_failure(self: *Socket) i32 {
        const failure = self.failure;
        assert(failure < 0);
        self.failure = 0;
        return failure;
    }

    /// Takes as much of `bytes` as fate and the stream allow.
    pub fn send(network: *Network, index: u32, bytes: []const u8) Attempt {
        const self = &network.sockets[index];
        if (self.failure != 0) return .{ .done = take_failure(self) };
        if (self.state == .connecting) return .blocked;
        if (self.state != .connected or self.shut_write) return .{ .done = errno.pipe };
        const peer = &network.peers[self.peer];
        if (peer.closed) {
            // Nobody reads there: what is sent is taken, and answered with RST.
            network.break_socket(index, errno.connreset);
            return .{ .done = @intCast(bytes.len) };
        }
        if (bytes.len == 0) return .{ .done = 0 };
        const most = @min(bytes.len, peer.from_engine.space());
        if (most == 0) return .blocked;
        return .{ .done = @intCast(peer.from_engine.write(bytes[0..network.fate.part(most)])) };
    }

    /// The connection is gone, from outside: the next operation hears why.
    pub fn break_socket(network: *Network, index: u32, failure: i32) void {
        const self = &network.sockets[index];
        assert(self.state == .connected);
        const peer = &network.peers[self.peer];
        self.state = .dead;
        peer.broken = true;
        // After FIN the kernel says EPIPE to a sender and the end to a receiver.
        self.failure = if (peer.half_closed) errno.pipe else failure;
    }

    pub fn send_now(network: *Network, fd: i32, bytes: []const u8) i32 {
        const index = network.find(fd) orelse return errno.badf;
        if (network.fate.strikes("send_now")) return errno.again;
        return switch (network.send(index, bytes)) {
            .done => |result| result,
            .blocked => errno.again,
        };
    }

    pub fn shutdown(network: *Network, index: u32, how: u32) i32 {
        const self = &network.sockets[index];
        if (self.state != .connected) return errno.notconn;
        if (network.fate.strikes("shutdown")) {
            network.break_socket(index, errno.timedout);
            return errno.notconn;
        }
        if (how == shut_read) return 0; // what comes after it is not simulated
        self.shut_write = true;
        network.peers[self.peer].ended = true;
        return 0;
    }

    pub fn shut_receiving(network: *Network, fd: i32) void {
        const index = network.find(fd) orelse return;
        network.sockets[index].shut_receiving = true;
    }

    pub fn stop_listening(network: *Network, fd: i32) void {
        const self = &network.sockets[network.find(fd) orelse return];
        if (self.state != .listening) return;
        self.state = .bound;
        for (self.waiting[0..self.waiting_count]) |peer| network.reset_peer(peer);
        self.waiting_count = 0;
    }

    /// The oldest connection that waits on a listener.
    pub fn accept(network: *Network, index: u32) Attempt {
        const listener = &network.sockets[index];
        if (listener.state != .listening) return .{ .done = errno.inval };
        if (listener.waiting_count == 0) return .blocked;
        if (network.fate.strikes("accept")) {
            return .{ .done = network.fate.one_of(i32, &failures.of_accept) };
        }
        const fd = switch (network.open()) {
            .fd => |fd| fd,
            .refused => |refused| return .{ .done = refused },
        };
        const peer = listener.waiting[0];
        listener.waiting_count -= 1;
        std.mem.copyForwards(
            u32,
            listener.waiting[0..listener.waiting_count],
            listener.waiting[1 .. listener.waiting_count + 1],
        );
        const accepted = network.find(fd).?;
        network.sockets[accepted].local = listener.local;
        network.join(accepted, peer);
        return .{ .done = fd };
    }

    pub fn join(network: *Network, index: u32, peer_index: u32) void {
        const self = &network.sockets[index];
        const peer = &network.peers[peer_index];
        assert(peer.socket == none and self.peer == none and peer.attached);
        self.state = .connected;
        self.peer = peer_index;
        self.remote = peer.address;
        peer.socket = index;
        // A peer that has reset meanwhile is accepted all the same; the first operation hears it.
        if (peer.sent_reset) network.break_socket(index, errno.connreset);
    }
};
