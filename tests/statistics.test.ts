// The arithmetic of the benchmark. What its tables say is only as true as these few functions, so
// their edges (empty lists, even counts, unequal rounds) are spelled out here.
import { describe, expect, test } from "bun:test";
import {
  histogram,
  maximum,
  median,
  medianRatio,
  minimum,
  quantile,
  rotated,
  spread,
} from "../bench/statistics.ts";

describe("statistics of the benchmark", () => {
  test("minimum and maximum do not depend on the order of the values", () => {
    expect(minimum([3, 1, 2])).toBe(1);
    expect(maximum([3, 1, 2])).toBe(3);
  });

  test("the median of an odd number of values is the one in the middle", () => {
    expect(median([9, 1, 5])).toBe(5);
  });

  test("the median of an even number of values is the mean of the two in the middle", () => {
    expect(median([4, 1, 3, 2])).toBe(2.5);
  });

  test("values are sorted as numbers, not as text", () => {
    expect(median([100, 9, 10])).toBe(10);
  });

  test("the list that is passed in keeps its order", () => {
    const values = [3, 1, 2];
    median(values);
    expect(values).toEqual([3, 1, 2]);
  });

  test("a quantile lies linearly between its two neighbours", () => {
    expect(quantile([10, 20], 0.25)).toBe(12.5);
    expect(quantile([10, 20, 30], 0)).toBe(10);
    expect(quantile([10, 20, 30], 1)).toBe(30);
  });

  test("a fraction outside 0 to 1 is refused with what was received", () => {
    expect(() => quantile([1], 1.5)).toThrow("received 1.5");
    expect(() => quantile([1], Number.NaN)).toThrow(RangeError);
  });

  test("a slow round that hits both sides leaves the ratio alone", () => {
    expect(medianRatio([2, 20, 2], [1, 10, 1])).toBe(2);
  });

  test("the ratio is the median of ratios, not the ratio of medians", () => {
    expect(medianRatio([1, 4, 9], [1, 2, 3])).toBe(2);
    expect(medianRatio([9, 1, 4], [1, 2, 3])).toBeCloseTo(4 / 3);
  });

  test("lists of different length are no pairs", () => {
    expect(() => medianRatio([1, 2], [1])).toThrow("received 2 and 1 values");
  });

  test("an empty list has no statistic", () => {
    for (const statistic of [minimum, maximum, median, spread]) {
      expect(() => statistic([])).toThrow("received none");
    }
    expect(() => histogram([], 3)).toThrow("received none");
  });

  test("spread is 0 for equal values and 1 when the largest is twice the smallest", () => {
    expect(spread([5, 5])).toBe(0);
    expect(spread([5, 10, 7])).toBe(1);
  });

  test("a histogram counts every value once, the largest in the last bar", () => {
    const bars = histogram([0, 1, 2, 3, 4, 10], 5);
    expect(bars.map((bar) => bar.count)).toEqual([2, 2, 1, 0, 1]);
    expect(bars[0]).toEqual({ from: 0, to: 2, count: 2 });
    expect(bars[4]?.to).toBe(10);
  });

  test("equal values make a histogram of one bar", () => {
    expect(histogram([7, 7, 7], 4)).toEqual([{ from: 7, to: 7, count: 3 }]);
  });

  test("a histogram without bars is refused", () => {
    expect(() => histogram([1, 2], 0)).toThrow("received 0");
  });

  test("each round starts one driver further and leaves none out", () => {
    expect(rotated(["a", "b", "c"], 0)).toEqual(["a", "b", "c"]);
    expect(rotated(["a", "b", "c"], 1)).toEqual(["b", "c", "a"]);
    expect(rotated(["a", "b", "c"], 5)).toEqual(["c", "a", "b"]);
    expect(rotated([], 3)).toEqual([]);
  });
});
