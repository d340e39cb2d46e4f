export function compileBeside(): Promise<void>
export function beside(hogs: number, command: readonly string[]): string[]
