/** The project's pages, and the code blocks, command lines and links in them. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

const ROOT = join(import.meta.dirname, '../..')

export interface Page {
  /** Its path from the project's folder. */
  readonly name: string
  readonly text: string
}

export interface CodeBlock {
  /** The page and the line of the fence. */
  readonly at: string
  /** The fence says `beside` behind the language: it runs in another terminal, and ends by itself. */
  readonly beside?: boolean
  /** The fence says `run FILE`: a later block runs it by that name. */
  readonly file?: string | undefined
  readonly language: string
  /** The fence says `run` behind the language. */
  readonly runs: boolean
  /** The fence says `from FILE` behind the language: the block is a piece of that file, whose path begins at docs/. */
  readonly from?: string | undefined
  readonly code: string
}

export const page = (name: string): Page => ({ name, text: readFileSync(join(ROOT, name), 'utf8') })

export function pages(): Page[] {
  const docs = readdirSync(join(ROOT, 'docs'), { recursive: true, encoding: 'utf8' }).filter(
    (name) => name.endsWith('.md') && !name.startsWith('site/'),
  )
  return ['README.md', 'CONTRIBUTING.md', 'docker/README.md', ...docs.sort().map((name) => join('docs', name))].map(page)
}

export function codeBlocks({ name, text }: Page): CodeBlock[] {
  return [...text.matchAll(/^```(\w*)([^\n]*)\n(.*?)^```$/gms)].map(({ index, 1: language, 2: info, 3: code }) => ({
    at: `${name}:${text.slice(0, index).split('\n').length}`,
    beside: /\bbeside\b/.test(info!),
    file: /\brun (\S+\.\w+)/.exec(info!)?.[1],
    language: language!,
    runs: /\brun\b/.test(info!),
    from: /\bfrom (\S+)/.exec(info!)?.[1],
    code: code!,
  }))
}

/** A shell block's lines, continued ones joined, without those that only remark. */
export const commandLines = (code: string): string[] =>
  code
    .replaceAll(/\\\n\s*/g, '')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line && !line.startsWith('#'))

/** A shell block's commands as words: without comments, continued lines joined, cut where one command ends and the next begins. */
export function shellCommands(code: string): string[][] {
  const commands: string[][] = [[]]
  const tokens = /#[^\n]*|\n|[|&;]+|(?:'[^']*'|"[^"]*"|[^\s'"|&;])+/g
  for (const [token] of code.replaceAll('\\\n', ' ').matchAll(tokens)) {
    if (/^[\n|&;]/.test(token)) commands.push([])
    else if (!token.startsWith('#')) commands.at(-1)!.push(token.replace(/'([^']*)'|"([^"]*)"/g, '$1$2'))
  }
  return commands.filter((words) => words.length > 0)
}

/** The anchors that GitHub makes of a page's headings. */
const anchors = (text: string): string[] =>
  [...text.replace(/^```.*?^```$/gms, '').matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    heading!
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .replaceAll(' ', '-'),
  )

/** The files of the project that a page links to, or shows. */
export const linkedFiles = ({ name, text }: Page): string[] => [
  ...new Set([...text.matchAll(/\]\((?!\w+:)([^)#\s]+)/g)].map(([, path]) => join(dirname(name), path!))),
]

/** Links of a page to files and headings that are not there. */
export function brokenLinks({ name, text }: Page): string[] {
  const links = [...text.matchAll(/\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)/g)]
  return links
    .filter(([, path, anchor]) => {
      const target = path ? join(dirname(name), path) : name
      if (!existsSync(join(ROOT, target))) return true
      return anchor !== undefined && !anchors(page(target).text).includes(anchor)
    })
    .map(([link]) => `${name} ${link.slice(1)}`)
}
