//! The latch: what is done once, when a submission fails in a way that is no back-pressure.
//!
//! From here on nothing is submitted and every call gets the error (I8). JavaScript tells everybody
//! who waits; here only what would be lost without a word is carried out: whoever asked to close a
//! descriptor has given it away, and nobody else would ever close it.

const std = @import("std");
const assert = std.debug.assert;
const seam = @import("kernel.zig");
const Engine = @import("engine.zig").Engine;

pub fn latch(engine: *Engine, code: i32) void {
    assert(code < 0);
    if (engine.fatal != 0) return;
    engine.fatal = code;
    engine.posts.shut();
    close_submitted(engine);
    close_queued(engine);
}

/// Entries that the kernel has not taken, of users and of connections, newest first. What follows
/// another member of a chain is not started before that has succeeded: it is left alone.
fn close_submitted(engine: *Engine) void {
    var later: ?i32 = null;
    while (engine.kernel.take_back()) |entry| {
        const leads = entry.flags & (seam.sqe_flag.io_link | seam.sqe_flag.io_hardlink) != 0;
        if (later) |fd| if (!leads) engine.kernel.close_fd(fd);
        later = if (entry.opcode == .CLOSE) entry.fd else null;
    }
    if (later) |fd| engine.kernel.close_fd(fd);
}

/// Operations that had no entry yet.
pub fn close_queued(engine: *Engine) void {
    while (engine.dirty_operations.pop(&engine.operations)) |index| {
        const operation = engine.operations.at(index);
        if (operation.kind != .close or operation.stage != .queued) continue;
        if (operation.cancelled or operation.follows) continue;
        engine.kernel.close_fd(operation.arguments.fd);
    }
}
