/** Asks a C compiler what the system's headers say of sizes, offsets and constants. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export const cCompiler = (): string | undefined =>
  ['cc', 'gcc', 'clang'].find((name) => spawnSync(name, ['--version']).status === 0)

/** The values of C integer expressions behind a preamble of #include lines. @throws what the compiler says */
export function cValues(compiler: string, preamble: string, expressions: readonly string[]): number[] {
  const directory = mkdtempSync(join(tmpdir(), 'speadcast-claims-'))
  try {
    const program = join(directory, 'claims')
    const lines = expressions.map((expression) => `  printf("%lld\\n", (long long)(${expression}));`)
    writeFileSync(`${program}.c`, `${preamble}\n#include <stdio.h>\nint main(void) {\n${lines.join('\n')}\n  return 0;\n}\n`)
    const built = spawnSync(compiler, ['-Werror', '-o', program, `${program}.c`], { encoding: 'utf8' })
    if (built.status !== 0) throw new Error(built.stderr)
    return spawnSync(program, { encoding: 'utf8' }).stdout.trim().split('\n').map(Number)
  } finally {
    rmSync(directory, { recursive: true })
  }
}
