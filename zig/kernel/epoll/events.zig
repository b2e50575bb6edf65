//! What epoll said last and nobody has handled yet.
//!
//! A look without waiting keeps what it finds for the enter that follows. Events may be out of date
//! when they are handled: whoever takes them checks.

const linux = @import("std").os.linux;
const system = @import("../linux.zig");

pub const Events = struct {
    list: [256]linux.epoll_event,
    next: u32,
    count: u32,

    /// `list` is memory that nobody touches before it is needed.
    pub fn clear(events: *Events) void {
        events.next = 0;
        events.count = 0;
    }

    pub fn is_empty(events: *const Events) bool {
        return events.next == events.count;
    }

    /// The number of new ones, or a negative errno. Only when the last ones were all taken.
    pub fn look(events: *Events, epoll_fd: i32, wait_ms: u32) i32 {
        const most = events.list.len;
        const wait: i32 = @intCast(wait_ms);
        const count = system.result(linux.epoll_wait(epoll_fd, &events.list, most, wait));
        events.next = 0;
        events.count = @intCast(@max(count, 0));
        return count;
    }

    pub fn take(events: *Events) ?*const linux.epoll_event {
        if (events.is_empty()) return null;
        events.next += 1;
        return &events.list[events.next - 1];
    }
};
