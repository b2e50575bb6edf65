//! The descriptor of another event loop on this thread, heard while the ring waits.
//!
//! A ring that has the thread to itself (`ring.run`) waits in the kernel, where Bun's loop does not
//! see its own events. One poll of that loop's epoll descriptor ends such a wait; `Control` counts
//! them, and JavaScript lets the other loop go round. The descriptor stays the caller's.
//!
//! The other loop watches the ring's wake fd. Were both in force at once, an event of its would
//! complete the poll, which signals the wake fd, which is an event of its, all within one call of
//! the kernel's and under its lock. So the wake fd is off as long as the poll is in the kernel, and
//! `Engine.arm` refuses. The twin's wake fd cannot be switched off: there the waits stay deaf.

const std = @import("std");
const assert = std.debug.assert;
const seam = @import("kernel.zig");
const slots = @import("slots.zig");
const control = @import("operation/control.zig");
const Engine = @import("engine.zig").Engine;

/// idle ──a turn that waits──▶ armed ──CQE──▶ idle
///                               └─ nobody wants it ─▶ ending ──CQE──▶ idle
const Poll = enum { idle, armed, ending };

pub const Companion = struct {
    /// Below 0: nobody wants it.
    fd: i32 = -1,
    poll: Poll = .idle,
    cancels_pending: u32 = 0,
    /// The turn may wait; in others JavaScript is with the other loop as soon as they are over.
    waits: bool = false,

    pub fn set(companion: *Companion, engine: *Engine, fd: i32) i32 {
        if (fd >= 0) {
            if (engine.kernel == .epoll) return seam.errno.notsup;
            engine.kernel.disarm(); // a new ring's is on
        }
        companion.fd = @max(fd, -1);
        return 0;
    }

    /// Arms the poll, or takes it back. False: no SQE.
    pub fn advance(companion: *Companion, engine: *Engine) bool {
        const arms = companion.poll == .idle and companion.fd >= 0 and companion.waits;
        if (!arms and !companion.is_unwanted()) return true;
        const sqe = engine.sqe() orelse return false;
        if (arms) {
            companion.poll = .armed;
            control.Companion.prepare(sqe, companion.fd, tag(.companion));
        } else {
            companion.poll = .ending;
            companion.cancels_pending += 1;
            control.CompanionCancel.prepare(sqe, tag(.companion), tag(.companion_cancel));
        }
        return true;
    }

    fn is_unwanted(companion: *const Companion) bool {
        return companion.poll == .armed and companion.fd < 0;
    }

    /// Its poll is being taken back, before anybody sleeps.
    pub fn has_work(companion: *const Companion) bool {
        return companion.fd < 0 and companion.in_flight() > 0;
    }

    /// What the kernel still holds.
    pub fn in_flight(companion: *const Companion) u32 {
        return @intFromBool(companion.poll != .idle) + companion.cancels_pending;
    }

    fn tag(kind: @FieldType(slots.UserData, "kind")) slots.UserData {
        return .{ .slot = 0, .kind = kind, .generation = 0 };
    }

    /// Readable, or of no use: one that cannot be polled is not asked again.
    pub fn on_ready(companion: *Companion, engine: *Engine, cqe: *const seam.Cqe) void {
        if (companion.poll == .idle) return engine.stale(cqe);
        companion.poll = .idle;
        engine.control.companions +%= 1;
        if (cqe.res < 0 and cqe.res != seam.errno.canceled) companion.fd = -1;
    }

    pub fn on_cancel_done(companion: *Companion) void {
        assert(companion.cancels_pending > 0);
        companion.cancels_pending -= 1;
    }
};
