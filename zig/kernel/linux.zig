//! What the kernels under the seam need of Linux: layouts, flags, errnos and plain system calls.
//!
//! Results are `i32`: ≥ 0, or a negative errno, as in a CQE, so that a plain call and a completed
//! operation look alike above the seam. Layouts and numbers come from Zig's std; nothing outside
//! `kernel/` imports `std.os.linux`. EINTR is returned, never looped around (I8).

const std = @import("std");
const linux = std.os.linux;

pub const Sqe = linux.io_uring_sqe;
pub const Cqe = linux.io_uring_cqe;
pub const Op = linux.IORING_OP;
pub const Params = linux.io_uring_params;
pub const Timespec = linux.kernel_timespec;
pub const Iovec = std.posix.iovec_const;
pub const MessageHeader = linux.msghdr_const;
pub const Register = linux.IORING_REGISTER;

/// What a multishot RECVMSG writes in front of the name, the control data and the payload (struct
/// io_uring_recvmsg_out).
pub const ReceivedMessage = extern struct {
    namelen: u32,
    controllen: u32,
    payloadlen: u32,
    flags: u32,
};

/// Control data of one number: the size of the datagrams that a message holds, udp(7).
pub const SegmentControl = extern struct {
    header: linux.cmsghdr,
    value: [8]u8 align(8),

    /// UDP_SEGMENT, which has 16 bits.
    pub fn of(segment: u32) SegmentControl {
        var control: SegmentControl = .{
            .header = .{
                .len = @sizeOf(linux.cmsghdr) + @sizeOf(u16),
                .level = linux.IPPROTO.UDP,
                .type = linux.UDP.SEGMENT,
            },
            .value = @splat(0),
        };
        std.mem.writeInt(u16, control.value[0..2], @intCast(segment), .native);
        return control;
    }

    /// UDP_SEGMENT's 16 bits, for who plays the kernel.
    pub fn sent(control: *const SegmentControl) u16 {
        return std.mem.readInt(u16, control.value[0..2], .native);
    }

    /// UDP_GRO, which has 32 bits; null if this is something else.
    pub fn received(control: *const SegmentControl) ?u32 {
        const header = &control.header;
        if (header.level != linux.IPPROTO.UDP or header.type != linux.UDP.GRO) return null;
        const segment = std.mem.readInt(i32, control.value[0..4], .native);
        return if (segment > 0) @intCast(segment) else null;
    }

    /// The same, for who plays the kernel.
    pub fn coalesced(segment: u32) SegmentControl {
        var control = SegmentControl.of(0);
        control.header.len = @sizeOf(linux.cmsghdr) + @sizeOf(i32);
        control.header.type = linux.UDP.GRO;
        std.mem.writeInt(u32, control.value[0..4], segment, .native);
        return control;
    }
};

comptime {
    std.debug.assert(@sizeOf(Sqe) == 64);
    std.debug.assert(@sizeOf(Cqe) == 16);
    std.debug.assert(@sizeOf(Iovec) == 16);
    std.debug.assert(@sizeOf(MessageHeader) == 56);
    std.debug.assert(@sizeOf(ReceivedMessage) == 16);
    std.debug.assert(@sizeOf(SegmentControl) == 24); // CMSG_SPACE of either
}

/// Negative errno values, as CQEs carry them.
pub const errno = struct {
    pub const perm = negative(.PERM);
    pub const noent = negative(.NOENT);
    pub const intr = negative(.INTR);
    pub const io = negative(.IO);
    pub const badf = negative(.BADF);
    pub const again = negative(.AGAIN);
    pub const nomem = negative(.NOMEM);
    pub const acces = negative(.ACCES);
    pub const addrinuse = negative(.ADDRINUSE);
    pub const busy = negative(.BUSY);
    pub const exist = negative(.EXIST);
    pub const inval = negative(.INVAL);
    pub const nfile = negative(.NFILE);
    pub const mfile = negative(.MFILE);
    pub const pipe = negative(.PIPE);
    pub const nosys = negative(.NOSYS);
    pub const time = negative(.TIME);
    pub const overflow = negative(.OVERFLOW);
    pub const nodata = negative(.NODATA);
    pub const notsup = negative(.OPNOTSUPP);
    pub const notconn = negative(.NOTCONN);
    pub const shutdown = negative(.SHUTDOWN);
    pub const nobufs = negative(.NOBUFS);
    pub const connreset = negative(.CONNRESET);
    pub const connrefused = negative(.CONNREFUSED);
    pub const connaborted = negative(.CONNABORTED);
    pub const netdown = negative(.NETDOWN);
    pub const timedout = negative(.TIMEDOUT);
    pub const already = negative(.ALREADY);
    pub const canceled = negative(.CANCELED);
    pub const nametoolong = negative(.NAMETOOLONG);
    pub const fault = negative(.FAULT);
    pub const fbig = negative(.FBIG);
    pub const isdir = negative(.ISDIR);
    pub const notdir = negative(.NOTDIR);
    pub const notsock = negative(.NOTSOCK);
    pub const spipe = negative(.SPIPE);
    pub const msgsize = negative(.MSGSIZE);
    pub const afnosupport = negative(.AFNOSUPPORT);
    pub const destaddrreq = negative(.DESTADDRREQ);
    pub const isconn = negative(.ISCONN);
    pub const hostunreach = negative(.HOSTUNREACH);
    pub const netunreach = negative(.NETUNREACH);
    pub const hostdown = negative(.HOSTDOWN);
    pub const proto = negative(.PROTO);
    pub const noprotoopt = negative(.NOPROTOOPT);
    pub const nonet = negative(.NONET);
    pub const toomanyrefs = negative(.TOOMANYREFS);

    fn negative(comptime code: linux.E) i32 {
        return -@as(i32, @intFromEnum(code));
    }
};

/// Submission entry flags: io_uring_enter(2).
pub const sqe_flag = struct {
    pub const buffer_select: u8 = linux.IOSQE_BUFFER_SELECT;
    /// `fd` is a place in the table of registered files.
    pub const fixed_file: u8 = linux.IOSQE_FIXED_FILE;
    pub const io_link: u8 = linux.IOSQE_IO_LINK;
    pub const io_hardlink: u8 = linux.IOSQE_IO_HARDLINK;
    /// In `rw_flags` of FSYNC, OPENAT; in `len` of POLL_ADD.
    pub const datasync: u32 = linux.IORING_FSYNC_DATASYNC;
    pub const open_cloexec: u32 = 0o2000000;
    pub const poll_multishot: u32 = linux.IORING_POLL_ADD_MULTI;
    /// In `rw_flags` of POLL_ADD.
    pub const poll_in: u32 = linux.POLL.IN;
    pub const poll_out: u32 = linux.POLL.OUT;
    /// In `ioprio` of RECV, ACCEPT.
    pub const receive_multishot: u16 = linux.IORING_RECV_MULTISHOT;
    pub const accept_multishot: u16 = linux.IORING_ACCEPT_MULTISHOT;
    /// In `ioprio` of SEND_ZC, SENDMSG_ZC: the notification says whether bytes were copied.
    pub const report_usage: u16 = linux.IORING_SEND_ZC_REPORT_USAGE;
    /// In `ioprio` of SEND_ZC: the bytes lie in the registered buffer `buf_index`.
    pub const fixed_buffer: u16 = linux.IORING_RECVSEND_FIXED_BUF;
    /// In `rw_flags` of ASYNC_CANCEL.
    pub const cancel_all: u32 = linux.IORING_ASYNC_CANCEL_ALL;
    pub const cancel_fd: u32 = linux.IORING_ASYNC_CANCEL_FD;
};

/// Completion flags: io_uring_enter(2).
pub const cqe_flag = struct {
    /// The upper 16 bits name a provided buffer.
    pub const buffer: u32 = linux.IORING_CQE_F_BUFFER;
    /// More completions of the same submission will follow.
    pub const more: u32 = linux.IORING_CQE_F_MORE;
    /// The notification of a zero-copy send.
    pub const notification: u32 = linux.IORING_CQE_F_NOTIF;
    pub const buffer_shift = linux.IORING_CQE_BUFFER_SHIFT;
};

/// The result of a notification whose send was copied, where `report_usage` asked.
pub const notification_copied: i32 = @bitCast(@as(u32, linux.IORING_NOTIF_USAGE_ZC_COPIED));

pub const socket_flag = struct {
    pub const cloexec: u32 = linux.SOCK.CLOEXEC;
    pub const wait_all: u32 = linux.MSG.WAITALL;
    pub const no_signal: u32 = linux.MSG.NOSIGNAL;
    pub const dont_wait: u32 = linux.MSG.DONTWAIT;
    pub const truncated: u32 = linux.MSG.TRUNC;
    /// Control data that came had no room: of descriptors, some are lost.
    pub const control_truncated: u32 = linux.MSG.CTRUNC;
    /// Descriptors that come with a message are close-on-exec.
    pub const cmsg_cloexec: u32 = linux.MSG.CMSG_CLOEXEC;
    /// The type of a datagram socket.
    pub const datagram: u32 = linux.SOCK.DGRAM;
    pub const shut_write: u32 = linux.SHUT.WR;
};

/// Turns a raw system call result into a result as a CQE carries it.
pub fn result(raw: usize) i32 {
    const signed: isize = @bitCast(raw);
    return std.math.cast(i32, signed) orelse errno.overflow;
}

pub const Mapping = []align(std.heap.page_size_min) u8;

pub fn page_map(size_bytes: usize) error{OutOfMemory}!Mapping {
    const raw = linux.mmap(
        null,
        size_bytes,
        .{ .READ = true, .WRITE = true },
        .{ .TYPE = .PRIVATE, .ANONYMOUS = true, .NORESERVE = true },
        -1,
        0,
    );
    if (linux.errno(raw) != .SUCCESS) return error.OutOfMemory;
    const address: [*]align(std.heap.page_size_min) u8 = @ptrFromInt(raw);
    return address[0..size_bytes];
}

/// Keeps a mapping out of forked children: they must never share the kernel's buffers (I11).
pub fn page_keep_from_fork(mapping: Mapping) void {
    // Refused only for mappings that we do not make; the fork check below guards in any case.
    _ = linux.madvise(mapping.ptr, mapping.len, linux.MADV.DONTFORK);
}

/// In a forked child this page reads as zeros: a fork check without a system call (I11).
pub fn page_wipe_on_fork(page: Mapping) i32 {
    return result(linux.madvise(page.ptr, page.len, linux.MADV.WIPEONFORK));
}

pub fn page_unmap(mapping: Mapping) void {
    const outcome = linux.munmap(mapping.ptr, mapping.len);
    std.debug.assert(linux.errno(outcome) == .SUCCESS);
}

/// Hands out pieces of a mapping that is zero and was never touched.
pub const Bump = struct {
    memory: Mapping,
    used: usize = 0,

    pub fn take(bump: *Bump, comptime T: type, count: usize) []T {
        return @alignCast(bump.take_aligned(T, @alignOf(T), count));
    }

    pub fn take_aligned(
        bump: *Bump,
        comptime T: type,
        comptime alignment: usize,
        count: usize,
    ) []align(alignment) T {
        const start = std.mem.alignForward(usize, bump.used, alignment);
        bump.used = start + count * @sizeOf(T);
        std.debug.assert(bump.used <= bump.memory.len);
        const pointer: [*]align(alignment) T = @ptrCast(@alignCast(bump.memory[start..].ptr));
        return pointer[0..count];
    }
};

pub fn ring_map(fd: i32, offset: u64, size_bytes: usize) error{OutOfMemory}!Mapping {
    const raw = linux.mmap(
        null,
        size_bytes,
        .{ .READ = true, .WRITE = true },
        .{ .TYPE = .SHARED, .POPULATE = true },
        fd,
        @intCast(offset),
    );
    if (linux.errno(raw) != .SUCCESS) return error.OutOfMemory;
    const address: [*]align(std.heap.page_size_min) u8 = @ptrFromInt(raw);
    return address[0..size_bytes];
}

/// CLOCK_MONOTONIC in nanoseconds, through the vDSO where std finds one.
pub fn now_ns() u64 {
    var time: linux.timespec = undefined;
    const outcome = linux.clock_gettime(.MONOTONIC, &time);
    std.debug.assert(linux.errno(outcome) == .SUCCESS);
    return @as(u64, @intCast(time.sec)) * std.time.ns_per_s + @as(u64, @intCast(time.nsec));
}

/// Between a store and a load that another core must not see the other way round.
pub fn full_fence() void {
    switch (@import("builtin").cpu.arch) {
        .x86_64 => asm volatile ("mfence" ::: .{ .memory = true }),
        .aarch64 => asm volatile ("dmb ish" ::: .{ .memory = true }),
        else => @compileError("full fence of this architecture is not known"),
    }
}

/// The register that names the thread: compared to tell the owner without a system call (I11).
pub fn thread_pointer() usize {
    return switch (@import("builtin").cpu.arch) {
        .x86_64 => asm volatile ("movq %%fs:0, %[out]"
            : [out] "=r" (-> usize),
        ),
        .aarch64 => asm volatile ("mrs %[out], tpidr_el0"
            : [out] "=r" (-> usize),
        ),
        else => @compileError("thread pointer of this architecture is not known"),
    };
}

pub fn thread_id() i32 {
    return linux.gettid();
}

/// True once no thread of this process has the id (ESRCH, see tgkill(2)).
pub fn thread_is_gone(id: i32) bool {
    const no_signal: linux.SIG = @enumFromInt(0);
    return linux.errno(linux.tgkill(linux.getpid(), id, no_signal)) == .SRCH;
}

pub fn close(fd: i32) void {
    // close(2) frees the descriptor whatever it returns; there is nothing to retry.
    _ = linux.close(fd);
}

pub fn eventfd() i32 {
    return result(linux.eventfd(0, linux.EFD.CLOEXEC | linux.EFD.NONBLOCK));
}

/// A second descriptor for the same file, close-on-exec.
pub fn duplicate(fd: i32) i32 {
    return result(linux.fcntl(fd, linux.F.DUPFD_CLOEXEC, 0));
}

pub fn socket_pair(out: *[2]i32) i32 {
    return result(linux.socketpair(linux.AF.UNIX, linux.SOCK.STREAM | linux.SOCK.CLOEXEC, 0, out));
}

pub fn write(fd: i32, bytes: []const u8) i32 {
    return result(linux.write(fd, bytes.ptr, bytes.len));
}

pub fn stderr_write(text: []const u8) void {
    _ = linux.write(2, text.ptr, text.len);
}

pub fn abort() noreturn {
    _ = linux.tgkill(linux.getpid(), linux.gettid(), .ABRT);
    linux.exit_group(134); // if the signal is ignored: the status a shell shows for it
}
