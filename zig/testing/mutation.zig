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
    /// What a short send left over is sent after later data.
    delay_remainder,
    /// A send that fails gives up what the peer has sent before.
    drop_unread,
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
    /// A connection goes on receiving when it holds its share.
    ignore_share,
    /// What goes back to a connection that holds its share does not wake it.
    forget_share,
    /// Who comes last to the line for a buffer is served first.
    jump_line,
    /// Loans do not stop at the low-water mark.
    lend_all,
    /// The ring says that it may sleep while there is work.
    sleep_early,
    /// A handle or a CQE of an earlier generation is taken for the present one's.
    ignore_generation,
    /// Completions are dispatched while they still stand at the head of their queue.
    dispatch_first,
    /// A deadline that was moved later is dropped when its old time comes.
    forget_deadline,
    /// A deadline that was moved later strikes at its old time.
    hasten_deadline,
    /// A poster does not wake a ring that sleeps.
    forget_bell,
    /// A ring sleeps without telling its posters.
    sleep_unheard,
    /// One of many posts is not told.
    lose_post,
    /// A block that nobody adopts stays mapped.
    keep_delivered,
    /// The owner of memory on loan is told at the result, not at the notification.
    release_loan_early,
    /// The owner of memory on loan is never told.
    keep_loan,
    /// Whose notification it is does not matter.
    take_any_notification,
    /// The members of a chain of sends are not linked.
    unlink_members,
    /// A chain of sends may be handed over in parts.
    split_window,
    /// What was written before a send in place goes behind it.
    overtake,
    /// A chain that broke says so although the remainder was to be sent again.
    drop_remainder,
    /// A send that is cancelled in the queue goes out all the same.
    ignore_send_cancel,
    /// A pipe goes to the next stream with what the last one has left in it.
    reuse_full_pipe,
    // From here on: bugs of users' operations, which `operations.zig` must find.
    /// A member of a chain has no link to the next.
    lose_link,
    /// A hard link with a time-out behind it turns into a soft one.
    soften_link,
    /// A batch may be handed over in parts.
    split_batch,
    /// An operation that found no room goes behind those that came after it.
    lose_place,
    /// An operation's memory goes back as it settles, not a turn later.
    release_block_early,
    /// An operation's memory goes back while the entry of its time limit names it.
    release_limit_early,
    /// An operation's memory never goes back.
    keep_block,
    /// The answer to a cancel request ends its target.
    cancel_settles,
    /// A cancel that comes before its target's turn in the chain is forgotten.
    forget_cancel,
    /// What was cancelled says so, whatever it has done.
    hide_success,
    /// A time-out that struck shows as a cancel.
    hide_timeout,
    /// An operation's end is not counted where it uses something registered.
    keep_count,
    /// A registration ends while operations use it.
    end_early,
    /// An update takes effect before what was started earlier is submitted.
    update_early,
    /// A descriptor that an operation makes in a teardown stays open.
    keep_descriptor,

    // From here on: bugs of datagram sockets, which `datagrams.zig` must find.
    /// Messages of a chain are not linked: one may overtake another.
    lose_datagram_order,
    /// A datagram may wait in the kernel, which the real one does not survive.
    wait_for_room,
    /// Messages' memory goes back with the first of them that was sent.
    release_batch_early,
    /// Of a message that the kernel would not split, only the first datagram goes.
    lose_pieces,
    /// What is queued behind a refused message is given up with it.
    lose_followers,
    /// A refused sender is never told that there is room.
    forget_datagram_drain,
    /// A datagram socket that ran out of buffers is not woken.
    forget_parked_datagram,
    /// A descriptor is closed while a receive names it.
    close_datagram_early,
    /// Datagrams that came together are taken for one.
    join_datagrams,

    // From here on: bugs of timers, which `timers.zig` must find.
    /// A timer that is cancelled waits for its time.
    forget_timer,
    /// Equal deadlines come in any order.
    ignore_order,
    /// The beats of an interval count from when the last one was told.
    drift,
    /// A nearer deadline does not replace the time-out that is armed.
    forget_nearest,

    pub fn is_of_operations(mutation: Mutation) bool {
        return @intFromEnum(mutation) >= @intFromEnum(Mutation.lose_link) and
            !mutation.is_of_datagrams() and !mutation.is_of_timers();
    }

    pub fn is_of_datagrams(mutation: Mutation) bool {
        return @intFromEnum(mutation) >= @intFromEnum(Mutation.lose_datagram_order) and
            !mutation.is_of_timers();
    }

    pub fn is_of_timers(mutation: Mutation) bool {
        return @intFromEnum(mutation) >= @intFromEnum(Mutation.forget_timer);
    }
};

var active: Mutation = .none;

pub inline fn is(mutation: Mutation) bool {
    return builtin.is_test and active == mutation;
}

pub fn activate(mutation: Mutation) void {
    active = mutation;
}
