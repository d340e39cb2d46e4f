// A base image without a registry: this machine's node, Python, shell and iproute2 with the libraries that they need. For the
// tests, and for machines that reach no registry; everybody else builds on node's own image.
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, readdirSync, realpathSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { $ } from 'zx'

const TOOLS = ['sh', 'ip', 'tc', 'cat', 'ls', 'sleep', 'env', 'id', 'setpriv']
/** For names: getaddrinfo reads them at run time. */
const CONFIG = ['/etc/nsswitch.conf', '/etc/protocols', '/etc/services']

const find = (name) => spawnSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).stdout.trim()

/** Files that the loader takes for these programs, by the paths that it looks under. */
function libraries(programs) {
  const found = new Set()
  for (const program of programs) {
    const { stdout } = spawnSync('ldd', [program], { encoding: 'utf8' })
    for (const [, path] of stdout.matchAll(/(?:=> |^\s+)(\/\S+) \(0x/gm)) found.add(path)
  }
  return [...found]
}

function filesBelow(folder, leaveOut) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name)
    if (leaveOut.test(path)) return []
    return entry.isDirectory() ? filesBelow(path, leaveOut) : [path]
  })
}

function pythonFiles(python) {
  const ask = 'import json, sys, sysconfig; print(json.dumps([sys._base_executable, sysconfig.get_paths()["stdlib"]]))'
  const [executable, stdlib] = JSON.parse(execFileSync(python, ['-c', ask], { encoding: 'utf8' }))
  const leaveOut = /\/(__pycache__|test|tests|idlelib|tkinter|turtledemo|ensurepip|site-packages|dist-packages|config-[^/]*)$/
  const files = filesBelow(stdlib, leaveOut)
  return {
    executable: join(dirname(realpathSync(executable)), 'python3'),
    files,
    modules: files.filter((file) => file.endsWith('.so')),
  }
}

/**
 * Imports the image `name` into the engine. Its PATH has python3 where `python` (a virtual environment's) is given.
 * @returns {Promise<void>}
 */
export async function importHostBase(name, environment, python) {
  const peer = python ? pythonFiles(python) : { executable: undefined, files: [], modules: [] }
  const programs = [realpathSync(process.execPath), ...TOOLS.map(find), ...(peer.executable ? [peer.executable] : [])].filter(
    Boolean,
  )
  const files = [
    ...programs,
    ...libraries([...programs, ...peer.modules]),
    ...peer.files,
    ...CONFIG.filter((file) => existsSync(file)),
  ]
  const path = [
    ...new Set([
      dirname(programs[0]),
      '/usr/bin',
      '/bin',
      '/usr/sbin',
      '/sbin',
      ...(peer.executable ? [dirname(peer.executable)] : []),
    ]),
  ]
  await $({ env: { ...process.env, ...environment }, input: `${files.join('\n')}\n`, quiet: true })`
    tar --create --dereference --no-recursion --absolute-names --transform=${'s,^/,,'} --files-from=- |
    docker import --change ${`ENV PATH=${path.join(':')}`} - ${name}`
}
