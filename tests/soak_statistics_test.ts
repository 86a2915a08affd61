/**
 * The statistics of a soak against known data and random models, its plan, and how epochs become rows.
 */
import assert from "node:assert/strict";
import { randomSource } from "../bench/harness/rounds.ts";
import { epochsIn, isTraced, orderOf, planRounds } from "../bench/soak/plan.ts";
import { type Point, theilSen, thin } from "../bench/soak/statistics.ts";
import { figuresOf, goalsOf, livesOf, longestLife } from "../bench/soak/summary.ts";
import { syntheticEpochs, syntheticSoakRow } from "./soak_support.ts";

function pointsOf(values: readonly number[]): Point[] {
  return values.map((y, index) => ({ x: index + 1, y }));
}

Deno.test("Theil–Sen: Hollander and Wolfe's cloud seeding, and Sen's own example", () => {
  // Their example 9.1: ratios of rainfall in five years. The slopes, sorted, are -0.15, -0.13, -0.08, -0.07,
  // -0.0575, -0.055, -0.045, -0.0333, 0.01 and 0.04.
  const { slope, low, high } = theilSen(pointsOf([1.26, 1.27, 1.12, 1.16, 1.03]));
  assert(Math.abs(slope - (-0.0575 - 0.055) / 2) < 1e-12);
  assert.deepEqual([low, high], [null, null]);

  // Sen (1968), section 6. For 93 % his C is 13, and the interval is that from the 4th of 21 slopes to the 18th,
  // 26/7 to 35/8. For 95 % C is 13.05, which no two ranks are apart: it goes from the 3rd to the 19th.
  const sen = [[1, 9], [2, 15], [3, 19], [4, 20], [10, 45], [12, 55], [18, 78]]
    .map(([x = 0, y = 0]) => ({ x, y }));
  const slopes = sen.flatMap((a, index) =>
    sen.slice(index + 1).map((b) => (b.y - a.y) / (b.x - a.x))
  ).sort((a, b) => a - b);
  assert.deepEqual([slopes[3], slopes[17]], [26 / 7, 35 / 8]);
  assert.deepEqual(theilSen(sen), { slope: 4, low: slopes[2], high: slopes[18] });
});

Deno.test("Theil–Sen: a line is found exactly, behind outliers too, and what stands still has slope 0", () => {
  assert.deepEqual(theilSen(pointsOf([5, 5, 5, 5, 5, 5, 5])), { slope: 0, low: 0, high: 0 });
  const line = Array.from({ length: 30 }, (_, index) => 3 * index + 1);
  assert.deepEqual(theilSen(pointsOf(line)), { slope: 3, low: 3, high: 3 });
  const spoilt = line.map((y, index) => index % 7 === 3 ? 1e6 : y);
  assert.equal(theilSen(pointsOf(spoilt)).slope, 3);
  const step = theilSen(pointsOf([...Array(20).fill(100), ...Array(20).fill(104)]));
  // Half of the slopes are nought: a step is no trend that goes on, but the interval shows it.
  assert(step.slope >= 0 && step.low !== null && step.low >= 0 && (step.high ?? 0) > 0);
  assert.throws(() => theilSen([{ x: 1, y: 1 }, { x: 1, y: 2 }]), RangeError);
});

Deno.test("Theil–Sen: the interval holds the true slope of random data in 19 of 20 cases", () => {
  const random = randomSource(11);
  for (const count of [8, 40]) {
    let held = 0;
    const trials = 2000;
    for (let trial = 0; trial < trials; trial++) {
      const slope = 10 * random() - 5;
      // Noise with heavy tails, as epochs have it.
      const points = pointsOf(
        Array.from({ length: count }, (_, index) => slope * index + Math.tan(3 * (random() - 0.5))),
      );
      const { low, high } = theilSen(points);
      assert(low !== null && high !== null);
      held += Number(low <= slope && slope <= high);
    }
    const share = held / trials;
    assert(share > 0.935 && share < 0.985, `${count} points: ${share}`);
  }
});

Deno.test("thinning leaves few points as they are, and many as medians of neighbours", () => {
  const points = pointsOf([1, 2, 30, 4, 5, 6, 7]);
  assert.deepEqual(thin(points, 7), points);
  assert.deepEqual(thin(points, 3), [{ x: 2, y: 2 }, { x: 5, y: 5 }, { x: 7, y: 7 }]);
  const many = pointsOf(Array.from({ length: 50_000 }, (_, index) => 2 * index));
  assert.equal(theilSen(many).slope, 2);
});

Deno.test("the plan: as many rounds as there is room for, and the traced epochs among them", () => {
  for (let rounds = 0; rounds < 200; rounds++) {
    const traced = Array.from({ length: rounds }, (_, age) => age).filter(isTraced).length;
    assert.equal(epochsIn(rounds), rounds + traced);
  }
  for (const allocators of [1, 3, 5]) {
    for (const epochSeconds of [0.1, 1, 5]) {
      for (const minutes of [5, 7.3, 60]) {
        const rounds = planRounds({ minutes, epochSeconds }, allocators);
        const seconds = (many: number): number => epochsIn(many) * allocators * epochSeconds;
        assert(seconds(rounds) <= 60 * minutes + 1e-6 && seconds(rounds + 1) > 60 * minutes);
      }
    }
  }
  assert.throws(
    () => planRounds({ minutes: 1, epochSeconds: 5 }, 5),
    /too short: 5 allocators need 7 rounds of 5 s each.* 3\.75 minutes: give more --minutes/,
  );
  assert.equal(planRounds({ minutes: 3.75, epochSeconds: 5 }, 5), 7);
});

Deno.test("the order of a round depends on seed and round alone, and varies", () => {
  const orders = Array.from({ length: 40 }, (_, round) => orderOf(round, 4, 9).join(""));
  assert.deepEqual(orders, Array.from({ length: 40 }, (_, round) => orderOf(round, 4, 9).join("")));
  for (const order of orders) assert.equal([...order].sort().join(""), "0123");
  assert(new Set(orders).size > 10);
});

Deno.test("figures leave out the warm-ups and are those of a sorted list", () => {
  const times = [900, ...Array.from({ length: 100 }, (_, index) => index + 1)];
  const epochs = syntheticEpochs(0, times.map((time) => ({ time, rss: 1000 * time })));
  const figures = figuresOf(epochs);
  assert(figures !== null);
  assert.equal(figures.time_ns, 50.5);
  assert(figures.time_p99_ns >= 99 && figures.time_p99_ns <= 100);
  assert(figures.time_p99_9_ns >= figures.time_p99_ns && figures.time_p99_9_ns <= 100);
  assert.deepEqual([figures.rss_min_bytes, figures.rss_max_bytes], [1000, 100_000]);
  assert.equal(figuresOf(epochs.slice(0, 1)), null);
  // Throughputs 1 and 3 thousand a second: mean 2, deviation of the sample √2.
  const two = figuresOf(syntheticEpochs(0, [5, 1e6, 1e6 / 3].map((time) => ({ time, rss: 1 }))));
  assert(Math.abs((two?.throughput_cv ?? 0) - Math.SQRT2 / 2) < 1e-9);
});

Deno.test("drift is that of each life apart: another process's memory is no growth", () => {
  const steady = Array.from({ length: 20 }, () => ({ time: 10, rss: 1e6 }));
  const growing = Array.from({ length: 12 }, (_, index) => ({ time: 10, rss: 2e6 + 2e4 * index }));
  const lives = livesOf([...syntheticEpochs(0, steady), ...syntheticEpochs(1, growing)]);
  assert.deepEqual(lives.map(({ life, epochs }) => [life, epochs]), [[0, 19], [1, 11]]);
  const [first, second] = lives;
  assert.deepEqual([first?.drift, first?.low, first?.high], [0, 0, 0]);
  // Ten steps of 20 kB from the first epoch that counts, of a median of 2.12 MB.
  assert(Math.abs((second?.drift ?? 0) - 2e5 / 2.12e6) < 1e-9);
  assert.equal(longestLife({ lives })?.life, 0);
  assert.equal(longestLife({ lives: [] }), null);
});

Deno.test("goals are hakmem's: met, missed, and none without it", () => {
  const even = [10, 10.1, 10, 10.1, 10, 10.1, 10, 10.1];
  const uneven = [10, 12, 10, 12, 10, 12, 10, 12];
  const row = (name: string, times: number[], growth: number, calls: number) =>
    syntheticSoakRow(
      name,
      syntheticEpochs(0, times.map((time, index) => ({ time, rss: 1e6 + growth * index }))),
      calls,
    );
  const met = goalsOf([row("system", uneven, 0, 0), row("hakmem", even, 0, 1e-8)]);
  assert.deepEqual(met.map((goal) => goal.met), [true, true, true]);
  const missed = goalsOf([row("system", even, 0, 0), row("hakmem", uneven, 5000, 2e-7)]);
  assert.deepEqual(missed.map((goal) => goal.met), [false, false, false]);
  assert.match(missed[1]?.reached ?? "", /system/);
  assert.deepEqual(goalsOf([row("system", even, 0, 0)]), []);
});
