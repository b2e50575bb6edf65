//! The epoll twin: the same SQEs in, the same CQEs out, by epoll and plain system calls.
//!
//! For where io_uring is refused. Queues lie in memory of its own; `enter` takes what is queued,
//! tries each operation at once and keeps what would block until epoll says that it can go on. A
//! descriptor is registered once and its interest kept. One thread, nothing allocated after `open`
//! but the table of descriptors, which grows. Parts: `epoll/chains.zig` is the way of an operation,
//! `attempts.zig` and those that it names make the calls, `descriptors.zig` knows what is watched,
//! `cancel.zig` and `timers.zig` end what waits, `wake.zig` wakes Bun. Called through `kernel.zig`.

const std = @import("std");
const assert = std.debug.assert;
const linux = std.os.linux;
const system = @import("linux.zig");
const seam = @import("../kernel.zig");
const multicast = @import("multicast.zig");
const pipe = @import("pipe.zig");
const socket_call = @import("socket_call.zig");
const socket_option = @import("socket_option.zig");
const chains = @import("epoll/chains.zig");
const operations = @import("epoll/operation.zig");
const Buffers = @import("epoll/registered.zig").Buffers;
const Completions = @import("epoll/completions.zig").Completions;
const Descriptors = @import("epoll/descriptors.zig").Descriptors;
const Provided = @import("epoll/provided.zig").Provided;
const Events = @import("epoll/events.zig").Events;
const Timers = @import("epoll/timers.zig").Timers;
const Wake = @import("epoll/wake.zig").Wake;
const SocketAddress = @import("address.zig").SocketAddress;
const Operation = operations.Operation;
const errno = system.errno;

pub const Config = struct {
    entries: u32,
    cq_entries: u32,
    /// Operations that wait at a time; at least `entries`. Beyond it submission is pushed back.
    operations: u32,
};

pub const Epoll = struct {
    memory: system.Mapping,
    sq_entries: u32,
    cq_entries: u32,
    sqes: []Sqe,
    sq_head: u32 = 0,
    sq_count: u32 = 0,
    completions: Completions,
    pool: operations.Pool,
    descriptors: Descriptors,
    timers: Timers,
    wake: Wake,
    events: *Events,
    /// Followers in chains whose turn has come.
    starting: operations.List("on_descriptor") = .{},
    provided: std.EnumArray(seam.BufferGroup, Provided) = .initFill(.{}),
    buffers: Buffers = .{},

    const Sqe = system.Sqe;
    const Cqe = system.Cqe;

    pub fn open(config: Config) union(enum) { kernel: *Epoll, refused: i32 } {
        assert(config.operations >= config.entries);
        const memory = system.page_map(memory_size(&config)) catch
            return .{ .refused = errno.nomem };
        // A forked child must not see the parent's queues (I11).
        system.page_keep_from_fork(memory);
        var bump: system.Bump = .{ .memory = memory };
        const self = &bump.take(Epoll, 1)[0];
        const refused = self.set_up(memory, &bump, &config);
        if (refused == 0) return .{ .kernel = self };
        system.page_unmap(memory);
        return .{ .refused = refused };
    }

    fn set_up(self: *Epoll, memory: system.Mapping, bump: *system.Bump, config: *const Config) i32 {
        const epoll_fd = system.result(linux.epoll_create1(linux.EPOLL.CLOEXEC));
        if (epoll_fd < 0) return epoll_fd;
        const wake = switch (Wake.open(epoll_fd)) {
            .wake => |wake| wake,
            .refused => |code| {
                system.close(epoll_fd);
                return code;
            },
        };
        const descriptors = Descriptors.init(epoll_fd) catch {
            system.close(epoll_fd);
            @constCast(&wake).close();
            return errno.nomem;
        };
        self.* = .{
            .memory = memory,
            .sq_entries = config.entries,
            .cq_entries = config.cq_entries,
            .sqes = bump.take(Sqe, config.entries),
            .completions = .{
                .memory = bump.take(Cqe, completions_size(config)),
                .entries = config.cq_entries,
            },
            .pool = .{
                .memory = bump.take(Operation, config.operations),
                .buckets = bump.take(operations.List("in_bucket"), bucket_count),
            },
            .descriptors = descriptors,
            .timers = .{ .heap = bump.take(*Operation, config.operations) },
            .wake = wake,
            .events = &bump.take(Events, 1)[0],
        };
        self.events.clear();
        return 0;
    }

    const bucket_count = 16384;

    /// Everything in flight may end at once, and a zero-copy send ends twice.
    fn completions_size(config: *const Config) usize {
        return @as(usize, config.cq_entries) + 2 * @as(usize, config.operations) +
            2 * @as(usize, config.entries);
    }

    fn memory_size(config: *const Config) usize {
        const count: usize = config.operations;
        const alignment = 8 * @alignOf(Epoll) + 8 * 64;
        const size = @sizeOf(Epoll) + @sizeOf(Events) + alignment +
            config.entries * @sizeOf(Sqe) + completions_size(config) * @sizeOf(Cqe) +
            count * (@sizeOf(Operation) + @sizeOf(*Operation)) +
            bucket_count * @sizeOf(operations.List("in_bucket"));
        return std.mem.alignForward(usize, size, std.heap.page_size_min);
    }

    /// On any thread, once the owner does not use it any more.
    pub fn close(self: *Epoll) void {
        for (self.pool.all()) |*operation| {
            if (operation.holds) system.close(operation.sqe.fd);
            if (operation.holds_source) system.close(operation.sqe.splice_fd_in);
            if (operation.opened >= 0) system.close(operation.opened);
        }
        self.wake.close();
        system.close(self.descriptors.epoll_fd);
        self.descriptors.deinit();
        system.page_unmap(self.memory); // with `self` in it
    }

    // Submission -------------------------------------------------------------------------------

    pub fn sqe(self: *Epoll) ?*Sqe {
        if (self.sq_count == self.sq_entries) return null;
        const entry = self.entry_at(self.sq_count);
        self.sq_count += 1;
        entry.* = std.mem.zeroes(Sqe);
        return entry;
    }

    fn entry_at(self: *Epoll, at: u32) *Sqe {
        return &self.sqes[self.wrap(self.sq_head + at)];
    }

    pub fn take_back(self: *Epoll) ?*const Sqe {
        if (self.sq_count == 0) return null;
        self.sq_count -= 1;
        return self.entry_at(self.sq_count);
    }

    /// The oldest entry, which is taken.
    pub fn take_sqe(self: *Epoll) *const Sqe {
        assert(self.sq_count > 0);
        const taken = self.entry_at(0);
        self.sq_count -= 1;
        // An empty queue begins anew, so that it stays in the same few lines of the cache.
        self.sq_head = if (self.sq_count == 0) 0 else self.wrap(self.sq_head + 1);
        return taken;
    }

    /// Once around at most.
    fn wrap(self: *const Epoll, at: u32) u32 {
        return if (at < self.sq_entries) at else at - self.sq_entries;
    }

    pub fn queued(self: *const Epoll) u32 {
        return self.sq_count;
    }

    pub fn room(self: *const Epoll) u32 {
        return self.sq_entries - self.sq_count;
    }

    pub fn enter(self: *Epoll, min_complete: u32, wait_ms: u32) i32 {
        chains.run_started(self); // what a close outside of an enter has set going
        const submitted = self.submit();
        if (submitted < 0) return submitted;
        self.run_timers();
        const outcome = self.gather(min_complete, wait_ms);
        return if (submitted > 0) submitted else outcome;
    }

    /// Chain by chain. Back-pressure: -EBUSY without room for what would complete at once, -EAGAIN
    /// without room for more operations in flight.
    fn submit(self: *Epoll) i32 {
        if (self.sq_count == 0) return 0;
        var submitted: u32 = 0;
        const refusal = while (self.sq_count > 0) {
            const count = self.chain_length();
            if (self.completions.count > 0 and self.completions.room() < count) break errno.busy;
            if (self.pool.available() < count) break errno.again;
            chains.submit(self, count);
            chains.run_started(self);
            submitted += count;
        } else 0;
        return if (submitted > 0) @intCast(submitted) else refusal;
    }

    fn chain_length(self: *Epoll) u32 {
        var count: u32 = 1;
        while (count < self.sq_count and chains.is_linked(self.entry_at(count - 1))) count += 1;
        return count;
    }

    // Events -----------------------------------------------------------------------------------

    /// Lets what is ready go on; waits for so many completions, if asked. 0 or a negative errno.
    fn gather(self: *Epoll, min_complete: u32, wait_ms: u32) i32 {
        const waits = min_complete > 0 and wait_ms > 0;
        const deadline = if (waits) self.now_ns() + wait_ms * std.time.ns_per_ms else 0;
        const enough = @min(min_complete, self.cq_entries);
        while (true) {
            const is_last = !waits or self.completions.count >= enough;
            const left_ms = if (is_last) 0 else milliseconds_until(deadline, self.now_ns());
            if (self.events.is_empty()) {
                const looked = self.look(left_ms);
                if (looked < 0) return looked;
            }
            self.run_events();
            self.run_timers();
            if (is_last or left_ms == 0 or self.completions.count >= enough) return 0;
        }
    }

    /// Rounded up: a wait that ends before its time would be begun again.
    fn milliseconds_until(deadline: u64, now: u64) u32 {
        return @intCast((deadline -| now + std.time.ns_per_ms - 1) / std.time.ns_per_ms);
    }

    /// Asks epoll; without anything to hope for, only if it may wait.
    fn look(self: *Epoll, wait_ms: u32) i32 {
        if (wait_ms == 0 and self.descriptors.watched == 0) return 0;
        if (wait_ms > 0) self.wake.set_timer(self.timers.nearest() orelse 0);
        const count = self.events.look(self.descriptors.epoll_fd, wait_ms);
        return if (count == errno.intr and wait_ms == 0) 0 else @min(count, 0);
    }

    /// Completions that one enter hands over, as a DEFER_TASKRUN ring does (K15): the receive
    /// buffers in use stay few and warm, and answers go before more is read.
    const batch = 32;

    /// What is left stays where it is: for the next enter, or epoll tells it again.
    fn run_events(self: *Epoll) void {
        const enough = @min(self.completions.count + batch, self.cq_entries);
        while (self.completions.count < enough) {
            const event = self.events.take() orelse return;
            if (event.data.u64 == Wake.timer_tag) {
                self.wake.set_timer(0);
                continue;
            }
            self.run_event(@bitCast(event.data.u64), event.events);
            chains.run_started(self);
        }
    }

    fn run_event(self: *Epoll, tag: Descriptors.Tag, events: u32) void {
        if (!self.descriptors.is_present(tag)) return;
        const always: u32 = linux.EPOLL.ERR | linux.EPOLL.HUP;
        var is_wanted = false;
        var next = self.descriptors.first_waiting(tag.fd);
        while (next) |operation| {
            next = Descriptors.next_waiting(operation);
            if (events & (operation.interest | always) == 0) continue;
            is_wanted = true;
            operation.events = events;
            chains.attempt(self, operation);
        }
        if (!is_wanted) self.descriptors.settle(tag);
    }

    fn run_timers(self: *Epoll) void {
        if (self.timers.count == 0) return;
        const now = self.now_ns();
        while (self.timers.due(now)) |operation| {
            chains.expire(self, operation);
            chains.run_started(self);
        }
    }

    // Completion -------------------------------------------------------------------------------

    pub fn ready(self: *const Epoll) bool {
        if (self.completions.count > 0 or !self.events.is_empty()) return true;
        if (self.timers.nearest()) |at_ns| if (at_ns <= self.now_ns()) return true;
        if (self.descriptors.watched == 0) return false;
        const count = self.events.look(self.descriptors.epoll_fd, 0);
        return count != 0 and count != errno.intr; // `enter` says what is wrong
    }

    /// A system call.
    pub fn look_cost(_: *const Epoll) u32 {
        return 16;
    }

    pub fn cqes(self: *Epoll) []const Cqe {
        return self.completions.run();
    }

    pub fn advance(self: *Epoll, count: u32) void {
        self.completions.advance(count);
    }

    pub fn cq_queued(self: *const Epoll) u32 {
        return self.completions.count;
    }

    pub fn cq_room(self: *const Epoll) u32 {
        return self.completions.room();
    }

    pub fn overflowed(self: *const Epoll) u32 {
        return self.completions.overflowed;
    }

    // Provided and registered ------------------------------------------------------------------

    pub fn buffer_ring_register(
        self: *Epoll,
        group: seam.BufferGroup,
        memory: []align(4096) u8,
        entries: u32,
    ) i32 {
        if (self.provided.get(group).is_registered()) return errno.exist;
        self.provided.set(group, .init(memory, entries));
        return 0;
    }

    pub fn buffer_ring_add(self: *Epoll, group: seam.BufferGroup, bytes: []u8, id: u16) void {
        self.provided.getPtr(group).add(bytes, id);
    }

    pub fn buffer_ring_publish(self: *Epoll, group: seam.BufferGroup) void {
        self.provided.getPtr(group).publish();
    }

    /// It would save nothing here: descriptors are what system calls name.
    pub fn files_register(_: *Epoll, _: u32) i32 {
        return errno.inval;
    }

    pub fn file_set(_: *Epoll, _: u32, _: i32) i32 {
        return errno.inval;
    }

    pub fn buffers_register(self: *Epoll, count: u32) i32 {
        return self.buffers.register(count);
    }

    pub fn buffer_set(self: *Epoll, place: u32, bytes: []u8) i32 {
        return self.buffers.set(place, bytes);
    }

    pub fn buffers_unregister(self: *Epoll) void {
        self.buffers.unregister();
    }

    pub fn supports(_: *const Epoll, opcode: system.Op) bool {
        return @import("epoll/attempts.zig").is_known(opcode);
    }

    pub fn plain(_: *Epoll, named: *const Sqe) i32 {
        return @import("plain.zig").perform_ready(named);
    }

    // Sleep ------------------------------------------------------------------------------------

    pub fn arm(self: *Epoll, _: bool) bool {
        if (self.completions.count > 0 or !self.events.is_empty()) return true;
        if (self.wake.event_fd < 0) return self.ready(); // whoever sleeps has a clock of his own
        self.wake.set_timer(self.timers.nearest() orelse 0);
        // It signals also what is ready already: nothing is lost between a look and this.
        return !self.wake.arm(self.descriptors.epoll_fd);
    }

    /// A signal that comes all the same finds nobody asleep.
    pub fn disarm(_: *Epoll) void {}

    pub fn wake_fd(self: *const Epoll) i32 {
        return self.wake.event_fd;
    }

    pub fn bell_open(self: *Epoll, by: seam.Bell.By, user_data: u64) seam.Bell.Opened {
        // A message has no ring to go to.
        return seam.Bell.open(by, self.wake.event_fd, -1, user_data);
    }

    pub fn now_ns(_: *const Epoll) u64 {
        return system.now_ns();
    }

    // Descriptors ------------------------------------------------------------------------------

    pub fn own(self: *Epoll, fd: i32) void {
        self.descriptors.own(fd);
    }

    /// Non-blocking: accept4(2) and connect(2) have no flag for it.
    pub fn socket(self: *Epoll, target: *const SocketAddress) i32 {
        const kind = linux.SOCK.STREAM | linux.SOCK.CLOEXEC | linux.SOCK.NONBLOCK;
        const fd = system.result(linux.socket(target.family(), kind, 0));
        if (fd >= 0) self.descriptors.set_non_blocking(fd);
        return fd;
    }

    pub fn bind(_: *Epoll, fd: i32, target: *const SocketAddress) i32 {
        return socket_call.bind(fd, target);
    }

    pub fn listen(_: *Epoll, fd: i32, backlog: u32) i32 {
        return socket_call.listen(fd, backlog);
    }

    pub fn shut(_: *Epoll, fd: i32, side: seam.Side) void {
        socket_call.shut(fd, side);
    }

    pub fn address(_: *Epoll, fd: i32, end: seam.End, out: *SocketAddress) i32 {
        return socket_call.address(fd, end, out);
    }

    pub fn set_option(_: *Epoll, fd: i32, option: seam.Option, value: u32) i32 {
        return socket_option.set(fd, option, value);
    }

    pub fn get_option(_: *Epoll, fd: i32, option: seam.Option) i32 {
        return socket_option.get(fd, option);
    }

    pub fn adopt(_: *Epoll, fd: i32) i32 {
        return socket_option.adopt(fd);
    }

    pub fn membership(_: *Epoll, fd: i32, change: *const seam.Membership) i32 {
        return multicast.change(fd, change);
    }

    pub fn send_now(_: *Epoll, fd: i32, bytes: []const u8) i32 {
        return socket_call.send_now(fd, bytes);
    }

    pub const pipe_open = pipe.Calls(Epoll).pipe_open;
    pub const pipe_fill = pipe.Calls(Epoll).pipe_fill;
    pub const pipe_drain = pipe.Calls(Epoll).pipe_drain;

    pub fn close_fd(self: *Epoll, fd: i32) void {
        self.disown(fd);
        system.close(fd);
    }

    /// Before a close. Who waits on it all the same goes on with a duplicate (K5).
    pub fn disown(self: *Epoll, fd: i32) void {
        self.descriptors.disown(fd);
        chains.keep_waiting(self, fd);
    }

    pub fn duplicate(_: *Epoll, fd: i32) i32 {
        return system.duplicate(fd);
    }

    pub fn is_open(_: *Epoll, fd: i32) bool {
        return socket_call.is_open(fd);
    }
};
