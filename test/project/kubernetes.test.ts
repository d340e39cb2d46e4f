// docker/kubernetes, checked against Kubernetes' own schemas (npm package kubernetes-models), and its arguments against speadcast.
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Job } from 'kubernetes-models/batch/v1/Job'
import { ConfigMap } from 'kubernetes-models/v1/ConfigMap'
import { expect, onTestFinished, test } from 'vitest'
import { YAML } from 'zx'
import { run } from '../support/cli.js'
import { ROOT } from './support.js'

const FOLDER = join(ROOT, 'docker/kubernetes')

// biome-ignore lint/suspicious/noExplicitAny: what it is, is what the test finds out.
type Manifest = any

const documents = (name: string): Manifest[] =>
  YAML.parseAllDocuments(readFileSync(join(FOLDER, name), 'utf8')).map((document) => {
    expect(document.errors).toEqual([])
    return document.toJS()
  })
const job = (name: string): Manifest => documents(name).find(({ kind }) => kind === 'Job')
const FILES = readdirSync(FOLDER)

test('both manifests are looked at', () => {
  expect(FILES).toEqual(['rdma.yaml', 'senders.yaml'])
})

test.for(FILES)('%s is what the schemas say', (name) => {
  for (const manifest of documents(name)) {
    if (manifest.kind === 'NetworkAttachmentDefinition') {
      // A custom resource, which the package does not have: a CNI configuration as text.
      expect(manifest).toMatchObject({ apiVersion: 'k8s.cni.cncf.io/v1', metadata: { name: 'spead' } })
      expect(JSON.parse(manifest.spec.config)).toMatchObject({ cniVersion: '0.3.1', type: 'macvlan', mtu: 9000 })
      continue
    }
    const model = manifest.kind === 'Job' ? new Job(manifest) : new ConfigMap(manifest)
    expect(() => model.validate()).not.toThrow()
  }
})

/** The compiler's complaints about manifests written as literals of their types: fields that do not exist, which the schemas let pass. */
function compile(...manifests: Manifest[]): string {
  const folder = join(ROOT, '.cache', `kubernetes-${process.pid}`)
  mkdirSync(folder, { recursive: true })
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const file = join(folder, 'manifests.ts')
  const types = { Job: 'batch/v1/Job', ConfigMap: 'v1/ConfigMap' }
  const lines = Object.entries(types).map(([kind, path]) => `import type { I${kind} } from 'kubernetes-models/${path}'`)
  for (const [i, manifest] of manifests.entries())
    lines.push(`export const manifest${i}: I${manifest.kind} = ${JSON.stringify(manifest)}`)
  writeFileSync(file, lines.join('\n'))
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc')
  const { stdout, error } = spawnSync(
    process.execPath,
    [tsc, '--ignoreConfig', '--noEmit', '--strict', '--skipLibCheck', '--module', 'nodenext', file],
    {
      encoding: 'utf8',
      timeout: 25_000,
    },
  )
  if (error) throw error
  return stdout
}

const known = ({ kind }: Manifest) => kind === 'Job' || kind === 'ConfigMap'

test('no field of a manifest is unknown to its type', () => {
  expect(compile(...FILES.flatMap(documents).filter(known))).toBe('')
})

test('schemas and types see what is wrong', () => {
  const wrong = (change: (manifest: Manifest) => void): Manifest => {
    const manifest = structuredClone(job('senders.yaml'))
    change(manifest)
    return manifest
  }
  const text = wrong((m) => Object.assign(m.spec, { completions: '4' }))
  expect(() => new Job(text).validate()).toThrow(/completions must be integer/)
  const value = wrong((m) => Object.assign(m.spec.template.spec.containers[0].env[0], { value: 1 }))
  expect(() => new Job(value).validate()).toThrow(/value/)
  expect(compile(wrong((m) => Object.assign(m.spec.template.spec.containers[0], { arg: [] })))).toMatch(
    /arg\W+ does not exist in type/,
  )
})

test.for(FILES)('%s: heap cnts of the pods never meet, and the arguments are options of speadcast', async (name) => {
  const { spec } = job(name)
  const [container] = spec.template.spec.containers
  const args: string[] = container.args
  expect(spec).toMatchObject({ completionMode: 'Indexed', completions: 4, parallelism: 4, backoffLimit: 0 })
  expect(container.env[0]).toMatchObject({
    name: 'SENDER_INDEX',
    valueFrom: { fieldRef: { fieldPath: "metadata.annotations['batch.kubernetes.io/job-completion-index']" } },
  })
  expect(args).toEqual(expect.arrayContaining(['--first-cnt=$(SENDER_INDEX)', `--cnt-step=${spec.completions}`]))
  const deadline = Number(args.find((arg) => arg.startsWith('--deadline='))!.split('=')[1])
  expect(spec.template.spec.terminationGracePeriodSeconds).toBeGreaterThan(deadline)
  // The same arguments, by a way that needs no network, and few heaps.
  const local = args
    .map((arg) => arg.replace('$(SENDER_INDEX)', '3'))
    .filter((arg) => !/^--(backend|interface|ttl|heaps|rate)=/.test(arg))
  const { code, stdout, stderr } = await run([...local, '--backend=memory', '--heaps=3'])
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  expect(JSON.parse(stdout)).toMatchObject({ heaps: 3, heapsFailed: 0 })
})

test('the RDMA manifest asks for the resource that its device plugin offers, and for the interface that Multus makes', () => {
  const [config, network] = documents('rdma.yaml')
  const [{ resourcePrefix, resourceName }] = JSON.parse(config.data['config.json']).configList
  const resource = `${resourcePrefix}/${resourceName}`
  const { metadata, spec } = job('rdma.yaml').spec.template
  const [container] = spec.containers
  expect(container.resources.limits[resource]).toBe('1')
  expect(container.resources.requests[resource]).toBe('1')
  expect(network.metadata.annotations['k8s.v1.cni.cncf.io/resourceName']).toBe(resource)
  const [attached] = JSON.parse(metadata.annotations['k8s.v1.cni.cncf.io/networks'])
  expect(attached).toEqual({ name: network.metadata.name, interface: 'net1' })
  expect(container.args).toEqual(expect.arrayContaining(['--interface=net1', '--backend=ibverbs']))
  expect(container.securityContext.capabilities.add).toEqual(['NET_RAW', 'IPC_LOCK'])
  expect(spec.securityContext.runAsUser).toBe(0)
})
