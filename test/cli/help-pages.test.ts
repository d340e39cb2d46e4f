/** Each page of --help as a person reads it, piped and in terminals of 80 and of 200 columns. `npx vitest -u` writes the pages anew. */
import { describe, expect, test } from 'vitest'
import { wrapped } from '#dist/src/cli/common/help.js'
import { run } from '../support/cli.js'
import { need } from '../support/need.js'
import { inTerminal, rawTerminalUnavailable } from '../support/raw-terminal.js'

const COMMANDS = ['', 'send', 'recv', 'bench', 'devices', 'doctor', 'explain', 'demo', 'completion']

const longest = (text: string): number => Math.max(...text.split('\n').map((line) => line.length))

describe.concurrent('speadcast --help', () => {
  test.for(COMMANDS)('%s', { timeout: 60_000 }, async (command, { expect, skip }) => {
    const why = rawTerminalUnavailable()
    need({ skip }, !why, why)
    const args = [command, '--help'].filter(Boolean)
    const [piped, narrow, wide] = await Promise.all([
      run(args),
      inTerminal(args),
      inTerminal(args, { columns: 200, env: { FORCE_COLOR: '1' } }),
    ])
    expect({ piped: piped.code, narrow: narrow.code, wide: wide.code }).toEqual({ piped: 0, narrow: 0, wide: 0 })
    // Nothing is coloured, so that nothing has to be told not to.
    for (const { stdout } of [piped, { stdout: wide.text }]) expect(stdout).not.toContain('\x1b')
    expect(narrow.text).toBe(piped.stdout)
    expect(longest(narrow.text)).toBeLessThanOrEqual(80)
    expect(longest(wide.text)).toBeLessThanOrEqual(200)
    const name = command || 'speadcast'
    await expect(narrow.text).toMatchFileSnapshot(`pages/${name}-80.txt`)
    await expect(wide.text).toMatchFileSnapshot(`pages/${name}-200.txt`)
  })
})

test('paragraphs are filled, headings begin lines, and commands go on behind a backslash', () => {
  const text =
    '\nOne two\nthree four.\nExit status: 0 good;\n1 bad.\n\nExamples:\n  speadcast send 10.0.0.5:7148 --rate 1Gbps\n  short'
  expect(wrapped(text, 24)).toBe(
    [
      '',
      'One two three four.',
      'Exit status: 0 good; 1',
      'bad.',
      '',
      'Examples:',
      '  speadcast send \\',
      '    10.0.0.5:7148 \\',
      '    --rate 1Gbps',
      '  short',
    ].join('\n'),
  )
  const words = 'Environment:\n  NAME   what it is for'
  expect(wrapped(words, 18)).toBe('Environment:\n  NAME   what it\n         is for')
  expect(wrapped(words, 80)).toBe(words)
  expect(wrapped('  source <(x)    # in ~/.bashrc', 20)).toBe('  # in ~/.bashrc\n  source <(x)')
  expect(wrapped(text, 200)).toBe(
    '\nOne two three four.\nExit status: 0 good; 1 bad.\n\nExamples:\n  speadcast send 10.0.0.5:7148 --rate 1Gbps\n  short',
  )
})
