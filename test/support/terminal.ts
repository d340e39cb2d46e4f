/** A real terminal of any size: tmux, of whose screen one can ask what stands there. */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { CLI, temporaryFolder } from './cli.js'

/** Why there is no terminal to test on; empty: there is one. */
export function terminalUnavailable(): string {
  return spawnSync('tmux', ['-V']).status === 0 ? '' : 'needs tmux'
}

export interface Terminal {
  /** Starts `speadcast` with these arguments, each as the shell takes it, and keeps its exit status. */
  run(args: string): Promise<void>
  /** The lines of the screen, without blanks at their ends. */
  screen(): string[]
  /** Resolves when the text of the screen matches; rejects after twenty seconds. */
  shows(pattern: RegExp): Promise<string>
  press(...keys: string[]): void
  resize(columns: number, rows: number): void
  /** Takes the terminal away from the programs in it. */
  close(): void
  /** Whether the other screen is shown, the cursor is, and long lines wrap. */
  readonly state: { readonly alternate: boolean; readonly cursor: boolean; readonly wraps: boolean }
  /** stty -a, before and after the last program; after it is empty while the program runs. */
  readonly modes: readonly [before: string, after: string]
  /** The process that runs. */
  readonly pid: number
}

/** Opens a terminal, which is closed when the test ends. */
export function openTerminal(columns: number, rows: number, environment = ''): Terminal {
  const folder = temporaryFolder()
  const tmux = (...args: string[]): string => {
    const { status, stdout, stderr } = spawnSync('tmux', ['-S', join(folder, 'tmux'), '-f', '/dev/null', '-u', ...args], {
      encoding: 'utf8',
      env: { ...process.env, LANG: 'C.UTF-8' },
    })
    if (status !== 0) throw new Error(`tmux ${args.join(' ')}: ${stderr}`)
    return stdout
  }
  tmux('new-session', '-d', '-x', `${columns}`, '-y', `${rows}`, 'bash --norc')
  let open = true
  const close = (): void => {
    if (open) tmux('kill-server')
    open = false
  }
  onTestFinished(close)
  const screen = (): string[] => tmux('capture-pane', '-p').replace(/\n$/, '').split('\n')
  const shows = async (pattern: RegExp): Promise<string> => {
    for (let waited = 0; waited < 20_000; waited += 100) {
      const text = screen().join('\n')
      if (pattern.test(text)) return text
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
    throw new Error(`no ${pattern} on the screen:\n${screen().join('\n')}`)
  }
  const file = (name: string): string => {
    try {
      return readFileSync(join(folder, name), 'utf8')
    } catch {
      return ''
    }
  }
  return {
    async run(args) {
      const command = `${environment} ${process.execPath} ${CLI} ${args}`
      const script = `stty -a > ${folder}/before; ${command}; echo "status $?"; stty -a > ${folder}/after`
      tmux('send-keys', script, 'Enter')
      for (let waited = 0; waited < 10_000 && file('before') === ''; waited += 50)
        await new Promise((resolve) => setTimeout(resolve, 50))
    },
    screen,
    shows,
    press: (...keys) => void tmux('send-keys', ...keys),
    close,
    resize: (x, y) => void tmux('resize-window', '-x', `${x}`, '-y', `${y}`),
    get state() {
      const [alternate, cursor, wraps] = tmux('display', '-p', '#{alternate_on} #{cursor_flag} #{wrap_flag}').trim().split(' ')
      return { alternate: alternate === '1', cursor: cursor === '1', wraps: wraps === '1' }
    },
    get modes() {
      return [file('before'), file('after')] as const
    },
    get pid() {
      const shell = tmux('display', '-p', '#{pane_pid}').trim()
      const children = readFileSync(`/proc/${shell}/task/${shell}/children`, 'latin1').trim().split(' ')
      return Number(children[0])
    },
  }
}
