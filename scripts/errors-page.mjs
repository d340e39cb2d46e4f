// Writes docs/errors.md from the one table of error codes: `node scripts/errors-page.mjs`, or `--check` to only compare.
import { readFileSync, writeFileSync } from 'node:fs'
import { ERROR_CODES } from '#dist/src/errors.js'
import { at } from './lib/process.mjs'

const page = `# Errors

This page is for programs that handle errors, and for those who look one up. Every error that speadcast throws on purpose is a \`SpeadcastError\` with one of these codes. Match on \`error.code\`, never on the
message; \`error.cause\` has the failing system call and errno where there is one. A failed send is a \`SendError\`
(\`ERR_SPEADCAST_SEND\`) whose \`outcome\` has the fate of every heap.

Made from \`src/errors.ts\` by \`scripts/errors-page.mjs\`.

| code | meaning |
|---|---|
${Object.entries(ERROR_CODES)
  .map(([code, meaning]) => `| \`${code}\` | ${meaning} |`)
  .join('\n')}
`
const file = at('docs/errors.md')
if (!process.argv.includes('--check')) writeFileSync(file, page)
else if (readFileSync(file, 'utf8') !== page) {
  console.error('docs/errors.md is not what src/errors.ts makes: run node scripts/errors-page.mjs')
  process.exitCode = 1
}
