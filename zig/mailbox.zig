//! Mailboxes: posts, wake-ups and stops into a ring from any thread.
//!
//!     poster: pin the entry, check the token ─▶ put the post into the queue ─▶ ring the bell, if
//!             nobody has since the owner last said that it sleeps ─▶ unpin
//!     owner:  say that it sleeps ─▶ look into the queue once more ─▶ sleep
//!
//! A token is index and generation in a table that all threads share: a stale one is an errno and
//! never a pointer. The table holds a gate and a pointer. Queue, bell and signals are memory of
//! their own, apart from the ring's, freed when the ring is done with it and the last poster has
//! left. Posts are never merged or lost: each has a cell of a bounded queue; a full one is -EAGAIN.
//! Posters take no lock; the owner is one thread, the ring's. Called by `exports_posts.zig`
//! (posters) and `posts.zig` (the owner).

const std = @import("std");
const assert = std.debug.assert;
const abi = @import("abi.zig");
const seam = @import("kernel.zig");
const memory = @import("memory.zig");
const block = @import("block.zig");
const mutation = @import("testing/mutation.zig");
const errno = seam.errno;

/// What one cell carries, and what becomes of it.
pub const Kind = enum(u32) {
    /// `data` is a number.
    number,
    /// `data` is the address of a block.
    block,
    /// The end of the operation in slot `key`, of generation `extra`; a block says which.
    outcome,
};

pub const Post = struct { kind: Kind, key: u32, extra: u32 = 0, data: f64 };

const Signal = struct {
    const wakeup: u32 = 1;
    const stop: u32 = 2;
};

pub const Signals = struct { wakeup: bool, stop: bool };

/// awake ──sleep──▶ waits, in_loop ──a poster, or awake by itself──▶ awake
const Owner = enum(u32) { awake, waits, in_loop };

// The queue ------------------------------------------------------------------------------------

/// free (2 n) ──poster──▶ full (2 n + 1) ──owner──▶ free (2 n + 2), in lap n: zeroed memory is a
/// queue.
const Cell = struct {
    /// Atomic: hands the cell over.
    turn: u32,
    kind: Kind,
    key: u32,
    extra: u32,
    data: f64,
};

pub const Mailbox = struct {
    bell: seam.Bell,
    token: u32,
    cells: []Cell,
    mapping: memory.Mapping,
    /// The next cell to be read. The owner's alone.
    head: u64 = 0,
    /// The next cell to be written. Atomic, among posters.
    tail: u64 align(std.atomic.cache_line) = 0,
    /// What the owner does, and who has seen it: whoever finds it asleep says that it is awake, and
    /// rings. Atomic.
    owner: Owner align(std.atomic.cache_line) = .awake,
    /// Bits of `Signal`. Atomic.
    signals: u32 = 0,

    fn lap(mailbox: *const Mailbox, position: u64) u32 {
        const shift = std.math.log2_int(usize, mailbox.cells.len);
        return @truncate((position >> shift) *% 2);
    }

    fn cell(mailbox: *const Mailbox, position: u64) *Cell {
        return &mailbox.cells[@intCast(position & (mailbox.cells.len - 1))];
    }

    // Posters.

    fn put(mailbox: *Mailbox, post_: *const Post) bool {
        var position = @atomicLoad(u64, &mailbox.tail, .monotonic);
        const place = while (true) {
            const place = mailbox.cell(position);
            // Acquire: pairs with the owner's release in `take`; the cell is ours to write.
            const seen = @atomicLoad(u32, &place.turn, .acquire);
            const ahead: i32 = @bitCast(seen -% mailbox.lap(position));
            if (ahead < 0) return false; // the last lap's post is still in it
            if (ahead > 0) {
                position = @atomicLoad(u64, &mailbox.tail, .monotonic);
                continue;
            }
            // Relaxed: the cell's own word orders what it holds.
            position = @cmpxchgWeak(
                u64,
                &mailbox.tail,
                position,
                position + 1,
                .monotonic,
                .monotonic,
            ) orelse break place;
        };
        place.kind = post_.kind;
        place.key = post_.key;
        place.extra = post_.extra;
        place.data = post_.data;
        // Release: pairs with the acquire in `peek`.
        @atomicStore(u32, &place.turn, mailbox.lap(position) +% 1, .release);
        return true;
    }

    /// After the queue or a signal has changed.
    fn wake_owner(mailbox: *Mailbox) void {
        // Both sides exchange: if this comes after the owner's in `sleep`, it finds it asleep and
        // rings; if before, the owner sees the queue as it is now.
        const before = @atomicRmw(Owner, &mailbox.owner, .Xchg, .awake, .acq_rel);
        const sleeper: seam.Bell.Sleeper = switch (before) {
            .awake => return,
            .waits => .waits,
            .in_loop => .in_loop,
        };
        if (mutation.is(.forget_bell) or mailbox.bell.ring(sleeper) >= 0) return;
        // Nobody was woken (no memory for a message): the next poster tries again.
        @atomicStore(Owner, &mailbox.owner, before, .release);
    }

    // The owner.

    fn peek(mailbox: *const Mailbox) ?*Cell {
        const place = mailbox.cell(mailbox.head);
        const seen = @atomicLoad(u32, &place.turn, .acquire);
        return if (seen == mailbox.lap(mailbox.head) +% 1) place else null;
    }

    pub fn take(mailbox: *Mailbox) ?Post {
        const place = mailbox.peek() orelse return null;
        const post_: Post = .{
            .kind = place.kind,
            .key = place.key,
            .extra = place.extra,
            .data = place.data,
        };
        // Release: pairs with the acquire in `put` a lap later.
        @atomicStore(u32, &place.turn, mailbox.lap(mailbox.head) +% 2, .release);
        mailbox.head += 1;
        return post_;
    }

    pub fn take_signals(mailbox: *Mailbox) Signals {
        if (@atomicLoad(u32, &mailbox.signals, .monotonic) == 0) {
            return .{ .wakeup = false, .stop = false };
        }
        const bits = @atomicRmw(u32, &mailbox.signals, .Xchg, 0, .acq_rel);
        return .{ .wakeup = bits & Signal.wakeup != 0, .stop = bits & Signal.stop != 0 };
    }

    /// Whether a turn would find anything.
    pub fn has_any(mailbox: *const Mailbox) bool {
        return mailbox.peek() != null or
            @atomicLoad(u32, &mailbox.signals, .acquire) != 0;
    }

    /// So many posts wait, or are being put: a hint.
    pub fn waiting(mailbox: *const Mailbox) u32 {
        return @intCast(@atomicLoad(u64, &mailbox.tail, .monotonic) - mailbox.head);
    }

    /// Before the owner sleeps: from here on whoever posts rings. False: do not sleep.
    pub fn sleep(mailbox: *Mailbox, sleeper: seam.Bell.Sleeper) bool {
        const asleep: Owner = if (sleeper == .waits) .waits else .in_loop;
        if (!mutation.is(.sleep_unheard)) {
            const before = @atomicRmw(Owner, &mailbox.owner, .Xchg, asleep, .acq_rel);
            // Looked at, because Zig's own code generator makes a plain store of an exchange whose
            // result nobody uses: the look into the queue would then come before it.
            assert(@intFromEnum(before) <= @intFromEnum(Owner.in_loop));
        }
        return !mailbox.has_any();
    }

    /// It looks by itself again, each turn: nobody needs to ring.
    pub fn wake(mailbox: *Mailbox) void {
        // Relaxed: who rings meanwhile does so for nothing. Posters keep the line of the word.
        if (@atomicLoad(Owner, &mailbox.owner, .monotonic) == .awake) return;
        @atomicStore(Owner, &mailbox.owner, .awake, .monotonic);
    }

    fn free(mailbox: *Mailbox) void {
        while (mailbox.take()) |post_| drop(&post_);
        mailbox.bell.close();
        memory.unmap(mailbox.mapping);
    }
};

/// Nobody will take it: what it carries goes.
pub fn drop(post_: *const Post) void {
    if (post_.kind == .number) return;
    if (block.of(post_.data)) |header| header.release();
}

// The table ------------------------------------------------------------------------------------

/// free ──open──▶ claimed ──▶ open ──shut──▶ closing ──last pin──▶ free, of the next generation
/// After the last generation it stays claimed. Everything is in one word, changed by atomic
/// additions: a poster may pin an entry at any time and finds out afterwards what it has pinned.
const Gate = packed struct(u64) {
    pins: u32 = 0,
    claimed: bool = false,
    open: bool = false,
    closing: bool = false,
    unused: u5 = 0,
    generation: u24 = 1,

    fn of(word: u64) Gate {
        return @bitCast(word);
    }

    fn bits(gate: Gate) u64 {
        return @bitCast(gate);
    }
};

const Entry = struct {
    gate: u64 = Gate.bits(.{}),
    mailbox: ?*Mailbox = null,
};

var table: [abi.rings_max]Entry = @splat(.{});

const index_bits = std.math.log2_int(u32, abi.rings_max);
/// A token stays below 2^31: a small integer in JavaScript and a positive result.
const generation_max = (1 << (31 - index_bits)) - 1;
const pin_one: u64 = 1;

pub const Opened = union(enum) { mailbox: *Mailbox, refused: i32 };

/// A mailbox for so many posts, a power of two; `bell` is taken over, also when it is refused.
pub fn open(capacity: u32, bell: seam.Bell) Opened {
    assert(std.math.isPowerOfTwo(capacity));
    const cells_offset = std.mem.alignForward(usize, @sizeOf(Mailbox), std.atomic.cache_line);
    const size = cells_offset + capacity * @sizeOf(Cell);
    const mapping = memory.map(size) catch {
        bell.close();
        return .{ .refused = errno.nomem };
    };
    const entry = claim() orelse {
        memory.unmap(mapping);
        bell.close();
        return .{ .refused = errno.mfile };
    };
    const generation: u32 = Gate.of(@atomicLoad(u64, &entry.gate, .monotonic)).generation;
    const mailbox: *Mailbox = @ptrCast(@alignCast(mapping.ptr));
    const cells: [*]Cell = @ptrCast(@alignCast(mapping.ptr + cells_offset));
    mailbox.* = .{
        .bell = bell,
        .token = generation << index_bits | index_of(entry),
        .cells = cells[0..capacity],
        .mapping = mapping,
    };
    @atomicStore(?*Mailbox, &entry.mailbox, mailbox, .monotonic);
    // Release: pairs with the acquire in `pin`. The owner holds a pin of its own.
    const opening = Gate.bits(.{ .open = true, .pins = 1, .generation = 0 });
    _ = @atomicRmw(u64, &entry.gate, .Add, opening, .release);
    return .{ .mailbox = mailbox };
}

fn claim() ?*Entry {
    const claimed = Gate.bits(.{ .claimed = true, .generation = 0 });
    for (&table) |*entry| {
        // Acquire: pairs with the release of whoever freed it.
        const before = Gate.of(@atomicRmw(u64, &entry.gate, .Or, claimed, .acquire));
        if (!before.claimed) return entry;
    }
    return null;
}

fn index_of(entry: *const Entry) u32 {
    return @intCast((@intFromPtr(entry) - @intFromPtr(&table)) / @sizeOf(Entry));
}

fn entry_of(token: u32) *Entry {
    return &table[token % abi.rings_max];
}

/// The mailbox behind a token, which stays until `unpin`; null if its ring is gone.
fn pin(token: u32) ?*Mailbox {
    const entry = entry_of(token);
    // Acquire: pairs with the release in `open`.
    const before = Gate.of(@atomicRmw(u64, &entry.gate, .Add, pin_one, .acquire));
    if (before.open and before.generation == token >> index_bits) {
        return @atomicLoad(?*Mailbox, &entry.mailbox, .monotonic).?;
    }
    unpin(entry);
    return null;
}

fn unpin(entry: *Entry) void {
    // Release: what was done in the mailbox comes before its end. Acquire: the last one ends it.
    const before = Gate.of(@atomicRmw(u64, &entry.gate, .Sub, pin_one, .acq_rel));
    assert(before.pins > 0);
    if (!before.closing or before.pins > 1) return;
    const mailbox = @atomicLoad(?*Mailbox, &entry.mailbox, .monotonic);
    var last = before;
    last.pins = 0;
    const spent = last.generation == generation_max;
    const next: Gate = .{ .generation = if (spent) last.generation else last.generation + 1 };
    var after = next;
    after.claimed = spent;
    // Somebody with a stale token may have pinned it meanwhile, and comes here in our place.
    const seen = @cmpxchgStrong(u64, &entry.gate, last.bits(), after.bits(), .acq_rel, .monotonic);
    if (seen == null) mailbox.?.free();
}

/// From here on every poster is refused. The owner may do it twice, and so may whoever sees that
/// the owner is gone.
pub fn shut(token: u32) void {
    const entry = entry_of(token);
    var word = @atomicLoad(u64, &entry.gate, .monotonic);
    while (true) {
        var gate = Gate.of(word);
        if (!gate.open or gate.generation != token >> index_bits) return;
        gate.open = false;
        gate.closing = true;
        word = @cmpxchgWeak(u64, &entry.gate, word, gate.bits(), .acq_rel, .monotonic) orelse
            return;
    }
}

/// The owner is done with it, and never looks again: posts that nobody took are dropped.
pub fn close(mailbox: *Mailbox) void {
    const token = mailbox.token;
    shut(token);
    unpin(entry_of(token));
}

// What any thread may call -----------------------------------------------------------------------

/// 0; -ESHUTDOWN: the ring is gone; -EAGAIN: its mailbox is full. Then nothing was taken.
pub fn post(token: u32, post_: *const Post) i32 {
    const mailbox = pin(token) orelse return errno.shutdown;
    defer unpin(entry_of(token));
    if (!mailbox.put(post_)) return errno.again;
    mailbox.wake_owner();
    return 0;
}

/// JavaScript's numbers that are exact, and no others.
pub fn post_number(token: u32, key: u32, data: f64) i32 {
    const safe_max = (1 << 53) - 1;
    if (!(data >= -safe_max and data <= safe_max) or data != @trunc(data)) return errno.inval;
    return post(token, &.{ .kind = .number, .key = key, .data = data });
}

/// The block has one owner more when it is taken: the caller gives its own up by itself.
pub fn post_block(token: u32, key: u32, address: f64) i32 {
    return post_with(token, .block, key, 0, address);
}

/// What became of an offloaded operation.
pub fn post_outcome(token: u32, index: u32, generation: u32, address: f64) i32 {
    return post_with(token, .outcome, index, generation, address);
}

fn post_with(token: u32, kind: Kind, key: u32, extra: u32, address: f64) i32 {
    const header = block.of(address) orelse return errno.inval;
    // Only who has a token can have a block: its memory is not touched for anybody else.
    const checked = check(token);
    if (checked < 0) return checked;
    header.share();
    const outcome = post(token, &.{ .kind = kind, .key = key, .extra = extra, .data = address });
    if (outcome < 0) header.release();
    return outcome;
}

pub fn wakeup(token: u32) i32 {
    return signal(token, Signal.wakeup);
}

pub fn stop(token: u32) i32 {
    return signal(token, Signal.stop);
}

fn signal(token: u32, bit: u32) i32 {
    const mailbox = pin(token) orelse return errno.shutdown;
    defer unpin(entry_of(token));
    _ = @atomicRmw(u32, &mailbox.signals, .Or, bit, .acq_rel);
    mailbox.wake_owner();
    return 0;
}

/// 0 if the ring behind the token is there.
pub fn check(token: u32) i32 {
    _ = pin(token) orelse return errno.shutdown;
    unpin(entry_of(token));
    return 0;
}

test "an entry whose generations are used up leaves service" {
    var bell: u32 = 0;
    const Test = struct {
        fn open_and_close(count: *u32) u32 {
            const mailbox = open(2, .{ .counter = count }).mailbox;
            defer close(mailbox);
            return mailbox.token;
        }
    };
    const spent = entry_of(Test.open_and_close(&bell));
    spent.gate = Gate.bits(.{ .generation = generation_max });
    try std.testing.expectEqual(generation_max, Test.open_and_close(&bell) >> index_bits);
    try std.testing.expect(entry_of(Test.open_and_close(&bell)) != spent);
    spent.gate = Gate.bits(.{}); // for the other tests
}
