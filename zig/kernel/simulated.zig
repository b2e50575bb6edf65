//! The simulated kernel: the same SQEs in, the same CQEs out, from a seeded random schedule.
//!
//! One thread, no real I/O, its own clock: the same seed and calls give the same run. It is as
//! strict as a kernel may be and as unkind as one can be: it reads memory late, completes in any
//! order, takes parts, fails, runs out, and checks that what it was given keeps still until the
//! last CQE (I1). What only a bug of ours can cause is kept in `violation`. Called through
//! `kernel.zig` by the engine, and directly by tests, which also drive the peers. Parts:
//! `operations.zig` runs operations and chains, `streams.zig` and `system_calls.zig` perform,
//! `zero_copy.zig` notifies, `network.zig` holds sockets, `peers.zig` the other ends, `pipes.zig`
//! splices, `volume.zig` files, `provided.zig` receive buffers, `registered.zig` the tables,
//! `bells.zig` the doorbell, `fate.zig` the dice, `chance.zig` failures that man pages list,
//! `outcomes.zig` the counts.

const std = @import("std");
const assert = std.debug.assert;
const system = @import("linux.zig");
const seam = @import("../kernel.zig");
const SocketAddress = @import("address.zig").SocketAddress;
const Chance = @import("simulated/chance.zig").Chance;
const Clock = @import("simulated/clock.zig").Clock;
const Fate = @import("simulated/fate.zig").Fate;
const Network = @import("simulated/network.zig").Network;
const datagrams = @import("simulated/datagrams.zig");
const provided_file = @import("simulated/provided.zig");
const registered_file = @import("simulated/registered.zig");
const Registered = registered_file.Registered;
const Volume = @import("simulated/volume.zig").Volume;
const system_calls = @import("simulated/system_calls.zig");
const none = @import("simulated/network.zig").none;
const operations = @import("simulated/operations.zig");
const zero_copy = @import("simulated/zero_copy.zig");
const Operation = operations.Operation;
const errno = system.errno;

pub const Faults = @import("simulated/fate.zig").Faults;
pub const Struck = @import("simulated/fate.zig").Struck;
pub const Limits = @import("simulated/network.zig").Limits;
pub const outcomes = @import("simulated/outcomes.zig");
pub const peers = @import("simulated/peers.zig");
pub const pipes = @import("simulated/pipes.zig");
pub const Watcher = @import("simulated/watcher.zig").Watcher;

pub const Config = struct {
    seed: u64,
    /// Any number, also 1: back-pressure then is the rule.
    entries: u32 = 64,
    cq_entries: u32 = 256,
    limits: Limits = .{},
    faults: Faults = .{},
    chance: Chance = .{},
};

pub const Simulated = struct {
    allocator: std.mem.Allocator,
    fate: Fate,
    clock: *Clock,
    network: Network,
    volume: Volume,
    provided: provided_file.Groups,
    post_office: datagrams.Post,
    registered: Registered,
    tubes: pipes.Tubes = .empty,
    outcomes: outcomes.Outcomes,
    sqes: []Sqe,
    sq_head: u32 = 0,
    sq_count: u32 = 0,
    cqes_memory: []Cqe,
    cq_head: u32 = 0,
    cq_count: u32 = 0,
    /// Of these, so many were read and stand in the queue still.
    cq_read: u32 = 0,
    /// Completed, not yet in the completion queue; oldest first from `completed_head`.
    completed: std.ArrayList(Cqe),
    completed_head: usize = 0,
    /// The first so many of `completed` were refused for want of room already.
    overflow_marked: usize = 0,
    overflow_count: u32 = 0,
    pending: std.ArrayList(*Operation),
    spare: std.ArrayList(*Operation),
    /// Zero-copy sends whose memory the kernel still has.
    notifications: std.ArrayList(*Operation),
    /// The chain that the present submission is about.
    chain_head: ?*Operation = null,
    chain_tail: ?*Operation = null,
    /// Peers made by CONNECT that the test has not taken yet.
    connected: std.ArrayList(u32) = .empty,
    bell: @import("simulated/bells.zig").State = .{},
    /// Completion queue entries that were readable so far.
    events: u64 = 0,
    closed: bool = false,
    chance: Chance,
    watcher: ?Watcher = null,
    /// The first thing seen that only a bug above the seam can cause.
    violation: ?[]const u8 = null,

    const Sqe = system.Sqe;
    const Cqe = system.Cqe;
    pub const bell_open = @import("simulated/bells.zig").open;

    pub fn create(allocator: std.mem.Allocator, config: Config) !*Simulated {
        assert(config.entries > 0 and config.cq_entries > 0);
        const kernel = try allocator.create(Simulated);
        errdefer allocator.destroy(kernel);
        const clock = try allocator.create(Clock);
        errdefer allocator.destroy(clock);
        const sqes = try allocator.alloc(Sqe, config.entries);
        errdefer allocator.free(sqes);
        const cqes_memory = try allocator.alloc(Cqe, config.cq_entries);
        errdefer allocator.free(cqes_memory);
        clock.* = .{};
        kernel.* = .{
            .allocator = allocator,
            .fate = .init(config.seed, config.faults),
            .clock = clock,
            .network = try .init(allocator, config.limits, &kernel.fate, &kernel.volume),
            .volume = .{ .allocator = allocator },
            .provided = .{},
            .post_office = .{},
            .registered = .{},
            .outcomes = .{},
            .sqes = sqes,
            .cqes_memory = cqes_memory,
            .completed = .empty,
            .pending = .empty,
            .spare = .empty,
            .notifications = .empty,
            .chance = config.chance,
        };
        return kernel;
    }

    pub fn destroy(kernel: *Simulated) void {
        const allocator = kernel.allocator;
        for (kernel.pending.items) |operation| operations.abandon_followers(kernel, operation);
        const lists = [_]*std.ArrayList(*Operation){
            &kernel.pending, &kernel.spare, &kernel.notifications,
        };
        for (lists) |list| {
            for (list.items) |operation| {
                operation.parts.deinit(allocator);
                allocator.destroy(operation);
            }
            list.deinit(allocator);
        }
        kernel.completed.deinit(allocator);
        kernel.connected.deinit(allocator);
        kernel.chance.failed.deinit(allocator);
        kernel.registered.deinit(allocator);
        kernel.volume.deinit();
        pipes.deinit(kernel);
        kernel.provided.deinit(allocator);
        kernel.post_office.deinit(allocator);
        kernel.network.deinit(allocator);
        allocator.free(kernel.sqes);
        allocator.free(kernel.cqes_memory);
        allocator.destroy(kernel.clock);
        allocator.destroy(kernel);
    }

    /// Keeps the first message: later ones are mostly its consequences.
    pub fn violate(kernel: *Simulated, message: []const u8) void {
        if (kernel.violation == null) kernel.violation = message;
    }

    pub fn sqe(kernel: *Simulated) ?*Sqe {
        if (kernel.cq_read > 0) kernel.violate("completions are dispatched before the head moved");
        if (kernel.sq_count == kernel.sqes.len) return null;
        const entry = &kernel.sqes[(kernel.sq_head + kernel.sq_count) % kernel.sqes.len];
        kernel.sq_count += 1;
        entry.* = std.mem.zeroes(Sqe);
        return entry;
    }

    pub fn take_back(kernel: *Simulated) ?*const Sqe {
        if (kernel.sq_count == 0) return null;
        kernel.sq_count -= 1;
        return &kernel.sqes[(kernel.sq_head + kernel.sq_count) % kernel.sqes.len];
    }

    pub fn queued(kernel: *const Simulated) u32 {
        return kernel.sq_count;
    }

    pub fn room(kernel: *const Simulated) u32 {
        return @as(u32, @intCast(kernel.sqes.len)) - kernel.sq_count;
    }

    pub fn enter(kernel: *Simulated, min_complete: u32, wait_ms: u32) i32 {
        if (kernel.closed) kernel.violate("enter after close");
        kernel.clock.pass(1 + kernel.fate.below(20_000));
        const waits = min_complete > 0 and wait_ms > 0;
        if (kernel.fate.strikes("enter_lost")) return errno.badf;
        if (kernel.fate.strikes("enter_busy")) return errno.busy;
        if (kernel.sq_count > 0 and kernel.fate.strikes("enter_again")) return errno.again;
        var submitted = kernel.sq_count;
        if (submitted > 1 and kernel.fate.strikes("enter_partial")) {
            submitted = kernel.whole_chains(1 + kernel.fate.below(submitted - 1));
        }
        const all = submitted == kernel.sq_count;
        for (0..submitted) |_| kernel.submit_one();
        operations.end_chain(kernel);
        // An enter that takes only a part returns before it looks at completions (K13).
        if (!all) return @intCast(submitted);
        // Now and then much happened since the last time.
        operations.progress(kernel, kernel.fate.below(if (kernel.fate.chance(50)) 400 else 16));
        kernel.deliver();
        if (!waits) return @intCast(submitted);
        if (submitted == 0 and kernel.cq_count == 0 and kernel.fate.strikes("enter_interrupted")) {
            return errno.intr;
        }
        kernel.wait(min_complete, wait_ms);
        return @intCast(submitted);
    }

    /// For tests: nobody enters, but pending operations go on, and time with them, until there is
    /// something to wake up for or nothing moves any more.
    pub fn go_on(kernel: *Simulated) void {
        for (0..2) |_| {
            if (kernel.ready()) return;
            operations.progress_all(kernel);
            if (kernel.ready()) return;
            const next = operations.next_deadline(kernel) orelse return;
            kernel.clock.now = @max(kernel.clock.now, next);
        }
    }

    /// So many entries, and what is linked to the last one: a kernel that is out of memory may end
    /// a chain in its middle, but nobody above the seam could do anything about it.
    fn whole_chains(kernel: *const Simulated, least: u32) u32 {
        var count = least;
        while (count < kernel.sq_count) : (count += 1) {
            const last = (kernel.sq_head + count - 1) % kernel.sqes.len;
            if (!operations.is_linked(&kernel.sqes[last])) break;
        }
        return count;
    }

    fn submit_one(kernel: *Simulated) void {
        const entry = &kernel.sqes[kernel.sq_head];
        const copy = entry.*;
        // Whoever keeps a pointer into the queue finds this.
        @memset(std.mem.asBytes(entry), garbage);
        kernel.sq_head = @intCast((kernel.sq_head + 1) % kernel.sqes.len);
        kernel.sq_count -= 1;
        if (kernel.watcher) |watcher| watcher.submitted(watcher.context, &copy);
        operations.submit(kernel, &copy);
    }

    /// Time passes until enough completions wait; nothing moves meanwhile but what is pending.
    fn wait(kernel: *Simulated, min_complete: u32, wait_ms: u32) void {
        const deadline = kernel.clock.now + @as(u64, wait_ms) * std.time.ns_per_ms;
        const enough = @min(min_complete, kernel.cqes_memory.len);
        var passes: u32 = 0;
        while (kernel.cq_count < enough) : (passes += 1) {
            assert(passes < 1_000_000); // each pass completes something or moves the clock
            const before = kernel.completed.items.len;
            operations.progress_all(kernel);
            if (kernel.completed.items.len == before and
                kernel.completed_head == kernel.completed.items.len)
            {
                const next = operations.next_deadline(kernel) orelse deadline;
                if (kernel.clock.now >= deadline) return;
                kernel.clock.now = @max(kernel.clock.now + 1, @min(next, deadline));
            }
            kernel.deliver();
        }
    }

    // Completion.

    pub fn post(kernel: *Simulated, user_data: u64, result: i32, flags: u32) void {
        const cqe: Cqe = .{ .user_data = user_data, .res = result, .flags = flags };
        if (kernel.watcher) |watcher| watcher.posted(watcher.context, &cqe);
        kernel.completed.append(kernel.allocator, cqe) catch out_of_memory();
    }

    /// Moves completions to the queue: about twenty at a time, as a deferring ring does (K15), or
    /// all of them, as another one does.
    fn deliver(kernel: *Simulated) void {
        const waiting = kernel.completed.items.len - kernel.completed_head;
        const most = if (kernel.fate.chance(100)) waiting else 1 + kernel.fate.below(24);
        const budget = @min(waiting, most);
        const moved = @min(budget, kernel.cqes_memory.len - kernel.cq_count);
        for (kernel.completed.items[kernel.completed_head..][0..moved]) |cqe| {
            const at = (kernel.cq_head + kernel.cq_count) % kernel.cqes_memory.len;
            kernel.cqes_memory[at] = cqe;
            kernel.cq_count += 1;
        }
        kernel.events += moved;
        kernel.completed_head += moved;
        const refused = budget - moved;
        kernel.overflow_marked -|= moved;
        if (refused > kernel.overflow_marked) {
            kernel.overflow_count += @intCast(refused - kernel.overflow_marked);
            kernel.overflow_marked = refused;
        }
        if (kernel.completed_head == kernel.completed.items.len) {
            kernel.completed.clearRetainingCapacity();
            kernel.completed_head = 0;
        }
    }

    pub fn ready(kernel: *const Simulated) bool {
        return kernel.cq_count > 0 or kernel.completed_head < kernel.completed.items.len;
    }

    pub fn look_cost(_: *const Simulated) u32 {
        return 1;
    }

    pub fn cqes(kernel: *Simulated) []const Cqe {
        const run = @min(kernel.cq_count, kernel.cqes_memory.len - kernel.cq_head);
        kernel.cq_read = @intCast(run);
        return kernel.cqes_memory[kernel.cq_head..][0..run];
    }

    pub fn advance(kernel: *Simulated, count: u32) void {
        if (count > kernel.cq_count) return kernel.violate("the head moved past the tail");
        kernel.cq_read = 0;
        for (0..count) |_| {
            @memset(std.mem.asBytes(&kernel.cqes_memory[kernel.cq_head]), garbage);
            kernel.cq_head = @intCast((kernel.cq_head + 1) % kernel.cqes_memory.len);
        }
        kernel.cq_count -= count;
    }

    pub fn cq_queued(kernel: *const Simulated) u32 {
        return kernel.cq_count;
    }

    pub fn cq_room(kernel: *const Simulated) u32 {
        return @as(u32, @intCast(kernel.cqes_memory.len)) - kernel.cq_count;
    }

    pub fn overflowed(kernel: *const Simulated) u32 {
        return kernel.overflow_count;
    }

    pub fn close(kernel: *Simulated) void {
        if (kernel.closed) kernel.violate("closed twice");
        kernel.closed = true;
        zero_copy.abandon(kernel);
    }

    pub fn buffer_ring_register(
        kernel: *Simulated,
        group: seam.BufferGroup,
        memory: []align(4096) u8,
        entries: u32,
    ) i32 {
        return kernel.provided.register(kernel.allocator, group, memory.len, entries);
    }

    pub fn buffer_ring_add(
        kernel: *Simulated,
        group: seam.BufferGroup,
        bytes: []u8,
        id: u16,
    ) void {
        if (kernel.provided.of(group).add(bytes, id)) |wrong| kernel.violate(wrong);
    }

    pub fn buffer_ring_publish(kernel: *Simulated, group: seam.BufferGroup) void {
        kernel.provided.of(group).publish();
    }

    pub fn files_register(kernel: *Simulated, count: u32) i32 {
        // Refused by chance, as by RLIMIT_NOFILE: plain descriptors then.
        if (kernel.fate.chance(333)) return errno.mfile;
        const files = &kernel.registered.files;
        files.appendNTimes(kernel.allocator, none, count) catch out_of_memory();
        return 0;
    }

    pub fn file_set(kernel: *Simulated, place: u32, fd: i32) i32 {
        return kernel.registered.file_set(&kernel.network, place, fd) orelse {
            kernel.violate("a place of a registered file is taken twice");
            return errno.inval;
        };
    }

    pub fn buffers_register(kernel: *Simulated, count: u32) i32 {
        const registered = &kernel.registered;
        if (registered.buffers_registered) return errno.busy;
        registered.buffers.appendNTimes(kernel.allocator, &.{}, count) catch out_of_memory();
        registered.buffers_registered = true;
        return 0;
    }

    pub fn buffer_set(kernel: *Simulated, place: u32, bytes: []u8) i32 {
        if (place >= kernel.registered.buffers.items.len) return errno.inval;
        if (kernel.fate.strikes("buffer_set")) return errno.nomem;
        kernel.registered.buffers.items[place] = bytes;
        return 0;
    }

    pub fn buffers_unregister(kernel: *Simulated) void {
        const registered = &kernel.registered;
        if (!registered.buffers_registered) kernel.violate("no buffers are registered");
        for ([_][]*Operation{ kernel.pending.items, kernel.notifications.items }) |list| {
            for (list) |operation| if (registered_file.chain_uses_buffer(operation)) {
                kernel.violate("buffers are unregistered that an operation uses");
            };
        }
        registered.buffers.clearRetainingCapacity();
        registered.buffers_registered = false;
    }

    pub fn supports(_: *const Simulated, _: system.Op) bool {
        return true;
    }

    pub fn plain(kernel: *Simulated, entry: *const Sqe) i32 {
        return system_calls.plain(kernel, entry);
    }

    pub fn arm(kernel: *Simulated, _: bool) bool {
        return kernel.ready();
    }

    pub fn disarm(_: *Simulated) void {}

    pub fn wake_fd(_: *const Simulated) i32 {
        return wake_descriptor;
    }

    pub fn now_ns(kernel: *const Simulated) u64 {
        return kernel.clock.read();
    }

    pub fn own(_: *Simulated, _: i32) void {}

    pub fn socket(kernel: *Simulated, _: *const SocketAddress) i32 {
        return kernel.network.create();
    }

    pub fn bind(kernel: *Simulated, fd: i32, target: *const SocketAddress) i32 {
        return kernel.network.bind(fd, target);
    }

    pub fn listen(kernel: *Simulated, fd: i32, backlog: u32) i32 {
        return kernel.network.listen(fd, backlog);
    }

    pub fn address(kernel: *Simulated, fd: i32, end: seam.End, out: *SocketAddress) i32 {
        return kernel.network.name_of(fd, end, out);
    }

    pub fn set_option(kernel: *Simulated, fd: i32, option: seam.Option, value: u32) i32 {
        return kernel.network.set_option(fd, option, value);
    }

    pub fn membership(kernel: *Simulated, fd: i32, _: *const seam.Membership) i32 {
        return if (kernel.network.find(fd) == null) errno.badf else 0;
    }

    pub fn get_option(kernel: *Simulated, fd: i32, _: seam.Option) i32 {
        return if (kernel.network.find(fd) == null) errno.badf else 0;
    }

    pub fn adopt(kernel: *Simulated, fd: i32) i32 {
        const index = kernel.network.find(fd) orelse return errno.badf;
        return if (kernel.network.is_socket(index)) 0 else errno.notsock;
    }

    pub fn send_now(kernel: *Simulated, fd: i32, bytes: []const u8) i32 {
        return kernel.network.send_now(fd, bytes);
    }

    pub const pipe_open = pipes.open;
    pub const pipe_fill = pipes.fill;
    pub const pipe_drain = pipes.drain;

    pub fn shut(kernel: *Simulated, fd: i32, side: seam.Side) void {
        switch (side) {
            .receiving => kernel.network.shut_receiving(fd),
            .both => kernel.network.stop_listening(fd),
        }
    }

    pub fn close_fd(kernel: *Simulated, fd: i32) void {
        _ = kernel.network.close(fd);
    }

    pub fn duplicate(kernel: *Simulated, fd: i32) i32 {
        return kernel.network.duplicate(fd);
    }

    pub fn is_open(kernel: *Simulated, fd: i32) bool {
        return kernel.network.is_open(fd);
    }
};

/// A number that no simulated descriptor has.
const wake_descriptor = 1 << 20;
const garbage: u8 = 0xaa;

pub fn out_of_memory() noreturn {
    @panic("the simulated kernel is out of memory");
}
