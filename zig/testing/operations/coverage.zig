//! Which ends of which operations the schedules must have seen, and why the others cannot be.
//! What a test demands that it reaches, a change cannot quietly keep it from.

const std = @import("std");
const model = @import("model.zig");
const Kind = model.Kind;
const Column = model.Column;

/// Each cell occurs at least so often in one run of the schedules.
pub const count_min = 1000;

/// Why an end cannot be, or null if it must have been seen.
pub fn absent(kind: Kind, column: Column) ?[]const u8 {
    return switch (column) {
        .full, .cancelled, .unlinked => null,
        .short => switch (kind) {
            .read, .write, .readv, .writev, .read_fixed, .write_fixed => null,
            .send, .recv, .sendmsg, .recvmsg, .splice => null,
            else => "it moves no bytes",
        },
        .failed => switch (kind) {
            .nop => "it touches nothing that could fail",
            else => null,
        },
        .timed_out => switch (kind) {
            .nop => "it completes as it starts",
            .close => "close(2) cannot be taken back",
            else => null,
        },
    };
}
