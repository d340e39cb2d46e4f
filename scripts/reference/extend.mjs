// The reference needs more than typedoc's options: groups and names of the pages, links from names in code to symbols.
import { basename, dirname } from 'node:path'
import { Comment, Converter, ReflectionKind, Renderer } from 'typedoc'
import { at } from '../lib/process.mjs'
import { flowchartAsText } from './mermaid.mjs'

const LINKED =
  ReflectionKind.Class | ReflectionKind.Interface | ReflectionKind.Function | ReflectionKind.TypeAlias | ReflectionKind.Variable

/** Hooks into a typedoc application. */
export function extend(app) {
  app.converter.on(Converter.EVENT_CREATE_DOCUMENT, (_context, page) => {
    const file = page.project.files.getReflectionPath(page)
    nameAndGroup(page, file)
    for (const part of page.content) if (part.kind === 'code') part.text = asText(part.text)
  })
  app.converter.on(Converter.EVENT_RESOLVE_BEGIN, ({ project }) => {
    const codes = describeCodes(project)
    linkNames(project)
    linkCodes(project, codes)
  })
  app.renderer.on(Renderer.EVENT_END_PAGE, (page) => {
    // A page may not refer to another file's icons where it is opened as a file. A script of typedoc's puts them into the page.
    const contents = page.contents.replace(/(<use href=")[^"#]*#/g, '$1#')
    page.contents = contents.replace(/<table>[\s\S]*?<\/table>/g, labelCells)
  })
}

function nameAndGroup(page, file) {
  const own = dirname(file) === at('docs')
  page.name = basename(file) === 'README.md' ? basename(dirname(file)) : basename(file, '.md')
  page.frontmatter.group = own || file.startsWith(at('docs/examples')) ? 'Pages' : 'Source tree'
}

function asText(code) {
  const block = code.match(/^```mermaid\n([\s\S]*)\n```$/)
  return block ? `\`\`\`text\n${flowchartAsText(block[1])}\n\`\`\`` : code
}

/** Describes each error code by its text, which is its type, with a link to its section of the page of errors. Returns the codes' places. */
function describeCodes(project) {
  const [table] = project.getReflectionsByKind(ReflectionKind.Variable).filter(({ name }) => name === 'ERROR_CODES')
  const page = project.documents.find(({ name }) => name === 'errors')
  const { target } = project.files.registerAbsolute(at('docs/errors.md'))
  const text = page.content.map((part) => part.text).join('')
  const codes = table.type.declaration.children
  for (const code of codes) {
    const targetAnchor = text.includes(`# ${code.name}\n`) ? code.name.toLowerCase() : undefined
    const link = { kind: 'relative-link', text: 'errors.md', target, targetAnchor }
    code.comment = new Comment([{ kind: 'text', text: `${code.type.value} [What to do](` }, link, { kind: 'text', text: ').' }])
  }
  return new Map(codes.map((code) => [code.name, code]))
}

/** Makes links of the codes behind `@throws`, also of those written without what all begin with: `_ITEM`. */
function linkCodes(project, codes) {
  for (const { comment } of Object.values(project.reflections))
    for (const { tag, content } of comment?.blockTags ?? []) {
      if (tag !== '@throws') continue
      const parts = content.splice(0)
      for (const part of parts) {
        if (part.kind !== 'text') content.push(part)
        else
          for (const text of part.text.split(/((?<!\w)(?:ERR_SPEADCAST)?_[A-Z_]+\b)/)) {
            const target = codes.get(text.replace(/^_/, 'ERR_SPEADCAST_'))
            content.push(target ? { kind: 'inline-tag', tag: '@linkcode', text: target.name, target } : { kind: 'text', text })
          }
      }
    }
}

/** Gives each cell its column's title, which a narrow screen shows in front of it (theme.css). */
function labelCells(table) {
  const titles = [...table.matchAll(/<th[^>]*>([\s\S]*?)<\/th>/g)].map(([, title]) =>
    title.replace(/<[^>]*>/g, '').replaceAll('"', '&quot;'),
  )
  return table.replace(/<tr>[\s\S]*?<\/tr>/g, (row) => {
    let column = 0
    return row.replace(/<td(?=[ >])/g, () => `<td data-title="${titles[column++] ?? ''}"`)
  })
}

/** Makes links of names in backticks that the package exports, so that the pages need no markup that GitHub would not understand. */
function linkNames(project) {
  const exported = new Map()
  for (const reflection of project.getReflectionsByKind(LINKED))
    if (reflection.parent?.kindOf(ReflectionKind.Module) && !exported.has(reflection.name))
      exported.set(reflection.name, reflection)
  const linked = (parts, owner) =>
    parts.map((part, i) => {
      const name = part.kind === 'code' ? part.text.match(/^`([^`\n]+)`$/)?.[1] : undefined
      if (name === undefined) return part
      const before = parts
        .slice(0, i)
        .map(({ text }) => text)
        .join('')
      // typedoc leaves code out of a heading's anchor and of the list of headings.
      if (before.slice(before.lastIndexOf('\n') + 1).startsWith('#'))
        return { kind: 'text', text: name.replace(/[\\<_*[]/g, '\\$&') }
      const target = exported.get(name)
      const inLink = before.endsWith('[') || parts[i + 1]?.text.startsWith('](')
      if (!target || target === owner || inLink) return part
      return { kind: 'inline-tag', tag: '@linkcode', text: target.name, target }
    })
  for (const reflection of Object.values(project.reflections)) {
    if (reflection.isDocument()) reflection.content = linked(reflection.content, undefined)
    if (!reflection.comment) continue
    reflection.comment.summary = linked(reflection.comment.summary, reflection)
    for (const tag of reflection.comment.blockTags) tag.content = linked(tag.content, reflection)
  }
  if (project.readme) project.readme = linked(project.readme, undefined)
}
