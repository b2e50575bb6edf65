//! C symbols of posts: into a ring and on their way, blocks, offloaded operations.
//!
//! What takes a `token` is for any thread and touches no ring: a token that is stale or foreign is
//! ESHUTDOWN, and a forked child has EPERM (I11), as the mailboxes are not even mapped there. Part
//! of the table in `exports.zig`.

const blocks = @import("block.zig");
const calls = @import("calls.zig");
const mailbox = @import("mailbox.zig");
const rings = @import("rings.zig");

/// The token by which other threads post to the ring; it stays the same.
pub export fn bu_ring_token(ring: u32) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return engine.posts.open(engine);
}

/// A number for the ring behind `token`, from any thread: ESHUTDOWN if the ring is gone, EAGAIN if
/// its mailbox is full. `data` is an integer of at most 53 bits, else EINVAL.
pub export fn bu_post(token: u32, key: u32, data: f64) i32 {
    if (rings.is_forked()) return rings.refuse(error.Forked);
    return mailbox.post_number(token, key, data);
}

/// The same with a block: the ring has it, too, from here on.
pub export fn bu_post_block(token: u32, key: u32, block: f64) i32 {
    if (rings.is_forked()) return rings.refuse(error.Forked);
    return mailbox.post_block(token, key, block);
}

/// An operation that another thread performs and ends by `bu_offload_done`; its slot index.
pub export fn bu_offload_start(ring: u32) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return calls.offload(engine);
}

/// Ends an offloaded operation with a block; one that is over already is left alone.
pub export fn bu_offload_done(token: u32, index: u32, generation: u32, block: f64) i32 {
    if (rings.is_forked()) return rings.refuse(error.Forked);
    return mailbox.post_outcome(token, index, generation, block);
}

/// Ends a wait of the ring's owner, from any thread.
pub export fn bu_wakeup(token: u32) i32 {
    if (rings.is_forked()) return rings.refuse(error.Forked);
    return mailbox.wakeup(token);
}

/// Ends `run` of the ring's owner, from any thread.
pub export fn bu_stop(token: u32) i32 {
    if (rings.is_forked()) return rings.refuse(error.Forked);
    return mailbox.stop(token);
}

/// 0 if the ring behind `token` is there.
pub export fn bu_token_check(token: u32) i32 {
    if (rings.is_forked()) return rings.refuse(error.Forked);
    return mailbox.check(token);
}

/// A block of native memory with one owner: its address, or 0. The bytes begin a page later.
/// `bu_block_viewed` follows once there is an ArrayBuffer over them.
pub export fn bu_block_map(size: f64) f64 {
    const header = blocks.map(size) orelse return 0;
    blocks.hand_over(header);
    return header.address();
}

/// A delivered block has JavaScript as its owner from here on: its length in bytes, below 0 if it
/// was not delivered in this turn.
pub export fn bu_block_adopt(ring: u32, block: f64) f64 {
    const engine = rings.of(ring) catch return -1;
    return engine.posts.adopt(block);
}

/// The ArrayBuffer is there, whose deallocator gives the block up.
pub export fn bu_block_viewed(block: f64) void {
    blocks.handed_over(blocks.of(block) orelse return);
}

/// One owner of a block less, the last one frees it; as deallocator of the ArrayBuffer over its
/// bytes, on any thread.
pub export fn bu_block_released(bytes: ?*anyopaque, block: ?*anyopaque) void {
    _ = bytes;
    if (rings.is_forked()) return;
    const header: *blocks.Header = @ptrCast(@alignCast(block orelse return));
    blocks.handed_over(header);
    header.release();
}

/// Blocks of the process that are not freed.
pub export fn bu_block_count() u32 {
    return blocks.count();
}
