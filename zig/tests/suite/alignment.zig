//! Cases about alignment: the aligned members of the malloc family, what they refuse, and what
//! they leave alone when they do.

const std = @import("std");
const run_module = @import("run.zig");
const impossible = @import("impossible.zig");
const Failure = @import("subject.zig").Failure;

const Run = run_module.Run;
const Block = run_module.Block;
const errno_no_memory = run_module.errno_no_memory;
const errno_invalid = run_module.errno_invalid;
const mib = run_module.mib;
const size_max = run_module.size_max;
const hugeSizesFor = impossible.hugeSizesFor;

pub fn alignedAlloc(run: *Run) Failure!void {
    for (0..23) |exponent| {
        const alignment: std.mem.Alignment = @fromBackingInt(@intCast(exponent));
        const bytes = alignment.toByteUnits();
        for ([_]usize{ 0, 1, bytes - 1, bytes, bytes * 3, 100_000 }) |size| {
            if (size == 0 and !run.subject.contract.zero_sizes) continue;
            // Three at once, since the first of a fresh page is aligned by chance.
            var blocks: [3]Block = undefined;
            for (&blocks) |*block| {
                block.* = try run.allocateAligned(alignment, size);
                run.fill(block.*);
            }
            for (blocks) |block| try run.checkAndFree(block);
        }
    }
    // Larger than any superslab.
    for ([_]usize{ 16 * mib, 64 * mib }) |bytes| {
        const alignment: std.mem.Alignment = .fromByteUnits(bytes);
        var blocks: [2]Block = undefined;
        for (&blocks, [_]usize{ 48, 300_000 }) |*block, size| {
            block.* = try run.allocateAligned(alignment, size);
            run.fill(block.*);
        }
        for (blocks) |block| try run.checkAndFree(block);
    }
    // An alignment with which even a small block cannot fit the address space.
    for ([_]usize{ 1 << 48, 1 << 62, 1 << 63 }) |bytes| {
        run.armErrno();
        const pointer = switch (run.subject.door) {
            .c => |*c| c.aligned_alloc(bytes, 64),
            .zig => |zig| zig.rawAlloc(64, .fromByteUnits(bytes), @returnAddress()),
        };
        // glibc calls an alignment above half of the address space invalid.
        var code = errno_no_memory;
        switch (run.subject.door) {
            .c => |*c| if (bytes == 1 << 63 and c.errno_location().* == errno_invalid) {
                code = errno_invalid;
            },
            .zig => {},
        }
        try run.expectRefused("aligned_alloc", pointer, code, .{ bytes, 64 });
    }
}

pub fn alignedAllocBadAlignment(run: *Run) Failure!void {
    const c = run.family();
    for ([_]usize{ 0, 3, 5, 6, 7, 12, 24, 48, 100, 4095, 4097, 3 * mib, size_max }) |alignment| {
        run.armErrno();
        const pointer = c.aligned_alloc(alignment, 64);
        try run.expectRefused("aligned_alloc", pointer, errno_invalid, .{ alignment, 64 });
    }
}

pub fn alignedRealloc(run: *Run) Failure!void {
    for (3..22) |exponent| {
        const alignment: std.mem.Alignment = @fromBackingInt(@intCast(exponent));
        for ([_]usize{ 24, 5000, 100_000 }) |size| {
            var block = try run.allocateAligned(alignment, size);
            run.fill(block);
            block = try run.resize(block, size * 3);
            block = try run.resize(block, size / 2);
            block = try run.resize(block, size * 7 + 1);
            try run.checkAndFree(block);
        }
    }
}

pub fn posixMemalign(run: *Run) Failure!void {
    const call = run.family().posix_memalign.?;
    for (3..21) |exponent| {
        const alignment: std.mem.Alignment = @fromBackingInt(@intCast(exponent));
        const bytes = alignment.toByteUnits();
        for ([_]usize{ 0, 1, bytes - 1, bytes, bytes + 1, 100_000 }) |size| {
            var blocks: [3]Block = undefined;
            for (&blocks) |*block| {
                var pointer: ?[*]u8 = null;
                run.armErrno();
                const code = call(&pointer, bytes, size);
                if (code != 0) return run.fail("posix_memalign({d}, {d}) returned {d}", .{ bytes, size, code });
                block.* = try run.adopt("posix_memalign", pointer, size, alignment);
                run.fill(block.*);
            }
            for (blocks) |block| try run.checkAndFree(block);
        }
    }
}

pub fn posixMemalignErrors(run: *Run) Failure!void {
    const call = run.family().posix_memalign.?;
    var untouched: [1]u8 = .{0};
    for ([_]usize{ 0, 1, 2, 3, 4, 6, 7, 9, 12, 20, 24, 40, 4095, 4104, size_max, size_max - 7 }) |alignment| {
        for ([_]usize{ 0, 64, 100_000, size_max }) |size| {
            var pointer: ?[*]u8 = &untouched;
            run.armErrno();
            const code = call(&pointer, alignment, size);
            if (code != errno_invalid) {
                return run.fail("posix_memalign({d}, {d}) returned {d}, expected EINVAL ({d})", .{
                    alignment, size, code, errno_invalid,
                });
            }
            try expectPointerUntouched(run, pointer, &untouched, alignment, size);
            try run.expectErrnoKept("posix_memalign with a bad alignment,", size);
        }
    }
    for (hugeSizesFor(run)) |size| {
        var pointer: ?[*]u8 = &untouched;
        run.armErrno();
        const code = call(&pointer, 64, size);
        if (code != errno_no_memory) {
            return run.fail("posix_memalign(64, {d}) returned {d}, expected ENOMEM ({d})", .{
                size, code, errno_no_memory,
            });
        }
        try expectPointerUntouched(run, pointer, &untouched, 64, size);
        if (run.subject.contract.posix_memalign_keeps_errno) {
            try run.expectErrnoKept("posix_memalign without memory,", size);
        }
    }
}

fn expectPointerUntouched(run: *Run, pointer: ?[*]u8, untouched: [*]u8, alignment: usize, size: usize) Failure!void {
    if (pointer != untouched) {
        return run.fail("posix_memalign({d}, {d}) failed and wrote 0x{x} into the caller's pointer", .{
            alignment, size, @intFromPtr(pointer),
        });
    }
}

pub fn memalign(run: *Run) Failure!void {
    const call = run.family().memalign.?;
    for (0..21) |exponent| {
        const alignment: std.mem.Alignment = @fromBackingInt(@intCast(exponent));
        for ([_]usize{ 0, 1, 100, 5000, 70_000 }) |size| {
            var blocks: [3]Block = undefined;
            for (&blocks) |*block| {
                run.armErrno();
                block.* = try run.adopt("memalign", call(alignment.toByteUnits(), size), size, alignment);
                run.fill(block.*);
            }
            for (blocks) |block| try run.checkAndFree(block);
        }
    }
    // An alignment that is no power of two: refused as invalid, or rounded up, but never a block
    // that is aligned to less than was asked for. Several are held at once, as one may be aligned by luck.
    for ([_]usize{ 24, 48, 100, 4097 }) |alignment| {
        const power = std.math.ceilPowerOfTwo(usize, alignment) catch unreachable;
        var blocks: [16]Block = undefined;
        var held: usize = 0;
        for (0..blocks.len) |_| {
            run.armErrno();
            const pointer = call(alignment, 200);
            if (pointer == null) {
                try run.expectRefused("memalign", pointer, errno_invalid, .{ alignment, 200 });
                continue;
            }
            blocks[held] = try run.adopt("memalign", pointer, 200, .fromByteUnits(power));
            held += 1;
        }
        for (blocks[0..held]) |block| try run.free(block);
    }
}

pub fn valloc(run: *Run) Failure!void {
    const call = run.family().valloc.?;
    const page: std.mem.Alignment = .fromByteUnits(std.heap.pageSize());
    for ([_]usize{ 0, 1, 100, 4095, 4096, 4097, 70_000, 3 * mib }) |size| {
        var blocks: [3]Block = undefined;
        for (&blocks) |*block| {
            run.armErrno();
            block.* = try run.adopt("valloc", call(size), size, page);
            run.fill(block.*);
        }
        for (blocks) |block| try run.checkAndFree(block);
    }
    for (hugeSizesFor(run)) |size| {
        run.armErrno();
        try run.expectRefused("valloc", call(size), errno_no_memory, .{ size, 0 });
    }
}

pub fn pvalloc(run: *Run) Failure!void {
    const call = run.family().pvalloc.?;
    const page_bytes = std.heap.pageSize();
    const page: std.mem.Alignment = .fromByteUnits(page_bytes);
    for ([_]usize{ 0, 1, 100, 4095, 4096, 4097, 70_000, 3 * mib }) |size| {
        // The size is rounded up to whole pages, all of which the caller may write.
        const rounded = std.mem.alignForward(usize, size, page_bytes);
        var blocks: [3]Block = undefined;
        for (&blocks) |*block| {
            run.armErrno();
            block.* = try run.adopt("pvalloc", call(size), rounded, page);
            run.fill(block.*);
        }
        for (blocks) |block| try run.checkAndFree(block);
    }
    // The rounding itself must not wrap to a small size.
    for (hugeSizesFor(run)) |size| {
        run.armErrno();
        try run.expectRefused("pvalloc", call(size), errno_no_memory, .{ size, 0 });
    }
}
