// Runs a command, or vitest on test files, in a virtual machine with Debian's kernel and soft-RoCE: see test/vm/README.md. Plain node.
import { parseArgs } from 'node:util'
import { Quit, say, watchSignals } from './lib/process.mjs'
import { image } from './vm/image.mjs'
import { inMachine } from './vm/session.mjs'

const HELP = `Usage: node scripts/vm.mjs [options] -- COMMAND [ARGS]

Boots a Debian kernel in qemu (emulated, no KVM), with this machine's files below it (read-only: what the guest writes is gone
afterwards), this node, and the verbs libraries and tools of Debian; runs COMMAND there as root in the project's folder.
stdout, stderr and exit status are the command's own. Downloads once into .cache/vm; nothing is installed here.

  --bare              no RDMA devices (otherwise rxe0 and rxe1: see scripts/vm/guest/rxe)
  --deadline SECONDS  kill the machine after so long and show its console (default 120)
  --memory MIB        of the guest (default 1536)
  --console FILE      write the guest's console there; by default it is shown only when there is no exit status
  --env NAME          pass this variable on, besides CI, NO_COLOR and those that begin with SPEADCAST_; may be repeated
  --prepare           only download and unpack what is missing
  --help

Exit status: the command's, 1 when there is no VM or no answer (the console's end is shown), 2 for bad usage.`

const usage = (why) => {
  say(`${why}\n${HELP}`)
  throw new Quit(2)
}

function options() {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        bare: { type: 'boolean', default: false },
        console: { type: 'string' },
        deadline: { type: 'string', default: '120' },
        env: { type: 'string', multiple: true, default: [] },
        help: { type: 'boolean', default: false },
        memory: { type: 'string', default: '1536' },
        prepare: { type: 'boolean', default: false },
      },
    })
    return { ...values, argv: positionals }
  } catch (error) {
    return usage(error.message)
  }
}

async function main() {
  const { argv, bare, console: consoleFile, deadline, env: names, help, memory, prepare } = options()
  if (help) {
    console.log(HELP)
    return 0
  }
  if (argv.length === 0 && !prepare) usage('which command?')
  for (const [name, value] of Object.entries({ deadline, memory }))
    if (!(Number.parseInt(value, 10) > 0) || !/^\d+$/.test(value)) usage(`--${name} takes a whole number, not '${value}'`)
  if (prepare) {
    await image()
    return 0
  }
  const numbers = { deadlineMs: Number(deadline) * 1000, memoryMiB: Number(memory) }
  return inMachine({ argv, names, consoleFile, prepare: bare ? '' : 'rxe up || exit 125', ...numbers })
}

watchSignals()
try {
  process.exitCode = await main()
} catch (error) {
  if (!(error instanceof Quit)) throw error
  process.exitCode = error.status
}
