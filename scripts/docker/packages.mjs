// Debian packages unpacked into a folder of ours, by apt but without touching the system: lists and downloads are private, apt
// checks signatures and digests as always, and dpkg's database only tells what need not be fetched.
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { $ } from 'zx'
import { at, digest } from '../lib/process.mjs'

const CACHE = at('.cache/docker')
const LISTS = 'etc/apt/sources.list.d'
/** The first Debian whose docker-compose is the engine's plugin, not a program of its own in Python. */
const COMPOSE_SUITE = 'trixie'

/** This machine's sources of Debian itself, without those of other publishers. */
function debianSources() {
  const folder = join('/', LISTS)
  const names = existsSync(folder) ? readdirSync(folder).filter((name) => /\.(sources|list)$/.test(name)) : []
  const files = ['/etc/apt/sources.list', ...names.map((name) => join(folder, name))].filter((file) => existsSync(file))
  return files
    .map((file) => ({ text: readFileSync(file, 'utf8'), suffix: file.endsWith('.sources') ? '.sources' : '.list' }))
    .filter(({ text }) => /debian-archive-keyring|ubuntu-archive-keyring|^deb .*(debian|ubuntu)/m.test(text))
}

/** The same sources with another suite, and without the updates and security suites that go with the first. */
function ofSuite({ text, suffix }, suite) {
  if (suffix === '.list')
    return {
      suffix,
      text: text
        .split('\n')
        .filter((line) => line.startsWith('deb ') && !/(-security|-updates|-backports)\b/.test(line))
        .map((line) => line.replace(/^(deb (?:\[.*?\] )?\S+) \S+/, `$1 ${suite}`))
        .join('\n'),
    }
  const stanzas = text.split(/\n\s*\n/).filter((stanza) => /^Suites:/m.test(stanza) && !/^Suites:.*-security/m.test(stanza))
  return { suffix, text: `${stanzas.map((stanza) => stanza.replace(/^Suites:.*/m, `Suites: ${suite}`)).join('\n\n')}\n` }
}

async function fetchInto(work, sources, download) {
  for (const folder of [LISTS, 'lists/partial', 'cache/archives/partial']) mkdirSync(join(work, folder), { recursive: true })
  for (const [i, { text, suffix }] of sources.entries()) writeFileSync(join(work, LISTS, `source${i}${suffix}`), text)
  const apt = [
    `Dir::State::Lists=${work}/lists`,
    `Dir::Cache=${work}/cache`,
    'Dir::Etc::SourceList=/dev/null',
    `Dir::Etc::SourceParts=${join(work, LISTS)}`,
    // Root's own folder is not readable for the user that apt downloads as.
    'APT::Sandbox::User=root',
    'Acquire::Retries=3',
  ].flatMap((option) => ['-o', option])
  await $`apt-get ${apt} update -qq`.quiet()
  await download(apt, join(work, 'cache/archives'))
}

/**
 * Unpacks packages of another suite of Debian into `root`, which is made anew, without those that they depend on. `work` is a folder
 * beside it for what is downloaded.
 */
export async function unpackOfSuite(suite, names, root, work) {
  rmSync(work, { recursive: true, force: true })
  try {
    const sources = debianSources().map((source) => ofSuite(source, suite))
    await fetchInto(work, sources, (apt, archives) => $({ cwd: archives })`apt-get ${apt} download -qq ${names}`.quiet())
    const archives = join(work, 'cache/archives')
    mkdirSync(join(work, 'root'))
    for (const name of readdirSync(archives))
      if (name.endsWith('.deb')) await $`dpkg-deb --extract ${join(archives, name)} ${join(work, 'root')}`
    rmSync(root, { recursive: true, force: true })
    renameSync(join(work, 'root'), root)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

/**
 * Unpacks the engine with those of its dependencies that are not installed, and compose and buildx. Returns the folder that is
 * their root. Kept in .cache/docker; a run that finds it there downloads nothing.
 */
export async function engineRoot(say) {
  const sources = debianSources()
  if (sources.length === 0) throw new Error('there are no sources of Debian packages in /etc/apt')
  const root = join(CACHE, `engine-${digest(sources, COMPOSE_SUITE, process.arch).slice(0, 12)}`)
  if (existsSync(root)) return root
  say('downloading docker.io, docker-compose and docker-buildx (about 95 MB, into .cache/docker)')
  const work = join(CACHE, `new-${process.pid}`)
  rmSync(work, { recursive: true, force: true })
  try {
    const plugins = sources.map((source) => ofSuite(source, COMPOSE_SUITE))
    await Promise.all([
      fetchInto(join(work, 'engine'), sources, (apt) =>
        $`apt-get ${apt} install --download-only --no-install-recommends -y -qq docker.io iptables`.quiet(),
      ),
      fetchInto(join(work, 'plugins'), plugins, (apt, archives) =>
        $({ cwd: archives })`apt-get ${apt} download -qq docker-compose docker-buildx`.quiet(),
      ),
    ])
    const unpacked = join(work, 'root')
    mkdirSync(unpacked)
    for (const what of ['engine', 'plugins']) {
      const archives = join(work, what, 'cache/archives')
      for (const name of readdirSync(archives))
        if (name.endsWith('.deb')) await $`dpkg-deb --extract ${join(archives, name)} ${unpacked}`
    }
    renameSync(unpacked, root)
  } catch (error) {
    if (!existsSync(root)) throw error
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
  return root
}
