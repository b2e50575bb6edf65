//! The model of registered buffers and files: the state machine, its counts, and who has what.
//!
//! The model's count falls when the records of a turn are about to be read, all at once, as the
//! engine's does: a handler may already finish the unregistration. After each turn state and count
//! of the engine must be the model's.

const std = @import("std");
const abi = @import("../../abi.zig");
const seam = @import("../../kernel.zig");
const registration = @import("../../registration.zig");
const Descriptor = @import("descriptors.zig").Descriptor;
const model = @import("model.zig");
const Run = @import("../operations.zig").Run;
const Error = @import("../operations.zig").Error;
const Operation = model.Operation;
const errno = seam.errno;

pub const places_max = 6;
pub const buffer_size = 2048;

/// A number that no descriptor has.
pub const bad_fd = 900;

pub const Registration = struct {
    state: abi.RegistrationState = .unregistered,
    count: u32 = 0,
    in_flight: u32 = 0,
    buffers: [places_max][]u8 = undefined,
    /// Null: a descriptor that is not open.
    files: [places_max]?*Descriptor = @splat(null),

    /// What an operation on this place is refused with, or 0.
    pub fn refusal(self: *const Registration, place: u32) i32 {
        return switch (self.state) {
            .unregistered => errno.noent,
            .draining => errno.busy,
            .registered => if (place < self.count) 0 else errno.inval,
        };
    }

    fn finish(self: *Registration) void {
        if (self.state != .draining or self.in_flight > 0) return;
        self.state = .unregistered;
        for (self.files[0..self.count]) |*file| {
            if (file.*) |descriptor| descriptor.places -= 1;
            file.* = null;
        }
        self.count = 0;
    }
};

fn of(run: *Run, resource: abi.Resource) *Registration {
    return switch (resource) {
        .buffers => &run.buffers,
        .files => &run.files,
    };
}

pub fn operation_started(run: *Run, operation: *const Operation) void {
    if (operation.uses_buffer) run.buffers.in_flight += 1;
    if (operation.uses_file) run.files.in_flight += 1;
}

pub fn operation_done(run: *Run, operation: *const Operation) void {
    if (operation.uses_buffer) {
        run.buffers.in_flight -= 1;
        run.buffers.finish();
    }
    if (operation.uses_file) {
        run.files.in_flight -= 1;
        run.files.finish();
    }
}

pub fn act(run: *Run) Error!void {
    const resource: abi.Resource = if (run.chance(50)) .buffers else .files;
    switch (run.below(10)) {
        0...3 => try register(run, resource),
        4...6 => try update(run, resource),
        7 => try request_unregister(run, resource),
        8 => {
            const self = of(run, resource);
            const expected = if (self.state == .unregistered) errno.noent else 0;
            const outcome = registration.keep(run.engine, @intFromEnum(resource));
            if (outcome >= 0) self.state = .registered;
            try run.expect_outcome("keep", expected, outcome);
        },
        else => {
            if (registration.register(run.engine, 2, null, 1) != errno.inval) {
                return run.verdict.violation("a resource of no kind was registered", .{});
            }
        },
    }
    try compare(run);
}

fn register(run: *Run, resource: abi.Resource) Error!void {
    const self = of(run, resource);
    var pairs: [2 * places_max]f64 = @splat(0);
    var next: Registration = .{ .state = .registered, .count = 1 + run.below(places_max) };
    var bad = false;
    for (0..next.count) |place| {
        if (resource == .buffers) {
            next.buffers[place] = try run.arena.alloc(u8, buffer_size);
            @memset(next.buffers[place], 'r');
            pairs[2 * place] = @floatFromInt(@intFromPtr(next.buffers[place].ptr));
            pairs[2 * place + 1] = buffer_size;
        } else {
            next.files[place] = pick_file(run);
            pairs[2 * place] = fd_of(next.files[place]);
            bad = bad or next.files[place] == null;
        }
    }
    const expected = switch (self.state) {
        .registered => errno.exist,
        .draining => errno.busy,
        .unregistered => 0,
    };
    const number = @intFromEnum(resource);
    const outcome = registration.register(run.engine, number, &pairs, next.count);
    if (expected == 0 and outcome == errno.nomem and resource == .buffers) return; // by chance
    if (expected == 0 and bad and outcome == errno.badf) return;
    if (expected == 0 and resource == .files and outcome == errno.mfile) return; // no duplicate
    try run.expect_outcome("register", expected, outcome);
    if (outcome < 0) return;
    if (bad) {
        return run.verdict.violation("a bad descriptor was registered", .{});
    }
    for (next.files[0..next.count]) |file| if (file) |descriptor| {
        descriptor.places += 1;
    };
    self.* = next;
}

fn fd_of(file: ?*const Descriptor) f64 {
    return if (file) |descriptor| @floatFromInt(descriptor.fd) else bad_fd;
}

/// Null stands for a descriptor that is not open; rarely, or if there is none.
fn pick_file(run: *Run) ?*Descriptor {
    if (run.descriptors.items.len == 0 or run.chance(5)) return null;
    for (0..8) |_| {
        const at = run.below(@intCast(run.descriptors.items.len));
        const descriptor = run.descriptors.items[at];
        if (descriptor.closing) continue;
        if (descriptor.kind == .file or descriptor.kind == .stream) return descriptor;
    }
    return null;
}

fn update(run: *Run, resource: abi.Resource) Error!void {
    const self = of(run, resource);
    const place = run.below(places_max + 1);
    const expected = if (self.state == .unregistered)
        errno.noent
    else if (self.state == .draining)
        errno.busy
    else if (place >= self.count)
        errno.inval
    else
        @as(i32, 0);
    // A member of a chain looks it up when its turn comes: no update meanwhile.
    const engine = run.engine;
    const waiting = engine.dirty_operations.count + engine.kernel.queued() + engine.timers.count;
    const queued = waiting > 0 or engine.deadlines.has_work() or
        has_follower(run, resource, place);
    const number = @intFromEnum(resource);
    if (resource == .buffers) {
        const memory = try run.arena.alloc(u8, buffer_size);
        @memset(memory, 'r');
        const address: f64 = @floatFromInt(@intFromPtr(memory.ptr));
        const outcome = registration.update(run.engine, number, place, address, buffer_size);
        if (expected == 0 and outcome == errno.nomem) return; // by chance
        if (expected == 0 and queued and outcome == errno.again) return;
        try run.expect_outcome("update", expected, outcome);
        if (outcome >= 0) self.buffers[place] = memory;
        return;
    }
    const file = pick_file(run);
    const outcome = registration.update(run.engine, number, place, fd_of(file), 0);
    if (expected == 0 and queued and outcome == errno.again) return;
    if (expected == 0 and file == null and outcome == errno.badf) return;
    if (expected == 0 and outcome == errno.mfile) return; // no duplicate
    try run.expect_outcome("update", expected, outcome);
    if (expected < 0) return;
    if (has_follower(run, resource, place)) {
        return run.verdict.violation("a place was updated that a chain waits for", .{});
    }
    if (self.files[place]) |before| before.places -= 1;
    self.files[place] = file;
    if (file) |descriptor| descriptor.places += 1;
}

fn has_follower(run: *Run, resource: abi.Resource, place: u32) bool {
    for (run.by_slot) |entry| if (entry) |operation| {
        if (operation.previous == null) continue;
        // A record that is still to be read may have ended it already.
        const found = run.engine.operations.find(operation.index, operation.generation);
        if (found == null) continue;
        const arguments = &operation.arguments;
        switch (resource) {
            .files => if (operation.uses_file and arguments.fd == place) return true,
            .buffers => if (operation.uses_buffer and arguments.extra == place) return true,
        }
    };
    return false;
}

fn request_unregister(run: *Run, resource: abi.Resource) Error!void {
    const self = of(run, resource);
    const outcome = registration.request_unregister(run.engine, @intFromEnum(resource));
    if (self.state == .unregistered) {
        return run.expect_outcome("request_unregister", errno.noent, outcome);
    }
    self.state = .draining;
    self.finish();
    const expected: i32 = @intFromBool(self.state == .draining);
    try run.expect_outcome("request_unregister", expected, outcome);
}

pub fn unregister_all(run: *Run) Error!void {
    for (std.enums.values(abi.Resource)) |resource| {
        if (of(run, resource).state == .unregistered) continue;
        try request_unregister(run, resource);
    }
    try compare(run);
}

/// After a teardown nobody has heard of the last ends: only the engine's own count is known.
pub fn unregister_torn_down(run: *Run) Error!void {
    for (std.enums.values(abi.Resource)) |resource| {
        const outcome = registration.request_unregister(run.engine, @intFromEnum(resource));
        if (outcome == 0 or outcome == errno.noent) continue;
        return run.verdict.violation("{t} are in use after the teardown", .{resource});
    }
}

pub fn compare(run: *Run) Error!void {
    for (std.enums.values(abi.Resource)) |resource| {
        const self = of(run, resource);
        var seen: abi.Registration = undefined;
        const outcome = registration.read(run.engine, @intFromEnum(resource), &seen);
        try run.expect_outcome("read", 0, outcome);
        if (seen.state == self.state and seen.count == self.count and
            seen.in_flight == self.in_flight) continue;
        return run.verdict.violation("{t} are {t} ({d}, {d} in flight), not {t} ({d}, {d})", .{
            resource,   seen.state, seen.count,     seen.in_flight,
            self.state, self.count, self.in_flight,
        });
    }
}
