/** Completion in the shells themselves: bash by its function and by TAB in a terminal, zsh and fish as they offer it. */
import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { Command, Option } from 'commander'
import { beforeAll, describe, expect, test } from 'vitest'
import { bashScript } from '#dist/src/cli/completion/bash.js'
import { fishScript } from '#dist/src/cli/completion/fish.js'
import { modelOf, type Node, nodesOf } from '#dist/src/cli/completion/model.js'
import { zshScript } from '#dist/src/cli/completion/zsh.js'
import { wholeProgram } from '#dist/src/cli/program.js'
import { run, temporaryFolder } from '../support/cli.js'
import { need } from '../support/need.js'

interface Offer {
  readonly word: string
  readonly description: string
}
type Shell = 'bash' | 'zsh' | 'fish'

const SHELLS: readonly Shell[] = ['bash', 'zsh', 'fish']
const SCRIPTS = { bash: bashScript, zsh: zshScript, fish: fishScript }
const ZSH_DRIVER = join(import.meta.dirname, '../peers/zsh-completion.zsh')

function sh(command: string, args: readonly string[], { input = '', cwd = '/' } = {}): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { input, cwd, encoding: 'utf8', timeout: 20_000 })
  if (error) throw error
  if (status !== 0 || stderr !== '') throw new Error(`${command} ended with ${status}: ${stderr}`)
  return stdout
}

const lines = (text: string): string[] => text.split('\n').filter((line) => line !== '')

/** Each function returns the offers of a shell for each line; the last word of a line is being typed. */
const DRIVERS: Readonly<Record<Shell, (script: string, typed: readonly string[], cwd?: string) => Offer[][]>> = {
  bash(script, typed, cwd) {
    const quoted = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`
    const queries = typed.map((line) => `ask ${wordsOf(line).map(quoted).join(' ')}`)
    const ask = `ask() { COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); "_$1" "$1" "$2" "$3"; for word in "\${COMPREPLY[@]}"; do printf "%s\\n" "$word"; done; echo; }`
    const text = sh('bash', ['--norc', '--noprofile', '-s'], {
      input: [`. ${script}`, ask, ...queries].join('\n'),
      ...(cwd && { cwd }),
    })
    return answers(text, (line) => ({ word: line, description: '' }))
  },
  zsh(script, typed, cwd) {
    const text = sh('zsh', ['-f', ZSH_DRIVER, script], { input: typed.map((line) => `${line}\n`).join(''), ...(cwd && { cwd }) })
    // The description stands behind the word, as it is displayed.
    return answers(text, (line) => {
      const [word = '', shown = ''] = line.split('\t')
      return { word, description: shown.replace(/^\S+\s*/, '') }
    })
  },
  fish(script, typed, cwd) {
    const quoted = (text: string) => `'${text.replace(/[\\']/g, '\\$&')}'`
    // From a file, because this fish reads no program from a pipe.
    const asking = join(temporaryFolder(), 'asking')
    writeFileSync(asking, [`source ${script}`, ...typed.map((line) => `complete -C ${quoted(line)}; echo`)].join('\n'))
    const text = sh('fish', ['--no-config', asking], cwd ? { cwd } : {})
    return answers(text, (line) => {
      const [word = '', description = ''] = line.split('\t')
      return { word, description }
    })
  },
}

/** As bash hands them to the function: = is a word of its own. */
const wordsOf = (line: string): string[] =>
  line
    .split(' ')
    .flatMap((word) => (/^--[\w-]+=/.test(word) ? word.split(/(=)/).filter((part, i) => i < 2 || part !== '') : [word]))

/** Blocks of lines, each with an empty line behind it. */
function answers(text: string, offer: (line: string) => Offer): Offer[][] {
  const all: Offer[][] = [[]]
  for (const line of text.split('\n')) line === '' ? all.push([]) : all.at(-1)!.push(offer(line))
  return all
}

function installed(shell: string): boolean {
  return spawnSync(shell, ['-c', 'exit 0']).status === 0
}

const hasShell = (ctx: Parameters<typeof need>[0], shell: string) =>
  need(ctx, installed(shell), `there is no ${shell}: apt-get install ${shell}`)

let root: Node
beforeAll(async () => {
  root = modelOf(await wholeProgram(), ['ERR_SPEADCAST_CONFIG', 'EHOSTUNREACH'])
})

async function scriptFile(shell: Shell): Promise<string> {
  const { code, stdout, stderr } = await run(['completion', shell])
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  const file = join(temporaryFolder(), shell)
  writeFileSync(file, stdout)
  return file
}

describe.each(SHELLS)('%s', (shell) => {
  test('completes every option of every command', async (ctx) => {
    hasShell(ctx, shell)
    const nodes = nodesOf(root).filter(({ flags }) => flags.length > 0)
    const long = nodes.map(({ flags }) => flags.flatMap(({ names }) => names.filter((name) => name.startsWith('--'))))
    const short = nodes.map(({ flags }) => flags.flatMap(({ names }) => names.filter((name) => !name.startsWith('--'))))
    expect(long.flat().length).toBeGreaterThan(100)
    const file = await scriptFile(shell)
    const offered = DRIVERS[shell](file, [...nodes.map(({ path }) => `${path} --`), ...nodes.map(({ path }) => `${path} -`)])
    for (const [i, { path }] of nodes.entries()) {
      expect({ path, offered: offered[i]!.map(({ word }) => word).sort() }).toEqual({ path, offered: long[i]!.sort() })
      expect(
        offered[nodes.length + i]!.map(({ word }) => word),
        path,
      ).toEqual(expect.arrayContaining(short[i]!))
    }
  })

  test('completes the choices of every option that has them, behind a space and behind =', async (ctx) => {
    hasShell(ctx, shell)
    const chosen = nodesOf(root).flatMap(({ path, flags }) =>
      flags.flatMap(({ names, value }) =>
        typeof value?.values === 'object' ? [{ typed: `${path} ${names.at(-1)}`, values: value.values }] : [],
      ),
    )
    expect(chosen.length).toBeGreaterThan(10)
    const file = await scriptFile(shell)
    const offered = DRIVERS[shell](file, [...chosen.map(({ typed }) => `${typed} `), ...chosen.map(({ typed }) => `${typed}=`)])
    for (const [i, { typed, values }] of chosen.entries()) {
      const words = (offers: readonly Offer[]) => offers.map(({ word }) => word.replace(/^--[\w-]+=/, '')).sort()
      expect({ typed, offered: words(offered[i]!) }).toEqual({ typed, offered: [...values].sort() })
      expect({ typed, offered: words(offered[chosen.length + i]!) }).toEqual({ typed, offered: [...values].sort() })
    }
  })

  test('completes commands, codes, shells, interfaces, files, and nothing where it knows nothing', async (ctx) => {
    hasShell(ctx, shell)
    const folder = temporaryFolder()
    for (const name of ['samples.i2', 'samples.i4']) writeFileSync(join(folder, name), '')
    const commands = root.commands.map(({ name }) => name)
    const rows: readonly (readonly [typed: string, offered: readonly string[]])[] = [
      ['speadcast ', commands],
      ['speadcast se', ['send']],
      ['speadcast help d', commands.filter((name) => name.startsWith('d'))],
      ['speadcast completion ', SHELLS],
      ['speadcast explain EHOST', ['EHOSTUNREACH']],
      ['speadcast explain ERR_SPEADCAST_CONF', ['ERR_SPEADCAST_CONFIG']],
      ['speadcast send --interface ', readdirSync('/sys/class/net')],
      ['speadcast recv 10.0.0.1:1 --interface=l', readdirSync('/sys/class/net').filter((name) => name.startsWith('l'))],
      ['speadcast send --input sam', ['samples.i2', 'samples.i4']],
      ['speadcast send --pcap=sam', ['samples.i2', 'samples.i4']],
      ['speadcast recv --output sam', ['samples.i2', 'samples.i4']],
      ['speadcast send ', []],
      ['speadcast send 10.0.0.1:1 sam', []],
      ['speadcast send --rate ', []],
      // The word behind an option that takes one is its value, whatever it says, and behind -- there are no options.
      ['speadcast send --input recv --batch-h', ['--batch-heaps']],
      ['speadcast send -n 5 --batch-h', ['--batch-heaps']],
      ['speadcast send -- --batch-h', []],
    ]
    const offered = DRIVERS[shell](
      await scriptFile(shell),
      rows.map(([typed]) => typed),
      folder,
    )
    const words = (offers: readonly Offer[]) => offers.map(({ word }) => word.replace(/^--[\w-]+=/, '')).sort()
    expect(rows.map(([typed], i) => [typed, words(offered[i]!)])).toEqual(rows.map(([typed, of]) => [typed, [...of].sort()]))
    expect(readdirSync('/sys/class/net')).toEqual(expect.arrayContaining(Object.keys(networkInterfaces())))
  })

  test('completes an option, a choice and a command that are new, and shows descriptions as they are', (ctx) => {
    hasShell(ctx, shell)
    const hostile = 'it\'s `id` $HOME $(id) [a:b] {c,d} "q" \\n ~ * ? %B ! #'
    const program = new Command('planted')
    const below = program.command('outer').description(hostile)
    below
      .argument('<SHAPE>')
      .option('--own')
      .command('inner')
      .description(hostile)
      .option('--hostile', hostile)
      .addOption(new Option('--kind <KI:ND>', hostile).choices(['one', 't:w$o']))
    const file = join(temporaryFolder(), shell)
    writeFileSync(file, SCRIPTS[shell](modelOf(program, [])))
    const [commands, inner, flag, kinds, own, behind] = DRIVERS[shell](file, [
      'planted out',
      'planted outer in',
      'planted outer inner --hos',
      'planted outer inner --kind ',
      // A command that takes arguments and has commands, too.
      'planted outer --ow',
      'planted outer 3x4 --ow',
    ])
    const description = shell === 'bash' ? '' : hostile
    expect(commands).toEqual([{ word: 'outer', description }])
    expect(inner).toEqual([{ word: 'inner', description }])
    expect(flag).toEqual([{ word: '--hostile', description }])
    expect(kinds!.map(({ word }) => word.replaceAll('\\', ''))).toEqual(['one', 't:w$o'])
    for (const offers of [own, behind]) expect(offers!.map(({ word }) => word)).toEqual(['--own'])
  })
})

// In a terminal of its own, as script(1) makes it.
test.for([
  ['without bash-completion', ''],
  ['with bash-completion', '. /usr/share/bash-completion/bash_completion'],
])('bash %s completes by TAB, names of files with spaces too', async ([, before], ctx) => {
  const folder = temporaryFolder()
  const file = await scriptFile('bash')
  if (before !== '')
    need(ctx, readdirSync('/usr/share').includes('bash-completion'), 'there is no bash-completion: apt-get install bash-completion')
  for (const name of ['my samples.i2', 'sent']) writeFileSync(join(folder, name), '')
  // The command only writes down its arguments. The shell gets all typed text at once, and readline completes it in turn.
  const typed = [
    before,
    `. ${file}`,
    `speadcast() { printf '<%s>' "$@" >>sent; }`,
    'speadcast se\t10.0.0.1:1 --batch-h\t5 --backend udp --udp-path=io\t --input my\t --no-s\t',
    'exit',
  ]
  const { stdout } = spawnSync('script', ['-qec', 'bash --norc --noprofile -i', '/dev/null'], {
    cwd: folder,
    input: `${typed.join('\n')}\n`,
    encoding: 'utf8',
    timeout: 20_000,
  })
  expect(readFileSync(join(folder, 'sent'), 'utf8'), stdout).toBe(
    '<send><10.0.0.1:1><--batch-heaps><5><--backend><udp><--udp-path=io_uring><--input><my samples.i2><--no-stop>',
  )
})

test('zsh finds the script in $fpath, too', async (ctx) => {
  hasShell(ctx, 'zsh')
  const file = await scriptFile('zsh')
  expect(lines(sh('zsh', ['-fn', file]))).toEqual([])
  const folder = temporaryFolder()
  writeFileSync(join(folder, '_speadcast'), (await run(['completion', 'zsh'])).stdout)
  const setup = join(folder, 'setup')
  writeFileSync(setup, `fpath=(${folder} $fpath)\ncompinit -u -D\n`)
  expect(DRIVERS.zsh(setup, ['speadcast se'])[0]!.map(({ word }) => word)).toEqual(['send'])
})

test('shellcheck finds nothing in the script for bash', async (ctx) => {
  need(ctx, spawnSync('shellcheck', ['--version']).status === 0, 'there is no shellcheck: apt-get install shellcheck')
  expect(sh('shellcheck', ['--shell=bash', await scriptFile('bash')])).toBe('')
})

test('--json has the script, and another shell is refused', async () => {
  const { stdout } = await run(['completion', 'fish', '--json'])
  const script = (await run(['completion', 'fish'])).stdout
  expect(JSON.parse(stdout)).toEqual({ shell: 'fish', script })
  const refused = await run(['completion', 'tcsh'])
  expect(refused).toMatchObject({ code: 2, stdout: '' })
  expect(refused.stderr).toContain('bash, zsh, fish')
})
