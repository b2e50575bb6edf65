//! Posts on the owner's side: the mailbox that a ring reads, and the bell that wakes it.
//!
//! A ring has a mailbox from the first time on that somebody asks for its token. Each turn looks
//! into it, before the enter and after it, so that posters ring only while the ring sleeps: before
//! a wait and before Bun's loop sleeps it says so and looks once more. Blocks that arrive belong to
//! the ring until JavaScript adopts them, or the next turn begins. Called by `engine.zig`.

const std = @import("std");
const assert = std.debug.assert;
const abi = @import("abi.zig");
const seam = @import("kernel.zig");
const slots = @import("slots.zig");
const block = @import("block.zig");
const mailbox_file = @import("mailbox.zig");
const submission = @import("submission.zig");
const control = @import("operation/control.zig");
const failure = @import("failure.zig");
const mutation = @import("testing/mutation.zig");
const Engine = @import("engine.zig").Engine;
const Operation = @import("operation.zig").Operation;
const Mailbox = mailbox_file.Mailbox;
const errno = seam.errno;

/// Posts that one turn takes; more come in the next.
pub const turn_max = 256;

/// idle ──flush──▶ armed ──the ring closes──▶ ending ──last CQE──▶ idle
///  ▲                └─ a CQE without F_MORE ─┐
///  └──────────────────────────────────────────┘
const Poll = enum { idle, armed, ending };

pub const Posts = struct {
    mailbox: ?*Mailbox = null,
    /// Of the mailbox; 0 is none. Atomic: whoever finds the owner gone looks, too.
    token: u32 = 0,
    /// The multishot poll of the bell's eventfd; a bell that sends messages needs none.
    poll: Poll = .idle,
    poll_fd: i32 = -1,
    cancels_pending: u32 = 0,
    /// Blocks in the records of this turn that nobody has adopted.
    delivered: std.DoublyLinkedList = .{},
    /// Offloaded operations that are to end without an outcome.
    cancelled: slots.Queue(Operation, "dirty") = .{},
    closing: bool = false,

    // Opening and closing ----------------------------------------------------------------------

    /// The token by which other threads post: the same at each call.
    pub fn open(posts: *Posts, engine: *Engine) i32 {
        if (posts.mailbox) |present| return @intCast(present.token);
        if (engine.fatal != 0) return engine.fatal;
        if (posts.closing) return errno.shutdown;
        const by: seam.Bell.By = if (engine.has(.doorbell))
            .event
        else if (engine.has(.msg_ring))
            .message
        else
            return errno.notsup;
        const bell = switch (engine.kernel.bell_open(by, @bitCast(tag(.bell)))) {
            .bell => |bell| bell,
            .refused => |refused| return refused,
        };
        posts.poll_fd = bell.poll_fd();
        const opened = switch (mailbox_file.open(engine.config.posts, bell)) {
            .mailbox => |mailbox| mailbox,
            .refused => |refused| return refused,
        };
        posts.mailbox = opened;
        @atomicStore(u32, &posts.token, opened.token, .monotonic);
        return @intCast(opened.token);
    }

    /// Posters are refused from here on, and the poll ends with the next turns.
    pub fn shut(posts: *Posts) void {
        posts.closing = true;
        posts.shut_foreign();
    }

    /// The first half of it, on any thread.
    pub fn shut_foreign(posts: *Posts) void {
        mailbox_file.shut(@atomicLoad(u32, &posts.token, .monotonic));
    }

    /// What is left is dropped. Also on another thread, when the owner's is gone.
    pub fn close(posts: *Posts) void {
        posts.closing = true;
        posts.drop_delivered();
        const mailbox = posts.mailbox orelse return;
        posts.mailbox = null;
        mailbox_file.close(mailbox);
    }

    pub fn in_flight(posts: *const Posts) u32 {
        return @intFromBool(posts.poll != .idle) + posts.cancels_pending;
    }

    // The turn ---------------------------------------------------------------------------------

    /// JavaScript has read the last turn's records: what it left is nobody's.
    pub fn begin(posts: *Posts, engine: *Engine) void {
        posts.drop_delivered();
        posts.collect(engine);
    }

    fn drop_delivered(posts: *Posts) void {
        while (posts.delivered.popFirst()) |node| {
            if (!mutation.is(.keep_delivered)) block.Header.behind(node).release();
        }
    }

    /// Arms the poll, or cancels it when the ring closes. False: no SQE.
    pub fn advance(posts: *Posts, engine: *Engine) bool {
        if (!posts.poll_has_work()) return true;
        const sqe = engine.sqe() orelse return false;
        if (posts.poll == .idle) {
            posts.poll = .armed;
            control.Bell.prepare(sqe, posts.poll_fd, tag(.bell));
        } else {
            posts.poll = .ending;
            posts.cancels_pending += 1;
            control.BellCancel.prepare(sqe, tag(.bell), tag(.bell_cancel));
        }
        return true;
    }

    fn poll_has_work(posts: *const Posts) bool {
        return switch (posts.poll) {
            .idle => posts.mailbox != null and posts.poll_fd >= 0 and !posts.closing,
            .armed => posts.closing,
            .ending => false,
        };
    }

    fn tag(kind: @FieldType(slots.UserData, "kind")) slots.UserData {
        return .{ .slot = 0, .kind = kind, .generation = 0 };
    }

    /// Somebody rang: `collect` sees what for.
    pub fn on_bell(posts: *Posts, engine: *Engine, cqe: *const seam.Cqe) void {
        engine.wake_stale = true;
        if (posts.poll_fd < 0 or cqe.flags & seam.cqe_flag.more != 0) return;
        posts.poll = .idle; // an end without a failure is armed again
        if (cqe.res >= 0 or cqe.res == errno.canceled) return;
        // Deaf to its posters it could sleep for ever: they must hear of it.
        failure.latch(engine, cqe.res);
    }

    pub fn on_cancel_done(posts: *Posts) void {
        assert(posts.cancels_pending > 0);
        posts.cancels_pending -= 1;
    }

    /// Makes records of what waits in the mailbox, as far as they go.
    pub fn collect(posts: *Posts, engine: *Engine) void {
        defer posts.end_cancelled(engine);
        const mailbox = posts.mailbox orelse return;
        mailbox.wake();
        const signals = mailbox.take_signals();
        if (signals.wakeup) engine.control.wakeups +%= 1;
        if (signals.stop) engine.control.stops +%= 1;
        for (0..turn_max) |_| {
            if (engine.record_count == engine.records.len) break;
            const post = mailbox.take() orelse break;
            if (mutation.is(.lose_post) and post.kind == .number and post.data == 9) continue;
            switch (post.kind) {
                .number => tell(engine, .post, &post),
                .block => {
                    tell(engine, .post_block, &post);
                    posts.delivered.append(&block.of(post.data).?.node); // as it was put
                },
                .outcome => posts.end_offloaded(engine, &post),
            }
        }
        engine.control.posts = mailbox.waiting();
    }

    /// One that is over already has its outcome (I2).
    fn end_offloaded(posts: *Posts, engine: *Engine, post: *const mailbox_file.Post) void {
        const index = post.key;
        const operation = engine.operations.find(index, post.extra);
        if (operation == null or operation.?.stage != .offloaded) {
            engine.counters.cqes_stale += 1;
            return mailbox_file.drop(post);
        }
        posts.cancelled.remove(&engine.operations, index);
        submission.settle_offloaded(engine, index, 0);
        engine.records[engine.record_count - 1].data = post.data;
        posts.delivered.append(&block.of(post.data).?.node);
    }

    /// After everything that was posted before: success wins (I4).
    fn end_cancelled(posts: *Posts, engine: *Engine) void {
        if (posts.cancelled.count == 0 or posts.has_mail()) return;
        while (engine.record_count < engine.records.len) {
            const index = posts.cancelled.pop(&engine.operations) orelse return;
            submission.settle_offloaded(engine, index, errno.canceled);
        }
    }

    /// At the end of the ring: no record tells of it.
    pub fn forget(posts: *Posts, engine: *Engine, index: u32) void {
        posts.cancelled.remove(&engine.operations, index);
        engine.operations.retire(index);
    }

    fn has_mail(posts: *const Posts) bool {
        const mailbox = posts.mailbox orelse return false;
        return mailbox.has_any();
    }

    fn tell(engine: *Engine, event: abi.Event, post: *const mailbox_file.Post) void {
        engine.records[engine.record_count] = .{
            .event = event,
            .index = 0,
            .generation = 0,
            .result = 0,
            .offset = 0,
            .extra = post.key,
            .data = post.data,
        };
        engine.record_count += 1;
    }

    /// JavaScript has it now: the length in bytes, -1 if it was not delivered in this turn.
    pub fn adopt(posts: *Posts, address: f64) f64 {
        const asked = block.of(address) orelse return -1;
        // It is only looked at once it is known to be ours: mostly it is the first.
        var next = posts.delivered.first;
        while (next) |node| : (next = node.next) {
            if (block.Header.behind(node) != asked) continue;
            posts.delivered.remove(node);
            block.hand_over(asked);
            return asked.length();
        }
        return -1;
    }

    // Sleeping ---------------------------------------------------------------------------------

    /// Whether another turn would find anything here.
    pub fn has_work(posts: *const Posts) bool {
        return posts.poll_has_work() or posts.cancelled.count > 0 or posts.has_mail();
    }

    /// From here on posters ring. True: something is there already, do not sleep.
    pub fn sleep(posts: *Posts, sleeper: seam.Bell.Sleeper) bool {
        const mailbox = posts.mailbox orelse return false;
        return !mailbox.sleep(sleeper);
    }
};
