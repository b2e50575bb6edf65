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

const Entry = struct {
    /// Of a buffer; of a file its descriptor.
    address: u64 = 0,
    len: u64 = 0,
    /// A descriptor of our own of the same file.
    duplicate: i32 = -1,
};

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

/// Places for connections' files and users', as many as the kernel grants (at most RLIMIT_NOFILE);
/// connections beyond them go without.
pub fn reserve(engine: *Engine) void {
    var count = @min(engine.config.connections, connection_places_max);
    while (engine.kernel.files_register(count + places) < 0) {
        if (count == 0) return engine.features.remove(.registered_files);
        count = if (count < 64) 0 else count / 2;
    }
    engine.registered_files = count;
}

/// 8 bytes of kernel memory a place; beyond it the look-up is lost in the noise of so many.
const connection_places_max = 16384;

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

fn register_files(engine: *Engine, entries: []Entry) i32 {
    for (entries, 0..) |*entry, place| {
        const outcome = set_file(engine, @intCast(place), entry);
        if (outcome < 0) {
            for (entries[0..place], 0..) |*set, i| clear_file(engine, @intCast(i), set);
            return outcome;
        }
    }
    return 0;
}

/// A descriptor is named where the kernel has no table, and by plain calls: then a duplicate keeps
/// the file, whatever becomes of the number that was registered.
fn names_descriptors(engine: *const Engine) bool {
    return !engine.has(.registered_files) or engine.plain_kinds.count() > 0;
}

/// Looks the descriptor up first: a refusal leaves the place as it was.
fn set_file(engine: *Engine, place: u32, entry: *Entry) i32 {
    const fd: i32 = @intCast(entry.address);
    if (!engine.kernel.is_open(fd)) return errno.badf;
    if (names_descriptors(engine)) {
        const duplicate = engine.kernel.duplicate(fd);
        if (duplicate < 0) return duplicate;
        entry.duplicate = duplicate;
    }
    if (!engine.has(.registered_files)) return 0;
    const outcome = engine.kernel.file_set(engine.registered_files + place, fd);
    if (outcome < 0) close_duplicate(engine, entry);
    return outcome;
}

fn clear_file(engine: *Engine, place: u32, entry: *Entry) void {
    close_duplicate(engine, entry);
    if (!engine.has(.registered_files)) return;
    _ = engine.kernel.file_set(engine.registered_files + place, -1);
}

/// Operations that have started on it hold the file themselves.
fn close_duplicate(engine: *Engine, entry: *Entry) void {
    if (take_duplicate(entry)) |fd| engine.kernel.close_fd(fd);
}

pub fn take_duplicate(entry: *Entry) ?i32 {
    if (entry.duplicate < 0) return null;
    defer entry.duplicate = -1;
    return entry.duplicate;
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
    // What the kernel has not taken yet is looked up when it does, a member of a chain when its
    // turn comes.
    const waiting = engine.dirty_operations.count + engine.kernel.queued() > 0 or
        is_named_in_chain(engine, self, place);
    if (waiting and !mutation.is(.update_early)) return errno.again;
    if (self == &engine.registered_buffers) {
        const outcome = engine.kernel.buffer_set(place, memory_of(&entry));
        if (outcome >= 0) self.entries[place] = entry;
        return outcome;
    }
    var next = entry;
    const outcome = set_file(engine, place, &next);
    if (outcome < 0) return outcome;
    close_duplicate(engine, &self.entries[place]);
    self.entries[place] = next;
    return outcome;
}

/// Whether an operation in flight that follows another one will look for this place, or did.
fn is_named_in_chain(engine: *Engine, self: *const Registration, place: u32) bool {
    for (0..engine.operations.fresh) |index| {
        const slot: u32 = @intCast(index);
        if (!engine.operations.is_claimed(slot)) continue;
        const operation = engine.operations.at(slot);
        if (!operation.follows) continue;
        const named = if (self == &engine.registered_buffers)
            uses_buffer(operation) and operation.arguments.extra == place
        else
            operation.option(.registered_file) and operation.arguments.fd == place;
        if (named) return true;
    }
    return false;
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
        for (self.entries[0..self.count], 0..) |*entry, i| clear_file(engine, @intCast(i), entry);
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

/// The place of a user's file among all registered ones, or its duplicate where there are none.
pub fn name_file(engine: *Engine, entry: *seam.Sqe) void {
    if (!engine.has(.registered_files)) {
        entry.flags &= ~seam.sqe_flag.fixed_file;
        return plain_file(engine, entry);
    }
    entry.fd += @intCast(engine.registered_files);
}

pub fn plain_file(engine: *Engine, entry: *seam.Sqe) void {
    const place: u32 = @intCast(entry.fd);
    const file = &engine.registered_user_files.entries[place];
    entry.fd = if (file.duplicate >= 0) file.duplicate else @intCast(file.address);
}
