//! The load generator: echo clients on loopback, in a process of its own.
//!
//! Usage: `load HOST PORT CONNECTIONS MESSAGE_SIZE DEPTH SECONDS WARMUP_SECONDS [RATE]
//! [SERVER_PID]`
//!
//! Each connection keeps DEPTH messages in flight and sends the next one when an echo is complete.
//! With RATE (messages per second over all connections, 0 = as fast as possible) messages have a
//! time at which they are due, and latency counts from that time, sent late or not. Every received
//! byte is compared with what was sent. It prints one JSON line; with SERVER_PID the line also has
//! the CPU time that the threads of that process used between the two ends of the measured window.
//! It ends by itself, whatever the server does.
const std = @import("std");
const thin_ring = @import("thin_ring");
const histogram = @import("histogram.zig");
const server_time = @import("server_time.zig");
const linux = std.os.linux;

const max_connections = 4096;
const max_depth = 1024;
/// Content repeats after a prime number of bytes, so that a lost or swapped block of any usual size
/// shows.
const period = 65521;
const drain_ns = std.time.ns_per_s;
const send_bit: u64 = 1 << 32;

const Options = struct {
    port: u16,
    connections: u32,
    size: u32,
    depth: u32,
    seconds: f64,
    warmup: f64,
    rate: u32,
    server_pid: u32,
};

const Connection = struct {
    fd: i32 = -1,
    /// Positions in the content, modulo `period`.
    send_position: u32 = 0,
    receive_position: u32 = 0,
    sent: u64 = 0,
    completed: u64 = 0,
    received_bytes: u64 = 0,
    /// Messages that are due and not sent: for want of depth, or behind a send in flight.
    due: u64 = 0,
    sending: bool = false,
    send_len: u32 = 0,
};

const Load = struct {
    options: Options,
    ring: thin_ring.Ring,
    buffers: thin_ring.BufferRing,
    content: [*]u8,
    connections: [max_connections]Connection,
    /// When each message in flight was sent: `depth` places per connection.
    sent_at: [*]u64,
    latency: histogram.Histogram,
    now: u64,
    rate_start: u64,
    rate_count: u64,
    measuring: bool,
    stopping: bool,
    messages: u64,
    errors: u64,

    fn turn(load: *Load, timeout_ns: u64) void {
        load.ring.enter(1, timeout_ns);
        load.now = clock();
        const count = load.ring.ready();
        for (0..count) |i| {
            const cqe = load.ring.completion(@intCast(i));
            const index: u32 = @truncate(cqe.user_data);
            if (cqe.user_data & send_bit != 0) {
                load.on_send(index, cqe);
            } else {
                load.on_receive(index, cqe);
            }
        }
        load.ring.advance(count);
        load.buffers.publish();
        if (load.options.rate > 0 and !load.stopping) load.make_due();
    }

    fn on_receive(load: *Load, index: u32, cqe: *const thin_ring.Cqe) void {
        const connection = &load.connections[index];
        if (cqe.res > 0) {
            const id: u16 = @intCast(cqe.flags >> linux.IORING_CQE_BUFFER_SHIFT);
            const len: u32 = @intCast(cqe.res);
            const expected = load.content + connection.receive_position;
            if (!std.mem.eql(u8, load.buffers.address(id)[0..len], expected[0..len])) {
                load.errors += 1;
            }
            load.buffers.give_back(id);
            connection.receive_position = (connection.receive_position + len) % period;
            connection.received_bytes += len;
            load.settle(index);
        } else if (cqe.res != -@as(i32, @intFromEnum(linux.E.NOBUFS))) {
            // The server closed or reset the connection: nothing more will come from it.
            load.errors += 1;
            return;
        }
        // Without F_MORE the receive has ended; buffers are back before the next enter.
        if (cqe.flags & linux.IORING_CQE_F_MORE == 0) load.arm_receive(index);
    }

    /// Counts the messages whose last byte has arrived and sends as many new ones.
    fn settle(load: *Load, index: u32) void {
        const connection = &load.connections[index];
        while (connection.received_bytes >= (connection.completed + 1) * load.options.size) {
            if (connection.completed == connection.sent) {
                load.errors += 1; // more bytes than were ever sent
                return;
            }
            const started = load.started_at(index, connection.completed);
            connection.completed += 1;
            if (load.measuring) {
                load.messages += 1;
                load.latency.record(load.now -| started);
            }
            if (load.options.rate == 0 and !load.stopping) connection.due += 1;
        }
        load.send(index);
    }

    fn started_at(load: *const Load, index: u32, message: u64) u64 {
        const options = &load.options;
        if (options.rate == 0) {
            return load.sent_at[index * options.depth + message % options.depth];
        }
        return load.due_at(message * options.connections + index);
    }

    fn due_at(load: *const Load, message: u64) u64 {
        const offset = @as(u128, message) * std.time.ns_per_s / load.options.rate;
        return load.rate_start + @as(u64, @intCast(offset));
    }

    /// Open loop: hands every message whose time has come to the next connection in turn.
    fn make_due(load: *Load) void {
        while (load.due_at(load.rate_count) <= load.now) {
            const index: u32 = @intCast(load.rate_count % load.options.connections);
            load.connections[index].due += 1;
            load.rate_count += 1;
            load.send(index);
        }
    }

    fn send(load: *Load, index: u32) void {
        const connection = &load.connections[index];
        const options = &load.options;
        if (connection.sending or connection.due == 0) return;
        const room = options.depth - (connection.sent - connection.completed);
        const count: u32 = @intCast(@min(connection.due, room));
        if (count == 0) return;
        for (0..count) |i| {
            const place = index * options.depth + (connection.sent + i) % options.depth;
            load.sent_at[place] = load.now;
        }
        connection.due -= count;
        connection.sent += count;
        connection.send_len = count * options.size;
        const sqe = load.prepare(.SEND, index);
        sqe.addr = @intFromPtr(load.content + connection.send_position);
        sqe.len = connection.send_len;
        sqe.rw_flags = linux.MSG.WAITALL | linux.MSG.NOSIGNAL;
        sqe.user_data |= send_bit;
        connection.send_position = (connection.send_position + connection.send_len) % period;
        if (options.depth == 1) {
            // The echo itself says that this send has ended, and the content is never overwritten.
            sqe.flags |= linux.IOSQE_CQE_SKIP_SUCCESS;
        } else {
            connection.sending = true;
        }
    }

    fn on_send(load: *Load, index: u32, cqe: *const thin_ring.Cqe) void {
        const connection = &load.connections[index];
        connection.sending = false;
        if (cqe.res != connection.send_len) {
            load.errors += 1;
            connection.due = 0;
            return;
        }
        load.send(index);
    }

    fn arm_receive(load: *Load, index: u32) void {
        const sqe = load.prepare(.RECV, index);
        sqe.ioprio = linux.IORING_RECV_MULTISHOT;
        sqe.flags |= linux.IOSQE_BUFFER_SELECT;
    }

    /// Connections are registered files: the index is the descriptor.
    fn prepare(load: *Load, opcode: linux.IORING_OP, index: u32) *thin_ring.Sqe {
        const sqe = load.ring.next_sqe();
        sqe.* = std.mem.zeroes(thin_ring.Sqe);
        sqe.opcode = opcode;
        sqe.flags = linux.IOSQE_FIXED_FILE;
        sqe.fd = @intCast(index);
        sqe.user_data = index;
        return sqe;
    }

    fn connect(load: *Load) void {
        var descriptors: [max_connections]i32 = undefined;
        const patience = linux.timeval{ .sec = 2, .usec = 0 };
        for (0..load.options.connections) |i| {
            const fd = thin_ring.tcp_socket();
            const size = @sizeOf(linux.timeval);
            const so = linux.SO.SNDTIMEO;
            const rc = linux.setsockopt(fd, linux.SOL.SOCKET, so, @ptrCast(&patience), size);
            thin_ring.check("SO_SNDTIMEO", rc);
            var address = thin_ring.loopback(load.options.port);
            const connected = linux.connect(fd, &address, @sizeOf(linux.sockaddr.in));
            thin_ring.check("connect", connected);
            descriptors[i] = fd;
            // A different start for each connection: bytes that change connections show.
            const origin: u32 = @intCast(i * 101 % period);
            load.connections[i] = .{
                .fd = fd,
                .send_position = origin,
                .receive_position = origin,
            };
        }
        load.ring.register(.REGISTER_FILES, &descriptors, load.options.connections);
    }

    fn start(load: *Load) void {
        load.now = clock();
        load.rate_start = load.now;
        for (0..load.options.connections) |i| {
            const index: u32 = @intCast(i);
            load.arm_receive(index);
            if (load.options.rate > 0) continue;
            load.connections[index].due = load.options.depth;
            load.send(index);
        }
    }

    fn run_until(load: *Load, deadline: u64) void {
        while (load.now < deadline) {
            var wait = deadline - load.now;
            if (load.options.rate > 0 and !load.stopping) {
                wait = @min(wait, load.due_at(load.rate_count) -| load.now);
            }
            load.turn(wait);
        }
    }

    /// Every message that was sent must come back, whole, and nothing else.
    fn drain(load: *Load) void {
        load.stopping = true;
        const deadline = load.now + drain_ns;
        while (load.now < deadline and load.unfinished() > 0) load.turn(drain_ns / 20);
        load.errors += load.unfinished();
    }

    fn unfinished(load: *const Load) u64 {
        var count: u64 = 0;
        for (load.connections[0..load.options.connections]) |*connection| {
            if (connection.received_bytes != connection.sent * load.options.size) count += 1;
        }
        return count;
    }
};

fn clock() u64 {
    var time: linux.timespec = undefined;
    _ = linux.clock_gettime(.MONOTONIC, &time);
    return @as(u64, @intCast(time.sec)) * std.time.ns_per_s + @as(u64, @intCast(time.nsec));
}

/// SIGALRM ends the process whatever it is blocked in: the last resort, two seconds after its time.
fn arm_watchdog(seconds: f64) void {
    const Interval = extern struct { interval: linux.timeval, value: linux.timeval };
    const timer = Interval{
        .interval = .{ .sec = 0, .usec = 0 },
        .value = .{ .sec = @intFromFloat(seconds + 8), .usec = 0 },
    };
    thin_ring.check("setitimer", linux.syscall3(.setitimer, 0, @intFromPtr(&timer), 0));
}

fn seconds_of(name: []const u8, text: []const u8, low: f64) f64 {
    const value = std.fmt.parseFloat(f64, text) catch -1;
    if (!(value >= low and value <= 3600)) {
        thin_ring.fatal("{s}: expected {d} to 3600 seconds, got '{s}'", .{ name, low, text });
    }
    return value;
}

fn parse(arguments: []const [*:0]const u8) Options {
    if (arguments.len < 8 or arguments.len > 10) {
        thin_ring.fatal("usage: load HOST PORT CONNECTIONS MESSAGE_SIZE DEPTH SECONDS " ++
            "WARMUP_SECONDS [RATE] [SERVER_PID]", .{});
    }
    var text: [10][]const u8 = @splat("0");
    for (arguments, 0..) |argument, i| text[i] = std.mem.span(argument);
    if (!std.mem.eql(u8, text[1], "127.0.0.1") and !std.mem.eql(u8, text[1], "localhost")) {
        thin_ring.fatal("HOST: only loopback is allowed (127.0.0.1), got '{s}'", .{text[1]});
    }
    return .{
        .port = @intCast(thin_ring.number("PORT", text[2], 1, 65535)),
        .connections = thin_ring.number("CONNECTIONS", text[3], 1, max_connections),
        .size = thin_ring.number("MESSAGE_SIZE", text[4], 1, 1 << 20),
        .depth = thin_ring.number("DEPTH", text[5], 1, max_depth),
        .seconds = seconds_of("SECONDS", text[6], 0.01),
        .warmup = seconds_of("WARMUP_SECONDS", text[7], 0),
        .rate = thin_ring.number("RATE", text[8], 0, 100_000_000),
        .server_pid = thin_ring.number("SERVER_PID", text[9], 0, 1 << 30),
    };
}

fn fill_content(memory: []u8) void {
    var random = std.Random.DefaultPrng.init(1);
    random.random().bytes(memory[0..@min(period, memory.len)]);
    for (period..memory.len) |i| memory[i] = memory[i - period];
}

fn report(load: *const Load, elapsed_ns: u64, server_ns: ?u64) void {
    const seconds = @as(f64, @floatFromInt(elapsed_ns)) / std.time.ns_per_s;
    thin_ring.print(
        "{{\"messages\":{d},\"seconds\":{d:.6},\"bytes\":{d},\"p50_us\":{d:.1}," ++
            "\"p99_us\":{d:.1},\"max_us\":{d:.1},\"errors\":{d},\"server_cpu_us\":",
        .{
            load.messages,                     seconds,
            load.messages * load.options.size, load.latency.quantile_us(0.50),
            load.latency.quantile_us(0.99),    load.latency.max_us(),
            load.errors,
        },
    );
    if (server_ns) |ns| {
        thin_ring.print("{d:.1}}}\n", .{@as(f64, @floatFromInt(ns)) / 1000});
    } else {
        thin_ring.print("null}}\n", .{});
    }
}

var the_load: Load = undefined;

pub fn main(init: std.process.Init.Minimal) void {
    const options = parse(init.args.vector);
    arm_watchdog(options.seconds + options.warmup);
    const load = &the_load;
    // One receive takes a whole small message; large ones come in pieces of 16 KiB.
    const buffer_size: u32 = if (options.size * options.depth <= 2048) 2048 else 16384;
    const places = @as(usize, options.connections) * options.depth;
    const content_size = period + @max(@as(usize, options.size) * options.depth, buffer_size);
    load.options = options;
    load.ring = thin_ring.Ring.init(4096, 16384);
    load.buffers = thin_ring.BufferRing.init(&load.ring, 1024, buffer_size);
    load.content = thin_ring.map_private(content_size);
    load.sent_at = @ptrCast(@alignCast(thin_ring.map_private(places * 8)));
    load.latency = .{};
    load.rate_count = 0;
    load.measuring = false;
    load.stopping = false;
    load.messages = 0;
    load.errors = 0;
    fill_content(load.content[0..content_size]);
    load.connect();
    load.start();
    load.run_until(load.now + @as(u64, @intFromFloat(options.warmup * std.time.ns_per_s)));
    const cpu_before = server_time.read(options.server_pid);
    load.measuring = true;
    const started = clock();
    load.run_until(started + @as(u64, @intFromFloat(options.seconds * std.time.ns_per_s)));
    load.measuring = false;
    const cpu_after = server_time.read(options.server_pid);
    const elapsed = load.now - started;
    load.drain();
    const known = cpu_before != null and cpu_after != null;
    const used = if (known) cpu_after.? -| cpu_before.? else null;
    report(load, elapsed, used);
    linux.exit_group(if (load.errors == 0) 0 else 2);
}
