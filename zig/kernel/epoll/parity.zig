//! One script, two kernels: what a script says of its completions must be the same on both.
//!
//! A session drives a kernel with hand-made SQEs over real descriptors and writes down each CQE.
//! The tests in `parity_sockets.zig` and `parity_tests.zig` run a script on the real ring and on
//! the twin, and compare the texts.
//! Numbers of descriptors are written as "fd"; of the flags only those count that the contract
//! knows. In which order operations end that end in the same step is another thing from release to
//! release, so each step is told by operation; the order of one operation's own completions counts.
//! Where io_uring is refused there is nothing to compare with, and that is said.

const std = @import("std");
const linux = std.os.linux;
const system = @import("../linux.zig");
const seam = @import("../../kernel.zig");
const Epoll = @import("../epoll.zig").Epoll;
const Uring = @import("../uring.zig").Uring;
const errno = system.errno;

pub fn Session(comptime Kernel: type) type {
    return struct {
        kernel: Kernel,
        text: std.ArrayList(u8) = .empty,
        /// Completions of the step that goes on.
        step: std.ArrayList(system.Cqe) = .empty,
        page: system.Mapping,
        /// Closed at the end.
        descriptors: std.ArrayList(i32) = .empty,
        /// The results that are descriptors, by the user_data of who made them.
        makes_descriptor: [32]bool = @splat(false),
        made: [32]i32 = @splat(-1),

        const Self = @This();
        const allocator = std.testing.allocator;

        fn init(kernel: Kernel) !Self {
            return .{ .kernel = kernel, .page = try system.page_map(16 * 4096) };
        }

        fn deinit(session: *Self) void {
            session.kernel.close();
            for (session.descriptors.items) |fd| system.close(fd);
            session.descriptors.deinit(allocator);
            session.text.deinit(allocator);
            session.step.deinit(allocator);
            system.page_unmap(session.page);
        }

        // Descriptors ------------------------------------------------------------------------

        pub fn keep(session: *Self, raw: usize) !i32 {
            const fd = system.result(raw);
            if (fd < 0) return error.NoDescriptor;
            try session.descriptors.append(allocator, fd);
            return fd;
        }

        pub fn forget(session: *Self, fd: i32) void {
            const at = std.mem.indexOfScalar(i32, session.descriptors.items, fd).?;
            _ = session.descriptors.swapRemove(at);
        }

        /// A connected pair of Unix stream sockets, with small buffers if asked.
        pub fn socket_pair(session: *Self, kind: u32) ![2]i32 {
            var ends: [2]i32 = undefined;
            const flags = kind | linux.SOCK.CLOEXEC;
            _ = try check(linux.socketpair(linux.AF.UNIX, flags, 0, &ends));
            for (ends) |fd| try session.descriptors.append(allocator, fd);
            return ends;
        }

        pub fn pipe(session: *Self) ![2]i32 {
            var ends: [2]i32 = undefined;
            _ = try check(linux.pipe2(&ends, .{ .CLOEXEC = true }));
            for (ends) |fd| try session.descriptors.append(allocator, fd);
            return ends;
        }

        pub fn file(session: *Self, content: []const u8) !i32 {
            const fd = try session.keep(linux.memfd_create("parity", 0));
            _ = try check(linux.pwrite(fd, content.ptr, content.len, 0));
            return fd;
        }

        /// A TCP listener on loopback, and where it is.
        pub fn listener(session: *Self, address: *linux.sockaddr.in) !i32 {
            const fd = try session.keep(linux.socket(linux.AF.INET, stream, 0));
            address.* = .{ .port = 0, .addr = std.mem.nativeToBig(u32, 0x7f00_0001) };
            var size: linux.socklen_t = @sizeOf(linux.sockaddr.in);
            _ = try check(linux.bind(fd, @ptrCast(address), size));
            _ = try check(linux.listen(fd, 8));
            _ = try check(linux.getsockname(fd, @ptrCast(address), &size));
            return fd;
        }

        const stream = linux.SOCK.STREAM | linux.SOCK.CLOEXEC;

        pub fn connect_to(session: *Self, address: *const linux.sockaddr.in) !i32 {
            const fd = try session.keep(linux.socket(linux.AF.INET, stream, 0));
            _ = try check(linux.connect(fd, @ptrCast(address), @sizeOf(linux.sockaddr.in)));
            return fd;
        }

        /// Both ends of a TCP connection.
        pub fn tcp_pair(session: *Self) ![2]i32 {
            var address: linux.sockaddr.in = undefined;
            const listening = try session.listener(&address);
            const near = try session.connect_to(&address);
            const far = try session.keep(linux.accept4(listening, null, null, linux.SOCK.CLOEXEC));
            return .{ near, far };
        }

        pub fn write(_: *Self, fd: i32, bytes: []const u8) !void {
            _ = try check(linux.write(fd, bytes.ptr, bytes.len));
        }

        /// Reads what is there: the number of bytes.
        pub fn drain(_: *Self, fd: i32) usize {
            var buffer: [65536]u8 = undefined;
            var total: usize = 0;
            while (true) {
                const flags = linux.MSG.DONTWAIT;
                const raw = linux.recvfrom(fd, &buffer, buffer.len, flags, null, null);
                if (linux.errno(raw) != .SUCCESS or raw == 0) return total;
                total += raw;
            }
        }

        // Submissions ------------------------------------------------------------------------

        pub fn put(session: *Self, opcode: system.Op, fd: i32, user_data: u64) *system.Sqe {
            const sqe = session.kernel.sqe().?;
            sqe.opcode = opcode;
            sqe.fd = fd;
            sqe.user_data = user_data;
            return sqe;
        }

        pub fn move(
            session: *Self,
            opcode: system.Op,
            fd: i32,
            bytes: []const u8,
            user_data: u64,
        ) *system.Sqe {
            const sqe = session.put(opcode, fd, user_data);
            sqe.addr = @intFromPtr(bytes.ptr);
            sqe.len = @intCast(bytes.len);
            return sqe;
        }

        /// A receive, multishot into the buffers of `provide`.
        pub fn receive_multishot(session: *Self, fd: i32, user_data: u64) *system.Sqe {
            const sqe = session.put(.RECV, fd, user_data);
            sqe.flags = system.sqe_flag.buffer_select;
            sqe.ioprio = system.sqe_flag.receive_multishot;
            return sqe;
        }

        pub fn cancel(session: *Self, target: u64, user_data: u64) *system.Sqe {
            const sqe = session.put(.ASYNC_CANCEL, -1, user_data);
            sqe.addr = target;
            return sqe;
        }

        /// Time-outs stand in the page, apart from the provided buffers.
        pub fn duration(session: *Self, milliseconds: i64) u64 {
            const at: *system.Timespec = @ptrCast(@alignCast(session.page[8 * 4096 ..].ptr));
            const list: [*]system.Timespec = @ptrCast(at);
            const one = &list[@intCast(milliseconds)];
            one.* = .{ .sec = 0, .nsec = milliseconds * std.time.ns_per_ms };
            return @intFromPtr(one);
        }

        pub fn timeout(session: *Self, opcode: system.Op, ms: i64, user_data: u64) *system.Sqe {
            const sqe = session.put(opcode, -1, user_data);
            sqe.addr = session.duration(ms);
            sqe.len = 1;
            return sqe;
        }

        /// So many buffers of 16 bytes for a group, from now on.
        pub fn provide(session: *Self, group: seam.BufferGroup, count: u32) !void {
            const memory: []align(4096) u8 = @alignCast(session.page[0..4096]);
            try std.testing.expectEqual(
                @as(i32, 0),
                session.kernel.buffer_ring_register(group, memory, 8),
            );
            session.give(group, 0, count);
        }

        pub const buffer_bytes = 64;

        pub fn give(session: *Self, group: seam.BufferGroup, first: u32, count: u32) void {
            for (first..first + count) |id| {
                const bytes = session.page[4096 + buffer_bytes * id ..][0..buffer_bytes];
                session.kernel.buffer_ring_add(group, bytes, @intCast(id));
            }
            session.kernel.buffer_ring_publish(group);
        }

        // Completions ------------------------------------------------------------------------

        /// Enters until there were so many completions, and a moment longer: what comes too much
        /// shows as well.
        pub fn expect(session: *Self, count: usize) !void {
            var seen: usize = 0;
            const deadline = system.now_ns() + 2 * std.time.ns_per_s;
            while (seen < count and system.now_ns() < deadline) {
                _ = session.kernel.enter(1, 100);
                seen += try session.reap();
            }
            for (0..2) |_| {
                _ = session.kernel.enter(0, 0);
                seen += try session.reap();
            }
            std.sort.insertion(system.Cqe, session.step.items, {}, precedes); // stable
            for (session.step.items) |*cqe| try session.tell(cqe);
            session.step.clearRetainingCapacity();
            try session.say("-- {d}\n", .{seen});
        }

        fn precedes(_: void, one: system.Cqe, other: system.Cqe) bool {
            return one.user_data < other.user_data;
        }

        fn reap(session: *Self) !usize {
            var seen: usize = 0;
            while (session.kernel.cqes().len > 0) {
                try session.step.append(allocator, session.kernel.cqes()[0]);
                session.kernel.advance(1);
                seen += 1;
            }
            return seen;
        }

        fn tell(session: *Self, cqe: *const system.Cqe) !void {
            const known = cqe.flags & (system.cqe_flag.more | system.cqe_flag.buffer |
                system.cqe_flag.notification);
            const at: usize = @intCast(cqe.user_data);
            if (session.makes_descriptor[at] and cqe.res >= 0) {
                session.made[at] = cqe.res;
                try session.descriptors.append(allocator, cqe.res);
                return session.say("{d}: fd {s}\n", .{ at, flags_text(known) });
            }
            try session.say("{d}: {d} {s}", .{ at, cqe.res, flags_text(known) });
            if (known & system.cqe_flag.buffer != 0) {
                try session.say(" {d}", .{cqe.flags >> system.cqe_flag.buffer_shift});
            }
            try session.say("\n", .{});
        }

        fn flags_text(flags: u32) []const u8 {
            const cqe = system.cqe_flag;
            if (flags & cqe.notification != 0) return "notification";
            if (flags == cqe.more | cqe.buffer) return "more buffer";
            if (flags == cqe.more) return "more";
            return if (flags == cqe.buffer) "buffer" else "";
        }

        pub fn say(session: *Self, comptime format: []const u8, arguments: anytype) !void {
            try session.text.print(allocator, format, arguments);
        }
    };
}

/// A place in the session's page where an SQE may find something.
pub fn in_page(session: anytype, comptime T: type, at: usize) *T {
    return @ptrCast(@alignCast(session.page[12 * 4096 + at ..].ptr));
}

pub fn check(raw: usize) !usize {
    if (linux.errno(raw) == .SUCCESS) return raw;
    std.debug.print("parity: {t}\n", .{linux.errno(raw)});
    return error.SystemCallRefused;
}

fn open_ring() ?Uring {
    const features: @FieldType(@import("../uring.zig").Config, "features") = .initMany(&.{
        .single_issuer, .defer_taskrun, .taskrun_flag, .submit_all,
    });
    const config: @import("../uring.zig").Config = .{
        .entries = 32,
        .cq_entries = 64,
        .features = features,
    };
    return switch (Uring.open(config)) {
        .ring => |ring| ring,
        .refused => null,
    };
}

pub fn open_twin() !*Epoll {
    return switch (Epoll.open(.{ .entries = 32, .cq_entries = 64, .operations = 256 })) {
        .kernel => |kernel| kernel,
        .refused => error.NoTwin,
    };
}

/// Runs the script on both, or on the twin alone where there is no ring, or none that has the
/// operation which the script is about.
pub fn compare(script: anytype) !void {
    var twin: Session(*Epoll) = try .init(try open_twin());
    defer twin.deinit();
    try script.run(&twin);
    const kernel = open_ring() orelse {
        std.debug.print("parity: no io_uring here, the twin ran alone\n", .{});
        return;
    };
    var ring: Session(Uring) = try .init(kernel);
    defer ring.deinit();
    if (@hasDecl(script, "about") and !kernel.supports(script.about)) {
        std.debug.print("parity: no {t} here, the twin ran alone\n", .{script.about});
        return;
    }
    try script.run(&ring);
    try std.testing.expectEqualStrings(ring.text.items, twin.text.items);
}
