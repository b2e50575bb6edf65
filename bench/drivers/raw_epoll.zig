//! The limit of epoll: a TCP echo server on an honest epoll loop, without JavaScript or libc.
//!
//! What a good loop does: level-triggered, one receive buffer for all, a descriptor registered
//! once, no epoll_ctl(2) per message. It receives, sends back at once, and asks epoll again when
//! every ready connection had its turn. Only a socket that takes less than was offered keeps a copy
//! of the rest, is watched for writing instead of reading, and goes back when the rest is gone.
//!
//! Usage: `raw_epoll PORT` (port 0 = any free one). Prints `listening PORT`.
const std = @import("std");
const thin_ring = @import("thin_ring");
const linux = std.os.linux;

const max_connections = 16384;
const buffer_size = 256 * 1024;
const IN = linux.EPOLL.IN;
const OUT = linux.EPOLL.OUT;

/// By descriptor. What could not be sent lies in memory of its own, which is mapped for it.
const Connection = struct { rest: []u8 = &.{}, mapping: []align(std.heap.page_size_min) u8 = &.{} };

const Server = struct {
    epoll: i32,
    listener: i32,
    connections: [max_connections]Connection,
    buffer: [buffer_size]u8,
    events: [512]linux.epoll_event,

    fn run(server: *Server) noreturn {
        server.watch(linux.EPOLL.CTL_ADD, server.listener, IN);
        while (true) {
            const events = &server.events;
            const raw = linux.epoll_wait(server.epoll, events, events.len, -1);
            if (linux.errno(raw) == .INTR) continue;
            thin_ring.check("epoll_wait", raw);
            for (events[0..raw]) |*event| {
                const fd = event.data.fd;
                if (fd == server.listener) {
                    server.accept();
                } else if (server.connections[@intCast(fd)].rest.len > 0) {
                    server.flush(fd);
                } else {
                    server.echo(fd);
                }
            }
        }
    }

    fn watch(server: *Server, verb: u32, fd: i32, events: u32) void {
        var event: linux.epoll_event = .{ .events = events, .data = .{ .fd = fd } };
        thin_ring.check("epoll_ctl", linux.epoll_ctl(server.epoll, verb, fd, &event));
    }

    fn accept(server: *Server) void {
        while (true) {
            const flags = linux.SOCK.NONBLOCK | linux.SOCK.CLOEXEC;
            const raw = linux.accept4(server.listener, null, null, flags);
            if (linux.errno(raw) != .SUCCESS) return;
            const fd: i32 = @intCast(raw);
            if (fd >= max_connections) {
                _ = linux.close(fd);
                continue;
            }
            server.connections[@intCast(fd)] = .{};
            server.watch(linux.EPOLL.CTL_ADD, fd, IN);
        }
    }

    fn echo(server: *Server, fd: i32) void {
        const received = linux.recvfrom(fd, &server.buffer, buffer_size, 0, null, null);
        if (linux.errno(received) == .AGAIN) return;
        if (linux.errno(received) != .SUCCESS or received == 0) return server.close(fd);
        const bytes = server.buffer[0..received];
        const sent = send(fd, bytes) orelse return server.close(fd);
        if (sent < bytes.len) server.keep(fd, bytes[sent..]);
    }

    /// The number of bytes taken; null if the connection is gone.
    fn send(fd: i32, bytes: []const u8) ?usize {
        const raw = linux.sendto(fd, bytes.ptr, bytes.len, linux.MSG.NOSIGNAL, null, 0);
        return switch (linux.errno(raw)) {
            .SUCCESS => raw,
            .AGAIN => 0,
            else => null,
        };
    }

    fn keep(server: *Server, fd: i32, bytes: []const u8) void {
        const raw = linux.mmap(
            null,
            bytes.len,
            .{ .READ = true, .WRITE = true },
            .{ .TYPE = .PRIVATE, .ANONYMOUS = true },
            -1,
            0,
        );
        thin_ring.check("mmap", raw);
        const start: [*]align(std.heap.page_size_min) u8 = @ptrFromInt(raw);
        const mapping = start[0..bytes.len];
        @memcpy(mapping, bytes);
        server.connections[@intCast(fd)] = .{ .rest = mapping, .mapping = mapping };
        server.watch(linux.EPOLL.CTL_MOD, fd, OUT);
    }

    fn flush(server: *Server, fd: i32) void {
        const connection = &server.connections[@intCast(fd)];
        const sent = send(fd, connection.rest) orelse return server.close(fd);
        connection.rest = connection.rest[sent..];
        if (connection.rest.len > 0) return;
        server.release(fd);
        server.watch(linux.EPOLL.CTL_MOD, fd, IN);
    }

    fn release(server: *Server, fd: i32) void {
        const connection = &server.connections[@intCast(fd)];
        const mapping = connection.mapping;
        if (mapping.len > 0) thin_ring.check("munmap", linux.munmap(mapping.ptr, mapping.len));
        connection.* = .{};
    }

    fn close(server: *Server, fd: i32) void {
        server.release(fd);
        _ = linux.close(fd);
    }
};

fn listen(port: u16) i32 {
    const kind = linux.SOCK.STREAM | linux.SOCK.NONBLOCK | linux.SOCK.CLOEXEC;
    const raw = linux.socket(linux.AF.INET, kind, 0);
    thin_ring.check("socket", raw);
    const fd: i32 = @intCast(raw);
    const on: i32 = 1;
    const reuse = linux.setsockopt(fd, linux.SOL.SOCKET, linux.SO.REUSEADDR, @ptrCast(&on), 4);
    thin_ring.check("SO_REUSEADDR", reuse);
    // Accepted sockets inherit it.
    const no_delay = linux.setsockopt(fd, linux.IPPROTO.TCP, linux.TCP.NODELAY, @ptrCast(&on), 4);
    thin_ring.check("TCP_NODELAY", no_delay);
    var address = thin_ring.loopback(port);
    thin_ring.check("bind", linux.bind(fd, @ptrCast(&address), @sizeOf(linux.sockaddr.in)));
    thin_ring.check("listen", linux.listen(fd, 4096));
    var size: linux.socklen_t = @sizeOf(linux.sockaddr.in);
    thin_ring.check("getsockname", linux.getsockname(fd, @ptrCast(&address), &size));
    thin_ring.print("listening {d}\n", .{std.mem.bigToNative(u16, address.port)});
    return fd;
}

/// Too large for a stack; zero pages until used.
var the_server: Server = undefined;

pub fn main(init: std.process.Init.Minimal) void {
    const arguments = init.args.vector;
    if (arguments.len != 2) thin_ring.fatal("usage: raw_epoll PORT", .{});
    const port = thin_ring.number("PORT", std.mem.span(arguments[1]), 0, 65535);
    const server = &the_server;
    const raw = linux.epoll_create1(linux.EPOLL.CLOEXEC);
    thin_ring.check("epoll_create1", raw);
    server.epoll = @intCast(raw);
    server.listener = listen(@intCast(port));
    server.run();
}
