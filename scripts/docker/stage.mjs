// Makes the folders that docker/Dockerfile copies, so that it needs no network: the package as npm publishes it, its production
// node_modules, and for docker/Dockerfile.spead2 the site-packages of the Python peer. As a program (npm run docker:stage): [--cpu
// arm64] [--libc musl]
import { cpSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { basename, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { $ } from 'zx'
import { at, readJson } from '../lib/process.mjs'

export const CONTEXT = at('.cache/docker/context')
export const SPEAD2_CONTEXT = at('.cache/docker/context-spead2')

const quiet = $({ quiet: true })

/** Makes CONTEXT anew. `cpu` and `libc` are the image's, if it is for another machine. */
export async function stage({ cpu, libc } = {}) {
  const next = `${CONTEXT}.${process.pid}`
  rmSync(next, { recursive: true, force: true })
  mkdirSync(next, { recursive: true })
  try {
    for (const file of ['Dockerfile', 'Dockerfile.rdma', 'healthcheck.mjs']) cpSync(at('docker', file), join(next, file))
    await quiet`npm pack --ignore-scripts --silent --pack-destination ${next} ${at()}`
    const [packed] = readdirSync(next).filter((name) => name.endsWith('.tgz'))
    renameSync(join(next, packed), join(next, 'speadcast.tgz'))
    for (const file of ['package.json', 'package-lock.json']) cpSync(at(file), join(next, file))
    const platform = [...(cpu ? [`--cpu=${cpu}`, '--os=linux'] : []), ...(libc ? [`--libc=${libc}`, '--os=linux'] : [])]
    const flags = ['--omit=dev', '--include=optional', '--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund']
    await quiet({ cwd: next })`npm ci ${flags} ${platform}`
    // npm keeps a development package that is also somebody's optional peer: the compiler.
    const { packages } = readJson(join(next, 'package-lock.json'))
    for (const [path, { devOptional }] of Object.entries(packages))
      if (devOptional) rmSync(join(next, path), { recursive: true, force: true })
    rmSync(CONTEXT, { recursive: true, force: true })
    renameSync(next, CONTEXT)
  } finally {
    rmSync(next, { recursive: true, force: true })
  }
}

/** Makes SPEAD2_CONTEXT anew from a virtual environment; false if there is none. */
export function stageSpead2(python = at('.cache/venv/bin/python')) {
  if (!existsSync(python)) return false
  const library = join(python, '../../lib')
  const [version] = readdirSync(library).filter((name) => /^python3\.\d+$/.test(name))
  const leaveOut = new Set(['pip', 'setuptools', 'pkg_resources', '_distutils_hack', 'tests', '__pycache__'])
  rmSync(SPEAD2_CONTEXT, { recursive: true, force: true })
  cpSync(join(library, version, 'site-packages'), join(SPEAD2_CONTEXT, 'site-packages'), {
    recursive: true,
    filter: (source) => !leaveOut.has(basename(source)),
  })
  cpSync(at('docker/Dockerfile.spead2'), join(SPEAD2_CONTEXT, 'Dockerfile'))
  cpSync(at('docker/spead2_receiver.py'), join(SPEAD2_CONTEXT, 'spead2_receiver.py'))
  return true
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const { values } = parseArgs({ options: { cpu: { type: 'string' }, libc: { type: 'string' } } })
  await stage(values)
  const spead2 = stageSpead2()
  console.log(`docker build -t speadcast ${CONTEXT}`)
  if (spead2) console.log(`docker build -t speadcast-spead2 ${SPEAD2_CONTEXT}`)
}
