//! What the epoll twin knows of descriptors: which are watched, for what, and who waits on them.
//!
//! A descriptor of the engine's own is put into epoll's set when an operation first waits on it,
//! and stays until it is closed: level-triggered, without a call per operation. Interest that
//! nobody has any more is taken back only when it fires. A descriptor of somebody else may be
//! closed, and its number used again, while an operation waits: like the real ring, which holds the
//! file, such an operation works on a duplicate from its first wait to its last CQE.

const std = @import("std");
const assert = std.debug.assert;
const linux = std.os.linux;
const system = @import("../linux.zig");
const operations = @import("operation.zig");
const Operation = operations.Operation;
const Waiting = operations.List("on_descriptor");

const Descriptor = struct {
    /// The events with which it is in epoll's set, or 0.
    interest: u32 = 0,
    /// Tells an event of the present file from one of a file that had the number before.
    generation: u32 = 0,
    /// Nobody else closes it.
    is_own: bool = false,
    /// It was made with O_NONBLOCK.
    is_non_blocking: bool = false,
    /// Operations that wait for it elsewhere: on duplicates, or for their time to come.
    borrowers: u32 = 0,
    waiting: Waiting = .{},
};

pub const Descriptors = struct {
    epoll_fd: i32,
    /// By number; it grows as numbers do.
    table: []Descriptor,
    mapping: system.Mapping,
    /// So many are in epoll's set.
    watched: u32 = 0,

    const first_size = 1024 * @sizeOf(Descriptor);

    pub fn init(epoll_fd: i32) error{OutOfMemory}!Descriptors {
        const mapping = try system.page_map(first_size);
        system.page_keep_from_fork(mapping);
        return .{ .epoll_fd = epoll_fd, .table = table_in(mapping), .mapping = mapping };
    }

    pub fn deinit(descriptors: *Descriptors) void {
        system.page_unmap(descriptors.mapping);
    }

    /// Untouched memory is zero, and so is the state of a descriptor that nobody asked for.
    fn table_in(mapping: system.Mapping) []Descriptor {
        comptime assert(std.mem.allEqual(u8, std.mem.asBytes(&@as(u64, 0)), 0));
        const start: [*]Descriptor = @ptrCast(mapping.ptr);
        return start[0 .. mapping.len / @sizeOf(Descriptor)];
    }

    fn grow(descriptors: *Descriptors, fd: i32) error{OutOfMemory}!void {
        const needed: usize = @intCast(fd);
        if (needed < descriptors.table.len) return;
        const before = descriptors.mapping;
        var len = before.len;
        while (needed >= len / @sizeOf(Descriptor)) len *= 2;
        const raw = linux.mremap(before.ptr, before.len, len, .{ .MAYMOVE = true }, null);
        if (linux.errno(raw) != .SUCCESS) return error.OutOfMemory;
        const start: [*]align(std.heap.page_size_min) u8 = @ptrFromInt(raw);
        descriptors.mapping = start[0..len];
        descriptors.table = table_in(descriptors.mapping);
    }

    fn find(descriptors: *Descriptors, fd: i32) ?*Descriptor {
        if (fd < 0 or fd >= descriptors.table.len) return null;
        return &descriptors.table[@intCast(fd)];
    }

    // Whose ------------------------------------------------------------------------------------

    /// From here to `disown` nobody else closes it.
    pub fn own(descriptors: *Descriptors, fd: i32) void {
        descriptors.grow(fd) catch return; // then it is treated as somebody else's
        descriptors.find(fd).?.is_own = true;
    }

    pub fn is_own(descriptors: *Descriptors, fd: i32) bool {
        return if (descriptors.find(fd)) |descriptor| descriptor.is_own else false;
    }

    /// Before a close: the set must not keep what another process may still hold open.
    pub fn disown(descriptors: *Descriptors, fd: i32) void {
        const descriptor = descriptors.find(fd) orelse return;
        if (descriptor.interest != 0) descriptors.leave(fd, descriptor);
        descriptor.is_own = false;
        descriptor.is_non_blocking = false;
    }

    pub fn set_non_blocking(descriptors: *Descriptors, fd: i32) void {
        descriptors.grow(fd) catch return; // then it is taken for one that blocks
        descriptors.find(fd).?.is_non_blocking = true;
    }

    pub fn is_non_blocking(descriptors: *Descriptors, fd: i32) bool {
        return if (descriptors.find(fd)) |descriptor| descriptor.is_non_blocking else false;
    }

    /// An operation on it waits, and is not in its list.
    pub fn wait_apart(descriptors: *Descriptors, fd: i32) bool {
        if (fd < 0) return false;
        descriptors.grow(fd) catch return false; // then a cancel by it misses one
        descriptors.find(fd).?.borrowers += 1;
        return true;
    }

    pub fn end_apart(descriptors: *Descriptors, fd: i32) void {
        descriptors.find(fd).?.borrowers -= 1;
    }

    /// A duplicate for an operation that waits; negative where no number is free.
    pub fn lend(descriptors: *Descriptors, fd: i32) i32 {
        const duplicate = system.duplicate(fd);
        if (duplicate < 0) return duplicate;
        descriptors.grow(fd) catch {
            system.close(duplicate);
            return system.errno.nomem;
        };
        descriptors.find(fd).?.borrowers += 1;
        return duplicate;
    }

    pub fn take_back(descriptors: *Descriptors, fd: i32, duplicate: i32) void {
        descriptors.find(fd).?.borrowers -= 1;
        system.close(duplicate);
    }

    /// Whether all who wait on it are in its list.
    pub fn is_lent(descriptors: *Descriptors, fd: i32) bool {
        return if (descriptors.find(fd)) |descriptor| descriptor.borrowers > 0 else false;
    }

    // Waiting ----------------------------------------------------------------------------------

    /// Until one of these events; 0, or why it cannot wait.
    pub fn wait(descriptors: *Descriptors, operation: *Operation, fd: i32, events: u32) i32 {
        descriptors.grow(fd) catch return system.errno.nomem;
        const descriptor = descriptors.find(fd).?;
        if (operation.watched >= 0 and operation.watched != fd) descriptors.leave_list(operation);
        operation.interest = events;
        if (operation.watched < 0) {
            operation.watched = fd;
            descriptor.waiting.append(operation);
        }
        if (events & ~descriptor.interest == 0) return 0;
        return descriptors.enter(fd, descriptor, wanted(descriptor));
    }

    fn wanted(descriptor: *const Descriptor) u32 {
        var events: u32 = 0;
        var next = descriptor.waiting.first;
        while (next) |operation| : (next = Waiting.after(operation)) events |= operation.interest;
        return events;
    }

    fn enter(descriptors: *Descriptors, fd: i32, descriptor: *Descriptor, events: u32) i32 {
        const is_new = descriptor.interest == 0;
        const verb: u32 = if (is_new) linux.EPOLL.CTL_ADD else linux.EPOLL.CTL_MOD;
        const outcome = descriptors.control(verb, fd, descriptor, events);
        if (outcome < 0) return outcome;
        descriptor.interest = events;
        descriptors.watched += @intFromBool(is_new);
        return 0;
    }

    fn leave(descriptors: *Descriptors, fd: i32, descriptor: *Descriptor) void {
        assert(descriptor.interest != 0);
        // Refused only if the file is gone, and with it its place in the set.
        _ = descriptors.control(linux.EPOLL.CTL_DEL, fd, descriptor, 0);
        descriptor.interest = 0;
        descriptor.generation +%= 1;
        descriptors.watched -= 1;
    }

    fn control(
        descriptors: *Descriptors,
        verb: u32,
        fd: i32,
        descriptor: *const Descriptor,
        events: u32,
    ) i32 {
        const tag: Tag = .{ .fd = fd, .generation = descriptor.generation };
        var event: linux.epoll_event = .{ .events = events, .data = .{ .u64 = @bitCast(tag) } };
        return system.result(linux.epoll_ctl(descriptors.epoll_fd, verb, fd, &event));
    }

    /// The operation waits no more. What is not ours must not stay in the set behind its owner's
    /// back.
    pub fn leave_list(descriptors: *Descriptors, operation: *Operation) void {
        const fd = operation.watched;
        if (fd < 0) return;
        operation.watched = -1;
        const descriptor = descriptors.find(fd).?;
        descriptor.waiting.remove(operation);
        if (descriptor.is_own or descriptor.interest == 0) return;
        if (descriptor.waiting.first == null) descriptors.leave(fd, descriptor);
    }

    // Events -----------------------------------------------------------------------------------

    /// What an event says of its descriptor.
    pub const Tag = packed struct(u64) { fd: i32, generation: u32 };

    /// False if the event is of a file that had the number before.
    pub fn is_present(descriptors: *Descriptors, tag: Tag) bool {
        const descriptor = descriptors.find(tag.fd) orelse return false;
        return descriptor.generation == tag.generation;
    }

    pub fn first_waiting(descriptors: *Descriptors, fd: i32) ?*Operation {
        return if (descriptors.find(fd)) |descriptor| descriptor.waiting.first else null;
    }

    pub fn next_waiting(operation: *const Operation) ?*Operation {
        return Waiting.after(operation);
    }

    /// After an event that nobody waited for: the interest is taken back. Errors and hang-ups,
    /// which cannot be left out, only end with the place in the set.
    pub fn settle(descriptors: *Descriptors, tag: Tag) void {
        const descriptor = descriptors.find(tag.fd) orelse return;
        if (descriptor.generation != tag.generation or descriptor.interest == 0) return;
        const still = wanted(descriptor);
        if (still == 0) return descriptors.leave(tag.fd, descriptor);
        // A refusal leaves it as it is: it fires again, and is tried again.
        _ = descriptors.enter(tag.fd, descriptor, still);
    }
};
