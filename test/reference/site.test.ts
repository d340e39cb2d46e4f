/**
 * The reference as readers have it: built with warnings as errors, each link of it followed, each page opened in Chromium without a network,
 * light and dark, on a desk and on a phone.
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, relative, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { type Browser, chromium, type Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ROOT, runIn } from '../project/support.js'
import { need } from '../support/need.js'

const CHROMIUM = '/usr/bin/chromium'
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

/** In the page, whose types this project has no use for. */
const LOOK = `({
  over: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  background: getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number),
  colour: getComputedStyle(document.body).color.match(/\\d+/g).slice(0, 3).map(Number),
})`
interface Look {
  readonly over: number
  readonly background: readonly number[]
  readonly colour: readonly number[]
}

const filesIn = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .sort()

const site = mkdtempSync(join(tmpdir(), 'speadcast-site-'))
afterAll(() => rmSync(site, { recursive: true, force: true }))
let built: { status: number | null; stdout: string; stderr: string }
let pages: string[] = []
beforeAll(() => {
  built = runIn(ROOT, process.execPath, ['scripts/reference.mjs', '--out', site])
  pages = filesIn(site).filter((file) => file.endsWith('.html'))
}, 120_000)

const text = (file: string) => readFileSync(join(site, file), 'utf8')
const decoded = (attribute: string) => attribute.replaceAll('&amp;', '&')

/** Where links of a page lead inside the site, and what else the page refers to. */
function referencesOf(file: string): {
  inside: { path: string; anchor: string | undefined }[]
  outside: string[]
  loaded: string[]
} {
  const attributes = (pattern: RegExp) => [...text(file).matchAll(pattern)].map(([, value]) => decoded(value!))
  const links = attributes(/<a\s[^>]*?href="([^"]*)"/g)
  const outside = links.filter((link) => /^\w+:/.test(link))
  const inside = links
    .filter((link) => !/^\w+:/.test(link))
    .map((link) => {
      const [path, anchor] = link.split('#')
      return { path: path ? relative(site, resolve(site, dirname(file), decodeURI(path))) : file, anchor }
    })
  return { inside, outside, loaded: attributes(/<(?:script|link|img|use|source)\s[^>]*?(?:src|href)="([^"]*)"/g) }
}

test('the reference is built without a warning', () => {
  expect(built).toMatchObject({ status: 0, stderr: expect.not.stringContaining('warning') })
  expect(pages).toContain('index.html')
  expect(pages).toContain('interfaces/speadcast.Stream.html')
})

test('every page of docs/ is in it', () => {
  const names = filesIn(join(ROOT, 'docs')).filter((file) => /^[\w-]+\.md$/.test(file))
  expect(names.length).toBeGreaterThan(10)
  expect(names.filter((name) => !pages.includes(`documents/${name.replace('.md', '.html')}`))).toEqual([])
})

test('every link inside it leads to a file and an anchor', () => {
  const ids = new Map(
    pages.map((file) => [file, new Set([...text(file).matchAll(/\sid="([^"]*)"/g)].map(([, id]) => decoded(id!)))]),
  )
  const all = pages.flatMap((file) => referencesOf(file).inside.map((link) => ({ file, ...link })))
  expect(all.length).toBeGreaterThan(1000)
  const broken = all.filter(({ path, anchor }) => {
    if (!existsSync(join(site, path))) return true
    return anchor !== undefined && anchor !== '' && ids.has(path) && !ids.get(path)!.has(decodeURIComponent(anchor))
  })
  expect(broken.map(({ file, path, anchor }) => `${file}: ${path}#${anchor ?? ''}`)).toEqual([])
})

test('nothing that a page loads is outside the site', () => {
  const loaded = pages.flatMap((file) => referencesOf(file).loaded.map((target) => ({ file, target })))
  expect(loaded.length).toBeGreaterThan(pages.length)
  const missing = loaded.filter(({ file, target }) => {
    const [path] = target.split(/[?#]/)
    return /^(\w+:|\/\/)/.test(target) || (path !== '' && !existsSync(resolve(site, dirname(file), path!)))
  })
  expect(missing).toEqual([])
  const sheets = filesIn(site).filter((file) => file.endsWith('.css'))
  expect(sheets.filter((file) => /@import|url\((?!\s*["']?data:)/.test(text(file)))).toEqual([])
})

test('the diagram is text, and names what the source of it names', () => {
  const page = text('documents/architecture.html')
  expect(page).not.toContain('flowchart TD')
  expect(page).toContain('Engine.step → Backend.post')
  expect(page).not.toContain('undefined →')
})

describe('in Chromium', () => {
  let browser: Browser | undefined
  beforeAll(async () => {
    if (existsSync(CHROMIUM)) browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS })
  })
  afterAll(() => browser?.close())

  /** A tab without a network, and what went wrong in it. */
  async function tab(): Promise<{ page: Page; problems: string[] }> {
    const context = await browser!.newContext({ offline: true, viewport: { width: 1280, height: 900 }, colorScheme: 'light' })
    const page = await context.newPage()
    const problems: string[] = []
    const note = (problem: string) => problems.push(`${relative(site, new URL(page.url()).pathname)}: ${problem}`)
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) note(message.text())
    })
    page.on('pageerror', (error) => note(error.message))
    page.on('request', (request) => {
      if (!/^(file|data|blob):/.test(request.url())) note(`asks for ${request.url()}`)
    })
    page.on('requestfailed', (request) => note(`does not get ${request.url()}`))
    return { page, problems }
  }
  const open = (page: Page, file: string) => page.goto(pathToFileURL(join(site, file)).href)

  const KINDS = ['index.html', 'modules/speadcast.html', 'interfaces/speadcast.StreamOptions.html', 'documents/options.html']

  test('pages load without an error and without a network, and none is wider than its window', { timeout: 85_000 }, async (ctx) => {
    need(ctx, browser !== undefined, `there is no ${CHROMIUM}`)
    const tabs = await Promise.all([tab(), tab()])
    const left = [...pages]
    const look = async ({ page, problems }: (typeof tabs)[number]) => {
      // The tests of the search load what it searches; here it would cost as much as all else.
      await page.route('**/assets/search.js', (route) => route.fulfill({ body: '' }))
      const widths = [1280, 390]
      for (let file = left.pop(); file !== undefined; file = left.pop()) {
        await open(page, file)
        for (const width of widths) {
          await page.setViewportSize({ width, height: 900 })
          const { over } = await page.evaluate<Look>(LOOK)
          if (over > 0) problems.push(`${file}: is ${over} pixels wider than ${width}`)
        }
        // The next page begins where this one ends.
        widths.reverse()
      }
    }
    await Promise.all(tabs.map(look))
    expect(tabs.flatMap(({ problems }) => problems)).toEqual([])
  })

  test.for(KINDS)('%s is dark on light, or light on dark, as the reader has it', async (file, ctx) => {
    need(ctx, browser !== undefined, `there is no ${CHROMIUM}`)
    const { page } = await tab()
    await open(page, file)
    const brightness = async (colorScheme: 'light' | 'dark') => {
      await page.emulateMedia({ colorScheme })
      const { background, colour } = await page.evaluate<Look>(LOOK)
      const [behind, letters] = [background, colour].map((parts) => parts.reduce((sum, part) => sum + part, 0) / 3)
      return { behind, letters }
    }
    const light = await brightness('light')
    expect(light.behind).toBeGreaterThan(240)
    expect(light.letters).toBeLessThan(60)
    const dark = await brightness('dark')
    expect(dark.behind).toBeLessThan(40)
    expect(dark.letters).toBeGreaterThan(200)
  })

  test.for([
    ['createBatch', 'interfaces/speadcast.Stream.html#createbatch'],
    ['packetSizeBytes', 'interfaces/speadcast.StreamOptions.html#packetsizebytes'],
    ['ERR_SPEADCAST_HEAP_CNT', 'variables/speadcast.ERROR_CODES.html#err_speadcast_heap_cnt'],
    ['openReceiver', 'functions/speadcast_receive.openReceiver.html'],
    ['coming-from-spead2', 'documents/coming-from-spead2.html'],
  ])('the search for %s finds it', async ([word, target], ctx) => {
    need(ctx, browser !== undefined, `there is no ${CHROMIUM}`)
    const { page, problems } = await tab()
    await open(page, 'index.html')
    await page.click('#tsd-search-trigger')
    await page.fill('#tsd-search-input', word!)
    const found = page.locator(`#tsd-search-results a[href$="${target}"]`).first()
    await found.click({ timeout: 10_000 })
    await page.waitForURL(`**/${target}`)
    expect(relative(site, new URL(page.url()).pathname)).toBe(target!.split('#')[0])
    expect(problems).toEqual([])
  })

  test('the menu of a phone opens, and leads to a page', async (ctx) => {
    need(ctx, browser !== undefined, `there is no ${CHROMIUM}`)
    const { page, problems } = await tab()
    await page.setViewportSize({ width: 390, height: 844 })
    await open(page, 'index.html')
    await page.click('#tsd-toolbar-menu-trigger')
    await page.locator('.site-menu summary', { hasText: 'Pages' }).click()
    await page.locator('.site-menu a', { hasText: 'outcomes' }).first().click({ timeout: 10_000 })
    await page.waitForURL('**/documents/outcomes.html')
    expect(await page.textContent('h1')).toContain('What "sent" means')
    expect(problems).toEqual([])
  })

  test('a colour scheme that was chosen is kept', async (ctx) => {
    need(ctx, browser !== undefined, `there is no ${CHROMIUM}`)
    const { page } = await tab()
    await open(page, 'index.html')
    await page.locator('.tsd-theme-toggle summary, .tsd-accordion-summary', { hasText: 'Settings' }).first().click()
    await page.selectOption('#tsd-theme', 'dark')
    await open(page, 'documents/options.html')
    const { background } = await page.evaluate<Look>(LOOK)
    expect(background).toEqual([0x19, 0x1b, 0x1f])
  })
})
