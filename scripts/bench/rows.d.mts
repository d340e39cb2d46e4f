import type { Row } from './points.mjs'

export function readRows(file: string): Row[]
export function differences(before: Row, now: Row): string[]
export function openRows(
  file: string,
  machine: Row,
  options?: { readonly append?: boolean },
): { readonly file: string; readonly rows: Row[]; add(row: Row): void }
