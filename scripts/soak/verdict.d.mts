export interface Line {
  readonly kind: string
  readonly stream?: string
  readonly [name: string]: unknown
}
export function slope(points: readonly (readonly [number, number])[]): number
export function verdict(
  lines: { readonly sender: readonly Line[]; readonly receiver: readonly Line[] },
  collections: string,
  how: Readonly<Record<string, number | string>>,
  beside?: boolean,
): { readonly report: readonly string[]; readonly wrong: readonly string[] }
export function majorCollections(text: string, until: number): ReadonlyMap<string, number>
