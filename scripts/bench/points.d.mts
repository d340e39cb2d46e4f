import type { Summary } from './statistics.mjs'

export type Row = Readonly<Record<string, unknown>>
export interface Point {
  readonly ground: string
  readonly heapSizeBytes: number
  readonly packetSizeBytes: number
  readonly batches: number
  readonly hogs: number
  readonly rounds: readonly Readonly<Record<string, Row>>[]
  readonly repeated: number
}
export function points(rows: readonly Row[]): Point[]
export function groups(points: readonly Point[]): Point[][]
export function ratio(point: Point, a: string, b: string): Summary | undefined
export function rate(point: Point, program: string): Summary | undefined
export function share(point: Point, of: Point, program: string): Summary | undefined
export function pointKey(row: Row): string | undefined
export function progress(
  rows: readonly Row[],
  key: string | undefined,
  programs: readonly string[],
): { readonly complete: number; readonly next: number }
