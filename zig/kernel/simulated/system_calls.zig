//! The simulated kernel's files, names, new sockets, polls and splices.
//!
//! What plain system calls do, and most of which cannot block. A read or write takes effect in one
//! piece when it completes: as late as can be, unless it is cancelled before. Any of them may fail
//! by chance, or move less than it could. Called by `operations.zig` for SQEs, and by `plain` for
//! entries that are done at once.

const std = @import("std");
const system = @import("../linux.zig");
const linux = std.os.linux;
const simulated = @import("../simulated.zig");
const importing = @import("importing.zig");
const operations = @import("operations.zig");
const datagrams = @import("datagrams.zig");
const streams = @import("streams.zig");
const network_file = @import("network.zig");
const Path = @import("volume.zig").Path;
const Operation = operations.Operation;
const Simulated = simulated.Simulated;
const Attempt = network_file.Network.Attempt;
const none = network_file.none;
const errno = system.errno;

/// "The descriptor's own position" (io_uring_enter(2)).
const own_position = std.math.maxInt(u64);

pub fn names_descriptor(opcode: system.Op) bool {
    return switch (opcode) {
        .OPENAT, .STATX, .SOCKET, .RENAMEAT, .LINKAT, .SYMLINKAT, .UNLINKAT, .MKDIRAT => false,
        else => true,
    };
}

pub fn is_write(sqe: *const system.Sqe) bool {
    const opcode = sqe.opcode;
    return opcode == .WRITE or opcode == .WRITEV or opcode == .WRITE_FIXED;
}

fn is_read(opcode: system.Op) bool {
    return opcode == .READ or opcode == .READV or opcode == .READ_FIXED;
}

// When the SQE is taken.

pub fn import(kernel: *Simulated, operation: *Operation, sqe: *const system.Sqe) i32 {
    switch (sqe.opcode) {
        .READ, .WRITE => importing.add_part(kernel, operation, sqe.addr, sqe.len),
        .READ_FIXED, .WRITE_FIXED => {
            if (!kernel.registered.holds(sqe.buf_index, sqe.addr, sqe.len)) return errno.fault;
            operation.fixed_buffer = true;
            importing.add_part(kernel, operation, sqe.addr, sqe.len);
        },
        .READV, .WRITEV => {
            const parts: [*]const system.Iovec = @ptrFromInt(sqe.addr);
            const outcome = importing.import_parts(kernel, operation, parts, sqe.len);
            if (outcome < 0) return outcome;
        },
        .SPLICE => operation.total = sqe.len,
        .BIND => return importing.import_address(kernel, operation, sqe),
        .OPENAT, .STATX, .UNLINKAT, .MKDIRAT => return import_path(&operation.paths[0], sqe.addr),
        .RENAMEAT, .LINKAT, .SYMLINKAT => {
            const first = import_path(&operation.paths[0], sqe.addr);
            const second = import_path(&operation.paths[1], sqe.off);
            return @min(first, second);
        },
        .FSYNC, .SYNC_FILE_RANGE, .FALLOCATE, .FTRUNCATE, .SOCKET, .LISTEN, .POLL_ADD => {},
        else => {
            kernel.violate("an SQE has an opcode that is not simulated");
            return errno.inval;
        },
    }
    if (is_write(sqe)) for (operation.parts.items) |part| {
        operation.hash.update(part.base[0..part.len]);
    };
    return 0;
}

fn import_path(path: *Path, address: u64) i32 {
    if (address == 0) return errno.fault;
    const text: [*:0]const u8 = @ptrFromInt(address);
    path.len = 0;
    while (text[path.len] != 0) : (path.len += 1) {
        if (path.len == Path.length_max) return errno.nametoolong;
        path.bytes[path.len] = text[path.len];
    }
    return if (path.len == 0) errno.noent else 0;
}

/// At the start: a splice holds two descriptors, one of them a pipe's.
pub fn hold(kernel: *Simulated, operation: *Operation) i32 {
    const network = &kernel.network;
    const to = &network.sockets[operation.socket];
    const sqe = &operation.sqe;
    if (sqe.opcode != .SPLICE) return 0;
    operation.source = network.find(sqe.splice_fd_in) orelse return errno.badf;
    network.add_reference(operation.source);
    const from = &network.sockets[operation.source];
    if (!to.is_pipe and !from.is_pipe) return errno.inval;
    if (from.state != .file and sqe.addr != own_position) return errno.spipe;
    if (to.state != .file and sqe.off != own_position) return errno.spipe;
    return 0;
}

// Attempts.

pub fn attempt(kernel: *Simulated, operation: *Operation) void {
    operation.tried = true;
    if (operation.sqe.opcode == .POLL_ADD) return poll(kernel, operation);
    switch (perform(kernel, operation)) {
        .done => |result| operations.finish(kernel, operation, result),
        .blocked => if (is_read(operation.sqe.opcode)) streams.scribble(kernel, operation),
    }
}

/// An entry that is done at once, without a completion. One that would block never returns.
pub fn plain(kernel: *Simulated, sqe: *const system.Sqe) i32 {
    switch (sqe.opcode) {
        .NOP => return 0,
        .CLOSE => return kernel.network.close(sqe.fd),
        // Those that wait for a peer are not done plainly by the real kernel either.
        .READ_FIXED, .WRITE_FIXED, .POLL_ADD, .TIMEOUT, .LINK_TIMEOUT, .ASYNC_CANCEL => {
            return errno.notsup;
        },
        .CONNECT => {
            if (!datagrams.is_one(kernel, sqe.fd)) return errno.notsup;
            return datagrams.connect(kernel, sqe);
        },
        .ACCEPT, .SEND, .RECV, .SENDMSG, .RECVMSG => return errno.notsup,
        .SEND_ZC, .SENDMSG_ZC => return errno.notsup,
        else => {},
    }
    var call = sqe.*;
    call.flags = 0; // a system call knows descriptors only
    const operation = operations.take(kernel, &call);
    defer operations.recycle(kernel, operation);
    defer operations.release(kernel, operation);
    if (operation.refused < 0) return operation.refused;
    const refused = operations.hold(kernel, operation);
    if (refused < 0) return refused;
    if (kernel.fate.strikes("call")) return errno.io;
    if (sqe.opcode == .SHUTDOWN) return kernel.network.shutdown(operation.socket, sqe.len);
    switch (perform(kernel, operation)) {
        .done => |result| return result,
        .blocked => kernel.violate("a plain system call blocks for ever"),
    }
    return errno.again;
}

fn perform(kernel: *Simulated, operation: *Operation) Attempt {
    const network = &kernel.network;
    const volume = &kernel.volume;
    const sqe = &operation.sqe;
    const paths = &operation.paths;
    switch (sqe.opcode) {
        .READ, .READV, .READ_FIXED => return read(kernel, operation),
        .WRITE, .WRITEV, .WRITE_FIXED => return write(kernel, operation),
        .SPLICE => return splice(kernel, operation),
        else => {},
    }
    return .{
        .done = switch (sqe.opcode) {
            .FSYNC, .SYNC_FILE_RANGE => if (node_of(kernel, operation)) |_| 0 else errno.inval,
            .FTRUNCATE => if (node_of(kernel, operation)) |node|
                volume.resize(node, sqe.off)
            else
                errno.inval,
            .FALLOCATE => allocate(kernel, operation),
            .OPENAT => open(kernel, operation),
            .STATX => volume.describe(&paths[0], @ptrFromInt(sqe.off)),
            .SOCKET => datagrams.create(kernel, sqe),
            .BIND => if (network.sockets[operation.socket].state == .mail)
                datagrams.bind(kernel, operation.socket, &operation.target)
            else
                network.bind_socket(operation.socket, &operation.target),
            .LISTEN => network.listen_socket(operation.socket, sqe.len),
            .RENAMEAT => volume.rename(&paths[0], &paths[1]),
            .LINKAT => volume.link(&paths[0], &paths[1]),
            .SYMLINKAT => volume.make_symbolic(&paths[0], &paths[1]),
            .UNLINKAT => volume.unlink(&paths[0], sqe.rw_flags),
            .MKDIRAT => volume.make_directory(&paths[0]),
            else => unreachable, // `import` has refused it
        },
    };
}

fn node_of(kernel: *Simulated, operation: *const Operation) ?u32 {
    const socket = &kernel.network.sockets[operation.socket];
    return if (socket.state == .file) socket.node else null;
}

fn open(kernel: *Simulated, operation: *Operation) i32 {
    const network = &kernel.network;
    if (operation.sqe.rw_flags & system.sqe_flag.open_cloexec == 0) {
        kernel.violate("a file is opened without O_CLOEXEC");
    }
    const fd = switch (network.open()) {
        .fd => |fd| fd,
        .refused => |refused| return refused,
    };
    const index = network.find(fd).?;
    const node = kernel.volume.open(&operation.paths[0], operation.sqe.rw_flags);
    if (node < 0) {
        network.abandon(fd);
        return node;
    }
    network.sockets[index].state = .file;
    network.sockets[index].node = @intCast(node);
    return fd;
}

fn allocate(kernel: *Simulated, operation: *Operation) i32 {
    const sqe = &operation.sqe;
    const node = node_of(kernel, operation) orelse return errno.spipe;
    if (sqe.addr == 0) return errno.inval;
    const end = sqe.off +| sqe.addr;
    if (sqe.len & @import("volume.zig").flag.keep_size != 0) return 0;
    return if (end > kernel.volume.size(node)) kernel.volume.resize(node, end) else 0;
}

// Reads and writes.

/// Where a read or write begins, and whether the descriptor's position moves with it.
fn position_of(kernel: *Simulated, index: u32, asked: u64) u64 {
    return if (asked == own_position) kernel.network.sockets[index].position else asked;
}

fn move_position(kernel: *Simulated, index: u32, asked: u64, count: usize) void {
    if (asked == own_position) kernel.network.sockets[index].position += count;
}

/// How much of what is possible is done now.
fn portion(kernel: *Simulated, possible: usize) usize {
    if (possible == 0 or !kernel.fate.strikes("short")) return possible;
    return 1 + kernel.fate.below(@intCast(possible));
}

fn read(kernel: *Simulated, operation: *Operation) Attempt {
    const node = node_of(kernel, operation) orelse return streams.read(kernel, operation);
    const asked = operation.sqe.off;
    const start = position_of(kernel, operation.socket, asked);
    const there = kernel.volume.size(node) -| start;
    const count = portion(kernel, @min(there, operation.total));
    while (operation.done < count) {
        const out = streams.rest_of_part(operation);
        const here = out[0..@min(out.len, count - operation.done)];
        operation.done += kernel.volume.read(node, start + operation.done, here);
    }
    move_position(kernel, operation.socket, asked, count);
    return .{ .done = @intCast(count) };
}

fn write(kernel: *Simulated, operation: *Operation) Attempt {
    const network = &kernel.network;
    if (operation.total == 0) return .{ .done = 0 };
    const node = node_of(kernel, operation) orelse {
        const bytes = streams.rest_of_part(operation);
        if (network.sockets[operation.socket].state == .fresh) return .{ .done = errno.notconn };
        return network.send(operation.socket, bytes);
    };
    const asked = operation.sqe.off;
    const start = position_of(kernel, operation.socket, asked);
    const count = portion(kernel, operation.total);
    while (operation.done < count) {
        const bytes = streams.rest_of_part(operation);
        const here = bytes[0..@min(bytes.len, count - operation.done)];
        const outcome = kernel.volume.write(node, start + operation.done, here);
        if (outcome < 0 and operation.done == 0) return .{ .done = outcome };
        if (outcome < 0) return .{ .done = @intCast(operation.done) };
        operation.done += here.len;
    }
    move_position(kernel, operation.socket, asked, count);
    return .{ .done = @intCast(count) };
}

var scratch: [64 * 1024]u8 = undefined;

fn splice(kernel: *Simulated, operation: *Operation) Attempt {
    const network = &kernel.network;
    const sqe = &operation.sqe;
    const most = @min(operation.total, scratch.len);
    if (most == 0) return .{ .done = 0 };
    const to = &network.sockets[operation.socket];
    const from = &network.sockets[operation.source];
    if (from.state != .file) {
        if (to.state != .file) return .{ .done = errno.inval }; // pipe to pipe is not simulated
        const waiting = switch (network.receive_state(operation.source)) {
            .done => |result| result,
            .blocked => return .blocked,
        };
        if (waiting <= 0) return .{ .done = waiting };
        const start = position_of(kernel, operation.socket, sqe.off);
        const count = network.receive(operation.source, scratch[0..@min(most, portion(
            kernel,
            @intCast(waiting),
        ))]);
        const outcome = kernel.volume.write(to.node, start, scratch[0..count]);
        move_position(kernel, operation.socket, sqe.off, count);
        return .{ .done = outcome };
    }
    const start = position_of(kernel, operation.source, sqe.addr);
    const count = kernel.volume.read(from.node, start, scratch[0..most]);
    if (count == 0) return .{ .done = 0 };
    const attempted = network.send(operation.socket, scratch[0..count]);
    switch (attempted) {
        .done => |sent| move_position(kernel, operation.source, sqe.addr, @intCast(@max(sent, 0))),
        .blocked => {},
    }
    return attempted;
}

// Readiness.

fn ready_events(kernel: *Simulated, index: u32) u32 {
    const network = &kernel.network;
    const socket = &network.sockets[index];
    switch (socket.state) {
        .file => return linux.POLL.IN | linux.POLL.OUT,
        .fresh, .bound => return linux.POLL.OUT | linux.POLL.HUP,
        .event => return if (socket.rings > 0) linux.POLL.IN else 0,
        .mail => return datagrams.ready_events(kernel, index),
        .connecting, .tube => return 0,
        .listening => return if (socket.waiting_count > 0) linux.POLL.IN else 0,
        .connected, .dead => {},
    }
    var events: u32 = 0;
    if (network.is_readable(index)) events |= linux.POLL.IN;
    if (network.is_writable(index)) events |= linux.POLL.OUT;
    if (socket.failure != 0) events |= linux.POLL.ERR;
    if (socket.state == .dead) events |= linux.POLL.HUP;
    return events;
}

/// A multishot poll tells each change: new events, or more bytes than it told before.
fn poll(kernel: *Simulated, operation: *Operation) void {
    const asked = operation.sqe.rw_flags | linux.POLL.ERR | linux.POLL.HUP;
    const events = ready_events(kernel, operation.socket) & asked;
    const socket = &kernel.network.sockets[operation.socket];
    const peers = kernel.network.peers;
    const waiting = if (socket.peer == none) socket.rings else peers[socket.peer].to_engine.len;
    const grown = waiting > operation.told_bytes;
    operation.told_bytes = waiting;
    if (events == 0 or operation.multishot and events == operation.told and !grown) {
        operation.told &= events;
        return;
    }
    operation.told = events;
    operations.finish_shot(kernel, operation, @intCast(events), 0, .full);
}
