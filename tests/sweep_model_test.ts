/**
 * The sweep's arithmetic: the cost model, medians, and the order of measuring.
 */
import assert from "node:assert/strict";
import { fitModel, type Point } from "../bench/sweep/model.ts";
import { randomSource } from "../bench/harness/rounds.ts";
import { planSteps } from "../bench/sweep/order.ts";
import { fitModels, groupRows, sortRows, summarize } from "../bench/sweep/summary.ts";
import { syntheticRow, syntheticSample } from "./sweep_support.ts";

const counts = [1e3, 1e4, 1e5, 1e6, 1e7];

/** The sum of squares that the model is to make small, and the largest error. */
function misses(points: readonly Point[], fixed: number, perBlock: number): [number, number] {
  const errors = points.map(({ count, overheadBytes }) =>
    Math.abs(fixed + perBlock * count - overheadBytes) / Math.max(Math.abs(overheadBytes), 4096)
  );
  return [errors.reduce((sum, error) => sum + error * error, 0), Math.max(...errors)];
}

Deno.test("the cost model recovers F and V from exact data", () => {
  const random = randomSource(1);
  for (let round = 0; round < 500; round++) {
    const fixed = random() < 0.1 ? 0 : 10 ** (3 + 4 * random());
    const perBlock = random() < 0.1 ? 0 : 10 ** (2 - 4 * random());
    const points = counts.map((count) => ({ count, overheadBytes: fixed + perBlock * count }));
    const fit = fitModel(points);
    assert(fit !== null);
    const scale = Math.max(fixed, perBlock * 1e3, 1);
    assert(Math.abs(fit.fixedBytes - fixed) <= 1e-5 * scale, `F ${fixed}: ${fit.fixedBytes}`);
    assert(
      Math.abs(fit.perBlockBytes - perBlock) <= 1e-5 * Math.max(perBlock, fixed / 1e7, 1e-9),
      `V ${perBlock}: ${fit.perBlockBytes}`,
    );
    assert(fit.maxRelativeError < 1e-5);
  }
});

Deno.test("the cost model is not negative, and no better one is near, whatever was measured", () => {
  const random = randomSource(2);
  for (let round = 0; round < 500; round++) {
    const points = counts.slice(0, 2 + Math.floor(4 * random())).map((count) => ({
      count,
      overheadBytes: (random() - 0.3) * 10 ** (3 + 5 * random()),
    }));
    const fit = fitModel(points);
    assert(fit !== null);
    assert(fit.fixedBytes >= 0 && fit.perBlockBytes >= 0);
    const [squares, worst] = misses(points, fit.fixedBytes, fit.perBlockBytes);
    assert(Math.abs(worst - fit.maxRelativeError) <= 1e-9 * (1 + worst));
    for (const fixedStep of [-1, 0, 1]) {
      for (const perBlockStep of [-1, 0, 1]) {
        const fixed = Math.max(0, fit.fixedBytes + fixedStep * (1 + 0.01 * fit.fixedBytes));
        const perBlock = Math.max(
          0,
          fit.perBlockBytes + perBlockStep * (1e-4 + 0.01 * fit.perBlockBytes),
        );
        assert(misses(points, fixed, perBlock)[0] >= squares * (1 - 1e-9));
      }
    }
  }
});

Deno.test("one count alone has no cost model", () => {
  assert.equal(fitModel([{ count: 1000, overheadBytes: 4096 }]), null);
  assert.equal(fitModel([]), null);
});

Deno.test("models are fitted for each allocator and size, from rows without an error", () => {
  const rows = [16, 64].flatMap((size) =>
    [1e3, 1e6].flatMap((count) => [
      syntheticRow("lean", size, count, [syntheticSample(0, size, count, 8192, 0.5)]),
      syntheticRow("broken", size, count, [syntheticSample(0, size, count, 8192, 0.5)], "crashed"),
    ])
  );
  const models = fitModels(rows);
  assert.deepEqual(models.map(({ allocator, size }) => [allocator, size]), [
    ["lean", 16],
    ["lean", 64],
  ]);
  for (const model of models) {
    assert(Math.abs(model.fixed_bytes - 8192) < 0.01);
    assert(Math.abs(model.per_block_bytes - 0.5) < 1e-6);
  }
});

Deno.test("a row is the medians of its samples, and adds up", () => {
  const samples = [0, 1, 2].map((repeat) => syntheticSample(repeat, 16, 1000, 4096, 1));
  const second = samples[1];
  assert(second !== undefined);
  second.live_rss_bytes += 1_000_000;
  const row = syntheticRow("a", 16, 1000, samples);
  assert.equal(row.alloc_ns, 11);
  assert.deepEqual(row.spread.alloc_ns, { median: 11, min: 10, max: 12, mad: 1 });
  assert(row.live_rss_bytes !== null && row.base_rss_bytes !== null);
  assert.equal(row.overhead_bytes, row.live_rss_bytes - row.base_rss_bytes - 16 * 1000);
  assert.equal(row.overhead_per_block_bytes, Number(row.overhead_bytes) / 1000);
  assert.equal(row.after_idle_rss_bytes, samples[0]?.after_idle_rss_bytes);
});

Deno.test("a row without samples has no figures", () => {
  const { spread, ...figures } = summarize([], 16, 1000);
  assert.deepEqual(spread, {});
  assert.deepEqual(new Set(Object.values(figures)), new Set([null]));
});

Deno.test("rows are sorted by size, count and overhead, and grouped so", () => {
  const row = (name: string, size: number, count: number, fixed: number): ReturnType<
    typeof syntheticRow
  > => syntheticRow(name, size, count, [syntheticSample(0, size, count, fixed, 0)]);
  const sorted = sortRows([
    row("a", 64, 1e3, 1),
    row("b", 16, 1e6, 1),
    syntheticRow("dead", 16, 1e3, [], "crashed"),
    row("c", 16, 1e3, 9000),
    row("d", 16, 1e3, 5),
  ]);
  assert.deepEqual(sorted.map(({ allocator }) => allocator), ["d", "c", "dead", "b", "a"]);
  assert.deepEqual(groupRows(sorted).map(([count, group]) => [count, group.length]), [
    [1e3, 3],
    [1e6, 1],
    [1e3, 1],
  ]);
});

Deno.test("every round measures every cell once, allocators in turn, after a warm-up round", () => {
  const sizes = [16, 64];
  const steps = planSteps(sizes, counts, 3, 4, 99);
  assert.equal(steps.length, sizes.length * counts.length * 3 * 5);
  for (let round = -1; round < 4; round++) {
    const inRound = steps.filter((step) => step.round === round);
    const cells = new Set(
      inRound.map(({ size, count, allocator }) => `${size} ${count} ${allocator}`),
    );
    assert.equal(cells.size, inRound.length);
    const turn = inRound.slice(0, 3).map((step) => step.allocator);
    assert.deepEqual(turn.toSorted(), [0, 1, 2]);
    for (const [index, step] of inRound.entries()) {
      assert.equal(step.allocator, turn[index % 3]);
      assert.equal(step.count, inRound[index - index % 3]?.count);
    }
  }
  assert.deepEqual(
    steps.map((step) => step.round),
    steps.map((step) => step.round).toSorted((a, b) => a - b),
  );
  assert.equal(steps.filter((step) => step.idle).length, sizes.length * counts.length * 3);
});

Deno.test("the same seed gives the same order, another seed another", () => {
  const order = (seed: number): string => JSON.stringify(planSteps([16], counts, 3, 2, seed));
  assert.equal(order(5), order(5));
  assert.notEqual(order(5), order(6));
});
