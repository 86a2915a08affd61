//! Sizes and products that no process can have. Each must be refused, by every door that may be
//! asked, and never wrap to something small.

const run_module = @import("run.zig");

const Run = run_module.Run;
const kib = run_module.kib;
const mib = run_module.mib;
const ptrdiff_max = run_module.ptrdiff_max;
const size_max = run_module.size_max;

/// Pairs whose product does not fit a size; several wrap to a small number or to zero.
pub const overflowing_products = [_][2]usize{
    .{ size_max, 2 },
    .{ 2, size_max },
    .{ size_max, size_max },
    .{ 1 << 32, 1 << 32 },
    .{ size_max / 2 + 1, 2 },
    .{ size_max / 16 + 2, 16 },
    .{ 3, size_max / 3 + 2 },
    .{ 0x1_0000_0001, 0xffff_ffff_0000_0001 },
};

/// Products that fit a size but no address space.
pub const huge_products = [_][2]usize{
    .{ ptrdiff_max, 2 },
    .{ 1 << 31, 1 << 32 },
    .{ 1, size_max },
    .{ size_max / 3, 3 },
    .{ 1 << 24, 1 << 24 },
};

/// The impossible sizes that this door may be asked for.
pub fn hugeSizesFor(run: *const Run) []const usize {
    return if (run.subject.contract.refuses_any_size) &huge_sizes else &sizes_beyond_memory;
}

/// Sizes that no process can have.
pub const huge_sizes = sizes_that_overflow ++ sizes_beyond_memory;

/// Sizes beyond PTRDIFF_MAX, many of which wrap to something small when they are rounded up.
const sizes_that_overflow = [_]usize{
    size_max,         size_max - 1,    size_max - 7,    size_max - 8,        size_max - 15,      size_max - 16,
    size_max - 4094,  size_max - 4095, size_max - 4096, size_max - 64 * kib, size_max - 2 * mib, size_max - 4 * mib,
    size_max / 2 + 2, ptrdiff_max + 1,
};

/// Sizes up to PTRDIFF_MAX that a 48-bit address space cannot hold.
const sizes_beyond_memory = [_]usize{
    ptrdiff_max,        ptrdiff_max - 1,        ptrdiff_max - 15,      ptrdiff_max - 4095, ptrdiff_max - 4096,
    ptrdiff_max - 8192, ptrdiff_max - 64 * kib, ptrdiff_max - 2 * mib, 1 << 62,            (1 << 62) + 1,
    1 << 56,            1 << 48,                (1 << 48) - 4096,      1 << 47,
};
