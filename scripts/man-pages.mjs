// Makes man/: `node scripts/man-pages.mjs FOLDER` writes speadcast.1 and a page for each command, speadcast-send.1 …, from the Command
// objects and texts behind --help, as dist/ has them. The pages are in the macros of man(7), which groff and mandoc both read, and in ASCII.
//
// A page has no date of its making, because two builds of one version must give the same bytes: it has the date that CHANGELOG.md gives the
// version.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { at, read, readJson } from './lib/process.mjs'

/** mandoc warns of a page without a date. That of the first edition serves while CHANGELOG.md calls the version unreleased. */
const FIRST_EDITION = '2026-11-30'
const SECTIONS = { 'Exit status': 'EXIT STATUS', JSON: 'JSON', Environment: 'ENVIRONMENT', Examples: 'EXAMPLES' }

const { version, homepage } = readJson(at('package.json'))
const [, released] =
  new RegExp(`^## \\[${RegExp.escape?.(version) ?? version}\\] - (\\d{4}-\\d\\d-\\d\\d)$`, 'm').exec(read(at('CHANGELOG.md'))) ?? []
const { wholeProgram } = await import(at('dist/src/cli/program.js'))

const folder = resolve(process.argv[2] ?? 'man')
mkdirSync(folder, { recursive: true })
const program = await wholeProgram()
const environment = footerOf(program).get('ENVIRONMENT') ?? []
const pages = withCommands(program)
for (const command of pages) writeFileSync(join(folder, `${nameOf(command)}.1`), pageOf(command))

function withCommands(command) {
  return [command, ...command.commands.flatMap(withCommands)]
}

/** The command and those above it: speadcast-send. */
function nameOf(command) {
  return (command.parent ? `${nameOf(command.parent)}-` : '') + command.name()
}

function pageOf(command) {
  const name = nameOf(command)
  const footer = footerOf(command)
  const others = pages.map(nameOf).filter((other) => other !== name)
  const section = (title, lines) => (lines.length > 0 ? [`.SH ${quoted(title)}`, ...lines] : [])
  return [
    `.\\" Made from the texts of ${name.replaceAll('-', ' ')} --help.`,
    `.TH ${quoted(name.toUpperCase())} 1 ${released ?? FIRST_EDITION} ${quoted(`speadcast ${version}`)} "User Commands"`,
    // Names of options and JSON fields stay whole.
    '.nh',
    '.ad l',
    '.SH NAME',
    `${escaped(name)} \\- ${escaped(
      command
        .description()
        .replace(/^[A-Z](?=[a-z])/, (c) => c.toLowerCase())
        .replace(/\.$/, ''),
    )}`,
    '.SH SYNOPSIS',
    ...synopsis(command),
    '.SH DESCRIPTION',
    text(sentence(command.description())),
    ...(footer.get('DESCRIPTION') ?? []),
    ...parts(command),
    ...section('EXIT STATUS', footer.get('EXIT STATUS') ?? []),
    ...section('JSON', footer.get('JSON') ?? []),
    ...section('ENVIRONMENT', environment),
    ...section('EXAMPLES', footer.get('EXAMPLES') ?? []),
    '.SH SEE ALSO',
    others.map((other, i) => `.BR ${escaped(other)} (1)${i < others.length - 1 ? ' ,' : ''}`).join('\n'),
    '.PP',
    'The folder',
    '.I docs',
    'of the package has the manual,',
    '.I docs/cli.md',
    'for the command line, and',
    `.UR ${homepage}`,
    'the home page',
    '.UE',
    'leads to the sources.',
    '',
  ].join('\n')
}

/** Arguments, commands and options. */
function parts(command) {
  const help = command.createHelp()
  const groups = help.groupItems(command.options, help.visibleOptions(command), (option) => option.helpGroupHeading ?? 'Options:')
  const args = command.registeredArguments.filter(({ description }) => description)
  const options = [...groups].flatMap(([heading, options]) => [
    ...(groups.size > 1 ? [`.SS ${quoted(heading.replace(/:$/, ''))}`] : []),
    ...options.flatMap((option) => item(term(option.flags), help.optionDescription(option))),
  ])
  const commands = help.visibleCommands(command)
  return [
    ...(args.length > 0 ? ['.SH ARGUMENTS'] : []),
    ...args.flatMap((argument) =>
      item(`\\fI${escaped(argument.name())}\\fR${argument.variadic ? '...' : ''}`, help.argumentDescription(argument)),
    ),
    ...(commands.length > 0 ? ['.SH COMMANDS'] : []),
    ...commands.flatMap((each) => item(`\\fB${escaped(help.subcommandTerm(each))}\\fR`, help.subcommandDescription(each))),
    ...(options.length > 0 ? ['.SH OPTIONS', ...options] : []),
  ]
}

function synopsis(command) {
  const words = nameOf(command).replaceAll('-', ' ')
  const line = (rest) => `.B ${escaped(words)}\n${rest}`
  const args = command.registeredArguments.map((argument) => {
    const name = `\\fI${escaped(argument.name())}\\fR${argument.variadic ? ' ...' : ''}`
    return argument.required ? name : `[${name}]`
  })
  const needed = command.options.filter(({ mandatory }) => mandatory).map(({ flags }) => term(flags))
  const plain = line([...needed, '[\\fIoptions\\fR]', ...args].join(' '))
  if (command.commands.length === 0) return [plain]
  const below = line('\\fIcommand\\fR [\\fIoptions\\fR] ...')
  return command.parent ? [plain, '.br', below] : [below]
}

/** Returns the text behind the options in --help, by section; paragraphs without a section belong to the description. */
function footerOf(command) {
  const written = []
  command.configureOutput({ writeOut: (text) => written.push(text), getOutHelpWidth: () => 10_000, getOutHasColors: () => false })
  command.outputHelp()
  const sections = new Map()
  let title = 'DESCRIPTION'
  const add = (...lines) => sections.set(title, [...(sections.get(title) ?? []), ...lines])
  const footer = written.slice(1).join('').trim()
  for (const block of footer.split(/\n\s*\n/).filter(Boolean)) {
    title = block.startsWith('JSON ') ? 'JSON' : 'DESCRIPTION'
    const lines = block.split('\n')
    const literal = lines.filter((line) => line.startsWith('  '))
    const flowing = lines.filter((line) => !line.startsWith('  ')).join(' ')
    for (const part of flowing.split(/(?:^| )(?=(?:Exit status|JSON|Environment|Examples):)/).filter(Boolean)) {
      const [, label, rest] = /^(Exit status|JSON|Environment|Examples): ?(.*)$/s.exec(part) ?? []
      if (label) title = SECTIONS[label]
      const words = label ? rest : part
      if (title === 'EXIT STATUS' && label) add(...list(words, /[;,] (?=\d+ )/, /^(\d+):? (.*)$/s))
      else if (words) add(...(label ? [] : ['.PP']), text(words))
    }
    if (title === 'ENVIRONMENT') add(...literal.flatMap((one) => named(one)))
    else if (literal.length > 0) add('.nf', '.RS 2', ...literal.map((line) => text(line.slice(2))), '.RE', '.fi')
  }
  return sections
}

/** '0 sent; 1 heaps were not sent; 2 bad usage' as a list; as it stands where it is none. */
function list(words, between, parts) {
  const each = words.split(between).map((one) => parts.exec(one.trim()))
  if (each.some((match) => match === null)) return [text(words)]
  return each.flatMap(([, term, meaning]) => item(`\\fB${escaped(term)}\\fR`, sentence(meaning)))
}

/** '  NAME   what it is for'. */
function named(words) {
  const [, name, about] = /^ {2}(\S+) +(.*)$/.exec(words)
  return item(`\\fB${escaped(name)}\\fR`, sentence(about))
}

/** '-n, --heaps <N>': what is typed in bold, what it stands for in italics. */
function term(flags) {
  const [, names, value = ''] = /^(.*?)(?: ([<[].*))?$/.exec(flags)
  const bold = names.split(', ').map((name) => `\\fB${escaped(name)}\\fR`)
  const [, open, name, dots, close] = /^([<[])(.*?)(\.\.\.)?([>\]])$/.exec(value) ?? []
  if (!open) return bold.join(', ')
  const italic = `\\fI${escaped(name)}\\fR${dots ? ' ...' : ''}`
  return `${bold.join(', ')} ${open === '[' ? `${open}${italic}${close}` : italic}`
}

function item(term, description) {
  return ['.TP', term, text(description)]
}

function sentence(words) {
  const trimmed = words.trim()
  return `${trimmed[0].toUpperCase()}${trimmed.slice(1)}${/[.!?]$/.test(trimmed) ? '' : '.'}`
}

/** An argument of a macro. */
function quoted(words) {
  return `"${escaped(words).replaceAll('"', '\\(dq')}"`
}

/** A line of text. A dot or quote at its beginning would be a request. */
function text(words) {
  return escaped(words.trimEnd()).replace(/^(?=[.'])/, '\\&')
}

/** ASCII of which roff takes nothing for an escape, nor for another character that looks better in print (groff_char(7)). */
function escaped(words) {
  const special = { '\\': '\\e', '-': '\\-', "'": '\\(aq', '`': '\\(ga', '^': '\\(ha', '~': '\\(ti' }
  return words
    .replace(/[\\\-'`^~]/g, (c) => special[c])
    .replace(/[^\n\x20-\x7e]/gu, (c) => `\\[u${c.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')}]`)
}
