// The few numbers that a noisy machine allows: minimum, median, quantile, and ratios within a
// round.
//
// Used by every trial. It knows nothing of what is measured.

/** The smallest value: what the work costs when nothing disturbs it. Throws on an empty list. */
export function minimum(values: readonly number[]): number {
  return Math.min(...checked(values));
}

/** The largest value. Throws on an empty list. */
export function maximum(values: readonly number[]): number {
  return Math.max(...checked(values));
}

/** The middle value, or the mean of the two in the middle. Throws on an empty list. */
export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/**
 * The value below which `fraction` (0 to 1) of the values lie, linear between neighbours.
 * Throws on an empty list or a fraction outside 0 to 1.
 */
export function quantile(values: readonly number[], fraction: number): number {
  if (!(fraction >= 0 && fraction <= 1)) {
    throw new RangeError(`fraction: expected 0 to 1, received ${fraction}`);
  }
  const sorted = [...checked(values)].sort((a, b) => a - b);
  const position = (sorted.length - 1) * fraction;
  const below = sorted[Math.floor(position)] as number;
  const above = sorted[Math.ceil(position)] as number;
  return below + (above - below) * (position - Math.floor(position));
}

/**
 * The median of the ratios `values[i] / references[i]`.
 *
 * Both lists come from the same rounds, so a slow spell of the machine that lasts a round hits both
 * sides and leaves the ratio alone. Throws when the lists differ in length or are empty.
 */
export function medianRatio(values: readonly number[], references: readonly number[]): number {
  if (values.length !== references.length) {
    const lengths = `${values.length} and ${references.length}`;
    throw new RangeError(`expected pairs, received ${lengths} values`);
  }
  return median(values.map((value, round) => value / (references[round] as number)));
}

/** How far the largest value lies above the smallest: 0 = all equal, 1 = twice as large. */
export function spread(values: readonly number[]): number {
  return maximum(values) / minimum(values) - 1;
}

/** One bar of a histogram: how many values lie in `from` (inclusive) to `to` (exclusive). */
export interface Bar {
  from: number;
  to: number;
  count: number;
}

/**
 * Counts values into `bars` equally wide bars from the smallest to the largest value, which the
 * last bar includes. Equal values make one bar. Throws on an empty list or fewer than one bar.
 */
export function histogram(values: readonly number[], bars: number): Bar[] {
  if (!Number.isInteger(bars) || bars < 1) {
    throw new RangeError(`bars: expected a positive integer, received ${bars}`);
  }
  const low = minimum(values);
  const high = maximum(values);
  if (low === high) return [{ from: low, to: high, count: values.length }];
  const width = (high - low) / bars;
  const result = Array.from({ length: bars }, (_, i) => {
    return { from: low + i * width, to: low + (i + 1) * width, count: 0 };
  });
  for (const value of values) {
    const place = Math.min(bars - 1, Math.floor((value - low) / width));
    (result[place] as Bar).count += 1;
  }
  return result;
}

/** The order of a list in one round: each round starts one further, so no one always goes first. */
export function rotated<T>(list: readonly T[], round: number): T[] {
  const start = list.length === 0 ? 0 : round % list.length;
  return [...list.slice(start), ...list.slice(0, start)];
}

function checked(values: readonly number[]): readonly number[] {
  if (values.length === 0) throw new RangeError("expected at least one value, received none");
  return values;
}
