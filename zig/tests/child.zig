//! Runs a function in a forked child and tells how the child ended and what it printed.
//!
//! The fork is libc's, so that the allocator's own handlers of fork take part. Links libc.

const std = @import("std");

pub const End = struct {
    /// As `waitpid` gives it.
    status: c_uint,
    /// What was printed on stdout and stderr, as far as the buffer reaches.
    said: []const u8,

    /// Whether this signal ended the child.
    pub fn killedBy(end: End, signal: std.os.linux.SIG) bool {
        return end.status & 0x7f == @backingInt(signal);
    }

    /// The exit status, or null if a signal ended the child.
    pub fn exitStatus(end: End) ?u8 {
        return if (end.status & 0x7f == 0) @truncate(end.status >> 8) else null;
    }
};

/// The function is expected to end the process; if it returns, the exit status is 0.
pub fn capture(buffer: []u8, context: anytype, run: *const fn (@TypeOf(context)) void) error{ NoPipe, NoFork }!End {
    var pipe: [2]std.c.fd_t = undefined;
    if (std.c.pipe(&pipe) != 0) return error.NoPipe;
    defer _ = std.c.close(pipe[0]);
    const child = std.c.fork();
    if (child < 0) {
        _ = std.c.close(pipe[1]);
        return error.NoFork;
    }
    if (child == 0) {
        _ = std.c.dup2(pipe[1], 1);
        _ = std.c.dup2(pipe[1], 2);
        // The child's own copies must go, or a grandchild would keep the pipe open.
        _ = std.c.close(pipe[0]);
        _ = std.c.close(pipe[1]);
        run(context);
        std.c._exit(0);
    }
    _ = std.c.close(pipe[1]);
    var length: usize = 0;
    while (true) {
        // What does not fit is read and dropped, so that the child is not held up.
        var overflow: [256]u8 = undefined;
        const rest = if (length < buffer.len) buffer[length..] else &overflow;
        const got = std.c.read(pipe[0], rest.ptr, rest.len);
        if (got <= 0) break;
        if (length < buffer.len) length += @intCast(got);
    }
    var status: c_int = 0;
    while (std.c.waitpid(child, &status, 0) != child) {}
    return .{ .status = @bitCast(status), .said = buffer[0..length] };
}
