// Scripts that record several things by npm run bench: `SCRIPT [PART] [options of npm run bench]`.

/** The parts asked for, by default all, and the options behind them. An unknown part ends the program with status 2. */
export function askedParts(script, parts, args = process.argv.slice(2)) {
  const [first = '', ...rest] = args
  if (parts.includes(first)) return { names: [first], options: rest }
  if (first === '' || first.startsWith('--')) return { names: parts, options: args }
  process.stderr.write(`${script}: ${first}: it is one of ${parts.join(', ')}\n`)
  process.exit(2)
}
