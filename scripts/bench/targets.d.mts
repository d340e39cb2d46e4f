import type { Row } from './points.mjs'

export function targetLines(rows: readonly Row[]): string[]
