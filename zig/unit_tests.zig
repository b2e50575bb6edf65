//! Root of `zig build test`: the files whose tests run.
//!
//! tests/tidy.test.ts refuses a file with tests that is missing from this list, so that none is
//! forgotten. The tests themselves stand at the foot of the file that they test.

test {
    _ = @import("abi_layout.zig");
    _ = @import("abi_typescript.zig");
    _ = @import("block.zig");
    _ = @import("deadlines.zig");
    _ = @import("deadline_heap.zig");
    _ = @import("timers.zig");
    _ = @import("mailbox.zig");
    _ = @import("memory.zig");
    _ = @import("operation.zig");
    _ = @import("proxy_protocol.zig");
    _ = @import("segment.zig");
    _ = @import("send_chain.zig");
    _ = @import("rings.zig");
    _ = @import("slots.zig");
    _ = @import("staging.zig");
    _ = @import("transfer.zig");
    _ = @import("kernel/address.zig");
    _ = @import("kernel/epoll/completions.zig");
    _ = @import("kernel/epoll/parity_sockets.zig");
    _ = @import("kernel/epoll/parity_tests.zig");
    _ = @import("kernel/epoll/provided.zig");
    _ = @import("kernel/epoll/registered.zig");
    _ = @import("kernel/epoll/tests.zig");
    _ = @import("kernel/epoll/timers.zig");
    _ = @import("kernel/failures.zig");
    _ = @import("kernel/fork.zig");
    _ = @import("kernel/rights.zig");
    _ = @import("kernel/simulated/byte_queue.zig");
    _ = @import("kernel/simulated/fate.zig");
    _ = @import("kernel/simulated/outcomes.zig");
    _ = @import("kernel/simulated/provided.zig");
    _ = @import("kernel/simulated/chain_tests.zig");
    _ = @import("kernel/simulated/send_tests.zig");
    _ = @import("kernel/simulated/tests.zig");
    _ = @import("kernel/simulated/volume.zig");
    _ = @import("kernel/uring_send_tests.zig");
    _ = @import("testing/canary.zig");
    _ = @import("testing/coverage.zig");
    _ = @import("testing/datagram_schedules.zig");
    _ = @import("testing/lessons.zig");
    _ = @import("testing/memory_tests.zig");
    _ = @import("testing/engine_tests.zig");
    _ = @import("testing/fault_coverage.zig");
    _ = @import("testing/faults.zig");
    _ = @import("testing/fault_tests.zig");
    _ = @import("testing/fault_connection_tests.zig");
    _ = @import("testing/fault_datagram_tests.zig");
    _ = @import("testing/fault_ending_tests.zig");
    _ = @import("testing/fork_tests.zig");
    _ = @import("testing/forwarding_tests.zig");
    _ = @import("testing/opening_tests.zig");
    _ = @import("testing/operations/failures.zig");
    _ = @import("testing/operations/model.zig");
    _ = @import("testing/operations/schedules.zig");
    _ = @import("testing/mailbox_tests.zig");
    _ = @import("testing/offload_tests.zig");
    _ = @import("testing/passing_tests.zig");
    _ = @import("testing/pattern.zig");
    _ = @import("testing/proxied_tests.zig");
    _ = @import("testing/schedules.zig");
    _ = @import("testing/send_tests.zig");
    _ = @import("testing/shrink.zig");
    _ = @import("testing/splicing_tests.zig");
    _ = @import("testing/stream.zig");
    _ = @import("testing/timer_schedules.zig");
}
