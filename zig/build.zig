//! Builds the two objects, the header, the native programs that measure and test them, and the unit tests.
//!
//!   zig build                  the objects, the header and the programs that measure, into zig-out/ (use --release=fast)
//!   zig build test-programs    the same and what the Deno tests run
//!   zig build platforms        the objects for every platform, into zig-out/PLATFORM/lib/
//!   zig build platform-tests   the same and what is run of them under emulation, into zig-out/PLATFORM/test/
//!   zig build test             the unit tests, with safety checks
//!   zig build test-bench       of these, the workloads of the benchmark
//!   zig build test-interleave  of these, the threads in every order
//!   zig build test-costs       of these, what operations cost other threads

const std = @import("std");
const builtin = @import("builtin");

const version = "0.1.0";

/// A platform that objects are made for on any machine. Its name is that of its folder.
const Platform = struct {
    name: []const u8,
    arch: std.Target.Cpu.Arch,
    os: std.Target.Os.Tag,
    abi: std.Target.Abi,
    /// There is an object to preload besides the one to open.
    preload: bool,
    /// The tests run it, on the machine itself or under emulation.
    tested: bool,
};

const platforms = [_]Platform{
    .{ .name = "x86_64-linux-gnu", .arch = .x86_64, .os = .linux, .abi = .gnu, .preload = true, .tested = false },
    .{ .name = "x86_64-linux-musl", .arch = .x86_64, .os = .linux, .abi = .musl, .preload = true, .tested = true },
    .{ .name = "aarch64-linux-gnu", .arch = .aarch64, .os = .linux, .abi = .gnu, .preload = true, .tested = true },
    .{ .name = "aarch64-linux-musl", .arch = .aarch64, .os = .linux, .abi = .musl, .preload = true, .tested = true },
    .{ .name = "x86_64-macos", .arch = .x86_64, .os = .macos, .abi = .none, .preload = false, .tested = false },
    .{ .name = "aarch64-macos", .arch = .aarch64, .os = .macos, .abi = .none, .preload = false, .tested = false },
};

/// The oldest glibc that the objects of `platforms` load with: the oldest that has aarch64.
const glibc_oldest: std.SemanticVersion = .{ .major = 2, .minor = 17, .patch = 0 };

/// Not the building machine's own processor: the objects are copied to others, and valgrind knows no AVX-512.
/// x86-64-v2 has what the bitmaps need (popcnt) and nothing newer than 2009.
fn processor(arch: std.Target.Cpu.Arch) std.Target.Query.CpuModel {
    return if (arch == .x86_64) .{ .explicit = &std.Target.x86.cpu.x86_64_v2 } else .baseline;
}

pub fn build(b: *std.Build) void {
    const target = b.standardTargetOptions(.{ .default_target = .{ .cpu_model = processor(builtin.cpu.arch) } });
    const optimize = b.standardOptimizeOption(.{ .preferred_optimize_mode = .fast });

    // An initial-exec slot is the fastest, but a late dlopen may refuse it.
    const preload = object(b, "hakmem_preload", "src/preload.zig", target, optimize, true);
    const ffi = object(b, "hakmem", "src/ffi.zig", target, optimize, false);
    b.installArtifact(preload);
    b.installArtifact(ffi);
    b.getInstallStep().dependOn(&b.addInstallHeaderFile(b.path("include/hakmem.h"), "hakmem.h").step);

    // The same object with its assertions on, for the tests, and the one that counts what operations cost.
    const checked = object(b, "hakmem_preload_checked", "src/preload.zig", target, .safe, true);
    const checked_install = b.addInstallArtifact(checked, .{ .dest_dir = .{ .override = .{ .custom = "test" } } });
    const counting_install = b.addInstallArtifact(
        objectOf(b, "hakmem_preload_counting", module(b, "src/preload.zig", target, .fast, .{
            .initial_exec_slot = true,
            .counting = true,
        })),
        .{ .dest_dir = .{ .override = .{ .custom = "test" } } },
    );
    b.installArtifact(program(b, "hak-sweep-driver", "bench/sweep_driver.zig", target, .fast));
    b.installArtifact(program(b, "hak-bench", "bench/hak_bench.zig", target, .fast));
    b.installArtifact(program(b, "hak-soak-driver", "bench/soak_driver.zig", target, .fast));
    b.installArtifact(program(b, "hak-program-meter", "bench/program_meter.zig", target, .fast));

    // The fuzzer has an allocator of its own, whose system calls it can refuse and in which it can plant bugs.
    const fuzzer = program(b, "hak-fuzz", "tests/fuzz.zig", target, .safe);
    fuzzer.root_module.addImport("allocator", module(b, "src/fuzz_target.zig", target, .safe, .{ .test_hooks = true }));

    const test_programs = b.step("test-programs", "Build what the Deno tests run");
    test_programs.dependOn(b.getInstallStep());
    test_programs.dependOn(&checked_install.step);
    test_programs.dependOn(&counting_install.step);
    for ([_]*std.Build.Step.Compile{
        program(b, "hak-conformance", "tests/conformance.zig", target, .safe),
        program(b, "hak-semantics", "tests/semantics.zig", target, .safe),
        program(b, "hak-stress", "tests/stress.zig", target, .safe),
        fuzzer,
    }) |each| test_programs.dependOn(&b.addInstallArtifact(each, .{}).step);

    const unit_tests = unitTests(b, target);
    // What the native tests themselves rest on: the oracle, and that each planted defect is noticed.
    const harness_tests = b.addTest(.{
        .name = "harness",
        .root_module = programModule(b, "tests/conformance.zig", target, .safe),
        .test_runner = .{ .path = b.path("test_runner.zig"), .mode = .simple },
        .use_llvm = true,
    });
    // Threads in every order: the allocator with its atomic operations in the explorer's hands.
    const explorer = b.createModule(.{
        .root_source_file = b.path("tests/interleave/explorer.zig"),
        .target = target,
        .optimize = .safe,
        .link_libc = true,
    });
    const explored = module(b, "src/hakmem.zig", target, .safe, .{ .explorer = explorer });
    const interleave_root = programModule(b, "tests/interleave.zig", target, .safe);
    interleave_root.addImport("explorer", explorer);
    interleave_root.addImport("hakmem", explored);
    const interleave_tests = b.addTest(.{
        .name = "interleave",
        .root_module = interleave_root,
        .test_runner = .{ .path = b.path("test_runner.zig"), .mode = .simple },
        .use_llvm = true,
    });
    // fork at every instruction, in code optimised as the shipped one is.
    const steps_root = programModule(b, "tests/interleave/fork_steps.zig", target, .fast);
    steps_root.addImport("hakmem", module(b, "src/hakmem.zig", target, .fast, .{}));
    const steps_tests = b.addTest(.{
        .name = "fork-steps",
        .root_module = steps_root,
        .test_runner = .{ .path = b.path("test_runner.zig"), .mode = .simple },
        .use_llvm = true,
    });
    // What operations cost, by an allocator that counts it.
    const costs_root = programModule(b, "tests/costs.zig", target, .safe);
    costs_root.addImport("hakmem", module(b, "src/hakmem.zig", target, .safe, .{ .counting = true }));
    const costs_tests = b.addTest(.{
        .name = "costs",
        .root_module = costs_root,
        .test_runner = .{ .path = b.path("test_runner.zig"), .mode = .simple },
        .use_llvm = true,
    });
    const costs_step = b.step("test-costs", "Run the tests of what operations cost");
    const bench_tests = b.addTest(.{
        .name = "bench",
        .root_module = programModule(b, "bench/hak_bench.zig", target, .safe),
        .test_runner = .{ .path = b.path("test_runner.zig"), .mode = .simple },
        .use_llvm = true,
    });
    const interleave_step = b.step("test-interleave", "Run the tests that explore interleavings");
    const bench_step = b.step("test-bench", "Run the tests of the workloads");
    const test_step = b.step("test", "Run the unit tests");
    for ([_]*std.Build.Step.Compile{ unit_tests, harness_tests, bench_tests, interleave_tests, steps_tests, costs_tests }) |tests| {
        const run = b.addRunArtifact(tests);
        run.has_side_effects = true;
        test_step.dependOn(&run.step);
        if (tests == bench_tests) bench_step.dependOn(&run.step);
        if (tests == interleave_tests or tests == steps_tests) interleave_step.dependOn(&run.step);
        if (tests == costs_tests) costs_step.dependOn(&run.step);
    }
    // The same as if the kernel had larger pages.
    for ([_][]const u8{ "16384", "65536" }) |page_bytes| {
        const run = b.addRunArtifact(unit_tests);
        run.setEnvironmentVariable("HAK_TEST_PAGE_BYTES", page_bytes);
        run.has_side_effects = true;
        test_step.dependOn(&run.step);
    }

    const all = b.step("platforms", "Build the objects for every platform");
    const all_tests = b.step("platform-tests", "Build the objects for every platform, and what is run of them");
    all_tests.dependOn(all);
    for (platforms) |platform| buildFor(b, platform, optimize, all, all_tests);
}

fn buildFor(
    b: *std.Build,
    platform: Platform,
    optimize: std.builtin.Optimize,
    all: *std.Build.Step,
    all_tests: *std.Build.Step,
) void {
    const target = b.resolveTargetQuery(.{
        .cpu_arch = platform.arch,
        .cpu_model = processor(platform.arch),
        .os_tag = platform.os,
        .abi = platform.abi,
        .glibc_version = if (platform.abi == .gnu) glibc_oldest else null,
    });
    const objects: std.Build.InstallDir = .{ .custom = b.pathJoin(&.{ platform.name, "lib" }) };
    const tests: std.Build.InstallDir = .{ .custom = b.pathJoin(&.{ platform.name, "test" }) };
    place(b, object(b, "hakmem", "src/ffi.zig", target, optimize, false), objects, all);
    if (platform.preload) {
        place(b, object(b, "hakmem_preload", "src/preload.zig", target, optimize, true), objects, all);
    }
    if (!platform.tested) return;
    place(b, object(b, "hakmem_preload_checked", "src/preload.zig", target, .safe, true), tests, all_tests);
    place(b, program(b, "hak-conformance", "tests/conformance.zig", target, .safe), tests, all_tests);
    place(b, program(b, "hak-stress", "tests/stress.zig", target, .safe), tests, all_tests);
    place(b, unitTests(b, target), tests, all_tests);
}

fn place(b: *std.Build, artifact: *std.Build.Step.Compile, dir: std.Build.InstallDir, step: *std.Build.Step) void {
    step.dependOn(&b.addInstallArtifact(artifact, .{ .dest_dir = .{ .override = dir } }).step);
}

/// The unit tests run the conformance suite against the Zig allocator.
fn unitTests(b: *std.Build, target: std.Build.ResolvedTarget) *std.Build.Step.Compile {
    const root = module(b, "src/hakmem.zig", target, .safe, .{});
    root.addAnonymousImport("suite", .{ .root_source_file = b.path("tests/suite.zig") });
    return b.addTest(.{
        .name = "unit-tests",
        .root_module = root,
        .test_runner = .{ .path = b.path("test_runner.zig"), .mode = .simple },
        .use_llvm = true,
    });
}

fn object(
    b: *std.Build,
    name: []const u8,
    root: []const u8,
    target: std.Build.ResolvedTarget,
    optimize: std.builtin.Optimize,
    initial_exec_slot: bool,
) *std.Build.Step.Compile {
    return objectOf(b, name, module(b, root, target, optimize, .{ .initial_exec_slot = initial_exec_slot }));
}

fn objectOf(b: *std.Build, name: []const u8, root: *std.Build.Module) *std.Build.Step.Compile {
    const library = b.addLibrary(.{
        .name = name,
        .linkage = .dynamic,
        .root_module = root,
        .use_llvm = true,
        // LLD does not know Darwin's objects.
        .use_lld = root.resolved_target.?.result.os.tag != .macos,
    });
    library.root_module.strip = true;
    library.root_module.omit_frame_pointer = true;
    library.link_gc_sections = true;
    return library;
}

fn module(
    b: *std.Build,
    root: []const u8,
    target: std.Build.ResolvedTarget,
    optimize: std.builtin.Optimize,
    choice: struct {
        initial_exec_slot: bool = false,
        /// System calls can be refused and bugs planted; never in what is shipped.
        test_hooks: bool = false,
        /// Every atomic operation goes through it; never in what is shipped.
        explorer: ?*std.Build.Module = null,
        /// What operations cost is counted; never in what is shipped.
        counting: bool = false,
    },
) *std.Build.Module {
    const options = b.addOptions();
    options.addOption(bool, "initial_exec_slot", choice.initial_exec_slot);
    options.addOption(bool, "test_hooks", choice.test_hooks);
    options.addOption(bool, "explored", choice.explorer != null);
    options.addOption(bool, "counting", choice.counting);
    options.addOption([:0]const u8, "version", version);
    const result = b.createModule(.{
        .root_source_file = b.path(root),
        .target = target,
        .optimize = optimize,
        .link_libc = true,
        .pic = true,
        .stack_protector = false,
        .stack_check = false,
        .unwind_tables = .async,
        .error_tracing = optimize == .safe,
    });
    result.addOptions("build_options", options);
    if (choice.explorer) |each| result.addImport("explorer", each);
    return result;
}

fn program(
    b: *std.Build,
    name: []const u8,
    root: []const u8,
    target: std.Build.ResolvedTarget,
    optimize: std.builtin.Optimize,
) *std.Build.Step.Compile {
    return b.addExecutable(.{
        .name = name,
        // With musl it would be static otherwise, and nothing could be preloaded.
        .linkage = .dynamic,
        .root_module = programModule(b, root, target, optimize),
        .use_llvm = true,
    });
}

fn programModule(
    b: *std.Build,
    root: []const u8,
    target: std.Build.ResolvedTarget,
    optimize: std.builtin.Optimize,
) *std.Build.Module {
    return b.createModule(.{
        .root_source_file = b.path(root),
        .target = target,
        .optimize = optimize,
        .link_libc = true,
    });
}
