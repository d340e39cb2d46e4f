// docker/kubernetes, checked against Kubernetes' own schemas (npm package kubernetes-models), and its arguments against speadcast.
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { StatefulSet } from 'kubernetes-models/apps/v1/StatefulSet'
import { Job } from 'kubernetes-models/batch/v1/Job'
import { ConfigMap } from 'kubernetes-models/v1/ConfigMap'
import { Service } from 'kubernetes-models/v1/Service'
import { expect, onTestFinished, test } from 'vitest'
import { YAML } from 'zx'
import { datagramsOf, pointersOf, run } from '../support/cli.js'
import { ROOT } from './support.js'

const FOLDER = join(ROOT, 'docker/kubernetes')

// biome-ignore lint/suspicious/noExplicitAny: what it is, is what the test finds out.
type Manifest = any

const documents = (name: string): Manifest[] =>
  YAML.parseAllDocuments(readFileSync(join(FOLDER, name), 'utf8')).map((document) => {
    expect(document.errors).toEqual([])
    return document.toJS()
  })
const MODELS: Record<string, new (manifest: Manifest) => { validate(): void }> = { Job, ConfigMap, StatefulSet, Service }
const PATHS = { Job: 'batch/v1/Job', ConfigMap: 'v1/ConfigMap', StatefulSet: 'apps/v1/StatefulSet', Service: 'v1/Service' }
const WORKLOADS = ['Job', 'StatefulSet']
const workload = (name: string): Manifest => documents(name).find(({ kind }) => WORKLOADS.includes(kind))
const FILES = readdirSync(FOLDER)

test('all manifests are looked at', () => {
  expect(FILES).toEqual(['endless.yaml', 'rdma.yaml', 'senders.yaml'])
})

test.for(FILES)('%s is what the schemas say', (name) => {
  for (const manifest of documents(name)) {
    if (manifest.kind === 'NetworkAttachmentDefinition') {
      // A custom resource, which the package does not have: a CNI configuration as text.
      expect(manifest).toMatchObject({ apiVersion: 'k8s.cni.cncf.io/v1', metadata: { name: 'spead' } })
      expect(JSON.parse(manifest.spec.config)).toMatchObject({ cniVersion: '0.3.1', type: 'macvlan', mtu: 9000 })
      continue
    }
    const model = new MODELS[manifest.kind]!(manifest)
    expect(() => model.validate()).not.toThrow()
  }
})

/** The compiler's complaints about manifests written as literals of their types: fields that do not exist, which the schemas let pass. */
function compile(...manifests: Manifest[]): string {
  const folder = join(ROOT, '.cache', `kubernetes-${process.pid}`)
  mkdirSync(folder, { recursive: true })
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const file = join(folder, 'manifests.ts')
  const lines = Object.entries(PATHS).map(([kind, path]) => `import type { I${kind} } from 'kubernetes-models/${path}'`)
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

const known = ({ kind }: Manifest) => Object.hasOwn(MODELS, kind)

test('no field of a manifest is unknown to its type', () => {
  expect(compile(...FILES.flatMap(documents).filter(known))).toBe('')
})

test('schemas and types see what is wrong', () => {
  const wrong = (change: (manifest: Manifest) => void): Manifest => {
    const manifest = structuredClone(workload('senders.yaml'))
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

/** Where a pod's index comes from, by the kind of what makes it, and an index as the third pod has it. */
const INDEX: Record<string, readonly [fieldPath: string, third: string]> = {
  Job: ["metadata.annotations['batch.kubernetes.io/job-completion-index']", '2'],
  StatefulSet: ['metadata.name', 'senders-2'],
}

test.for(FILES)('%s: heap cnts of the pods never meet, and the arguments are options of speadcast', async (name) => {
  const { kind, spec } = workload(name)
  const [container] = spec.template.spec.containers
  const args: string[] = container.args
  const [fieldPath, third] = INDEX[kind]!
  expect(spec).toMatchObject(
    kind === 'Job'
      ? { completionMode: 'Indexed', completions: 4, parallelism: 4, backoffLimit: 0 }
      : { replicas: 4, podManagementPolicy: 'Parallel' },
  )
  expect(container.env.slice(0, 2)).toEqual([
    { name: 'SPEADCAST_INDEX', valueFrom: { fieldRef: { fieldPath } } },
    { name: 'SPEADCAST_SENDERS', value: '4' },
  ])
  // What an argument names is set.
  const named = args.flatMap((arg) => [...arg.matchAll(/\$\((\w+)\)/g)].map(([, variable]) => variable))
  expect(container.env.map((variable: Manifest) => variable.name)).toEqual(expect.arrayContaining(named))
  const probes = [container.readinessProbe, container.livenessProbe].map(({ httpGet }) => httpGet)
  expect(probes).toEqual([
    { path: '/readyz?moved=30', port: 'metrics' },
    { path: '/healthz', port: 'metrics' },
  ])
  expect(args).toContain(`--metrics=:${container.ports[0].containerPort}`)
  const deadline = Number(args.find((arg) => arg.startsWith('--deadline='))!.split('=')[1])
  expect(spec.template.spec.terminationGracePeriodSeconds).toBeGreaterThan(deadline)
  const { stdout: help } = await run(['send', '--help'])
  for (const arg of args.filter((each) => each.startsWith('--'))) expect(help).toContain(`${arg.split('=')[0]} `)
  // The same arguments, by a way that needs no network, no port and no clock, and few heaps.
  const local = args.filter(
    (arg) => !/^--(backend|interface|ttl|heaps|rate|forever|metrics|clock|sample-rate|start-at)\b/.test(arg),
  )
  const pcap = join(ROOT, '.cache', `kubernetes-${process.pid}-${name}.pcap`)
  onTestFinished(() => rmSync(pcap, { force: true }))
  const environment = { SPEADCAST_INDEX: third, SPEADCAST_SENDERS: '4' }
  const { code, stdout, stderr } = await run([...local, '--heaps=3', '--no-stop', `--pcap=${pcap}`], undefined, environment)
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  expect(JSON.parse(stdout)).toMatchObject({ heaps: 3, heapsFailed: 0 })
  const cnt = 1
  const cnts = datagramsOf(readFileSync(pcap)).map(({ payload }) => pointersOf(payload).find(({ id }) => id === cnt)!.value)
  // Descriptors, and three heaps.
  expect([...new Set(cnts)]).toEqual([3, 7, 11, 15])
})

test('a StatefulSet has its service, and pods that it selects', () => {
  const [service, set] = documents('endless.yaml')
  expect(service).toMatchObject({ kind: 'Service', metadata: { name: set.spec.serviceName }, spec: { clusterIP: 'None' } })
  const { labels } = set.spec.template.metadata
  expect([service.spec.selector, set.spec.selector.matchLabels]).toEqual([labels, labels])
})

test('the RDMA manifest asks for the resource that its device plugin offers, and for the interface that Multus makes', () => {
  const [config, network] = documents('rdma.yaml')
  const [{ resourcePrefix, resourceName }] = JSON.parse(config.data['config.json']).configList
  const resource = `${resourcePrefix}/${resourceName}`
  const { metadata, spec } = workload('rdma.yaml').spec.template
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
