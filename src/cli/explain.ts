/** `speadcast explain` prints the section about a code of docs/errors.md, which the package holds. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Command } from 'commander'
import { SpeadcastError } from '../errors.js'
import { complain } from './common/exit.js'
import { footer } from './common/help.js'
import { printJson } from './common/print.js'

const PAGE = 'docs/errors.md'

interface Section {
  readonly name: string
  /** The text below its heading, as Markdown. */
  readonly text: string
}

export function explainCommand(): Command {
  return new Command('explain')
    .description('explain a code of an error or a warning, or a cause for which heaps were not sent')
    .argument('[CODE]', 'such as ERR_SPEADCAST_CONFIG, config or EHOSTUNREACH; without one, all there are are listed')
    .option('--json', 'one JSON object on standard output, everything else on standard error')
    .addHelpText(
      'after',
      footer(`
Prints the section of the package's ${PAGE}: what the code means, typical causes, the remedy and an example. Needs no network.

Exit status: 0 it is explained; 2 there is no such code.

JSON: name, text (Markdown), file, url; without a code: codes [{ name, meaning }].

Examples:
  speadcast explain ERR_SPEADCAST_UNREACHABLE
  speadcast explain ehostunreach`),
    )
    .action(run)
}

function run(code: string | undefined, { json }: { readonly json?: true }): void {
  try {
    const { manifest, file, text } = page()
    const { homepage } = JSON.parse(readFileSync(manifest, 'utf8')) as { homepage: string }
    const sections = sectionsOf(text)
    if (code === undefined) list(sections, json)
    else show(find(sections, code), file, `${homepage.replace(/#.*$/, '')}/blob/main/${PAGE}`, json)
  } catch (error) {
    complain('explain', error)
  }
}

function page(): { readonly manifest: URL; readonly file: string; readonly text: string } {
  // The manifest is found by a name of its own `imports`, because this file stands at another depth in the bundle than in dist/.
  const manifest = new URL(import.meta.resolve('#package.json'))
  const file = fileURLToPath(new URL(PAGE, manifest))
  return { manifest, file, text: readFileSync(file, 'utf8') }
}

/** Returns every code that `speadcast explain` takes as it is written there. */
export const explainedCodes = (): string[] => sectionsOf(page().text).flatMap(({ name }) => (/^\w+$/.test(name) ? [name] : []))

function sectionsOf(page: string): Section[] {
  return page
    .split(/^### /m)
    .slice(1)
    .map((section) => {
      const end = section.indexOf('\n')
      return {
        name: section.slice(0, end),
        text: section
          .slice(end + 1)
          .split(/^## /m)[0]!
          .trim(),
      }
    })
}

/** @throws ERR_SPEADCAST_CONFIG */
function find(sections: readonly Section[], code: string): Section {
  const wanted = code.toUpperCase().replaceAll('-', '_')
  const names = [wanted, `ERR_SPEADCAST_${wanted}`, `SPEADCAST_${wanted}`]
  const section = sections.find(({ name }) => names.includes(name.toUpperCase()))
  if (section) return section
  const alike = sections.map(({ name }) => name).filter((name) => wanted.length > 2 && name.toUpperCase().includes(wanted))
  const hint = alike.length > 0 ? `did you mean ${alike.slice(0, 3).join(' or ')}? ` : ''
  throw new SpeadcastError('ERR_SPEADCAST_CONFIG', `there is no code '${code}'; ${hint}\`speadcast explain\` lists all there are`)
}

function list(sections: readonly Section[], json: true | undefined): void {
  const codes = sections.map(({ name, text }) => ({ name, meaning: text.split('\n', 1)[0]! }))
  if (json) printJson({ codes })
  else process.stdout.write(codes.map(({ name, meaning }) => `${name}\n    ${meaning}\n`).join(''))
}

function show({ name, text }: Section, file: string, page: string, json: true | undefined): void {
  const url = `${page}#${name.toLowerCase().replaceAll(' ', '-')}`
  if (json) printJson({ name, text, file, url })
  else process.stdout.write(`${name}\n\n${text}\n\n${file}\n${url}\n`)
}
