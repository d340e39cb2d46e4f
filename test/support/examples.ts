/**
 * The examples of docs/examples, as their headers tell them. A header is the comment that the file begins with. Its first sentence says
 * what the example shows; lines indented by four are what a terminal shows:
 *
 *     $ npx tsx docs/examples/NAME.ts
 *     a line that it prints, where … stands for what varies
 *
 * | in a header       | means                                                                                                |
 * |-------------------|------------------------------------------------------------------------------------------------------|
 * | `$ COMMAND`       | a command for the shell, from a folder that holds docs/examples and has speadcast installed           |
 * | `$ COMMAND &`     | the same, beside those that follow; the next one starts when the first line below it has been printed |
 * | lines below       | all that it prints, standard output and errors                                                        |
 * | `…` in a line     | one character or more                                                                                 |
 * | `…` as the line   | any number of lines                                                                                   |
 */
import { spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

const FOLDER = join(import.meta.dirname, '../../docs/examples')
const TIMEOUT_MS = 30_000

export interface Step {
  readonly command: string
  /** Runs beside the steps that follow. */
  readonly beside: boolean
  readonly prints: readonly string[]
}

export interface Example {
  readonly file: string
  /** The first sentence of its header. */
  readonly summary: string
  readonly steps: readonly Step[]
}

export const exampleFiles = (): string[] => readdirSync(FOLDER).filter((name) => /\.(ts|js)$/.test(name))

export function readExample(file: string): Example {
  return parseExample(file, readFileSync(join(FOLDER, file), 'utf8'))
}

export function parseExample(file: string, text: string): Example {
  const header = /^(?:#!.*\n)?\/\*\*\n(.*?)^ \*\/$/ms.exec(text)?.[1] ?? ''
  const lines = header.split('\n').map((line) => line.replace(/^ \* ?/, ''))
  const [, summary = ''] = /^(.*?\.)(?:\s|$)/s.exec(lines.join('\n')) ?? []
  const steps: { command: string; beside: boolean; prints: string[] }[] = []
  for (const line of lines.filter((each) => each.startsWith('    ')).map((each) => each.slice(4))) {
    const [, command] = /^\$ (.*)$/.exec(line) ?? []
    if (command !== undefined) steps.push({ command: command.replace(/ &$/, ''), beside: command.endsWith(' &'), prints: [] })
    else steps.at(-1)?.prints.push(line)
  }
  return { file, summary: summary.replaceAll('\n', ' '), steps }
}

/** The step that runs the file itself. */
export const main = ({ file, steps }: Example): Step | undefined =>
  steps.findLast(({ command }) => command.includes(`docs/examples/${file}`))

/** A row of the table of docs/examples/README.md: the file, what it shows, its command, the last line that it prints. */
export function tableRow(example: Example): string {
  const { file, summary } = example
  const { command, prints } = main(example) ?? { command: '', prints: [] }
  const cells = [`[${file}](${file})`, summary, `\`${command}\``, `\`${prints.at(-1)}\``]
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
}

/** What a command must print, as a regular expression. */
export function pattern(prints: readonly string[]): RegExp {
  const lines = prints.map((line) =>
    line === '…' ? '(?:.*\n)*?' : `${line.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&').replaceAll('…', '.+')}\n`,
  )
  return new RegExp(`^${lines.join('')}$`)
}

export interface Ran {
  readonly command: string
  readonly status: number | null
  readonly printed: string
}

/** Node 22 says that it strips types; later ones do not. */
const ofNode = /^\(node:\d+\) ExperimentalWarning: Type Stripping.*\n\(Use `node --trace-warnings.*\n/gm

/** Runs the steps as a person would who types them; ends what it started. */
export async function runSteps(steps: readonly Step[], cwd: string, env: NodeJS.ProcessEnv): Promise<Ran[]> {
  const running: Promise<Ran>[] = []
  const stops: (() => void)[] = []
  try {
    for (const step of steps) {
      const { ran, begun, stop } = start(step, cwd, env)
      running.push(ran)
      stops.push(stop)
      await (step.beside ? Promise.race([begun, ran]) : ran)
    }
    return await Promise.all(running)
  } finally {
    for (const stop of stops) stop()
  }
}

function start({ command, prints }: Step, cwd: string, env: NodeJS.ProcessEnv) {
  // A group of its own, because npx starts children.
  const child = spawn('sh', ['-c', command], { cwd, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
  let ended = false
  const stop = () => {
    try {
      if (!ended) process.kill(-child.pid!, 'SIGKILL')
    } catch {} // it ended just now
  }
  const timer = setTimeout(stop, TIMEOUT_MS)
  let printed = ''
  let tellBegun: () => void
  const begun = new Promise<void>((resolve) => {
    tellBegun = resolve
  })
  const first = pattern(prints.slice(0, 1))
  for (const output of [child.stdout, child.stderr])
    output.setEncoding('utf8').on('data', (text: string) => {
      printed += text
      if (first.test(`${printed.split('\n')[0]}\n`)) tellBegun()
    })
  const ran = new Promise<Ran>((resolve, reject) => {
    child.once('error', reject).once('close', (status) => {
      ended = true
      clearTimeout(timer)
      resolve({ command, status, printed: printed.replace(ofNode, '') })
    })
  })
  return { ran, begun, stop }
}
