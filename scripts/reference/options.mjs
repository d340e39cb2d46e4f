// typedoc's options for the reference.
import { existsSync } from 'node:fs'
import { at } from '../lib/process.mjs'

/** Pages of the source tree that others link to. The npm package does not hold them. */
const TREE = [
  'CHANGELOG.md',
  'CONTRIBUTING.md',
  'SECURITY.md',
  'docker/README.md',
  'docs/bench/README.md',
  'test/softnic/README.md',
  'test/vm/README.md',
]

export const OPTIONS = {
  name: 'speadcast',
  entryPoints: ['src/index.ts', 'src/devices/index.ts', 'src/receive/index.ts', 'src/metrics/index.ts'].map((file) => at(file)),
  tsconfig: at('tsconfig.json'),
  basePath: at('.'),
  // Links to a source need a remote, which not every clone has.
  disableSources: true,
  readme: at('README.md'),
  projectDocuments: [
    at('docs/*.md'),
    ...['docs/examples/README.md', ...TREE].map((file) => at(file)).filter((file) => existsSync(file)),
  ],
  excludeInternal: true,
  excludePrivate: true,
  validation: {
    notExported: true,
    invalidLink: true,
    invalidPath: true,
    rewrittenLink: true,
    notDocumented: true,
    unusedMergeModuleWith: true,
  },
  // Machinery of types, which a program has no use for: what it comes to stands beside each use.
  intentionallyNotExported: [
    ...['Code', 'Names', 'StructuredText'].map((name) => `src/spead/dtype-text.ts:${name}`),
    'src/spead/element-of.ts:ElementOf',
    'src/spead/field-value.ts:FieldValue',
    ...['Metric', 'Binary'].map((name) => `src/stream/rate.ts:${name}`),
    ...['Entry', 'Times', 'FormatBytes', 'Count', 'IsUnion'].map((name) => `src/spead/item-types.ts:${name}`),
    ...['IsImmediate', 'ViewIn', 'MayBeImmediate'].map((name) => `src/batch/view-types.ts:${name}`),
  ],
  intentionallyNotDocumented: ['ClassesFor', 'Instances'].map((name) => `speadcast.${name}.__type.prototype`),
  requiredToBeDocumented: ['Module', 'Variable', 'Function', 'Class', 'Interface', 'Property', 'Method', 'Accessor', 'TypeAlias'],
  // As GitHub makes anchors of headings, because the pages link to one another by those.
  sluggerConfiguration: { lowercase: true },
  headings: { document: false, readme: false },
  navigation: {
    includeGroups: true,
    includeFolders: false,
    includeCategories: false,
    compactFolders: false,
    excludeReferences: false,
  },
  sort: ['documents-first', 'kind', 'alphabetical'],
  sortEntryPoints: false,
  groupOrder: ['Pages', 'Modules', 'Functions', 'Classes', 'Interfaces', 'Type Aliases', 'Variables', '*', 'Source tree'],
  searchInComments: true,
  searchInDocuments: true,
  includeHierarchySummary: false,
  useFirstParagraphOfCommentAsSummary: true,
  hideGenerator: true,
  githubPages: false,
  customCss: at('scripts/reference/theme.css'),
  highlightLanguages: ['typescript', 'javascript', 'shellscript', 'console', 'json', 'c', 'python', 'yaml', 'text', 'docker'],
  lightHighlightTheme: 'github-light-high-contrast',
  darkHighlightTheme: 'github-dark-high-contrast',
}
