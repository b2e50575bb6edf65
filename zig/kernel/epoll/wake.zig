//! How the epoll twin wakes somebody who does not call it: an eventfd that Bun watches.
//!
//! Bun cannot watch an epoll fd. To arm, one Linux AIO poll is put on it, which signals the eventfd
//! when it is readable, also if it is already (IOCB_CMD_POLL with IOCB_FLAG_RESFD, Linux 4.18). It
//! stays armed when nobody sleeps any more: one signal too many is a wake-up that finds nothing. A
//! timerfd in epoll's set stands for the nearest time-out. See io_submit(2), timerfd_create(2).

const std = @import("std");
const linux = std.os.linux;
const system = @import("../linux.zig");
const errno = system.errno;

/// struct iocb and struct io_event of linux/aio_abi.h.
const Request = extern struct {
    data: u64 = 0,
    key: u32 = 0,
    rw_flags: u32 = 0,
    opcode: u16,
    priority: i16 = 0,
    fd: u32,
    buffer: u64,
    size: u64 = 0,
    offset: i64 = 0,
    reserved: u64 = 0,
    flags: u32,
    result_fd: u32,
};
const Event = extern struct { data: u64, request: u64, result: i64, result_second: i64 };

comptime {
    std.debug.assert(@sizeOf(Request) == 64 and @sizeOf(Event) == 32);
}

const command_poll = 5;
const flag_result_fd = 1;
const poll_in = 1;

pub const Wake = struct {
    /// -1 where Linux AIO is refused: then nobody can sleep on this ring.
    event_fd: i32,
    timer_fd: i32,
    context: usize = 0,
    is_armed: bool = false,
    /// What the timer is set to, or 0.
    timer_ns: u64 = 0,

    /// In epoll's set the timer has a number that no descriptor has.
    pub const timer_tag = std.math.maxInt(u64);

    pub fn open(epoll_fd: i32) union(enum) { wake: Wake, refused: i32 } {
        const flags: linux.TFD = .{ .NONBLOCK = true, .CLOEXEC = true };
        const timer_fd = system.result(linux.timerfd_create(.MONOTONIC, flags));
        if (timer_fd < 0) return .{ .refused = timer_fd };
        var wake: Wake = .{ .event_fd = -1, .timer_fd = timer_fd };
        const IN = linux.EPOLL.IN;
        var event: linux.epoll_event = .{ .events = IN, .data = .{ .u64 = timer_tag } };
        const added = linux.epoll_ctl(epoll_fd, linux.EPOLL.CTL_ADD, timer_fd, &event);
        if (system.result(added) < 0) {
            wake.close();
            return .{ .refused = system.result(added) };
        }
        wake.event_fd = system.eventfd();
        if (wake.event_fd < 0) {
            defer wake.close();
            return .{ .refused = wake.event_fd };
        }
        if (!wake.works(epoll_fd)) {
            system.close(wake.event_fd);
            wake.event_fd = -1;
        }
        return .{ .wake = wake };
    }

    pub fn close(wake: *Wake) void {
        wake.give_up_context();
        if (wake.event_fd >= 0) system.close(wake.event_fd);
        system.close(wake.timer_fd);
    }

    /// Arms it on an idle set and on a ready one, and looks for the signal of each.
    fn works(wake: *Wake, epoll_fd: i32) bool {
        wake.context = contexts.take() orelse return false;
        if (!wake.arm(epoll_fd)) return false;
        wake.set_timer(1); // long past
        if (!wake.signalled()) return false;
        if (!wake.arm(epoll_fd) or !wake.signalled()) return false;
        wake.set_timer(0);
        return wake.reap();
    }

    /// Back to the others, with nothing in flight.
    fn give_up_context(wake: *Wake) void {
        if (wake.context == 0) return;
        if (wake.is_armed and !wake.reap()) {
            wake.set_timer(1); // it fires now
            _ = wake.signalled();
            if (!wake.reap()) return contexts.destroy(wake.context);
        }
        contexts.give_back(wake.context);
    }

    fn signalled(wake: *Wake) bool {
        var fds = [_]linux.pollfd{.{ .fd = wake.event_fd, .events = poll_in, .revents = 0 }};
        if (system.result(linux.poll(&fds, 1, 100)) != 1) return false;
        var count: u64 = 0;
        return system.result(linux.read(wake.event_fd, std.mem.asBytes(&count), 8)) == 8;
    }

    /// From here on the eventfd is signalled when the set is readable. False: it cannot be.
    pub fn arm(wake: *Wake, epoll_fd: i32) bool {
        if (wake.is_armed and !wake.reap()) return true;
        const request: Request = .{
            .opcode = command_poll,
            .fd = @intCast(epoll_fd),
            .buffer = poll_in,
            .flags = flag_result_fd,
            .result_fd = @intCast(wake.event_fd),
        };
        const list = [_]*const Request{&request};
        const outcome = linux.syscall3(.io_submit, wake.context, 1, @intFromPtr(&list));
        wake.is_armed = system.result(outcome) == 1;
        return wake.is_armed;
    }

    /// True if it has fired since it was armed.
    fn reap(wake: *Wake) bool {
        var event: Event = undefined;
        const at_once: linux.timespec = .{ .sec = 0, .nsec = 0 };
        const count = system.result(linux.syscall5(
            .io_getevents,
            wake.context,
            0,
            1,
            @intFromPtr(&event),
            @intFromPtr(&at_once),
        ));
        if (count != 1) return false;
        wake.is_armed = false;
        return true;
    }

    /// At this time the set becomes readable; 0 is never.
    pub fn set_timer(wake: *Wake, at_ns: u64) void {
        if (wake.timer_ns == at_ns) return;
        wake.timer_ns = at_ns;
        const nothing: linux.timespec = .{ .sec = 0, .nsec = 0 };
        const value: linux.itimerspec = .{ .it_interval = nothing, .it_value = .{
            .sec = @intCast(at_ns / std.time.ns_per_s),
            .nsec = @intCast(at_ns % std.time.ns_per_s),
        } };
        const outcome = linux.timerfd_settime(wake.timer_fd, .{ .ABSTIME = true }, &value, null);
        std.debug.assert(linux.errno(outcome) == .SUCCESS);
    }
};

/// Linux AIO's own queues. To destroy one takes the kernel 30 ms (6.18), so a few are kept for the
/// rings to come; they end with the process. Atomic: rings of all threads take from here.
const contexts = struct {
    var idle: [16]usize = @splat(0);

    fn take() ?usize {
        for (&idle) |*place| {
            const context = @atomicRmw(usize, place, .Xchg, 0, .acquire);
            if (context != 0) return context;
        }
        var context: usize = 0;
        const outcome = linux.syscall2(.io_setup, 1, @intFromPtr(&context));
        return if (system.result(outcome) < 0) null else context;
    }

    fn give_back(context: usize) void {
        for (&idle) |*place| {
            if (@cmpxchgStrong(usize, place, 0, context, .release, .monotonic) == null) return;
        }
        destroy(context);
    }

    fn destroy(context: usize) void {
        _ = linux.syscall1(.io_destroy, context);
    }
};
