/**
 * Whether this code runs where the package was installed. A bundler copies code into a file of the program, and leaves behind what the
 * code finds from its own place: the files that threads start from, and koffi with its binary. In CommonJS output import.meta.url, the
 * place, is undefined or empty.
 */
import { readFileSync } from 'node:fs'
import { SpeadcastError } from './errors.js'

const REMEDY =
  'leave speadcast out of the bundle and install it where the program runs (esbuild --external:speadcast; rolldown, Rollup and Vite ' +
  'external: [/^speadcast/]; webpack externals; docs/bundlers.md)'

/** @param url import.meta.url of the caller */
export function isCopy(url: string | undefined): boolean {
  if (!url) return true
  try {
    for (let folder = new URL('./', url); ; folder = new URL('../', folder)) {
      const manifest = manifestIn(folder)
      if (manifest !== undefined) return JSON.parse(manifest).bin?.speadcast === undefined
      if (folder.pathname === '/' || /^\/[A-Za-z]:\/$/.test(folder.pathname)) return true
    }
  } catch (error) {
    const { code, name } = error as { code?: unknown; name?: unknown }
    // A permission model may hide the file: node's, or Deno's; so may a process without descriptors or memory to read it. A place that is no file: is
    // no place of an installed package.
    return !/^(EACCES|EPERM|EMFILE|ENFILE|ENOMEM|ERR_ACCESS_DENIED|NotCapable|PermissionDenied)$/.test(`${code ?? name}`)
  }
}

function manifestIn(folder: URL): string | undefined {
  try {
    return readFileSync(new URL('package.json', folder), 'utf8')
  } catch (error) {
    if ((error as { code?: unknown }).code === 'ENOENT') return undefined
    throw error
  }
}

/** @param missing what the copy lacks */
export function copyError(url: string | undefined, missing: string, cause?: unknown): SpeadcastError {
  // webpack writes the place that the file had when the bundle was made.
  const where = !url ? ' in a CommonJS file' : isCopy(url) ? ` in ${url}` : ''
  return new SpeadcastError(
    'ERR_SPEADCAST_BUNDLED',
    `this is a copy of speadcast that a bundler made${where}, without ${missing}; ${REMEDY}`,
    { cause },
  )
}

/** Throws where a copy would not find a file of the package. @param file what it is, for the message */
export function refuseCopy(url: string | undefined, file: string): void {
  if (isCopy(url)) throw copyError(url, file)
}
