//! Sleep: whether a ring may, and what wakes it.
//!
//! The loop arms the ring before it sleeps: from then on the wake fd tells what completes. Arming
//! says if there is work already, be it the kernel's or the engine's own, and then nobody sleeps
//! (I12). Called by `exports.zig`, as methods of the engine, between turns.

const std = @import("std");
const seam = @import("kernel.zig");
const mutation = @import("testing/mutation.zig");
const receiving = @import("receiving.zig");
const Engine = @import("engine.zig").Engine;

/// Work that another turn would move on without anything new from outside.
pub fn has_work(engine: *const Engine) bool {
    if (mutation.is(.sleep_early)) return false;
    return engine.dirty.count > 0 or engine.dirty_listeners.count > 0 or
        engine.dirty_operations.count > 0 or engine.finished.count > 0 or
        engine.datagrams.has_work() or engine.deadlines.has_work() or engine.timers.count > 0 or
        engine.kernel.queued() > 0 or engine.kernel.ready() or engine.posts.has_work() or
        engine.companion.has_work() or receiving.has_work(engine) or
        (engine.starved.count > 0 and engine.staging_pool.available() > 0);
}

pub fn arm(engine: *Engine) i32 {
    if (engine.companion.in_flight() > 0) return 1; // it must not be in the kernel then
    // Before the kernel's own barrier, and pairs with the load in `rings.buffer_released`.
    const waiting = engine.parked.count + engine.full_count;
    @atomicStore(u32, &engine.control.waiting, waiting, .seq_cst);
    const ready = engine.kernel.arm(engine.wake_stale);
    if (!ready) engine.wake_stale = false;
    return @intFromBool(engine.posts.sleep(.in_loop) or ready or has_work(engine));
}

pub fn disarm(engine: *Engine) i32 {
    engine.kernel.disarm();
    return 0;
}

pub fn wake(engine: *Engine) i32 {
    const one: u64 = 1; // eventfd(2) adds it to the counter
    return @min(seam.linux.write(engine.bell_fd, std.mem.asBytes(&one)), 0);
}
