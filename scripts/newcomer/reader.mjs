// Follows a page as a reader would: its blocks in order, in a folder of its own below the one where the package is installed.
import { cpSync, existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { $ } from 'zx'
import { cannot, shorter } from './left-out.mjs'

const BLOCK_SECONDS = 60
const TRIES = 3
/** How README has programs run before Node 24, which takes them by `node`. */
const PROGRAM = /\bnpx tsx /
/** The examples expect these of their reader: a recording, and a program that writes samples. */
const SAMPLES = { 'samples.i2': Buffer.alloc(1 << 20) }
const CAPTURE = '#!/bin/sh\nexec head -c 1048576 /dev/zero\n'

/** The environment of a shell that knows nothing of this tree: not what npm sets for its scripts, nor this tree's programs. */
export function plainEnv(...folders) {
  const env = { ...process.env }
  for (const name of Object.keys(env)) if (/^(npm_|INIT_CWD$|NODE_ENV$|SPEADCAST_)/.test(name)) delete env[name]
  const others = (env.PATH ?? '').split(delimiter).filter((folder) => !/\bnode_modules\b.*\.bin$|node-gyp-bin/.test(folder))
  return { ...env, PATH: [...folders, ...others].join(delimiter) }
}

const endpointOf = (line) => /\bspeadcast recv ([^-\s]\S*)/.exec(line)?.[1]

export class Reader {
  #lab
  #documents
  #env
  #runsTypeScript
  #clone
  #project
  #installed
  #tell
  #interpreter
  /** Commands that run beside the next one, in other terminals. */
  #beside = []
  #lines = new Set()
  results = []

  /**
   * `project` has the package installed, `installed` is the outcome of that; `node` is the folder of the Node that runs; `clone` runs a
   * command of the source tree, or says why it does not; `tell` is given each result; `python` is the interpreter that
   * has spead2.
   */
  constructor({ tell, lab, documents, project, installed, node, major, clone, python = '' }) {
    this.#lab = lab
    this.#documents = documents
    this.#project = project
    this.#clone = clone
    this.#installed = installed
    this.#tell = tell
    this.#interpreter = python
    this.#runsTypeScript = major >= 24
    const bin = join(project, 'reader-bin')
    mkdirSync(bin, { recursive: true })
    writeFileSync(join(bin, 'capture'), CAPTURE, { mode: 0o755 })
    // README's reader has npx; the other pages call `speadcast` as one who has installed it globally.
    this.#env = { readme: plainEnv(node, bin), page: plainEnv(node, bin, join(project, 'node_modules/.bin')) }
  }

  /** Follows a page; of shell only what its fences mark to run, and programs, if `marked`. */
  async follow(page, { marked = false } = {}) {
    const readme = page.name === 'README.md'
    const folder = readme ? this.#project : join(this.#project, page.name.replace(/\W/g, '-'))
    mkdirSync(folder, { recursive: true })
    if (!readme) this.#asProject(folder)
    for (const [name, bytes] of Object.entries(SAMPLES)) writeFileSync(join(folder, name), bytes)
    for (const block of this.#documents.codeBlocks(page)) {
      const task = { page: page.name, at: block.at, folder, env: readme ? this.#env.readme : this.#env.page }
      // A piece of a file (`from FILE`) is no program.
      if (block.from) continue
      if (['ts', 'js'].includes(block.language)) await this.#program(task, block)
      else if (block.language === 'python' && block.beside) this.#python(task, block)
      else if (block.language === 'sh') await this.#shell(task, block, marked)
    }
  }

  /** Makes a folder one in which the reader has installed the package, and copied its examples. */
  #asProject(folder) {
    symlinkSync(join(this.#project, 'node_modules'), join(folder, 'node_modules'))
    const examples = join(this.#project, 'node_modules/speadcast/docs/examples')
    if (!existsSync(examples)) return
    cpSync(examples, join(folder, 'docs/examples'), { recursive: true })
    // As docs/examples/README.md says.
    writeFileSync(join(folder, 'docs/examples/package.json'), '{ "type": "module" }\n')
  }

  /** A file of the reader's, run at once where no later command runs it by its name. */
  async #program(task, { code, file, language, runs, at }) {
    const name = file ?? `block-${at.split(':')[1]}.m${language}`
    writeFileSync(join(task.folder, name), code)
    if (!runs) this.#note(task, name, { why: 'not marked to run; test/project/docs.test.ts compiles it' })
    else if (!file) await this.#together(task, `${this.#runsTypeScript || language === 'js' ? 'node' : 'npx tsx'} ${name}`)
  }

  /** A program of spead2's Python, in another terminal. */
  #python(task, { code, at }) {
    const name = `block-${at.split(':')[1]}.py`
    writeFileSync(join(task.folder, name), code)
    if (existsSync(this.#interpreter)) this.#beside.push({ task, command: `${this.#interpreter} ${name}` })
    else this.#note(task, name, { why: 'needs spead2, which `npm test` installs' })
  }

  async #shell(task, block, marked) {
    const lines = this.#documents.commandLines(block.code).filter((line) => !marked || PROGRAM.test(line))
    if (block.beside) this.#beside.push({ task, command: block.code.trim() })
    else if (block.runs) await this.#script(task, block.code)
    else await this.#list(task, this.#runsTypeScript ? lines.map((line) => line.replace(PROGRAM, 'node ')) : lines)
  }

  async #script(task, code) {
    const script = this.#runsTypeScript ? code.replace(PROGRAM, 'node ') : code
    const why = cannot(script, this.#lab)
    if (why) this.#note(task, script, { why })
    else await this.#together(task, script)
  }

  /** Each line by itself, but for a receiver and its sender in the next line. */
  async #list(task, lines) {
    for (let i = 0; i < lines.length; i++) {
      const to = endpointOf(lines[i])
      if (to && lines[i + 1]?.includes(`speadcast send ${to} `) && !cannot(lines[i], this.#lab)) {
        this.#beside.push({ task, command: lines[i] })
        await this.#together(task, lines[++i])
      } else await this.#line(task, lines[i], to)
    }
  }

  async #line(task, line, endpoint) {
    const why = cannot(line, this.#lab)
    if (why) this.#note(task, line, { why })
    // The project has the package already, from a tarball in the registry's place.
    else if (/^npm install speadcast\b/.test(line)) this.#note(task, line, this.#installed)
    else if (/^npm (test|run)\b/.test(line)) this.#note(task, line, await this.#clone(line))
    else if (this.#known(line)) this.#note(task, line, { why: 'ran before' })
    else if (!endpoint) await this.#run(task, `${line.replace(/\s+#.*/, '')}${shorter(line)}`)
    else {
      const by = /--interface \S+/.exec(line)?.[0] ?? ''
      this.#beside.push({ task, command: line })
      await this.#together(task, `npx speadcast send ${endpoint.replace('0.0.0.0', '127.0.0.1')} ${by} -n 20 -H 8KiB --rate 50Mbps`)
    }
  }

  /** Runs a command while those of other terminals run, and again where a receiver was too slow: the pages say that this may be. */
  async #together(task, command) {
    const others = this.#beside.splice(0)
    for (let tries = TRIES; tries > 0; tries--) {
      const running = others.map((other) => this.#start(other))
      await Promise.all(running.map(({ listening }) => listening))
      const [outcome, ...outcomes] = await Promise.all([this.#start({ task, command }).outcome, ...running.map((it) => it.outcome)])
      if (tries > 1 && outcomes.some(({ said }) => said.includes('overflowed'))) continue
      for (const [i, other] of others.entries()) this.#note(other.task, other.command, outcomes[i])
      this.#note(task, command, outcome)
      return
    }
  }

  async #run(task, command) {
    this.#note(task, command, await this.#start({ task, command }).outcome)
  }

  #start({ task: { folder, env }, command }) {
    const start = performance.now()
    const shell = $({
      cwd: folder,
      env,
      quiet: true,
      nothrow: true,
      timeout: `${BLOCK_SECONDS}s`,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const running = shell`${this.#lab.enter} bash -e -o pipefail -c ${command}`
    const listening = new Promise((resolve) => {
      const look = (text) => text.includes('listening on') && resolve()
      for (const stream of [running.stdout, running.stderr]) stream.setEncoding('utf8').on('data', look)
      running.finally(resolve)
    })
    const outcome = running.then(({ exitCode, signal, stdall }) => {
      const seconds = (performance.now() - start) / 1000
      return { ok: exitCode === 0, seconds, said: `${signal ?? `exit status ${exitCode}`}\n${stdall}` }
    })
    return { listening, outcome }
  }

  /** Whether a page before had the same command, which README writes with npx. */
  #known(line) {
    const plain = line.replace(/\s+#.*/, '').replace('npx ', '')
    return this.#lines.has(plain) || !this.#lines.add(plain)
  }

  #note({ page, at }, command, { ok, why, seconds, said }) {
    const [first] = this.#documents.commandLines(command)
    const result = { page, at, command: first.replace(/\s+#.*/, ''), ok, why, seconds, said }
    this.results.push(result)
    this.#tell(result)
  }
}
