//! The simulated kernel's doorbell: an eventfd among its descriptors and a wake fd, or messages.
//!
//! Rung by the test between the engine's calls, where another thread would ring at any time.

const simulated = @import("../simulated.zig");
const seam = @import("../../kernel.zig");
const Simulated = simulated.Simulated;

pub const State = struct {
    /// The eventfd, or -1: then a ring is a completion with `user_data`.
    fd: i32 = -1,
    user_data: u64 = 0,
    /// The wake fd was written to.
    woken: bool = false,
};

pub fn open(kernel: *Simulated, by: seam.Bell.By, user_data: u64) seam.Bell.Opened {
    if (by == .event) {
        const fd = switch (kernel.network.open()) {
            .fd => |fd| fd,
            .refused => |refused| return .{ .refused = refused },
        };
        kernel.network.sockets[kernel.network.find(fd).?].state = .event;
        kernel.bell.fd = fd;
    }
    kernel.bell.user_data = user_data;
    return .{ .bell = .{ .simulated = kernel } };
}

pub fn ring(kernel: *Simulated, sleeper: seam.Bell.Sleeper) void {
    const bell = &kernel.bell;
    if (bell.fd < 0) return kernel.post(bell.user_data, 0, 0);
    if (sleeper == .in_loop) {
        bell.woken = true;
    } else {
        kernel.network.sockets[kernel.network.find(bell.fd).?].rings += 1;
    }
}

/// Whether the wake fd was written to since the last look.
pub fn take_wake(kernel: *Simulated) bool {
    defer kernel.bell.woken = false;
    return kernel.bell.woken;
}

pub fn close(kernel: *Simulated) void {
    if (kernel.bell.fd >= 0) _ = kernel.network.close(kernel.bell.fd);
    kernel.bell.fd = -1;
}
