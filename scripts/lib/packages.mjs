// The installed npm packages, as package-lock.json wants them.
import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { basename } from 'node:path'
import { at, digest, Quit, read, readJson, say, step } from './process.mjs'

const STAMP = at('node_modules/.stamp')

function wanted() {
  const { dependencies, devDependencies } = readJson(at('package.json'))
  const machine = [process.version, process.platform, process.arch]
  return digest(read(at('package-lock.json')), dependencies, devDependencies, machine)
}

/** True if npm would change nothing, because somebody ran it already or only node's version has changed. */
function lockIsInstalled() {
  const there = at('node_modules/.package-lock.json')
  if (!existsSync(there)) return false
  const root = readJson(at('package.json'))
  const locked = readJson(at('package-lock.json')).packages
  const installed = readJson(there).packages
  const same = (a, b) => JSON.stringify(a ?? {}) === JSON.stringify(b ?? {})
  if (!same(locked[''].dependencies, root.dependencies) || !same(locked[''].devDependencies, root.devDependencies)) return false
  const libc = process.platform !== 'linux' || process.report.getReport().header.glibcVersionRuntime ? 'glibc' : 'musl'
  const fits = (list, mine) => !list || list.includes(mine)
  const forThisMachine = ({ os, cpu, libc: c }) => os && fits(os, process.platform) && fits(cpu, process.arch) && fits(c, libc)
  return Object.entries(locked).every(([path, entry]) => {
    // Optional packages are binaries for one platform, or dependencies of those.
    if (path === '' || (entry.optional && !forThisMachine(entry))) return true
    return installed[path]?.integrity === entry.integrity && existsSync(at(path, 'package.json'))
  })
}

// --ignore-scripts: koffi's binary comes as an optional package, so nothing has to be compiled. The includes undo an omit that the
// environment sets (NODE_ENV=production).
const NPM_CI = [
  'ci',
  '--ignore-scripts',
  '--include=dev',
  '--include=optional',
  '--prefer-offline',
  '--no-audit',
  '--no-fund',
  '--loglevel=error',
]

async function install() {
  const npm = process.env.npm_execpath ?? ''
  const [command, ...before] = basename(npm) === 'npm-cli.js' ? [process.execPath, npm] : ['npm']
  rmSync(STAMP, { force: true })
  say('installing packages (npm ci)')
  let { status } = await step(command, [...before, ...NPM_CI])
  if (status !== 0) {
    say('npm ci failed; trying once more')
    status = (await step(command, [...before, ...NPM_CI])).status
  }
  if (status !== 0) {
    say('npm ci failed: it needs the package registry that npm is set up for, or the packages in its cache')
    throw new Quit(status)
  }
}

export const packages = {
  current: () => read(STAMP) === wanted(),
  async make() {
    if (!lockIsInstalled()) await install()
    writeFileSync(STAMP, wanted())
  },
}
