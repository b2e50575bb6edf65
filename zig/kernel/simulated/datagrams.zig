//! Datagram sockets of the simulated kernel: letters that wait, letters that were sent.
//!
//! A test puts letters into a socket's box and takes what was sent, in the order in which it left.
//! Several of one sender and size may be received at once where there is room for control data
//! (UDP_GRO), and are sent at once where control data says so (UDP_SEGMENT). A socket can be full,
//! a datagram refused, an answer of the network be told to whoever comes next. What is sent must
//! keep still until its CQE (I1), and must not wait: the real kernel would lose it.

const std = @import("std");
const linux = std.os.linux;
const system = @import("../linux.zig");
const SocketAddress = @import("../address.zig").SocketAddress;
const simulated = @import("../simulated.zig");
const operations = @import("operations.zig");
const Operation = operations.Operation;
const Row = @import("outcomes.zig").Row;
const Simulated = simulated.Simulated;
const errno = system.errno;

pub const Letter = struct { address: SocketAddress, bytes: []u8 };

const Box = struct {
    /// Names the socket to the test; never used again, as descriptors are.
    id: u32 = 0,
    waiting: std.ArrayList(Letter) = .empty,
    /// Where a connected one sends to.
    peer: ?SocketAddress = null,
    /// An answer of the network, told once.
    failure: i32 = 0,
    /// A send found no room, and none was made since.
    full: bool = false,
};

const Sent = struct { box: u32, letter: Letter };

pub const Post = struct {
    /// By socket.
    boxes: std.AutoHashMapUnmanaged(u32, Box) = .empty,
    sent: std.ArrayList(Sent) = .empty,
    boxes_made: u32 = 0,

    pub fn deinit(post: *Post, allocator: std.mem.Allocator) void {
        var boxes = post.boxes.valueIterator();
        while (boxes.next()) |box| empty(allocator, box);
        post.boxes.deinit(allocator);
        for (post.sent.items) |sent| allocator.free(sent.letter.bytes);
        post.sent.deinit(allocator);
    }

    fn empty(allocator: std.mem.Allocator, box: *Box) void {
        for (box.waiting.items) |letter| allocator.free(letter.bytes);
        box.waiting.deinit(allocator);
    }

    fn box_of(post: *Post, socket: u32) *Box {
        return post.boxes.getPtr(socket).?; // made with the socket
    }
};

/// A socket of the family and type that the entry says.
pub fn create(kernel: *Simulated, sqe: *const system.Sqe) i32 {
    const fd = kernel.network.create();
    if (fd < 0 or sqe.off & type_mask != linux.SOCK.DGRAM) return fd;
    const index = kernel.network.find(fd).?;
    kernel.network.sockets[index].state = .mail;
    if (kernel.post_office.boxes.getPtr(index)) |old| Post.empty(kernel.allocator, old);
    const post = &kernel.post_office;
    post.boxes_made += 1;
    post.boxes.put(kernel.allocator, index, .{ .id = post.boxes_made }) catch
        simulated.out_of_memory();
    return fd;
}

const type_mask = 0xf;

pub fn is_one(kernel: *Simulated, fd: i32) bool {
    const index = kernel.network.find(fd) orelse return false;
    return kernel.network.sockets[index].state == .mail;
}

pub fn bind(kernel: *Simulated, index: u32, target: *const SocketAddress) i32 {
    if (kernel.fate.strikes("bind")) return errno.acces;
    kernel.network.sockets[index].local = target.*;
    return 0;
}

/// connect(2) of a datagram socket only notes the address.
pub fn connect(kernel: *Simulated, sqe: *const system.Sqe) i32 {
    if (kernel.fate.strikes("connect")) return errno.connrefused;
    var target: SocketAddress = .{ .bytes = @splat(0), .len = @intCast(sqe.off) };
    const bytes: [*]const u8 = @ptrFromInt(sqe.addr);
    @memcpy(target.bytes[0..target.len], bytes[0..target.len]);
    kernel.post_office.box_of(kernel.network.find(sqe.fd).?).peer = target;
    return 0;
}

/// For tests: the name of the box behind a descriptor.
pub fn box_id(kernel: *Simulated, fd: i32) u32 {
    return kernel.post_office.box_of(kernel.network.find(fd).?).id;
}

/// For tests: a letter arrives. False if there is no room, and it is lost.
pub fn deliver(kernel: *Simulated, fd: i32, from: *const SocketAddress, bytes: []const u8) bool {
    const box = kernel.post_office.box_of(kernel.network.find(fd) orelse return false);
    if (box.waiting.items.len == letters_max) return false;
    const copy = kernel.allocator.dupe(u8, bytes) catch simulated.out_of_memory();
    box.waiting.append(kernel.allocator, .{ .address = from.*, .bytes = copy }) catch
        simulated.out_of_memory();
    return true;
}

const letters_max = 200;

/// The row in the table of outcomes, once the descriptor is known.
pub fn row_of(sqe: *const system.Sqe, row: Row) Row {
    return switch (sqe.opcode) {
        .RECVMSG => .receive_datagram,
        .SENDMSG => .send_datagram,
        else => row,
    };
}

/// What is sent is what it was when its turn came.
pub fn hold(kernel: *Simulated, operation: *Operation) void {
    if (operation.row != .send_datagram) return;
    if (!operation.dont_wait) kernel.violate("a datagram is sent that may wait in the kernel");
    for (operation.parts.items) |part| operation.hash.update(part.base[0..part.len]);
}

pub fn ready_events(kernel: *Simulated, index: u32) u32 {
    const box = kernel.post_office.box_of(index);
    make_room(kernel, box);
    var events: u32 = if (box.full) 0 else linux.POLL.OUT;
    if (box.waiting.items.len > 0) events |= linux.POLL.IN;
    if (box.failure != 0) events |= linux.POLL.ERR;
    return events;
}

// Sending.

pub fn send(kernel: *Simulated, operation: *Operation) void {
    const box = kernel.post_office.box_of(operation.socket);
    if (box.failure != 0) return operations.finish(kernel, operation, take_failure(box));
    make_room(kernel, box);
    if (box.full or kernel.fate.strikes("datagram_full")) {
        box.full = true;
        return operations.finish(kernel, operation, errno.again);
    }
    if (kernel.fate.strikes("datagram_refused")) {
        return operations.finish(kernel, operation, errno.perm);
    }
    const header: *const system.MessageHeader = @ptrFromInt(operation.sqe.addr);
    const segment = segment_of(kernel, header, operation.total);
    if (segment < operation.total and kernel.fate.strikes("datagram_whole")) {
        const refusals = [_]i32{ errno.msgsize, errno.inval, errno.io };
        return operations.finish(kernel, operation, kernel.fate.one_of(i32, &refusals));
    }
    const target = target_of(header) orelse box.peer orelse
        return operations.finish(kernel, operation, errno.destaddrreq);
    var whole: std.ArrayList(u8) = .empty;
    defer whole.deinit(kernel.allocator);
    for (operation.parts.items) |part| {
        whole.appendSlice(kernel.allocator, part.base[0..part.len]) catch simulated.out_of_memory();
    }
    var at: usize = 0;
    while (at < whole.items.len or whole.items.len == 0) {
        const end = @min(at + segment, whole.items.len);
        const copy = kernel.allocator.dupe(u8, whole.items[at..end]) catch
            simulated.out_of_memory();
        kernel.post_office.sent.append(kernel.allocator, .{
            .box = box.id,
            .letter = .{ .address = target, .bytes = copy },
        }) catch simulated.out_of_memory();
        at = end;
        if (whole.items.len == 0) break;
    }
    // What becomes of it is told to whoever comes next.
    if (box.peer != null and kernel.fate.strikes("datagram_answered")) {
        box.failure = errno.connrefused;
    }
    operation.done = operation.total;
    operations.finish(kernel, operation, @intCast(operation.total));
}

/// The receiver reads, or the device sends.
fn make_room(kernel: *Simulated, box: *Box) void {
    if (box.full and kernel.fate.chance(300)) box.full = false;
}

fn take_failure(box: *Box) i32 {
    const failure = box.failure;
    box.failure = 0;
    return failure;
}

fn segment_of(kernel: *Simulated, header: *const system.MessageHeader, total: usize) usize {
    const bytes = header.control orelse return total;
    const control: *const system.SegmentControl = @ptrCast(@alignCast(bytes));
    const segment = control.sent();
    const count = if (segment == 0) 0 else std.math.divCeil(usize, total, segment) catch 0;
    if (segment == 0 or total == 0 or count > 64 or total > packet_max) {
        kernel.violate("UDP_SEGMENT splits what the real kernel would not");
        return total;
    }
    return segment;
}

fn target_of(header: *const system.MessageHeader) ?SocketAddress {
    const name = header.name orelse return null;
    const bytes: [*]const u8 = @ptrCast(name);
    var target: SocketAddress = .{ .bytes = @splat(0), .len = header.namelen };
    @memcpy(target.bytes[0..target.len], bytes[0..target.len]);
    return target;
}

// Receiving.

pub fn receive(kernel: *Simulated, operation: *Operation) void {
    const box = kernel.post_office.box_of(operation.socket);
    const provided = kernel.provided.of(.datagram);
    const first = !operation.tried;
    operation.tried = true;
    // A buffer is chosen before the socket is looked at; when it is armed, at once (K9).
    const starved = operation.selects and provided.published == 0;
    if (starved and first) return operations.finish(kernel, operation, errno.nobufs);
    if (box.failure != 0) return operations.finish(kernel, operation, take_failure(box));
    if (box.waiting.items.len == 0) return;
    if (starved) return operations.finish(kernel, operation, errno.nobufs);
    const header: *system.MessageHeader = @ptrFromInt(operation.sqe.addr);
    if (operation.selects) receive_selected(kernel, operation, box, header) else {
        receive_plain(kernel, operation, box, header);
    }
}

/// Where the parts of one message go.
const Places = struct { name: []u8, control: []u8, payload: []u8 };

/// What was written to them.
const Written = struct { name: u32, control: u32, payload: u32, flags: u32 };

fn receive_selected(
    kernel: *Simulated,
    operation: *Operation,
    box: *Box,
    header: *const system.MessageHeader,
) void {
    const selected = kernel.provided.of(.datagram).select().?;
    const prefix = @sizeOf(system.ReceivedMessage) + header.namelen + header.controllen;
    if (selected.bytes.len <= prefix) return kernel.violate("a buffer has no room for payload");
    const written = write(kernel, box, .{
        .name = selected.bytes[@sizeOf(system.ReceivedMessage)..][0..header.namelen],
        .control = selected.bytes[prefix - header.controllen ..][0..header.controllen],
        .payload = selected.bytes[prefix..],
    });
    const message: *system.ReceivedMessage = @ptrCast(@alignCast(selected.bytes.ptr));
    message.* = .{
        .namelen = written.name,
        .controllen = written.control,
        .payloadlen = written.payload,
        .flags = written.flags,
    };
    const flags = system.cqe_flag.buffer |
        @as(u32, selected.id) << system.cqe_flag.buffer_shift;
    const result: i32 = @intCast(prefix + written.payload);
    operations.finish_shot(kernel, operation, result, flags, .full);
}

fn receive_plain(
    kernel: *Simulated,
    operation: *Operation,
    box: *Box,
    header: *system.MessageHeader,
) void {
    const part = operation.parts.items[0];
    const written = write(kernel, box, .{
        .name = writable(header.name, header.namelen),
        .control = writable(header.control, header.controllen),
        .payload = @constCast(part.base)[0..part.len],
    });
    header.namelen = written.name;
    header.controllen = written.control;
    header.flags = written.flags;
    operations.finish(kernel, operation, @intCast(written.payload));
}

fn writable(address: ?*const anyopaque, len: usize) []u8 {
    const bytes: [*]u8 = @ptrCast(@constCast(address orelse return &.{}));
    return bytes[0..len];
}

/// The oldest letter, or several of one sender and size.
fn write(kernel: *Simulated, box: *Box, places: Places) Written {
    const first = box.waiting.items[0];
    const name: []const u8 = first.address.bytes[0..first.address.len];
    @memcpy(places.name[0..@min(places.name.len, name.len)], name[0..@min(
        places.name.len,
        name.len,
    )]);
    const count = letters_together(kernel, box, &places);
    var at: usize = 0;
    var truncated = false;
    for (box.waiting.items[0..count]) |letter| {
        const here = @min(letter.bytes.len, places.payload.len - at);
        @memcpy(places.payload[at..][0..here], letter.bytes[0..here]);
        at += here;
        truncated = truncated or here < letter.bytes.len;
    }
    if (count > 1) {
        const control: system.SegmentControl = .coalesced(@intCast(first.bytes.len));
        @memcpy(places.control[0..@sizeOf(system.SegmentControl)], std.mem.asBytes(&control));
    }
    for (box.waiting.items[0..count]) |letter| kernel.allocator.free(letter.bytes);
    box.waiting.replaceRange(kernel.allocator, 0, count, &.{}) catch unreachable; // it shrinks
    return .{
        .name = @intCast(name.len),
        .control = if (count > 1) @sizeOf(system.SegmentControl) else 0,
        .payload = @intCast(at),
        .flags = if (truncated) system.socket_flag.truncated else 0,
    };
}

const packet_max = 65507; // of IPv4, in one piece or put together

/// How many are received at once: of one size, a shorter one only as the last.
fn letters_together(kernel: *Simulated, box: *const Box, places: *const Places) usize {
    const letters = box.waiting.items;
    const size = letters[0].bytes.len;
    if (places.control.len < @sizeOf(system.SegmentControl) or size == 0) return 1;
    if (kernel.fate.chance(300)) return 1;
    var count: usize = 1;
    var total = size;
    while (count < @min(letters.len, 64)) : (count += 1) {
        const letter = letters[count];
        const same = std.mem.eql(u8, &letter.address.bytes, &letters[0].address.bytes);
        const len = letter.bytes.len;
        if (!same or len == 0 or len > size) break;
        if (total + len > @min(places.payload.len, packet_max)) break;
        total += len;
        if (len < size) return count + 1;
    }
    return count;
}
