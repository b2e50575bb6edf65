//! A thin io_uring for the benchmark programs: a ring, its receive buffers, raw system calls.
//!
//! The echo limit (`drivers/raw_uring.zig`) and the load generator (`load/load.zig`) stand on it.
//! It steps down a ladder of set-up flags, registers its own fd and writes SQEs in place. It has no
//! life cycle and no error recovery: a refused system call ends the program. It shares no line with
//! the library, so that a mistake in one cannot hide in the other.
const std = @import("std");
const linux = std.os.linux;

pub const Sqe = linux.io_uring_sqe;
pub const Cqe = linux.io_uring_cqe;

/// Flags from the fastest set down to none; to one that it does not know a kernel answers EINVAL.
const ladder = [_]u32{
    linux.IORING_SETUP_SINGLE_ISSUER | linux.IORING_SETUP_DEFER_TASKRUN |
        linux.IORING_SETUP_NO_SQARRAY,
    linux.IORING_SETUP_SINGLE_ISSUER | linux.IORING_SETUP_DEFER_TASKRUN,
    linux.IORING_SETUP_COOP_TASKRUN,
    0,
};

pub const Ring = struct {
    fd: i32,
    enter_fd: i32,
    enter_flags: u32,
    setup_flags: u32,
    sq_head: *u32,
    sq_tail: *u32,
    sq_entries: u32,
    sqes: [*]Sqe,
    /// Next free position; the kernel sees it at the next enter.
    local_tail: u32,
    cq_head: *u32,
    cq_tail: *u32,
    cq_mask: u32,
    cqes: [*]Cqe,

    pub fn init(entries: u32, cq_entries: u32) Ring {
        var params: linux.io_uring_params = undefined;
        for (ladder) |flags| {
            params = std.mem.zeroes(linux.io_uring_params);
            params.flags = flags | linux.IORING_SETUP_CQSIZE | linux.IORING_SETUP_SUBMIT_ALL;
            params.cq_entries = cq_entries;
            const rc = linux.io_uring_setup(entries, &params);
            if (linux.errno(rc) == .SUCCESS) return map(@intCast(rc), &params);
            if (linux.errno(rc) != .INVAL) fail("io_uring_setup", rc);
        }
        fatal("io_uring_setup: no set of flags was accepted", .{});
    }

    fn map(fd: i32, params: *const linux.io_uring_params) Ring {
        const no_array = params.flags & linux.IORING_SETUP_NO_SQARRAY != 0;
        const sq_size = if (no_array) 0 else params.sq_off.array + params.sq_entries * 4;
        const cq_size = params.cq_off.cqes + params.cq_entries * @sizeOf(Cqe);
        // One mapping serves both queues on every kernel since 5.4.
        const queues = map_shared(fd, @max(sq_size, cq_size), linux.IORING_OFF_SQ_RING);
        const sqes = map_shared(fd, params.sq_entries * @sizeOf(Sqe), linux.IORING_OFF_SQES);
        if (!no_array) {
            const array: [*]u32 = @ptrCast(@alignCast(queues + params.sq_off.array));
            for (0..params.sq_entries) |i| array[i] = @intCast(i);
        }
        var ring = Ring{
            .fd = fd,
            .enter_fd = fd,
            .enter_flags = linux.IORING_ENTER_GETEVENTS,
            .setup_flags = params.flags,
            .sq_head = @ptrCast(@alignCast(queues + params.sq_off.head)),
            .sq_tail = @ptrCast(@alignCast(queues + params.sq_off.tail)),
            .sq_entries = params.sq_entries,
            .sqes = @ptrCast(@alignCast(sqes)),
            .local_tail = 0,
            .cq_head = @ptrCast(@alignCast(queues + params.cq_off.head)),
            .cq_tail = @ptrCast(@alignCast(queues + params.cq_off.tail)),
            .cq_mask = params.cq_entries - 1,
            .cqes = @ptrCast(@alignCast(queues + params.cq_off.cqes)),
        };
        ring.register_ring_fd();
        return ring;
    }

    /// A registered ring fd saves the fd look-up of each enter; without it the ring works the same.
    fn register_ring_fd(ring: *Ring) void {
        var update = linux.io_uring_rsrc_update{
            .offset = std.math.maxInt(u32),
            .resv = 0,
            .data = @intCast(ring.fd),
        };
        const rc = linux.io_uring_register(ring.fd, .REGISTER_RING_FDS, &update, 1);
        if (linux.errno(rc) != .SUCCESS or rc != 1) return;
        ring.enter_fd = @intCast(update.offset);
        ring.enter_flags |= linux.IORING_ENTER_REGISTERED_RING;
    }

    /// The next submission entry; its old content is garbage. Enters without waiting when the queue
    /// is full.
    pub fn next_sqe(ring: *Ring) *Sqe {
        // Acquire: pairs with the kernel's release of the head once it has copied the entries.
        while (ring.local_tail -% @atomicLoad(u32, ring.sq_head, .acquire) >= ring.sq_entries) {
            ring.enter(0, null);
        }
        const sqe = &ring.sqes[ring.local_tail & (ring.sq_entries - 1)];
        ring.local_tail +%= 1;
        return sqe;
    }

    /// Entries that the kernel has not consumed yet.
    pub fn unsubmitted(ring: *const Ring) u32 {
        return ring.local_tail -% @atomicLoad(u32, ring.sq_head, .acquire);
    }

    /// Submits all and waits for `minimum` completions, or until `timeout_ns` has passed.
    pub fn enter(ring: *Ring, minimum: u32, timeout_ns: ?u64) void {
        // Release: the entries are written before the kernel sees the tail.
        @atomicStore(u32, ring.sq_tail, ring.local_tail, .release);
        const count = ring.unsubmitted();
        const rc = if (timeout_ns) |ns| blk: {
            var time = linux.timespec{
                .sec = @intCast(ns / std.time.ns_per_s),
                .nsec = @intCast(ns % std.time.ns_per_s),
            };
            var argument = linux.io_uring_getevents_arg{
                .sigmask = 0,
                .sigmask_sz = 0,
                .pad = 0,
                .ts = @intFromPtr(&time),
            };
            const flags = ring.enter_flags | linux.IORING_ENTER_EXT_ARG;
            break :blk ring.enter_raw(count, minimum, flags, &argument, @sizeOf(@TypeOf(argument)));
        } else ring.enter_raw(count, minimum, ring.enter_flags, null, 0);
        switch (linux.errno(rc)) {
            // BUSY and AGAIN: completions wait to be reaped first. The caller's loop comes back.
            .SUCCESS, .INTR, .TIME, .BUSY, .AGAIN => {},
            else => fail("io_uring_enter", rc),
        }
    }

    fn enter_raw(
        ring: *Ring,
        count: u32,
        minimum: u32,
        flags: u32,
        argument: ?*const linux.io_uring_getevents_arg,
        size: usize,
    ) usize {
        const fd: usize = @intCast(ring.enter_fd);
        const address = @intFromPtr(argument);
        return linux.syscall6(.io_uring_enter, fd, count, minimum, flags, address, size);
    }

    /// The completions that are there now; `advance` gives their places back.
    pub fn ready(ring: *const Ring) u32 {
        // Acquire: pairs with the kernel's release of the tail; the entries below it are written.
        return @atomicLoad(u32, ring.cq_tail, .acquire) -% ring.cq_head.*;
    }

    pub fn completion(ring: *const Ring, index: u32) *const Cqe {
        return &ring.cqes[(ring.cq_head.* +% index) & ring.cq_mask];
    }

    pub fn advance(ring: *Ring, count: u32) void {
        // Release: the entries were read before the kernel may overwrite them.
        @atomicStore(u32, ring.cq_head, ring.cq_head.* +% count, .release);
    }

    pub fn register(
        ring: *Ring,
        operation: linux.IORING_REGISTER,
        argument: *const anyopaque,
        count: u32,
    ) void {
        const rc = linux.io_uring_register(ring.fd, operation, argument, count);
        if (linux.errno(rc) != .SUCCESS) fail("io_uring_register", rc);
    }
};

/// Receive buffers that the kernel picks from: `count` (a power of two) times `size` bytes, group
/// 0.
pub const BufferRing = struct {
    entries: [*]linux.io_uring_buf,
    memory: [*]u8,
    count: u32,
    size: u32,
    tail: u16,

    pub fn init(ring: *Ring, count: u32, size: u32) BufferRing {
        const entries = map_private(count * @sizeOf(linux.io_uring_buf));
        var registration = std.mem.zeroes(linux.io_uring_buf_reg);
        registration.ring_addr = @intFromPtr(entries);
        registration.ring_entries = count;
        ring.register(.REGISTER_PBUF_RING, &registration, 1);
        var buffers = BufferRing{
            .entries = @ptrCast(@alignCast(entries)),
            .memory = map_private(@as(usize, count) * size),
            .count = count,
            .size = size,
            .tail = 0,
        };
        for (0..count) |id| buffers.give_back(@intCast(id));
        buffers.publish();
        return buffers;
    }

    pub fn address(buffers: *const BufferRing, id: u16) [*]u8 {
        return buffers.memory + @as(usize, id) * buffers.size;
    }

    /// Puts one buffer back; the kernel sees it after `publish`.
    pub fn give_back(buffers: *BufferRing, id: u16) void {
        const entry = &buffers.entries[buffers.tail & (buffers.count - 1)];
        // Field by field: the last one of entry 0 is the ring's tail itself.
        entry.addr = @intFromPtr(buffers.address(id));
        entry.len = buffers.size;
        entry.bid = id;
        buffers.tail +%= 1;
    }

    pub fn publish(buffers: *BufferRing) void {
        // Release: the entries are written before the kernel sees the tail.
        @atomicStore(u16, &buffers.entries[0].resv, buffers.tail, .release);
    }
};

pub fn map_private(size: usize) [*]u8 {
    const flags = linux.MAP{ .TYPE = .PRIVATE, .ANONYMOUS = true };
    const rc = linux.mmap(null, size, .{ .READ = true, .WRITE = true }, flags, -1, 0);
    if (linux.errno(rc) != .SUCCESS) fail("mmap", rc);
    return @ptrFromInt(rc);
}

fn map_shared(fd: i32, size: usize, offset: i64) [*]u8 {
    const flags = linux.MAP{ .TYPE = .SHARED, .POPULATE = true };
    const rc = linux.mmap(null, size, .{ .READ = true, .WRITE = true }, flags, fd, offset);
    if (linux.errno(rc) != .SUCCESS) fail("mmap of the ring", rc);
    return @ptrFromInt(rc);
}

/// A loopback TCP socket with TCP_NODELAY; an accepted socket inherits the option from its
/// listener.
pub fn tcp_socket() i32 {
    const rc = linux.socket(linux.AF.INET, linux.SOCK.STREAM | linux.SOCK.CLOEXEC, 0);
    if (linux.errno(rc) != .SUCCESS) fail("socket", rc);
    const fd: i32 = @intCast(rc);
    const on: i32 = 1;
    const option = linux.TCP.NODELAY;
    check("TCP_NODELAY", linux.setsockopt(fd, linux.IPPROTO.TCP, option, @ptrCast(&on), 4));
    return fd;
}

pub fn loopback(port: u16) linux.sockaddr.in {
    return .{
        .port = std.mem.nativeToBig(u16, port),
        .addr = std.mem.nativeToBig(u32, 0x7f00_0001),
    };
}

/// The argument as a number in `low...high`; anything else ends the program with one line.
pub fn number(name: []const u8, text: []const u8, low: u32, high: u32) u32 {
    const value = std.fmt.parseInt(u32, text, 10) catch high + 1;
    if (value < low or value > high) {
        fatal("{s}: expected {d} to {d}, got '{s}'", .{ name, low, high, text });
    }
    return value;
}

pub fn print(comptime format: []const u8, arguments: anytype) void {
    var buffer: [1024]u8 = undefined;
    const text = std.fmt.bufPrint(&buffer, format, arguments) catch unreachable;
    _ = linux.write(1, text.ptr, text.len);
}

pub fn check(what: []const u8, rc: usize) void {
    if (linux.errno(rc) != .SUCCESS) fail(what, rc);
}

pub fn fail(what: []const u8, rc: usize) noreturn {
    fatal("{s}: {t}", .{ what, linux.errno(rc) });
}

pub fn fatal(comptime format: []const u8, arguments: anytype) noreturn {
    std.debug.print(format ++ "\n", arguments);
    linux.exit_group(1);
}
