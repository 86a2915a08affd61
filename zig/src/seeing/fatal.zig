//! Misuse that the allocator notices ends the process with one line on standard error.
//!
//! The line is built on the stack and written by one raw call: no allocation, no formatting library.

const std = @import("std");
const os = @import("../platform/os.zig");
const locking = @import("../platform/lock.zig");

/// Builds one line of text in a fixed buffer; what does not fit is cut.
pub const Line = struct {
    buffer: [256]u8 = undefined,
    length: usize = 0,

    pub fn text(line: *Line, part: []const u8) void {
        const room = @min(part.len, line.buffer.len - line.length);
        @memcpy(line.buffer[line.length..][0..room], part[0..room]);
        line.length += room;
    }

    pub fn number(line: *Line, value: usize, base: u8) void {
        var digits: [64]u8 = undefined;
        var at: usize = digits.len;
        var rest = value;
        while (true) {
            at -= 1;
            digits[at] = "0123456789abcdef"[rest % base];
            rest /= base;
            if (rest == 0) break;
        }
        line.text(digits[at..]);
    }

    pub fn end(line: *Line) void {
        line.buffer[@min(line.length, line.buffer.len - 1)] = '\n';
        os.writeError(line.buffer[0..@min(line.length + 1, line.buffer.len)]);
    }
};

/// What was wrong with a pointer that was given back.
pub const Misuse = enum {
    not_ours,
    inside_block,
    never_allocated,
    double_free,

    fn says(kind: Misuse) []const u8 {
        return switch (kind) {
            .not_ours => "not a block of this allocator",
            .inside_block => "not the start of a block",
            .never_allocated => "a block that was never allocated",
            .double_free => "a block that is free already",
        };
    }
};

/// `block_bytes` is 0 where the address belongs to no size class.
pub noinline fn misuse(kind: Misuse, address: usize, block_bytes: usize) noreturn {
    @branchHint(.cold);
    var line: Line = .{};
    line.text("hakmem: bad pointer 0x");
    line.number(address, 16);
    line.text(": ");
    line.text(kind.says());
    if (block_bytes != 0) {
        line.text(" (");
        line.number(block_bytes, 10);
        line.text("-byte class)");
    }
    line.text("; look for a double free or a pointer from elsewhere at this call");
    line.end();
    locking.Passage.openForGood();
    os.die();
}

/// A broken invariant of the allocator itself (builds with safety checks only): one line, then abort, since the
/// standard handler allocates.
pub const Panic = std.debug.FullPanic(invariantBroken);

fn invariantBroken(message: []const u8, address: ?usize) noreturn {
    @branchHint(.cold);
    var line: Line = .{};
    line.text("hakmem: bug in the allocator: ");
    line.text(message);
    line.text(" at code address 0x");
    line.number(address orelse @returnAddress(), 16);
    line.end();
    locking.Passage.openForGood();
    os.die();
}

test "fatal: numbers are written in both bases, and a line is cut rather than overrun" {
    var line: Line = .{};
    line.number(0, 10);
    line.text(" ");
    line.number(18446744073709551615, 10);
    line.text(" ");
    line.number(0xdead_beef, 16);
    try std.testing.expectEqualStrings("0 18446744073709551615 deadbeef", line.buffer[0..line.length]);
    for (0..100) |_| line.text("abcdef");
    try std.testing.expectEqual(line.buffer.len, line.length);
}
