// npm run pins [-- --check | --list]: looks up what the tags of the actions in .github/workflows and of the base images in docker/
// and .github stand for now, and writes the digests there. Takes git, docker with buildx, and a network. --check writes nothing and
// exits with 1 where one is behind; --list tells the pins and looks nothing up.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { $ } from 'zx'
import { at, say } from './lib/process.mjs'

const ACTION = /uses: (?<name>[\w.-]+\/[\w.-]+)@(?<pin>[0-9a-f]{40}) # (?<tag>v[\d.]+)/g
const IMAGE = /(?<name>(?:node|python)):(?<tag>[\w.-]+)@(?<pin>sha256:[0-9a-f]{64})/g
const FOLDERS = ['.github/workflows', 'docker']
const quiet = $({ quiet: true })

/** The pins of a file: what is pinned, and to what. */
export function pinsOf(text) {
  const pins = (pattern, kind) => [...text.matchAll(pattern)].map(({ groups }) => ({ kind, ...groups }))
  return [...pins(ACTION, 'action'), ...pins(IMAGE, 'image')]
}

/** The files that have pins, by name. */
export function pinnedFiles() {
  const names = FOLDERS.flatMap((folder) => readdirSync(at(folder), { withFileTypes: true }).map((file) => [folder, file]))
  return names
    .filter(([, file]) => file.isFile())
    .map(([folder, file]) => `${folder}/${file.name}`)
    .filter((name) => pinsOf(readFileSync(at(name), 'utf8')).length > 0)
}

/** A tag of an action stays what it is; newer tags are dependabot's to propose. */
async function current({ kind, name, tag }) {
  if (kind === 'image') {
    const { stdout } = await quiet`docker buildx imagetools inspect ${`${name}:${tag}`} --format ${'{{.Manifest.Digest}}'}`
    return stdout.trim()
  }
  const { stdout } = await quiet`git ls-remote https://github.com/${name} ${`refs/tags/${tag}`} ${`refs/tags/${tag}^{}`}`
  // An annotated tag is an object of its own, with the commit in the line behind it.
  return stdout.trim().split('\n').at(-1).split('\t')[0]
}

async function main() {
  const { values } = parseArgs({ options: { check: { type: 'boolean' }, list: { type: 'boolean' } } })
  let behind = 0
  for (const file of pinnedFiles()) {
    let text = readFileSync(at(file), 'utf8')
    for (const pin of pinsOf(text)) {
      const label = `${file}: ${pin.name} ${pin.tag} ${pin.pin}`
      if (values.list) {
        say(label)
        continue
      }
      const now = await current(pin)
      if (now === pin.pin) continue
      behind++
      say(`${label} is ${now} now`)
      text = text.replaceAll(pin.pin, now)
    }
    if (!values.list && !values.check) writeFileSync(at(file), text)
  }
  if (values.check && behind > 0) process.exitCode = 1
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await main()
