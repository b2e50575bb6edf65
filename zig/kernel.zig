//! The seam: what a kernel must offer, and the one type through which everything above calls it.
//!
//! Three kernels speak it: the real ring (`kernel/uring.zig`), the epoll twin (`kernel/epoll.zig`)
//! and the simulated one (`kernel/simulated.zig`, in test builds only). Above this file there are
//! SQEs and CQEs and no question which kernel runs. A call is dispatched on the union's tag: one
//! predicted branch. Steps 5, 7 and 8 of the straight line. `Contract` is the whole list of calls;
//! a kernel that lacks one, or has it with another signature, does not compile.

const std = @import("std");
const builtin = @import("builtin");
pub const linux = @import("kernel/linux.zig");
pub const SocketAddress = @import("kernel/address.zig").SocketAddress;
pub const rights = @import("kernel/rights.zig");
pub const Bell = @import("kernel/bell.zig").Bell;
pub const Pipe = @import("kernel/pipe.zig").Pipe;
const Epoll = @import("kernel/epoll.zig").Epoll;
const Uring = @import("kernel/uring.zig").Uring;
const Simulated = @import("kernel/simulated.zig").Simulated;

pub const Sqe = linux.Sqe;
pub const Cqe = linux.Cqe;
pub const Op = linux.Op;
pub const Timespec = linux.Timespec;
pub const Iovec = linux.Iovec;
pub const MessageHeader = linux.MessageHeader;
pub const ReceivedMessage = linux.ReceivedMessage;
pub const SegmentControl = linux.SegmentControl;
pub const errno = linux.errno;
pub const sqe_flag = linux.sqe_flag;
pub const cqe_flag = linux.cqe_flag;
pub const notification_copied = linux.notification_copied;
pub const socket_flag = linux.socket_flag;
/// Provided buffers are selected from the group that a receive names.
pub const BufferGroup = enum(u16) { stream, datagram, block };
pub const End = enum { local, remote };
pub const Side = enum { receiving, both };
pub const Option = enum {
    no_delay,
    keep_alive,
    reuse_address,
    reuse_port,
    ipv6_only,
    linger_reset,
    type_of_service,
    broadcast,
    ttl,
    multicast_ttl,
    multicast_loop,
    receive_buffer,
    send_buffer,
    udp_gro,
    non_blocking,
};

/// What a socket has to do with a multicast group; addresses are of the group's family.
pub const Membership = struct {
    action: @import("abi.zig").MembershipAction,
    /// Meaningless for `send_by`.
    group: SocketAddress,
    source: ?SocketAddress,
    /// An IPv4 address of the interface, or an IPv6 address whose scope it is. Null: the kernel
    /// chooses.
    interface: ?SocketAddress,
};

/// Every call that a kernel offers, as a type with one function pointer a field. `Self` is the
/// kernel. No call blocks but `enter`, and none takes longer than its system call.
fn Contract(comptime Self: type) type {
    return struct {
        /// Gives back everything that the kernel holds for this ring. Memory named by operations
        /// that are still pending must outlive the call (I1, I10).
        close: fn (*Self) void,
        /// A zeroed submission entry, or null while the queue is full (I8: back-pressure).
        sqe: fn (*Self) ?*Sqe,
        /// The newest entry that was handed out and not yet taken by the kernel: taken back.
        take_back: fn (*Self) ?*const Sqe,
        /// Entries handed out and not yet taken by the kernel.
        queued: fn (*const Self) u32,
        /// Free entries: `sqe` succeeds that many times.
        room: fn (*const Self) u32,
        /// Submits what is queued and moves completions to the queue. Waits for `min_complete` of
        /// them, at most `wait_ms` (≤ 1000, I8). Returns the number submitted, 0 on a time-out, or
        /// -EINTR (waiting only), -EBUSY, -EAGAIN (back-pressure), any other errno being fatal.
        enter: fn (*Self, min_complete: u32, wait_ms: u32) i32,
        /// True if completions wait, or the kernel has work that an `enter` would turn into some.
        ready: fn (*const Self) bool,
        /// What a call of `ready` costs, in units of about 15 ns.
        look_cost: fn (*const Self) u32,
        /// The completions at the head of the queue, as far as they lie in one run.
        cqes: fn (*Self) []const Cqe,
        /// Moves the head past `count` of them; their memory may change at once.
        advance: fn (*Self, count: u32) void,
        /// Completions that wait in the queue.
        cq_queued: fn (*const Self) u32,
        /// Free entries of it; without one the kernel keeps what completes in its own memory.
        cq_room: fn (*const Self) u32,
        /// How often the kernel had to keep completions outside of the queue.
        overflowed: fn (*const Self) u32,
        /// Makes `memory` (16 bytes an entry, page-aligned) the provided-buffer ring of a group.
        buffer_ring_register: fn (*Self, BufferGroup, memory: []align(4096) u8, entries: u32) i32,
        /// Adds one buffer; the kernel sees it at the next publish.
        buffer_ring_add: fn (*Self, BufferGroup, bytes: []u8, id: u16) void,
        buffer_ring_publish: fn (*Self, BufferGroup) void,
        /// Makes a table of `count` empty places for registered files, once.
        files_register: fn (*Self, count: u32) i32,
        /// Puts a descriptor into its place, or -1 to empty it. Operations with
        /// `sqe_flag.fixed_file` then name the place and save the kernel a look-up each.
        file_set: fn (*Self, place: u32, fd: i32) i32,
        /// A table of `count` empty places for registered buffers, one at a time.
        buffers_register: fn (*Self, count: u32) i32,
        buffer_set: fn (*Self, place: u32, bytes: []u8) i32,
        buffers_unregister: fn (*Self) void,
        /// True if the ring knows the opcode.
        supports: fn (*const Self, opcode: Op) bool,
        /// Performs an entry by a plain system call: the result that its CQE would have.
        plain: fn (*Self, entry: *const Sqe) i32,
        /// Lets the wake fd signal. True: there is work already, do not sleep. `renew`: since the
        /// last call something completed that a write to an eventfd may have caused.
        arm: fn (*Self, renew: bool) bool,
        disarm: fn (*Self) void,
        /// A non-blocking eventfd, readable when an armed ring has work.
        wake_fd: fn (*const Self) i32,
        /// The doorbell by which any thread wakes this ring; its CQE carries `user_data`.
        bell_open: fn (*Self, by: Bell.By, user_data: u64) Bell.Opened,
        /// A monotonic clock in nanoseconds.
        now_ns: fn (*const Self) u64,
        /// From here to its CLOSE, or `close_fd`, nobody else closes this descriptor.
        own: fn (*Self, fd: i32) void,
        /// A stream socket of the address's family, close-on-exec: socket(2).
        socket: fn (*Self, target: *const SocketAddress) i32,
        bind: fn (*Self, fd: i32, target: *const SocketAddress) i32,
        listen: fn (*Self, fd: i32, backlog: u32) i32,
        /// shutdown(2), at once. Both sides of a listening socket: from here on nobody can connect,
        /// its address can be bound again, and a pending accept ends. The receiving side of a
        /// stream: what has arrived can be read, then the end.
        shut: fn (*Self, fd: i32, side: Side) void,
        /// getsockname(2), getpeername(2).
        address: fn (*Self, fd: i32, end: End, out: *SocketAddress) i32,
        set_option: fn (*Self, fd: i32, option: Option, value: u32) i32,
        get_option: fn (*Self, fd: i32, option: Option) i32,
        /// Makes a stream socket from elsewhere one of ours: blocking, close-on-exec. -EINVAL if it
        /// is a socket of another type.
        adopt: fn (*Self, fd: i32) i32,
        membership: fn (*Self, fd: i32, change: *const Membership) i32,
        /// send(2) with MSG_DONTWAIT: takes a copy now or refuses with -EAGAIN.
        send_now: fn (*Self, fd: i32, bytes: []const u8) i32,
        /// A pipe whose ends do not block, for `size` bytes: 0 or an errno. pipe(2)
        pipe_open: fn (*Self, size: u32, out: *Pipe) i32,
        /// splice(2) of what has come and fits, from a socket that is `non_blocking`: bytes, 0 at
        /// the end of the stream, -EAGAIN.
        pipe_fill: fn (*Self, pipe: Pipe, from: i32, len: u32) i32,
        /// The same from the pipe to such a socket, without a signal.
        pipe_drain: fn (*Self, pipe: Pipe, to: i32, len: u32) i32,
        /// close(2) of a descriptor that no operation names.
        close_fd: fn (*Self, fd: i32) void,
        /// A further descriptor of the same open file, close-on-exec: fcntl(2).
        duplicate: fn (*Self, fd: i32) i32,
        is_open: fn (*Self, fd: i32) bool,
    };
}

pub const Kernel = union(enum) {
    uring: Uring,
    epoll: *Epoll,
    simulated: if (builtin.is_test) *Simulated else noreturn,

    pub fn close(kernel: *Kernel) void {
        switch (kernel.*) {
            inline else => |*self| direct(self).close(),
        }
    }

    pub fn sqe(kernel: *Kernel) ?*Sqe {
        return switch (kernel.*) {
            inline else => |*self| direct(self).sqe(),
        };
    }

    pub fn take_back(kernel: *Kernel) ?*const Sqe {
        return switch (kernel.*) {
            inline else => |*self| direct(self).take_back(),
        };
    }

    pub fn queued(kernel: *const Kernel) u32 {
        return switch (kernel.*) {
            inline else => |*self| direct(self).queued(),
        };
    }

    pub fn room(kernel: *const Kernel) u32 {
        return switch (kernel.*) {
            inline else => |*self| direct(self).room(),
        };
    }

    pub fn enter(kernel: *Kernel, min_complete: u32, wait_ms: u32) i32 {
        std.debug.assert(wait_ms <= wait_ms_max); // I8: no wait is longer
        return switch (kernel.*) {
            inline else => |*self| direct(self).enter(min_complete, wait_ms),
        };
    }

    pub fn ready(kernel: *const Kernel) bool {
        return switch (kernel.*) {
            inline else => |*self| direct(self).ready(),
        };
    }

    pub fn look_cost(kernel: *const Kernel) u32 {
        return switch (kernel.*) {
            inline else => |*self| direct(self).look_cost(),
        };
    }

    pub fn cqes(kernel: *Kernel) []const Cqe {
        return switch (kernel.*) {
            inline else => |*self| direct(self).cqes(),
        };
    }

    pub fn advance(kernel: *Kernel, count: u32) void {
        switch (kernel.*) {
            inline else => |*self| direct(self).advance(count),
        }
    }

    pub fn cq_queued(kernel: *const Kernel) u32 {
        return switch (kernel.*) {
            inline else => |*self| direct(self).cq_queued(),
        };
    }

    pub fn cq_room(kernel: *const Kernel) u32 {
        return switch (kernel.*) {
            inline else => |*self| direct(self).cq_room(),
        };
    }

    pub fn overflowed(kernel: *const Kernel) u32 {
        return switch (kernel.*) {
            inline else => |*self| direct(self).overflowed(),
        };
    }

    pub fn buffer_ring_register(
        kernel: *Kernel,
        group: BufferGroup,
        memory: []align(4096) u8,
        entries: u32,
    ) i32 {
        return switch (kernel.*) {
            inline else => |*self| direct(self).buffer_ring_register(group, memory, entries),
        };
    }

    pub fn buffer_ring_add(kernel: *Kernel, group: BufferGroup, bytes: []u8, id: u16) void {
        switch (kernel.*) {
            inline else => |*self| direct(self).buffer_ring_add(group, bytes, id),
        }
    }

    pub fn buffer_ring_publish(kernel: *Kernel, group: BufferGroup) void {
        switch (kernel.*) {
            inline else => |*self| direct(self).buffer_ring_publish(group),
        }
    }

    pub fn files_register(kernel: *Kernel, count: u32) i32 {
        return switch (kernel.*) {
            inline else => |*self| direct(self).files_register(count),
        };
    }

    pub fn file_set(kernel: *Kernel, place: u32, fd: i32) i32 {
        return switch (kernel.*) {
            inline else => |*self| direct(self).file_set(place, fd),
        };
    }

    pub fn buffers_register(kernel: *Kernel, count: u32) i32 {
        return switch (kernel.*) {
            inline else => |*self| direct(self).buffers_register(count),
        };
    }

    pub fn buffer_set(kernel: *Kernel, place: u32, bytes: []u8) i32 {
        return switch (kernel.*) {
            inline else => |*self| direct(self).buffer_set(place, bytes),
        };
    }

    pub fn buffers_unregister(kernel: *Kernel) void {
        switch (kernel.*) {
            inline else => |*self| direct(self).buffers_unregister(),
        }
    }

    pub fn supports(kernel: *const Kernel, opcode: Op) bool {
        return switch (kernel.*) {
            inline else => |*self| direct(self).supports(opcode),
        };
    }

    pub fn plain(kernel: *Kernel, entry: *const Sqe) i32 {
        return switch (kernel.*) {
            inline else => |*self| direct(self).plain(entry),
        };
    }

    pub fn arm(kernel: *Kernel, renew: bool) bool {
        return switch (kernel.*) {
            inline else => |*self| direct(self).arm(renew),
        };
    }

    pub fn disarm(kernel: *Kernel) void {
        switch (kernel.*) {
            inline else => |*self| direct(self).disarm(),
        }
    }

    pub fn wake_fd(kernel: *const Kernel) i32 {
        return switch (kernel.*) {
            inline else => |*self| direct(self).wake_fd(),
        };
    }

    pub fn bell_open(kernel: *Kernel, by: Bell.By, user_data: u64) Bell.Opened {
        return switch (kernel.*) {
            inline else => |*self| direct(self).bell_open(by, user_data),
        };
    }

    pub fn now_ns(kernel: *const Kernel) u64 {
        return switch (kernel.*) {
            inline else => |*self| direct(self).now_ns(),
        };
    }

    pub fn own(kernel: *Kernel, fd: i32) void {
        switch (kernel.*) {
            inline else => |*self| direct(self).own(fd),
        }
    }

    pub fn socket(kernel: *Kernel, target: *const SocketAddress) i32 {
        return switch (kernel.*) {
            inline else => |*self| direct(self).socket(target),
        };
    }

    pub fn bind(kernel: *Kernel, fd: i32, target: *const SocketAddress) i32 {
        return switch (kernel.*) {
            inline else => |*self| direct(self).bind(fd, target),
        };
    }

    pub fn listen(kernel: *Kernel, fd: i32, backlog: u32) i32 {
        return switch (kernel.*) {
            inline else => |*self| direct(self).listen(fd, backlog),
        };
    }

    pub fn shut(kernel: *Kernel, fd: i32, side: Side) void {
        switch (kernel.*) {
            inline else => |*self| direct(self).shut(fd, side),
        }
    }

    pub fn address(kernel: *Kernel, fd: i32, end: End, out: *SocketAddress) i32 {
        return switch (kernel.*) {
            inline else => |*self| direct(self).address(fd, end, out),
        };
    }

    pub fn set_option(kernel: *Kernel, fd: i32, option: Option, value: u32) i32 {
        return switch (kernel.*) {
            inline else => |*self| direct(self).set_option(fd, option, value),
        };
    }

    pub fn get_option(kernel: *Kernel, fd: i32, option: Option) i32 {
        return switch (kernel.*) {
            inline else => |*self| direct(self).get_option(fd, option),
        };
    }

    pub fn adopt(kernel: *Kernel, fd: i32) i32 {
        return switch (kernel.*) {
            inline else => |*self| direct(self).adopt(fd),
        };
    }

    pub fn membership(kernel: *Kernel, fd: i32, change: *const Membership) i32 {
        return switch (kernel.*) {
            inline else => |*self| direct(self).membership(fd, change),
        };
    }

    pub fn send_now(kernel: *Kernel, fd: i32, bytes: []const u8) i32 {
        return switch (kernel.*) {
            inline else => |*self| direct(self).send_now(fd, bytes),
        };
    }

    pub fn pipe_open(kernel: *Kernel, size: u32, out: *Pipe) i32 {
        return switch (kernel.*) {
            inline else => |*self| direct(self).pipe_open(size, out),
        };
    }

    pub fn pipe_fill(kernel: *Kernel, pipe: Pipe, from: i32, len: u32) i32 {
        return switch (kernel.*) {
            inline else => |*self| direct(self).pipe_fill(pipe, from, len),
        };
    }

    pub fn pipe_drain(kernel: *Kernel, pipe: Pipe, to: i32, len: u32) i32 {
        return switch (kernel.*) {
            inline else => |*self| direct(self).pipe_drain(pipe, to, len),
        };
    }

    pub fn close_fd(kernel: *Kernel, fd: i32) void {
        switch (kernel.*) {
            inline else => |*self| direct(self).close_fd(fd),
        }
    }

    pub fn duplicate(kernel: *Kernel, fd: i32) i32 {
        return switch (kernel.*) {
            inline else => |*self| direct(self).duplicate(fd),
        };
    }

    pub fn is_open(kernel: *Kernel, fd: i32) bool {
        return switch (kernel.*) {
            inline else => |*self| direct(self).is_open(fd),
        };
    }
};

/// A tag holds its kernel, or a pointer to it; a method call looks through one pointer only.
inline fn direct(self: anytype) Direct(@TypeOf(self)) {
    return if (Direct(@TypeOf(self)) == @TypeOf(self)) self else self.*;
}

fn Direct(comptime Pointer: type) type {
    const Pointee = @typeInfo(Pointer).pointer.child;
    return if (@typeInfo(Pointee) == .pointer) Pointee else Pointer;
}

/// No wait is longer, else a Worker that is terminated in it would never die (I8).
pub const wait_ms_max: u32 = 1000;

/// Refuses at comptime a kernel whose calls differ from the contract.
fn assert_contract(comptime Self: type) void {
    for (@typeInfo(Contract(Self)).@"struct".fields) |call| {
        if (!@hasDecl(Self, call.name)) {
            @compileError(@typeName(Self) ++ " does not offer " ++ call.name);
        }
        const offered = @TypeOf(@field(Self, call.name));
        if (offered != call.type) {
            @compileError(@typeName(Self) ++ "." ++ call.name ++ " is " ++ @typeName(offered) ++
                ", the contract says " ++ @typeName(call.type));
        }
    }
}

comptime {
    assert_contract(Kernel);
    assert_contract(Uring);
    assert_contract(Epoll);
    if (builtin.is_test) assert_contract(Simulated);
}
