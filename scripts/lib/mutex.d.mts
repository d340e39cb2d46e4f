export interface Owner {
  pid: number
  start?: string
  place: string
}
export function identity(pid?: number): Owner
export function lock(
  directory: string,
  options?: { onWait?: (owner: Owner) => void; signal?: AbortSignal; timeoutMs?: number },
): Promise<() => void>
