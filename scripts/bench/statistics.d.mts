export interface Summary {
  readonly median: number
  readonly least: number
  readonly most: number
  readonly n: number
  readonly low?: number
  readonly high?: number
  readonly method?: 'order statistics' | 't of logarithms'
}
export function median(values: readonly number[]): number
export function geometricMean(values: readonly number[]): number
export function intervalOfMedian(
  values: readonly number[],
  confidence?: number,
): { readonly low: number; readonly high: number; readonly method: 'order statistics' | 't of logarithms' } | undefined
export function summarise(values: readonly number[]): Summary | undefined
