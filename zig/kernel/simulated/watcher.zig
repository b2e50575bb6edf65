//! Who looks at a simulated kernel: it is shown what goes in and what comes out.
//!
//! `testing/steps.zig` writes it down for a run that failed and was made short.

const system = @import("../linux.zig");

pub const Watcher = struct {
    context: *anyopaque,
    /// Each SQE as it is taken.
    submitted: *const fn (*anyopaque, *const system.Sqe) void,
    /// Each CQE as it is posted, before it has room in the queue.
    posted: *const fn (*anyopaque, *const system.Cqe) void,
};
