/** What lets others in: pinned actions and images, the rights of the compose files, the workflow that publishes. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { YAML } from 'zx'
import { ROOT } from './support.js'

const text = (name: string): string => readFileSync(join(ROOT, name), 'utf8')
// biome-ignore lint/suspicious/noExplicitAny: what it is, is what the test finds out.
const yaml = (name: string): any => YAML.parseDocument(text(name), { merge: true }).toJS()

const WORKFLOWS = ['.github/workflows/ci.yml', '.github/workflows/publish.yml']
const IMAGES = ['docker/Dockerfile', 'docker/Dockerfile.spead2', 'docker/compose.fleet.yaml', 'docker/compose.yaml', ...WORKFLOWS]

test('actions are pinned by commit, with the version that it is', () => {
  const used = WORKFLOWS.flatMap((name) => [...text(name).matchAll(/uses: *(.*)$/gm)].map(([, action]) => action!))
  expect(used.length).toBeGreaterThan(4)
  for (const action of used) expect(action).toMatch(/^[\w.-]+\/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/)
})

test('base images are pinned by digest, the same everywhere', () => {
  const images = IMAGES.flatMap((name) => text(name).match(/\b(?:node|python):[0-9][^\s}]*/g) ?? [])
  expect(images.length).toBeGreaterThanOrEqual(5)
  for (const image of images) expect(image).toMatch(/^(node|python):[\w.-]+@sha256:[0-9a-f]{64}$/)
  const tags = new Map<string, Set<string>>()
  for (const image of images) {
    const [tag, digest] = image.split('@') as [string, string]
    tags.set(tag, (tags.get(tag) ?? new Set()).add(digest))
  }
  for (const [tag, digests] of tags) expect([...digests], tag).toHaveLength(1)
})

test('npm run pins finds each of them', async () => {
  const { pinsOf, pinnedFiles } = (await import(join(ROOT, 'scripts/pins.mjs'))) as {
    pinsOf(text: string): { kind: string; name: string; tag: string; pin: string }[]
    pinnedFiles(): string[]
  }
  expect(pinnedFiles().sort()).toEqual([...IMAGES].sort())
  const count = (name: string, pattern: RegExp) => (text(name).match(pattern) ?? []).length
  for (const name of IMAGES)
    expect(pinsOf(text(name)), name).toHaveLength(count(name, /uses: /g) + count(name, /\b(?:node|python):[0-9]/g))
})

test('services of the compose files write nothing and have no more rights than they use', () => {
  const may: Record<string, string[]> = {
    // SO_RCVBUFFORCE
    receive: ['NET_ADMIN'],
    'receive-spead2': ['NET_ADMIN'],
    'send-1': [],
    'send-2': [],
    // Raw packets, pinned memory, a real-time priority.
    send: ['NET_RAW', 'IPC_LOCK', 'SYS_NICE'],
  }
  const services = ['docker/compose.yaml', 'docker/compose.rdma.yaml'].flatMap((name) =>
    Object.entries<object>(yaml(name).services),
  )
  expect(services.map(([name]) => name).sort()).toEqual(Object.keys(may).sort())
  for (const [name, service] of services) {
    expect(service, name).toMatchObject({ read_only: true, cap_drop: ['ALL'], security_opt: ['no-new-privileges:true'] })
    const { cap_add = [], privileged, volumes } = service as { cap_add?: string[]; privileged?: boolean; volumes?: unknown }
    expect({ name, cap_add, privileged, volumes }).toEqual({ name, cap_add: may[name], privileged: undefined, volumes: undefined })
  }
})

test('a workflow has the rights that it uses: the one that publishes signs, and nothing else', () => {
  for (const name of WORKFLOWS) expect(yaml(name).permissions, name).toEqual({ contents: 'read' })
  const { npm } = yaml('.github/workflows/publish.yml').jobs
  expect(npm.permissions).toEqual({ contents: 'read', 'id-token': 'write' })
  expect(npm.environment).toBe('npm')
  expect(npm.steps.map(({ run }: { run?: string }) => run)).toContain('npm publish --provenance --access public')
})

test('what the owner has to fill in is said where, and stops a release', () => {
  const { repository, bugs, homepage } = JSON.parse(text('package.json'))
  const placeholders = [repository.url, bugs, homepage, text('SECURITY.md')].filter((place: string) => place.includes('OWNER'))
  // All or none: a release with one of them left is refused.
  expect([0, 4]).toContain(placeholders.length)
  expect(text('.github/workflows/publish.yml')).toContain('grep -rn "OWNER/speadcast" package.json SECURITY.md')
  expect(text('CONTRIBUTING.md')).toMatch(/placeholder `OWNER` in `package\.json`/)
})
