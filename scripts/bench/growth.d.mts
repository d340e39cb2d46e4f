type Row = Readonly<Record<string, unknown>>

export function growthTable(rows: readonly Row[]): string
export function chainTable(rows: readonly Row[]): string
