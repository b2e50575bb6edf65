//! How each operation can fail: the errnos that the man page of its call lists.
//!
//! For who plays the kernel and for who puts failures in: the simulated kernel lets operations fail
//! with each of them, and `testing/fault_tests.zig` forces each on the kernels that there are. What
//! only a wrong call can get stands here as well; -ECANCELED, which all of them know, does not.

const std = @import("std");
const linux = std.os.linux;
const system = @import("linux.zig");

/// Negative, as completions carry them; empty for what cannot fail.
pub fn of(opcode: system.Op) []const i32 {
    return switch (opcode) {
        .READ, .READV, .READ_FIXED => &read,
        .WRITE, .WRITEV, .WRITE_FIXED => &write,
        .FSYNC => &fsync,
        .OPENAT => &openat,
        .CLOSE => &close,
        .STATX => &statx,
        .FALLOCATE => &fallocate,
        .FTRUNCATE => &ftruncate,
        .SYNC_FILE_RANGE => &sync_file_range,
        .SOCKET => &socket,
        .BIND => &bind,
        .LISTEN => &listen,
        .ACCEPT => &accept,
        .CONNECT => &connect,
        .SEND, .SENDMSG, .SEND_ZC, .SENDMSG_ZC => &send,
        .RECV, .RECVMSG => &recv,
        .SHUTDOWN => &shutdown,
        .POLL_ADD => &poll,
        .TIMEOUT => &timeout,
        .SPLICE => &splice,
        .RENAMEAT => &rename,
        .UNLINKAT => &unlink,
        .MKDIRAT => &mkdir,
        .LINKAT => &link,
        .SYMLINKAT => &symlink,
        else => &.{},
    };
}

/// Those of an accept that leave its listener as it is: no descriptor, no memory, no luck.
pub const of_accept = survivable: {
    const ends = numbers(.{ .BADF, .INVAL, .NOTSOCK, .OPNOTSUPP });
    var list: [accept.len - ends.len]i32 = undefined;
    var count: usize = 0;
    for (accept) |code| {
        if (std.mem.indexOfScalar(i32, &ends, code) != null) continue;
        list[count] = code;
        count += 1;
    }
    break :survivable list;
};

/// The longest of these lists.
pub const count_max = openat.len;

// read(2), preadv2(2)
const read = numbers(.{
    .AGAIN, .BADF,      .FAULT, .INTR, .INVAL, .IO,
    .ISDIR, .OPNOTSUPP,
});
// write(2), pwritev2(2)
const write = numbers(.{
    .AGAIN,     .BADF,  .DESTADDRREQ, .DQUOT, .FAULT, .FBIG,
    .INTR,      .INVAL, .IO,          .NOSPC, .PERM,  .PIPE,
    .OPNOTSUPP,
});
const fsync = numbers(.{ .BADF, .INTR, .IO, .NOSPC, .ROFS, .INVAL, .DQUOT });
// open(2)
const openat = numbers(.{
    .ACCES,  .BADF,        .BUSY,      .DQUOT,    .EXIST, .FAULT,
    .FBIG,   .INTR,        .INVAL,     .ISDIR,    .LOOP,  .MFILE,
    .NFILE,  .NAMETOOLONG, .NODEV,     .NOENT,    .NOMEM, .NOSPC,
    .NOTDIR, .NXIO,        .OPNOTSUPP, .OVERFLOW, .PERM,  .ROFS,
    .TXTBSY, .AGAIN,
});
const close = numbers(.{ .BADF, .INTR, .IO, .NOSPC, .DQUOT });
const statx = numbers(.{
    .ACCES, .BADF,  .FAULT,  .INVAL, .LOOP, .NAMETOOLONG,
    .NOENT, .NOMEM, .NOTDIR,
});
const fallocate = numbers(.{
    .BADF,  .FBIG,  .INTR,      .INVAL, .IO,    .NODEV,
    .NOSPC, .NOSYS, .OPNOTSUPP, .PERM,  .SPIPE, .TXTBSY,
});
// truncate(2)
const ftruncate = numbers(.{
    .ACCES, .BADF, .FBIG, .INTR,   .INVAL, .IO,
    .ISDIR, .PERM, .ROFS, .TXTBSY,
});
const sync_file_range = numbers(.{ .BADF, .INVAL, .IO, .NOMEM, .NOSPC, .SPIPE });
const socket = numbers(.{
    .ACCES, .AFNOSUPPORT,    .INVAL, .MFILE, .NFILE, .NOBUFS,
    .NOMEM, .PROTONOSUPPORT,
});
const bind = numbers(.{
    .ACCES, .ADDRINUSE, .BADF,        .INVAL, .NOTSOCK, .ADDRNOTAVAIL,
    .FAULT, .LOOP,      .NAMETOOLONG, .NOENT, .NOMEM,   .NOTDIR,
    .ROFS,
});
const listen = numbers(.{ .ADDRINUSE, .BADF, .NOTSOCK, .OPNOTSUPP });
const accept = numbers(.{
    .AGAIN,       .BADF,       .CONNABORTED, .FAULT,          .INTR,           .INVAL,
    .MFILE,       .NFILE,      .NOBUFS,      .NOMEM,          .NOTSOCK,        .OPNOTSUPP,
    .PERM,        .PROTO,
    // What the network did to the new connection, and what some kernels say besides.
         .NETDOWN,     .NOPROTOOPT,     .HOSTDOWN,       .NONET,
    .HOSTUNREACH, .NETUNREACH, .NOSR,        .SOCKTNOSUPPORT, .PROTONOSUPPORT, .TIMEDOUT,
});
const connect = numbers(.{
    .ACCES,   .PERM,       .ADDRINUSE,   .ADDRNOTAVAIL, .AFNOSUPPORT, .AGAIN,
    .ALREADY, .BADF,       .CONNREFUSED, .FAULT,        .INPROGRESS,  .INTR,
    .ISCONN,  .NETUNREACH, .NOTSOCK,     .PROTOTYPE,    .TIMEDOUT,
});
// send(2), and tcp(7) for the network's
const send = numbers(.{
    .ACCES, .AGAIN,   .ALREADY, .BADF,      .CONNRESET, .DESTADDRREQ,
    .FAULT, .INTR,    .INVAL,   .ISCONN,    .MSGSIZE,   .NOBUFS,
    .NOMEM, .NOTCONN, .NOTSOCK, .OPNOTSUPP, .PIPE,      .TIMEDOUT,
});
// recv(2), and tcp(7) for the network's
const recv = numbers(.{
    .AGAIN, .BADF,    .CONNREFUSED, .FAULT,     .INTR,     .INVAL,
    .NOMEM, .NOTCONN, .NOTSOCK,     .CONNRESET, .TIMEDOUT,
});
const shutdown = numbers(.{ .BADF, .INVAL, .NOTCONN, .NOTSOCK });
const poll = numbers(.{ .FAULT, .INTR, .INVAL, .NOMEM });
// io_uring_enter(2): of a time-out's own
const timeout = numbers(.{ .FAULT, .INVAL });
const splice = numbers(.{ .AGAIN, .BADF, .INVAL, .NOMEM, .SPIPE });
const rename = numbers(.{
    .ACCES, .BADF,  .BUSY,   .DQUOT,    .EXIST,       .FAULT,
    .INVAL, .ISDIR, .LOOP,   .MLINK,    .NAMETOOLONG, .NOENT,
    .NOMEM, .NOSPC, .NOTDIR, .NOTEMPTY, .PERM,        .ROFS,
    .XDEV,
});
const unlink = numbers(.{
    .ACCES,    .BADF, .BUSY,        .FAULT, .INVAL, .IO,
    .ISDIR,    .LOOP, .NAMETOOLONG, .NOENT, .NOMEM, .NOTDIR,
    .NOTEMPTY, .PERM, .ROFS,
});
const mkdir = numbers(.{
    .ACCES,  .BADF,  .DQUOT,       .EXIST, .FAULT, .INVAL,
    .LOOP,   .MLINK, .NAMETOOLONG, .NOENT, .NOMEM, .NOSPC,
    .NOTDIR, .PERM,  .ROFS,
});
const link = numbers(.{
    .ACCES,  .BADF,  .DQUOT,       .EXIST, .FAULT, .IO,
    .LOOP,   .MLINK, .NAMETOOLONG, .NOENT, .NOMEM, .NOSPC,
    .NOTDIR, .PERM,  .ROFS,        .XDEV,
});
const symlink = numbers(.{
    .ACCES, .BADF,        .DQUOT, .EXIST, .FAULT, .IO,
    .LOOP,  .NAMETOOLONG, .NOENT, .NOMEM, .NOSPC, .NOTDIR,
    .PERM,  .ROFS,
});

fn numbers(comptime names: anytype) [names.len]i32 {
    var list: [names.len]i32 = undefined;
    for (&list, names) |*number, name| {
        const code: linux.E = name;
        number.* = -@as(i32, @intFromEnum(code));
    }
    return list;
}

test "no list is longer than it is said to be, and none names an errno twice" {
    for (std.enums.values(system.Op)) |opcode| {
        const list = of(opcode);
        try std.testing.expect(list.len <= count_max);
        for (list, 0..) |code, at| {
            try std.testing.expect(code < 0 and code != system.errno.canceled);
            try std.testing.expectEqual(at, std.mem.indexOfScalar(i32, list, code).?);
        }
    }
}
