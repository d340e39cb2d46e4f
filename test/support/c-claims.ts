/** Asks a C compiler what the system's headers say of sizes, offsets and constants. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { vi } from 'vitest'

/** A compiler for one machine, and what runs its programs here. */
export interface CCompiler {
  readonly name: string
  readonly arch: 'x64' | 'arm64'
  readonly run: readonly string[]
}

const answers = (name: string): boolean => spawnSync(name, ['--version']).status === 0

/** The compiler for this machine, if there is one. */
function cCompiler(): CCompiler | undefined {
  const name = ['cc', 'gcc', 'clang'].find(answers)
  if (!name) return undefined
  // Under an emulator this is the compiler of the machine below (scripts/arm64.mjs).
  const machine = spawnSync(name, ['-dumpmachine'], { encoding: 'utf8' }).stdout
  return { name, arch: machine.startsWith('aarch64') ? 'arm64' : 'x64', run: [] }
}

/** The compilers for every machine that speadcast names. Debian's cross compiler finds the headers of this machine too. */
export function cCompilers(): { compilers: CCompiler[]; missing: string } {
  const own = cCompiler()
  if (!own) return { compilers: [], missing: 'needs a C compiler (cc, gcc or clang)' }
  if (own.arch === 'arm64') return { compilers: [own], missing: '' }
  const [name, emulator, libraries] = ['aarch64-linux-gnu-gcc', 'qemu-aarch64-static', '/usr/aarch64-linux-gnu']
  const missing = [name, emulator].filter((program) => !answers(program))
  return missing.length > 0
    ? {
        compilers: [own],
        missing: `needs ${missing.join(' and ')} (Debian: gcc-aarch64-linux-gnu, libc6-dev-arm64-cross, qemu-user-static)`,
      }
    : { compilers: [own, { name, arch: 'arm64', run: [emulator, '-L', libraries] }], missing: '' }
}

/** Loads a module of layouts as it is on another machine. */
export async function asOn<Layout>(arch: string, load: () => Promise<Layout>): Promise<Layout> {
  const own = Object.getOwnPropertyDescriptor(process, 'arch')!
  vi.resetModules()
  Object.defineProperty(process, 'arch', { ...own, value: arch })
  try {
    return await load()
  } finally {
    Object.defineProperty(process, 'arch', own)
    vi.resetModules()
  }
}

/** The values of C integer expressions behind a preamble of #include lines. @throws what the compiler says */
export function cValues({ name, run }: CCompiler, preamble: string, expressions: readonly string[]): number[] {
  const directory = mkdtempSync(join(tmpdir(), 'speadcast-claims-'))
  try {
    const program = join(directory, 'claims')
    const lines = expressions.map((expression) => `  printf("%lld\\n", (long long)(${expression}));`)
    writeFileSync(`${program}.c`, `${preamble}\n#include <stdio.h>\nint main(void) {\n${lines.join('\n')}\n  return 0;\n}\n`)
    const built = spawnSync(name, ['-Werror', '-o', program, `${program}.c`], { encoding: 'utf8' })
    if (built.status !== 0) throw new Error(built.stderr)
    return spawnSync([...run, program][0]!, [...run, program].slice(1), { encoding: 'utf8' })
      .stdout.trim()
      .split('\n')
      .map(Number)
  } finally {
    rmSync(directory, { recursive: true })
  }
}
