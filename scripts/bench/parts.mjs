// Scripts that record several things by npm run bench: `SCRIPT [PART] [options of npm run bench]`.

/** Which parts were asked for, all by default, and the options behind. Ends the program with status 2 where the part is none. */
export function askedParts(script, parts, args = process.argv.slice(2)) {
  const [first = '', ...rest] = args
  if (parts.includes(first)) return { names: [first], options: rest }
  if (first === '' || first.startsWith('--')) return { names: parts, options: args }
  process.stderr.write(`${script}: ${first}: it is one of ${parts.join(', ')}\n`)
  process.exit(2)
}
