//! One datagram socket, UDP or Unix: how it receives and how it ends.
//!
//! Like a connection, it only changes its state on calls and CQEs and submits in `advance`. One
//! receive is armed as long as the socket is open; what it delivers is a record that says whose
//! datagrams lie in which buffer, several of one size if the network put them together (UDP_GRO).
//! `datagram_queue.zig` sends, `datagram_buffers.zig` holds what is received, `datagrams.zig` is
//! the table of sockets.

const std = @import("std");
const assert = std.debug.assert;
const abi = @import("abi.zig");
const seam = @import("kernel.zig");
const slots = @import("slots.zig");
const buffers_file = @import("datagram_buffers.zig");
const queue = @import("datagram_queue.zig");
const operation = @import("operation/datagram.zig");
const mutation = @import("testing/mutation.zig");
const Engine = @import("engine.zig").Engine;
const Datagrams = @import("datagrams.zig").Datagrams;
const Kind = @import("operation.zig").Kind;
const errno = seam.errno;

pub const Family = enum { ipv4, ipv6, unix };

/// open ──close, or nothing works any more──▶ ending ──all CQEs in──▶ closing ──CLOSE──▶ (retired)
const Stage = enum { open, ending, closing };

/// idle ──advance──▶ armed ──last CQE──▶ idle       ENOBUFS: armed ──▶ parked ──buffers──▶ idle
const Receiving = enum { idle, armed, parked };

pub const Datagram = struct {
    fd: i32,
    family: Family,
    connected: bool,
    stage: Stage = .open,
    receiving: Receiving = .idle,
    cancel_asked: bool = false,
    cancels_pending: u8 = 0,
    /// Why it ended by itself, negative.
    failure: i32 = 0,
    outgoing: queue.Outgoing = .{},
    /// Multishot: sizes of name and control data. Else where one datagram goes (I1).
    header: seam.MessageHeader = undefined,
    part: seam.Iovec = undefined,
    /// The buffer of a receive that is not multishot.
    given: u16 = 0,
    /// Who sent the last datagram, and a number that changes with him; IPv4 needs neither.
    sender: seam.SocketAddress = .{ .bytes = @splat(0), .len = 0 },
    sender_number: u32 = 0,
    dirty: slots.Link = .{},
    parked: slots.Link = .{},

    pub fn is_ending(socket: *const Datagram) bool {
        return socket.stage != .open;
    }

    fn name_size(socket: *const Datagram) u32 {
        return switch (socket.family) {
            .ipv4, .ipv6 => 32,
            .unix => @sizeOf(@FieldType(seam.SocketAddress, "bytes")),
        };
    }

    /// A Unix socket gets no room for control data: the kernel then drops descriptors that a peer
    /// passes, instead of leaving them to us.
    fn control_size(socket: *const Datagram) u32 {
        return if (socket.family == .unix) 0 else @sizeOf(seam.SegmentControl);
    }

    fn payload_offset(socket: *const Datagram) u32 {
        const offset = @sizeOf(seam.ReceivedMessage) + socket.name_size() + socket.control_size();
        assert(offset <= buffers_file.prefix_max);
        return offset;
    }

    // Submission -------------------------------------------------------------------------------

    /// Submits what the state asks for. False: no SQE was to be had, come again next turn.
    pub fn advance(socket: *Datagram, engine: *Engine, index: u32) bool {
        if (socket.stage == .closing) return true;
        if (!queue.advance(socket, engine, index)) return false;
        if (socket.stage == .ending) return socket.advance_end(engine, index);
        if (socket.receiving != .idle) return true;
        return socket.arm(engine, index);
    }

    fn arm(socket: *Datagram, engine: *Engine, index: u32) bool {
        const user_data = tag(engine, index, .datagram_receive);
        if (engine.datagrams.buffers.provided) {
            const sqe = engine.sqe() orelse return false;
            socket.header = std.mem.zeroes(seam.MessageHeader);
            socket.header.namelen = socket.name_size();
            socket.header.controllen = socket.control_size();
            operation.Receive.prepare(sqe, socket.fd, &socket.header, user_data);
        } else {
            if (!engine.make_room(1)) return false;
            const id = engine.datagrams.buffers.take() orelse {
                socket.park(engine, index);
                return true;
            };
            const sqe = engine.sqe().?;
            socket.aim(engine.datagrams.buffers.bytes(id));
            socket.given = id;
            operation.Receive.prepare_once(sqe, socket.fd, &socket.header, user_data);
        }
        socket.receiving = .armed;
        return true;
    }

    /// One receive, laid out as a multishot one lays it out.
    fn aim(socket: *Datagram, bytes: []align(8) u8) void {
        const name = bytes[@sizeOf(seam.ReceivedMessage)..];
        const payload = bytes[socket.payload_offset()..][0..buffers_file.payload_max];
        socket.part = .{ .base = payload.ptr, .len = payload.len };
        socket.header = .{
            .name = @ptrCast(name.ptr),
            .namelen = socket.name_size(),
            .iov = @ptrCast(&socket.part),
            .iovlen = 1,
            .control = name[socket.name_size()..].ptr,
            .controllen = socket.control_size(),
            .flags = 0,
        };
    }

    fn park(socket: *Datagram, engine: *Engine, index: u32) void {
        const datagrams = &engine.datagrams;
        engine.counters.parks += 1;
        socket.receiving = .parked;
        datagrams.parked.push(&datagrams.sockets, index);
    }

    /// Everything is cancelled once, its last CQEs are waited for, then the descriptor goes.
    fn advance_end(socket: *Datagram, engine: *Engine, index: u32) bool {
        const receives = socket.receiving == .armed and !mutation.is(.close_datagram_early);
        const held = receives or !socket.outgoing.is_idle();
        if (held and !socket.cancel_asked) {
            const sqe = engine.sqe() orelse return false;
            const user_data = tag(engine, index, .datagram_cancel);
            operation.Cancel.prepare(sqe, socket.fd, user_data);
            socket.cancel_asked = true;
            socket.cancels_pending += 1;
            return true;
        }
        if (held or socket.cancels_pending > 0 or socket.outgoing.waiting > 0) return true;
        const sqe = engine.sqe() orelse return false;
        operation.Close.prepare(sqe, socket.fd, tag(engine, index, .datagram_close));
        socket.stage = .closing;
        return true;
    }

    /// What is queued goes as far as the kernel takes it at once.
    pub fn close(socket: *Datagram, engine: *Engine, index: u32) void {
        if (socket.stage != .open) return;
        socket.stage = .ending;
        engine.datagrams.mark(index);
    }

    fn fail(socket: *Datagram, engine: *Engine, index: u32, code: i32) void {
        if (socket.failure == 0) socket.failure = code;
        queue.discard(engine, &socket.outgoing);
        socket.close(engine, index);
    }

    // Completions ------------------------------------------------------------------------------

    pub fn on_receive(socket: *Datagram, engine: *Engine, index: u32, cqe: *const seam.Cqe) void {
        const datagrams = &engine.datagrams;
        if (socket.receiving != .armed) return datagrams.stale(engine, cqe);
        const selected = cqe.flags & seam.cqe_flag.buffer != 0;
        const multishot = selected or datagrams.buffers.provided;
        if (cqe.flags & seam.cqe_flag.more == 0) {
            socket.receiving = .idle;
            datagrams.mark(index);
        }
        if (selected) {
            const id = cqe.flags >> seam.cqe_flag.buffer_shift;
            if (!datagrams.buffers.deliver(id)) return datagrams.stale(engine, cqe);
            if (cqe.res >= 0) return socket.on_datagram(engine, index, @intCast(id), cqe.res);
        } else if (!multishot) {
            if (cqe.res >= 0) return socket.on_one(engine, index, cqe.res);
            datagrams.buffers.put_back(socket.given);
        }
        if (cqe.res < 0) socket.on_receive_failed(engine, index, cqe.res);
    }

    fn on_receive_failed(socket: *Datagram, engine: *Engine, index: u32, code: i32) void {
        switch (code) {
            errno.canceled, errno.intr, errno.again => {},
            errno.nobufs => {
                engine.counters.receive_starved += 1;
                engine.datagrams.buffers.starved();
                if (socket.receiving == .idle) socket.park(engine, index);
            },
            // Nothing that time mends, or another try.
            errno.badf, errno.inval, errno.fault, errno.notsock, errno.notsup => {
                socket.fail(engine, index, code);
            },
            // ICMP's answers and the like: told, and the next datagram is as good as any.
            else => socket.report(engine, index, code),
        }
    }

    /// What a multishot receive writes in front of a datagram, here from the header.
    fn on_one(socket: *Datagram, engine: *Engine, index: u32, len: i32) void {
        const buffers = &engine.datagrams.buffers;
        const message: *seam.ReceivedMessage = @ptrCast(buffers.bytes(socket.given));
        message.* = .{
            .namelen = socket.header.namelen,
            .controllen = std.math.cast(u32, socket.header.controllen) orelse 0,
            .payloadlen = @intCast(len),
            .flags = socket.header.flags,
        };
        const delivered = buffers.deliver(socket.given);
        assert(delivered);
        const whole = std.math.add(i32, len, @intCast(socket.payload_offset())) catch return;
        socket.on_datagram(engine, index, socket.given, whole);
    }

    /// `len` counts everything in front of the payload, too.
    fn on_datagram(socket: *Datagram, engine: *Engine, index: u32, id: u16, len: i32) void {
        if (socket.is_ending()) return; // nobody reads; the buffer goes back with the others
        const bytes = engine.datagrams.buffers.bytes(id);
        const offset = socket.payload_offset();
        const end: u32 = @intCast(len);
        if (end < offset or end > bytes.len) {
            engine.counters.cqes_stale += 1; // no kernel says that
            return;
        }
        const message: *const seam.ReceivedMessage = @ptrCast(bytes.ptr);
        const size = end - offset;
        const segment = socket.segment_of(bytes, message.controllen, size);
        engine.counters.bytes_received += size;
        engine.counters.datagrams_received += if (segment == 0)
            1
        else
            std.math.divCeil(u32, size, segment) catch unreachable;
        const truncated = message.flags & seam.socket_flag.truncated != 0;
        if (truncated) engine.counters.datagrams_truncated += 1;
        const sender = socket.describe_sender(bytes, message.namelen);
        const flags = sender.flags | bit(.truncated, truncated);
        engine.records[engine.record_count] = .{
            .event = .datagram,
            .index = index,
            .generation = engine.datagrams.sockets.generation(index),
            .result = @intCast(size),
            .offset = offset,
            .extra = id | flags << 8 | segment << 16,
            .data = @floatFromInt(sender.number),
        };
        engine.record_count += 1;
    }

    fn bit(comptime flag: abi.DatagramFlag, set: bool) u32 {
        return @as(u32, @intFromBool(set)) << @intFromEnum(flag);
    }

    /// The size of each datagram if there are several, else 0: udp(7), UDP_GRO.
    fn segment_of(socket: *const Datagram, bytes: []align(8) u8, control_len: u32, size: u32) u32 {
        if (control_len < @sizeOf(seam.SegmentControl) or socket.control_size() == 0) return 0;
        const at = @sizeOf(seam.ReceivedMessage) + socket.name_size();
        const control: *const seam.SegmentControl = @ptrCast(@alignCast(bytes[at..].ptr));
        const segment = control.received() orelse return 0;
        if (mutation.is(.join_datagrams)) return 0;
        return if (segment < size and segment <= std.math.maxInt(u16)) segment else 0;
    }

    const Sender = struct { number: u64, flags: u32 };

    comptime {
        assert(buffers_file.count <= 256); // `extra` has a byte for it
    }

    /// An IPv4 address and its port are a number; any other one's number changes with the sender.
    fn describe_sender(socket: *Datagram, bytes: []align(8) u8, len: u32) Sender {
        const name = bytes[@sizeOf(seam.ReceivedMessage)..][0..@min(len, socket.name_size())];
        if (seam.SocketAddress.ipv4_of(name)) |ipv4| {
            const number = @as(u64, ipv4.address) << 16 | ipv4.port;
            return .{ .number = number, .flags = bit(.ipv4, true) };
        }
        const last = &socket.sender;
        if (!std.mem.eql(u8, last.bytes[0..last.len], name)) {
            @memcpy(last.bytes[0..name.len], name);
            last.len = @intCast(name.len);
            socket.sender_number +%= 1;
        }
        return .{
            .number = socket.sender_number,
            .flags = bit(.ipv6, last.len > 2 and last.is_ipv6()),
        };
    }

    /// The sender of a datagram that this turn delivered.
    pub fn sender_of(socket: *const Datagram, datagrams: *Datagrams, id: u16) seam.SocketAddress {
        const bytes = datagrams.buffers.bytes(id);
        const message: *const seam.ReceivedMessage = @ptrCast(bytes.ptr);
        var address: seam.SocketAddress = .{ .bytes = @splat(0), .len = 0 };
        address.len = @min(message.namelen, socket.name_size());
        const name = bytes[@sizeOf(seam.ReceivedMessage)..][0..address.len];
        @memcpy(address.bytes[0..name.len], name);
        return address;
    }

    pub fn on_cancel_done(socket: *Datagram, engine: *Engine, index: u32) void {
        assert(socket.cancels_pending > 0);
        socket.cancels_pending -= 1;
        engine.datagrams.mark(index);
    }

    pub fn on_closed(socket: *Datagram, engine: *Engine, index: u32) void {
        assert(socket.stage == .closing);
        socket.record(engine, index, .datagram_closed, socket.failure);
        const datagrams = &engine.datagrams;
        datagrams.dirty.remove(&datagrams.sockets, index);
        datagrams.parked.remove(&datagrams.sockets, index);
        datagrams.sockets.retire(index);
    }

    /// An error that ends nothing.
    pub fn report(socket: *Datagram, engine: *Engine, index: u32, code: i32) void {
        if (socket.is_ending()) return;
        socket.record(engine, index, .datagram_error, code);
    }

    pub fn record(
        _: *Datagram,
        engine: *Engine,
        index: u32,
        event: abi.Event,
        result: i32,
    ) void {
        engine.records[engine.record_count] = .{
            .event = event,
            .index = index,
            .generation = engine.datagrams.sockets.generation(index),
            .result = result,
            .offset = 0,
            .extra = 0,
        };
        engine.record_count += 1;
    }

    pub fn tag(engine: *Engine, index: u32, kind: Kind) slots.UserData {
        return .{
            .slot = @intCast(index),
            .kind = kind,
            .generation = engine.datagrams.sockets.generation(index),
        };
    }
};
