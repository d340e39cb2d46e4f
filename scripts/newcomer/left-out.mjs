// Commands of the pages that the newcomer's script leaves out, and why.

/** Commands that nobody can run here, by what stands in them. */
const CANNOT = [
  [/\bdocker\b/, 'needs docker; `npm run test:docker` runs it'],
  [/--backend (ibverbs|rdma-ud)\b|\bspeadcast devices\b/, 'needs an RDMA device'],
  [/^(ip|sysctl|sudo)\b/, 'needs root'],
  [/^(bun|deno)\b/, 'needs Bun or Deno; test/project runs them'],
  [/^tc\b|--rate-method kernel\b/, 'needs root and the fq of the kernel; test/vm runs it'],
  [/^(npm run acceptance|ssh)\b/, 'needs a card and a second host; test/acceptance runs it on the software NIC'],
  [/\bspeadcast bench\b.*\bagent\b/, 'needs a second host; test/cli runs it in two namespaces'],
  [/^nft\b/, "needs the reader's own firewall table"],
  [/^curl\b/, 'asks a command that runs meanwhile; test/cli does so'],
  [/--clock\b/, 'needs a host whose clock is kept in step; test/kernel runs it'],
  [/--(main-cpu|io-cpu)\b/, 'needs the CPUs that it names; test/cli runs it'],
]

/** The interfaces and addresses of the examples, which are in the network of lab.mjs and nowhere else. */
const LAB = /\beth\d\b|\b239\.\d|\b10\.0\.0\.\d/

/** Why a command cannot be run; `lab` says why there is no network of its own. */
export function cannot(command, lab) {
  const known = CANNOT.find(([pattern]) => pattern.test(command))
  if (known) return known[1]
  return lab.why && LAB.test(command) ? `needs the network that the examples name (${lab.why})` : undefined
}

/** Options that make a command shorter which takes a minute otherwise, to be put behind its own. */
export function shorter(command) {
  if (/\bspeadcast bench\b/.test(command)) return ' --sizes 8KiB,1MiB --seconds 0.1 --repeats 1'
  if (/--forever\b|--seconds\b/.test(command)) return ' --seconds 2'
  return /\bspeadcast recv\b.*--stops 0\b/.test(command) ? ' --timeout 2' : ''
}
