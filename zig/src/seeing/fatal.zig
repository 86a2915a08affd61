//! Misuse that the allocator notices ends the process with one line on standard error.
//!
//! The line is built on the stack and written by one raw call: no allocation, no formatting library.

const std = @import("std");
const os = @import("../platform/os.zig");
const locking = @import("../platform/lock.zig");

/// Builds one line of text in a fixed buffer; what does not fit is cut.
pub const Line = struct {
    buffer: [320]u8 = undefined,
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

    pub fn hex(line: *Line, value: usize) void {
        line.text("0x");
        line.number(value, 16);
    }

    pub fn bytes(line: *Line, count: usize) void {
        line.number(count, 10);
        line.text(if (count == 1) " byte" else " bytes");
    }

    pub fn end(line: *Line) void {
        line.buffer[@min(line.length, line.buffer.len - 1)] = '\n';
        os.writeError(line.buffer[0..@min(line.length + 1, line.buffer.len)]);
    }
};

/// What the program did wrong. Each has a page of its own under docs/errors/.
pub const Kind = enum {
    foreign_pointer,
    interior_pointer,
    double_free,
    unallocated_block,
    use_after_free,
    wrong_size,
    wrong_alignment,
    overflow,
    underflow,
    write_after_free,
};

pub const State = enum { unknown, in_use, free, never_handed_out };

/// What is known of a misuse at the moment when it is noticed.
pub const Misuse = struct {
    kind: Kind,
    /// The pointer that was given, or the block whose bytes were changed.
    address: usize,
    /// The block's size: as asked for under HAKMEM_CHECK, else that of its size class. 0 where it is unknown.
    block_bytes: usize = 0,
    state: State = .unknown,
    /// Bytes from the block's start to the pointer or the changed byte.
    offset: isize = 0,
    /// The size or alignment that the caller gave.
    given: usize = 0,
};

/// Ends the process with one line: what happened, address, block size, state, what to do.
pub noinline fn misuse(what: Misuse) noreturn {
    @branchHint(.cold);
    var line: Line = .{};
    describe(&line, what);
    line.end();
    locking.Passage.openForGood();
    os.die();
}

fn describe(line: *Line, what: Misuse) void {
    line.text(switch (what.kind) {
        .foreign_pointer => "hakmem: foreign pointer: ",
        .interior_pointer => "hakmem: interior pointer: ",
        .double_free => "hakmem: double free: ",
        .unallocated_block => "hakmem: unallocated block: ",
        .use_after_free => "hakmem: use after free: ",
        .wrong_size => "hakmem: wrong size: ",
        .wrong_alignment => "hakmem: wrong alignment: ",
        .overflow => "hakmem: overflow: ",
        .underflow => "hakmem: underflow: ",
        .write_after_free => "hakmem: write after free: ",
    });
    line.hex(what.address);
    switch (what.kind) {
        .foreign_pointer => line.text(" lies in"),
        .interior_pointer => {
            line.text(" lies ");
            line.bytes(@abs(what.offset));
            line.text(if (what.offset < 0) " before" else " into");
        },
        else => line.text(" is"),
    }
    if (what.kind == .foreign_pointer) {
        line.text(" no block of hakmem");
    } else if (what.block_bytes == 0) {
        line.text(" a block of unknown size");
    } else {
        line.text(" a block of ");
        line.bytes(what.block_bytes);
    }
    line.text(switch (what.state) {
        .unknown => "",
        .in_use => ", in use",
        .free => ", free already",
        .never_handed_out => ", never handed out",
    });
    switch (what.kind) {
        .wrong_size => {
            line.text(", freed as one of ");
            line.bytes(what.given);
        },
        .wrong_alignment => {
            line.text(", freed as one aligned to ");
            line.number(what.given, 10);
        },
        .overflow, .underflow, .write_after_free => {
            line.text(if (what.offset < 0) ", and byte -" else ", and byte ");
            line.number(@abs(what.offset), 10);
            line.text(" of it was changed");
        },
        else => {},
    }
    line.text(switch (what.kind) {
        .foreign_pointer => "; give it back to what made it, or set HAKMEM_FOREIGN=ignore",
        .interior_pointer => "; pass the address that malloc returned",
        .double_free => "; free each block once",
        .unallocated_block => "; pass only what malloc returned",
        .use_after_free => "; keep no pointer to a block that was freed",
        .wrong_size => "; pass the size that malloc was asked for",
        .wrong_alignment => "; pass the alignment that was asked for",
        .overflow => "; write no further than the size asked for",
        .underflow => "; write nothing before the block",
        .write_after_free => "; keep no pointer to a block that was freed",
    });
    line.text("; see docs/errors/");
    for (@tagName(what.kind)) |letter| line.text(&.{if (letter == '_') '-' else letter});
    line.text(".md");
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

test "fatal: the longest line fits" {
    for (std.enums.values(Kind)) |kind| for (std.enums.values(State)) |state| {
        var line: Line = .{};
        const large = std.math.maxInt(usize);
        describe(&line, .{
            .kind = kind,
            .address = large,
            .block_bytes = large,
            .state = state,
            .offset = std.math.minInt(isize),
            .given = large,
        });
        try std.testing.expect(line.length < line.buffer.len);
        try std.testing.expect(std.mem.endsWith(u8, line.buffer[0..line.length], ".md"));
    };
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
