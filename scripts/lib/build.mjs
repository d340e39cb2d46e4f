// dist/, compiled from src/ and ffi/, then bundled.
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { at, digest, filesIn, Quit, read, say, step } from './process.mjs'

const STAMP = at('.cache/build.stamp')
const DIST = at('dist')
const BUNDLE = at('scripts/lib/bundle.mjs')
// Beside dist, so that the source maps, which are relative, hold in both.
const NEXT = at('.dist-next')

/** Digest of the sources and of dist itself, so that an edited source and a lost or hand-made output both show. */
function state() {
  const sources = ['src', 'ffi'].flatMap((room) => filesIn(at(room)).map((file) => [room, file, read(at(room, file))]))
  const built = filesIn(DIST).map((file) => {
    const { size, mtimeMs } = statSync(join(DIST, file))
    return [file, size, mtimeMs]
  })
  return digest(sources, read(at('tsconfig.json')), read(BUNDLE), read(at('package-lock.json')), built)
}

/** Makes dist equal to NEXT one file at a time, each atomically, because programs may be running from it. */
function replaceDist() {
  const next = new Set(filesIn(NEXT))
  for (const file of next) {
    const target = join(DIST, file)
    if (existsSync(target) && readFileSync(target).equals(readFileSync(join(NEXT, file)))) continue
    mkdirSync(dirname(target), { recursive: true })
    renameSync(join(NEXT, file), target)
  }
  for (const file of filesIn(DIST)) if (!next.has(file)) rmSync(join(DIST, file))
  // tsc writes no execute bit.
  const bin = join(DIST, 'src/cli/main.js')
  if (existsSync(bin)) chmodSync(bin, 0o755)
}

export const build = {
  current: () => existsSync(STAMP) && read(STAMP) === state(),
  async make() {
    const start = performance.now()
    rmSync(STAMP, { force: true })
    rmSync(NEXT, { recursive: true, force: true })
    try {
      const { status } = await step(process.execPath, [
        at('node_modules/typescript/bin/tsc'),
        '-p',
        'tsconfig.json',
        '--outDir',
        NEXT,
      ])
      if (status !== 0) {
        say('the sources do not compile; dist/ is left as it was')
        throw new Quit(status)
      }
      const bundled = await step(process.execPath, [BUNDLE, NEXT])
      if (bundled.status !== 0) throw new Quit(bundled.status)
      replaceDist()
    } finally {
      rmSync(NEXT, { recursive: true, force: true })
    }
    writeFileSync(STAMP, state())
    say(`built in ${((performance.now() - start) / 1000).toFixed(1)} s`)
  },
}
