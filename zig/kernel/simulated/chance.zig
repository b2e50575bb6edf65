//! Failures by chance: an operation ends with an errno that its man page lists (`failures.zig`).
//!
//! Drawn when the operation starts, told when it would have been performed, and remembered: whoever
//! judges knows that nothing else was the cause, and that everything else has one. Called by
//! `operations.zig`.

const std = @import("std");
const failures = @import("../failures.zig");
const operations = @import("operations.zig");
const simulated = @import("../simulated.zig");
const Operation = operations.Operation;
const Simulated = simulated.Simulated;

pub const Chance = struct {
    /// Whose operations, by their `user_data`, may fail so.
    may_fail: *const fn (user_data: u64) bool = nobody,
    /// Those that did, and with what.
    failed: std.AutoHashMapUnmanaged(u64, i32) = .empty,

    fn nobody(_: u64) bool {
        return false;
    }

    /// What the operation failed with by chance, if it did; asked once.
    pub fn take(chance: *Chance, user_data: u64) ?i32 {
        const entry = chance.failed.fetchRemove(user_data) orelse return null;
        return entry.value;
    }
};

pub fn draw(kernel: *Simulated, operation: *Operation) void {
    const listed = failures.of(operation.sqe.opcode);
    if (listed.len == 0 or !kernel.chance.may_fail(operation.user_data)) return;
    if (kernel.fate.strikes("call")) operation.fails = kernel.fate.one_of(i32, listed);
}

pub fn fail(kernel: *Simulated, operation: *Operation) void {
    switch (operation.row) {
        // The descriptor is gone whatever close(2) says.
        .close => {
            const result = kernel.network.close(operation.fd);
            if (result < 0) return operations.finish(kernel, operation, result);
        },
        .connect => kernel.network.sockets[operation.socket].state = .dead,
        else => {},
    }
    const failed = &kernel.chance.failed;
    failed.put(kernel.allocator, operation.user_data, operation.fails) catch
        simulated.out_of_memory();
    operations.finish(kernel, operation, operation.fails);
}
