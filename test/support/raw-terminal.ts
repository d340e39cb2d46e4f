/** Runs the command line in a terminal and keeps every byte that it writes there; terminal.ts shows what stands on the screen. */
import { spawn, spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { CLI } from './cli.js'

const PROGRAM = fileURLToPath(new URL('../peers/in_terminal.py', import.meta.url))

/** Why there can be no terminal here; empty where there can. */
export const rawTerminalUnavailable = (): string =>
  spawnSync('python3', ['-c', 'import pty']).status === 0 ? '' : 'needs Python 3, which makes the terminal'

/** Runs the command in a terminal. @returns its output with plain line ends, and its exit status @param env in addition to this process's */
export async function inTerminal(
  args: readonly string[],
  { columns = 80, env = {} }: { columns?: number; env?: Readonly<Record<string, string>> } = {},
): Promise<{ code: number | null; text: string }> {
  const child = spawn('python3', [PROGRAM, `${columns}`, '24', process.execPath, CLI, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
    // Newer Nodes warn where both ask for colour and forbid it.
    env: { ...process.env, NO_COLOR: undefined, FORCE_COLOR: undefined, TERM: 'xterm-256color', ...env },
  })
  let text = ''
  child.stdout!.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk
  })
  const timer = setTimeout(() => child.kill('SIGKILL'), 30_000)
  const code = await new Promise<number | null>((resolve, reject) => child.once('error', reject).once('close', resolve))
  clearTimeout(timer)
  // The terminal makes CR LF of LF.
  return { code, text: text.replaceAll('\r\n', '\n') }
}
