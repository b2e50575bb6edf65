//! Bugs put in on purpose, to prove that the schedules find such bugs.
//!
//! One of them can be active, in test builds only: elsewhere `is` is false at comptime and leaves
//! no code. A place that has a bug to offer asks `is` in one line. `canary.zig` turns each on in
//! turn and expects a violation.

const builtin = @import("builtin");

pub const Mutation = enum {
    none,
    /// Received bytes go back to the kernel before JavaScript has read them.
    return_buffer_early,
    /// A buffer that comes back is added to the ring twice.
    return_buffer_twice,
    /// One delivered receive buffer is never given back.
    keep_buffer,
    /// A lent receive buffer goes back although it was not released.
    forget_loan,
    /// What a short send left over is taken for sent.
    skip_remainder,
    /// Staged blocks are released when their send is submitted, not when it completes.
    release_blocks_early,
    /// A connection's slot is not retired after its last completion.
    lose_retirement,
    /// A connection that ran out of buffers is not woken.
    forget_parked,
    /// The descriptor is closed while a receive names it.
    close_early,
    /// A refused writer is never told that there is room.
    forget_drain,
    /// Pausing does not end the receive that is armed.
    ignore_pause,
    /// The ring says that it may sleep while there is work.
    sleep_early,
    /// A handle or a CQE of an earlier generation is taken for the present one's.
    ignore_generation,
};

var active: Mutation = .none;

pub inline fn is(mutation: Mutation) bool {
    return builtin.is_test and active == mutation;
}

pub fn activate(mutation: Mutation) void {
    active = mutation;
}
