// Makes the outputs from src/ and ffi/: dist/ by tsc, for tests and with the declarations; lib/ by rolldown, which users run; from dist/
// the man pages in man/.
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { at, digest, filesIn, Quit, read, say, step } from './process.mjs'

/**
 * A folder of the project that `command` makes, given the folder to write to; `settings` are files that it is made by, besides the
 * sources and the versions of the packages; `executable` is a file in it that is run by its name.
 */
function outputFolder(folder, { command, settings, executable }) {
  const there = at(folder)
  const stamp = at(`.cache/${folder}.stamp`)
  // Beside it, so that the source maps, which are relative, hold in both.
  const next = at(`.${folder}-next`)

  /** Digest of the sources and of the output itself, so that an edited source and a lost or hand-made output both show. */
  function state() {
    const sources = ['src', 'ffi'].flatMap((room) => filesIn(at(room)).map((file) => [room, file, read(at(room, file))]))
    const made = filesIn(there).map((file) => {
      const { size, mtimeMs } = statSync(join(there, file))
      return [file, size, mtimeMs]
    })
    const by = [...settings, 'package-lock.json'].map((file) => read(at(file)))
    return digest(sources, by, made)
  }

  /** Makes the folder equal to `next` one file at a time, each atomically, because programs may be running from it. */
  function replace() {
    const files = new Set(filesIn(next))
    for (const file of files) {
      const target = join(there, file)
      if (existsSync(target) && readFileSync(target).equals(readFileSync(join(next, file)))) continue
      mkdirSync(dirname(target), { recursive: true })
      renameSync(join(next, file), target)
    }
    for (const file of filesIn(there)) if (!files.has(file)) rmSync(join(there, file))
    if (executable && existsSync(join(there, executable))) chmodSync(join(there, executable), 0o755)
  }

  return {
    current: () => existsSync(stamp) && read(stamp) === state(),
    async make() {
      const start = performance.now()
      rmSync(stamp, { force: true })
      rmSync(next, { recursive: true, force: true })
      try {
        const { status, output } = await step(process.execPath, command(next), { stdio: ['ignore', 'pipe', 'pipe'] })
        if (status !== 0) {
          say(`${folder}/ cannot be built; it is left as it was\n${output}`)
          throw new Quit(status)
        }
        replace()
      } finally {
        rmSync(next, { recursive: true, force: true })
      }
      writeFileSync(stamp, state())
      say(`built ${folder}/ in ${((performance.now() - start) / 1000).toFixed(1)} s`)
    },
  }
}

export const build = outputFolder('dist', {
  command: (to) => [at('scripts/declarations.mjs'), to],
  settings: ['tsconfig.json', 'package.json', 'scripts/declarations.mjs', 'scripts/lib/prune.mjs'],
})

export const bundle = outputFolder('lib', {
  command: (to) => [at('node_modules/rolldown/bin/cli.mjs'), '--config', 'rolldown.config.mjs', '--dir', to],
  settings: ['rolldown.config.mjs', 'package.json', 'tsconfig.json'],
  executable: 'cli.js',
})

export const manual = outputFolder('man', {
  command: (to) => [at('scripts/man-pages.mjs'), to],
  settings: ['scripts/man-pages.mjs', 'package.json', 'CHANGELOG.md'],
})
