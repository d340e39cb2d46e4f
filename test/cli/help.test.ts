import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { CLI, run, temporaryFolder } from '../support/cli.js'

const COMMANDS = ['send', 'recv', 'bench', 'demo', 'explain']

test('--help lists every command with the description that the command itself has', async () => {
  const { code, stdout, stderr } = await run(['--help'])
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  const flat = stdout.replace(/\s+/g, ' ')
  for (const command of COMMANDS) {
    const own = await run([command, '--help'])
    const description = own.stdout.split('\n\n')[1]!.replace(/\s+/g, ' ')
    expect(flat).toContain(`${command} ${description}`)
  }
})

test.for(COMMANDS)('%s --help tells options, exit statuses, JSON fields and examples', async (command) => {
  const { code, stdout, stderr } = await run([command, '--help'])
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  for (const text of ['Usage: speadcast', '--json', 'Exit status: 0', 'JSON: ', 'Examples:', `speadcast ${command}`])
    expect(stdout).toContain(text)
  expect(await run(['help', command])).toMatchObject({ code: 0, stdout })
})

test('send --help has every option of the contract, with its default', async () => {
  const { stdout } = await run(['send', '--help'])
  const options = stdout.split(/\n {2}(?=-)|\n\n/).map((text) => text.replace(/\s+/g, ' '))
  const defaults: Record<string, string | undefined> = {
    '-n, --heaps <N>': '1000',
    '-H, --heap-size <BYTES>': '1048576',
    '-p, --packet-size <BYTES>': '1472',
    '--batch-heaps <N>': '512 KiB',
    '--batches <N>': '4',
    '--backend <KIND>': '"auto"',
    '--interface <NAME|ADDRESS>': '',
    '--ttl <HOPS>': '',
    '--rate <RATE>': '"0"',
    '--rate-basis <WHAT>': '"udp"',
    '--burst <BYTES>': '65536',
    '--burst-rate-ratio <RATIO>': '1.05',
    '--catch-up <SECONDS>': '0.05',
    '--rate-method <WHO>': '',
    '--group-mode <ORDER>': '"serial"',
    '--heap-address-bits <BITS>': '48',
    '--split <HOW>': '"even"',
    '--payload-bytes <BYTES>': '',
    '--repeat-pointers': '',
    '--first-cnt <N>': '1',
    '--cnt-step <N>': '1',
    '--descriptors <WHEN>': '"first"',
    '--input <FILE>': '',
    '--dtype <DTYPE>': 'i1',
    '--stop': 'true',
    '--no-stop': '',
    '--thread <WHICH>': '',
    '--pcap <FILE>': '',
    '--deadline <SECONDS>': '5',
    '--json': '',
  }
  for (const [option, value] of Object.entries(defaults)) {
    const text = options.find((text) => text.startsWith(`${option} `))
    expect(text, option).toContain(value)
  }
})

test('--version is the package’s', async () => {
  const manifest = JSON.parse(readFileSync(join(import.meta.dirname, '../../package.json'), 'utf8'))
  expect(await run(['--version'])).toMatchObject({ code: 0, stdout: `${manifest.version}\n` })
})

test.for([['--help'], ['send', '--help'], ['bench', '--help'], ['demo', '--help']])(
  '%j loads neither the library nor native code',
  (args) => {
    // V8's coverage report names every script that was loaded.
    const folder = temporaryFolder()
    const { status } = spawnSync(process.execPath, [CLI, ...args], { env: { ...process.env, NODE_V8_COVERAGE: folder } })
    expect(status).toBe(0)
    const loaded = readdirSync(folder).flatMap((file) => {
      const { result } = JSON.parse(readFileSync(join(folder, file), 'utf8')) as { result: { url: string }[] }
      return result.map(({ url }) => url)
    })
    const files = loaded
      .filter((url) => url.startsWith('file:') && !url.includes('/node_modules/'))
      .map((url) => fileURLToPath(url))
    expect(files).toContain(CLI)
    const sources = files.flatMap((file) => JSON.parse(readFileSync(`${file}.map`, 'utf8')).sources as string[])
    expect(sources).toContain('../src/cli/main.ts')
    expect(
      sources.filter(
        (source) => !/^\.\.\/(src\/(cli\/|errors\.ts$)|ffi\/(native-error|errors|inspect|printable)\.ts$)/.test(source),
      ),
    ).toEqual([])
    expect(loaded.filter((url) => url.includes('/node_modules/') && !url.includes('/commander/'))).toEqual([])
  },
)
