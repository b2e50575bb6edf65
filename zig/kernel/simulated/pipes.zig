//! The simulated kernel's pipes between streams: pipe(2), and splice(2) that is done at once.
//!
//! A pipe is a queue of bytes behind two descriptors, smaller than was asked for, as one whose
//! places are taken by small pieces. Nothing here waits: what would is -EAGAIN, and a socket on
//! which it might is a bug of ours, as is a splice beside an operation that moves the same bytes.

const std = @import("std");
const system = @import("../linux.zig");
const simulated = @import("../simulated.zig");
const network_file = @import("network.zig");
const ByteQueue = @import("byte_queue.zig").ByteQueue;
const Pipe = @import("../pipe.zig").Pipe;
const Row = @import("outcomes.zig").Row;
const Simulated = simulated.Simulated;
const Socket = network_file.Socket;
const errno = system.errno;

const size_max = 64 * 1024;

pub const Tube = struct {
    queue: ByteQueue,
    memory: [size_max]u8,
};

/// By the number that both ends have as their `node`.
pub const Tubes = std.ArrayList(*Tube);

pub fn deinit(kernel: *Simulated) void {
    for (kernel.tubes.items) |tube| kernel.allocator.destroy(tube);
    kernel.tubes.deinit(kernel.allocator);
}

pub fn open(kernel: *Simulated, size: u32, out: *Pipe) i32 {
    if (kernel.fate.strikes("pipe")) return errno.mfile;
    const number = free_number(kernel);
    var ends: [2]i32 = undefined;
    for (&ends, 0..) |*end, i| {
        end.* = switch (kernel.network.open()) {
            .fd => |fd| fd,
            .refused => |refused| {
                if (i == 1) _ = kernel.network.abandon(ends[0]);
                return refused;
            },
        };
        const socket = &kernel.network.sockets[kernel.network.find(end.*).?];
        socket.state = .tube;
        socket.node = number;
    }
    const tube = kernel.tubes.items[number];
    const most = @min(size, size_max);
    const room = 1 + kernel.fate.below(if (kernel.fate.chance(300)) @min(most, 700) else most);
    tube.queue = .{ .memory = tube.memory[0..room] };
    out.* = .{ .read = ends[0], .write = ends[1] };
    return 0;
}

/// One whose ends are closed is used again.
fn free_number(kernel: *Simulated) u32 {
    for (0..kernel.tubes.items.len) |number| {
        for (kernel.network.sockets) |*socket| {
            if (socket.references == 0 or socket.state != .tube) continue;
            if (socket.node == number) break;
        } else return @intCast(number);
    }
    const tube = kernel.allocator.create(Tube) catch simulated.out_of_memory();
    kernel.tubes.append(kernel.allocator, tube) catch simulated.out_of_memory();
    return @intCast(kernel.tubes.items.len - 1);
}

fn find(kernel: *Simulated, fd: i32) ?*ByteQueue {
    const socket = &kernel.network.sockets[kernel.network.find(fd) orelse return null];
    return if (socket.state == .tube) &kernel.tubes.items[socket.node].queue else null;
}

/// For tests: what somebody has put into it.
pub fn put(kernel: *Simulated, pipe: Pipe, bytes: []const u8) usize {
    return find(kernel, pipe.write).?.write(bytes);
}

pub fn fill(kernel: *Simulated, pipe: Pipe, from: i32, len: u32) i32 {
    const network = &kernel.network;
    const queue = find(kernel, pipe.write) orelse return errno.badf;
    const index = network.find(from) orelse return errno.badf;
    check(kernel, index, &.{ .receive_plain, .receive_selected, .receive_multishot });
    if (refusal(kernel, index)) |refused| return refused;
    if (network.sockets[index].state == .fresh) return errno.notconn;
    const waiting = switch (network.receive_state(index)) {
        .done => |result| result,
        .blocked => return errno.again,
    };
    if (waiting <= 0) return waiting;
    const most = @min(@as(usize, @intCast(waiting)), @min(len, queue.space()));
    if (most == 0) return errno.again;
    var bytes: [size_max]u8 = undefined;
    const count = network.receive(index, bytes[0..kernel.fate.part(most)]);
    std.debug.assert(queue.write(bytes[0..count]) == count);
    return @intCast(count);
}

pub fn drain(kernel: *Simulated, pipe: Pipe, to: i32, len: u32) i32 {
    const network = &kernel.network;
    const queue = find(kernel, pipe.read) orelse return errno.badf;
    const index = network.find(to) orelse return errno.badf;
    check(kernel, index, &.{
        .send,           .send_all,          .sendmsg, .sendmsg_all,
        .send_zero_copy, .sendmsg_zero_copy,
    });
    if (queue.len == 0) return errno.again;
    if (refusal(kernel, index)) |refused| return refused;
    if (network.sockets[index].state == .fresh) return errno.notconn;
    const here = @min(queue.len, queue.memory.len - queue.head);
    const result = switch (network.send(index, queue.memory[queue.head..][0..@min(here, len)])) {
        .done => |result| result,
        .blocked => return errno.again,
    };
    if (result <= 0) return result;
    var sent: [size_max]u8 = undefined;
    return @intCast(queue.read(sent[0..@intCast(result)]));
}

/// What a splice(2) must not meet.
fn check(kernel: *Simulated, index: u32, rows: []const Row) void {
    if (!kernel.network.sockets[index].non_blocking) kernel.violate("a splice(2) may block");
    for (kernel.pending.items) |operation| {
        if (operation.socket != index) continue;
        if (std.mem.indexOfScalar(Row, rows, operation.row) == null) continue;
        kernel.violate("a splice(2) beside an operation that moves the same bytes");
    }
}

fn refusal(kernel: *Simulated, index: u32) ?i32 {
    const network = &kernel.network;
    if (network.sockets[index].state == .connected and kernel.fate.strikes("broken")) {
        network.break_socket(index, errno.connreset);
    }
    return if (kernel.fate.strikes("splice")) errno.again else null;
}
