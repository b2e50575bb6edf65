//! Registered buffers and files of users: UNREGISTERED → REGISTERED → DRAINING → UNREGISTERED.
//!
//! An operation on a registered resource is counted from its start to its last CQE, and the count
//! falls before JavaScript hears of it: a callback may finish the unregistration itself. Files
//! share the kernel's one table with connections, behind their places. Called by `exports.zig`,
//! `calls.zig` and `submission.zig`.

const std = @import("std");
const assert = std.debug.assert;
const abi = @import("abi.zig");
const seam = @import("kernel.zig");
const mutation = @import("testing/mutation.zig");
const Engine = @import("engine.zig").Engine;
const Operation = @import("operation.zig").Operation;
const errno = seam.errno;

pub const places = abi.registered_max;
const Entry = struct { address: u64 = 0, len: u64 = 0 };

/// unregistered ──register──▶ registered ──request──▶ draining ──last operation──▶ unregistered
///                                 ▲──────keep (time-out)──────┘
pub const Registration = struct {
    state: abi.RegistrationState = .unregistered,
    count: u32 = 0,
    in_flight: u32 = 0,
    entries: [places]Entry = @splat(.{}),
};

fn of(engine: *Engine, resource: u32) ?*Registration {
    return switch (std.enums.fromInt(abi.Resource, resource) orelse return null) {
        .buffers => &engine.registered_buffers,
        .files => &engine.registered_user_files,
    };
}

pub fn register(engine: *Engine, resource: u32, entries: ?[*]const f64, count: u32) i32 {
    if (engine.fatal != 0) return engine.fatal;
    const self = of(engine, resource) orelse return errno.inval;
    switch (self.state) {
        .registered => return errno.exist,
        .draining => return errno.busy,
        .unregistered => {},
    }
    const pairs = entries orelse return errno.inval;
    if (count == 0 or count > places) return errno.inval;
    for (0..count) |i| {
        self.entries[i] = entry_from(resource, pairs[2 * i], pairs[2 * i + 1]) orelse
            return errno.inval;
    }
    const outcome = if (self == &engine.registered_buffers)
        register_buffers(engine, self.entries[0..count])
    else
        register_files(engine, self.entries[0..count]);
    if (outcome < 0) return outcome;
    self.count = count;
    self.state = .registered;
    assert(self.in_flight == 0);
    return 0;
}

fn entry_from(resource: u32, first: f64, second: f64) ?Entry {
    const address = whole(first) orelse return null;
    const len = whole(second) orelse return null;
    if (resource == @intFromEnum(abi.Resource.files)) {
        return if (address > std.math.maxInt(i32)) null else .{ .address = address };
    }
    // One registered buffer has at most 1 GiB (io_uring_register(2)).
    if (address == 0 or len == 0 or len > 1 << 30) return null;
    return .{ .address = address, .len = len };
}

/// A whole number that an f64 holds exactly.
pub fn whole(value: f64) ?u64 {
    if (!(value >= 0 and value <= 1 << 53) or @floor(value) != value) return null;
    return @intFromFloat(value);
}

fn register_buffers(engine: *Engine, entries: []const Entry) i32 {
    const made = engine.kernel.buffers_register(@intCast(entries.len));
    if (made < 0) return made;
    for (entries, 0..) |entry, place| {
        const bytes = memory_of(&entry);
        const outcome = engine.kernel.buffer_set(@intCast(place), bytes);
        if (outcome < 0) {
            engine.kernel.buffers_unregister();
            return outcome;
        }
    }
    return 0;
}

fn memory_of(entry: *const Entry) []u8 {
    const start: [*]u8 = @ptrFromInt(entry.address);
    return start[0..entry.len];
}

fn register_files(engine: *Engine, entries: []const Entry) i32 {
    for (entries, 0..) |entry, place| {
        const outcome = set_file(engine, @intCast(place), @intCast(entry.address));
        if (outcome < 0) {
            for (0..place) |set| _ = set_file(engine, @intCast(set), -1);
            return outcome;
        }
    }
    return 0;
}

fn set_file(engine: *Engine, place: u32, fd: i32) i32 {
    if (!engine.has(.registered_files)) return 0; // emulated: the descriptor itself is named
    return engine.kernel.file_set(engine.registered_files + place, fd);
}

/// The kernel keeps the old resource for the operations that have it (io_uring_register(2)).
pub fn update(engine: *Engine, resource: u32, place: u32, first: f64, second: f64) i32 {
    const self = of(engine, resource) orelse return errno.inval;
    switch (self.state) {
        .unregistered => return errno.noent,
        .draining => return errno.busy,
        .registered => {},
    }
    if (place >= self.count) return errno.inval;
    const entry = entry_from(resource, first, second) orelse return errno.inval;
    // What is queued was started on the old resource: it goes before the change.
    const flushed = if (mutation.is(.update_early)) 0 else engine.flush_only();
    if (flushed < 0) return flushed;
    // What the kernel has not taken yet is looked up when it does.
    const waiting = engine.dirty_operations.count + engine.kernel.queued();
    if (waiting > 0 and !mutation.is(.update_early)) return errno.again;
    const outcome = if (self == &engine.registered_buffers)
        engine.kernel.buffer_set(place, memory_of(&entry))
    else
        set_file(engine, place, @intCast(entry.address));
    if (outcome >= 0) self.entries[place] = entry;
    return outcome;
}

pub fn request_unregister(engine: *Engine, resource: u32) i32 {
    const self = of(engine, resource) orelse return errno.inval;
    if (self.state == .unregistered) return errno.noent;
    self.state = .draining;
    finish(engine, self);
    return @intFromBool(self.state == .draining);
}

/// A drain that took too long is given up: new operations are taken again.
pub fn keep(engine: *Engine, resource: u32) i32 {
    const self = of(engine, resource) orelse return errno.inval;
    if (self.state == .unregistered) return errno.noent;
    self.state = .registered;
    return 0;
}

fn finish(engine: *Engine, self: *Registration) void {
    const used = self.in_flight > 0 and !mutation.is(.end_early);
    if (self.state != .draining or used) return;
    if (self == &engine.registered_buffers) {
        engine.kernel.buffers_unregister();
    } else {
        for (0..self.count) |place| _ = set_file(engine, @intCast(place), -1);
    }
    self.state = .unregistered;
    self.count = 0;
}

pub fn read(engine: *Engine, resource: u32, out: *abi.Registration) i32 {
    const self = of(engine, resource) orelse return errno.inval;
    out.* = .{ .state = self.state, .count = self.count, .in_flight = self.in_flight };
    return 0;
}

// Operations -----------------------------------------------------------------------------------

fn uses_buffer(self: *const Operation) bool {
    return self.kind == .read_fixed or self.kind == .write_fixed;
}

/// Checks and counts what an operation uses; 0, or why it cannot start.
pub fn operation_starts(engine: *Engine, self: *Operation) i32 {
    if (uses_buffer(self)) {
        const code = check(&engine.registered_buffers, self.arguments.extra);
        if (code < 0) return code;
        const entry = &engine.registered_buffers.entries[self.arguments.extra];
        const offset = whole(self.arguments.offset_second) orelse return errno.inval;
        if (self.arguments.length == 0) return errno.inval;
        if (offset + self.arguments.length > entry.len) return errno.overflow;
        self.arguments.address = @floatFromInt(entry.address + offset);
        self.options |= 1 << @intFromEnum(abi.OperationOption.native_memory);
    }
    if (self.option(.registered_file)) {
        const place = std.math.cast(u32, self.arguments.fd) orelse return errno.inval;
        const code = check(&engine.registered_user_files, place);
        if (code < 0) return code;
        engine.registered_user_files.in_flight += 1;
    }
    if (uses_buffer(self)) engine.registered_buffers.in_flight += 1;
    return 0;
}

fn check(self: *const Registration, place: u32) i32 {
    return switch (self.state) {
        .unregistered => errno.noent,
        .draining => errno.busy,
        .registered => if (place < self.count) 0 else errno.inval,
    };
}

pub fn operation_done(engine: *Engine, self: *const Operation) void {
    if (uses_buffer(self)) {
        if (!mutation.is(.keep_count)) engine.registered_buffers.in_flight -= 1;
        finish(engine, &engine.registered_buffers);
    }
    if (self.option(.registered_file)) {
        engine.registered_user_files.in_flight -= 1;
        finish(engine, &engine.registered_user_files);
    }
}

/// The place of a user's file among all registered ones, or the descriptor where there are none.
pub fn name_file(engine: *Engine, entry: *seam.Sqe) void {
    if (!engine.has(.registered_files)) {
        entry.flags &= ~seam.sqe_flag.fixed_file;
        return plain_file(engine, entry);
    }
    entry.fd += @intCast(engine.registered_files);
}

pub fn plain_file(engine: *Engine, entry: *seam.Sqe) void {
    const place: u32 = @intCast(entry.fd);
    entry.fd = @intCast(engine.registered_user_files.entries[place].address);
}
