/**
 * Endpoint syntax, several of them with commas between: `HOST:PORT`, `udp://HOST:PORT`, `tcp://HOST:PORT`, `[IPV6]:PORT`, `[fe80::1%eth0]:PORT`, and ranges of consecutive addresses, `239.10.10.0+15:7148`
 * (sixteen endpoints) or `[ff15::1+3]:7148` (four; a zone comes last: `[ff12::1+3%eth0]:7148`). Cold.
 */
import { withArticle } from '../checks.js'
import { ensure, SpeadcastError } from '../errors.js'
import { addToAddress, type Family, formatAddress, isMulticast, isV4Mapped, parseAddress } from './address.js'
import { interfaceOfZone, localInterfaces } from './interface.js'

/** Substream indices are 16 bits wide in the packet table. */
export const MAX_ENDPOINTS = 65536

/** One endpoint as written, ranges already expanded. */
export interface EndpointSpec {
  /** Canonical form, as error messages and statistics show it. */
  readonly text: string
  /** Address literal without brackets and zone, or a name. */
  readonly host: string
  /** 4 or 16 bytes; absent for a name. */
  readonly bytes?: Uint8Array
  /** IPv6 zone: an interface's name or index. */
  readonly zone?: string
  readonly port: number
  /** As a scheme says: 'tcp://HOST:PORT'. UDP where there is none. */
  readonly transport: 'udp' | 'tcp'
}

export interface ResolvedEndpoint {
  readonly family: Family
  readonly address: string
  /** 4 or 16 bytes, network order. */
  readonly bytes: Uint8Array
  readonly port: number
  /** Interface index of an IPv6 zone; 0 when none was given. */
  readonly scopeId: number
  /** The name of that interface, by which it is found again when it has another index. */
  readonly zone?: string
  readonly multicast: boolean
  /** `239.10.10.3:7148`, `[ff15::1%eth0]:7148`, for a name `host (10.0.0.5):7148`. */
  readonly text: string
}

const EXAMPLES =
  "for example '239.10.0.1:7148', '[ff15::1]:7148', 'receiver.example:7148' or, for sixteen substreams, '239.10.10.0+15:7148'"

function fail(spec: string, why: string): never {
  throw new SpeadcastError('ERR_SPEADCAST_ENDPOINT', `endpoint '${spec}': ${why}; write HOST:PORT, ${EXAMPLES}`)
}

/**
 * @throws SpeadcastError ERR_SPEADCAST_ENDPOINT, quoting the input: malformed, port not in 1–65535, a range that leaves the address
 *   space or the multicast block it began in, no endpoint at all, more than 65,536.
 */
export function parseEndpoints(specs: readonly string[]): EndpointSpec[] {
  ensure(specs.length > 0, 'ERR_SPEADCAST_ENDPOINT', () => `no endpoint given; ${EXAMPLES}`)
  const all: EndpointSpec[] = []
  for (const [i, spec] of specs.entries()) {
    if (typeof spec !== 'string') fail(String(spec), `is ${withArticle(typeof spec)}, not a string`)
    // As nc(1) takes them.
    if (/^[\w.-]+$/.test(spec) && /^\d{1,5}$/.test(specs[i + 1] ?? ''))
      fail(spec, `host and port are one word: ${spec}:${specs[i + 1]}`)
    for (const part of spec.split(',')) {
      for (const endpoint of parsePart(part.trim())) all.push(endpoint)
      ensure(
        all.length <= MAX_ENDPOINTS,
        'ERR_SPEADCAST_ENDPOINT',
        () => `more than ${MAX_ENDPOINTS} endpoints at '${part.trim()}'`,
      )
    }
  }
  return all
}

function parsePart(spec: string): EndpointSpec[] {
  const [scheme = '', name = ''] = /^([a-z][\w+.-]*):\/\//i.exec(spec) ?? []
  const transport = name.toLowerCase() || 'udp'
  if (transport !== 'udp' && transport !== 'tcp') fail(spec, `'${name}' is not a transport of ours; there are udp:// and tcp://`)
  const [, short = '', rest] = /^(tcp|udp):\/?([^/].*:.*)$/i.exec(spec) ?? []
  if (rest !== undefined) fail(spec, `two slashes go behind the transport: ${short.toLowerCase()}://${rest}`)
  // As some write URLs.
  const place = scheme === '' ? spec : spec.slice(scheme.length).replace(/\/$/, '')
  return parseOne(spec, place).map((endpoint) => ({
    ...endpoint,
    transport,
    text: transport === 'tcp' ? `tcp://${endpoint.text}` : endpoint.text,
  }))
}

/** Whether somebody meant an IPv6 address by a text with several colons. */
const isLikeV6 = (place: string): boolean =>
  /^[\da-f:.]*(%.*)?$/i.test(place) && (place.includes('::') || place.split(':').length > 5)

/** The IPv6 address with the brackets that it lacks, and its last group outside of them where that may be the port. */
function bracketed6(place: string): string {
  const [, address = '', port] = /^(.*):(\d{1,5})$/.exec(place) ?? []
  return port !== undefined && parseAddress(address)?.length === 16 ? `[${address}]:${port}` : `[${place}]:7148`
}

/** @param spec as written, for messages @param place without its scheme */
function parseOne(spec: string, place: string): Omit<EndpointSpec, 'transport'>[] {
  const bracketed = place.match(/^\[([^[\]]*)\](.*)$/)
  const colons = place.split(':').length - 1
  if (!bracketed && /[[\]]/.test(place)) fail(spec, 'brackets go around a whole IPv6 address, and the port behind them')
  if (place === '') fail(spec, 'it is empty')
  if (!bracketed && colons > 1)
    fail(
      spec,
      isLikeV6(place)
        ? `an IPv6 address needs brackets: ${bracketed6(place)}`
        : 'more than one colon; give endpoints one by one, or with commas between',
    )
  const match = bracketed ?? place.match(/^([^:]*)(.*)$/)!
  const host = match[1]!
  const port = parsePort(spec, host, match[2]!)
  if (host === '' || host === '*')
    fail(spec, `the host is missing: 0.0.0.0:${port} receives on every address, 127.0.0.1:${port} is this machine`)
  const parts = host.match(/^([^+%]*)(?:\+([^%]*))?(?:%(.*))?$/)!
  const [, base = '', range, zone] = parts
  const bytes = parseAddress(base)
  if (bracketed && bytes?.length !== 16) fail(spec, `'${base}' is not an IPv6 address, and only those go in brackets`)
  if (!bytes) {
    if (range !== undefined) fail(spec, `a range needs an address to start from, and '${base}' is a name`)
    if (zone !== undefined) fail(spec, 'only an IPv6 address has a zone')
    // getaddrinfo would take '10.1' for 10.0.0.1 and '010.0.0.1' for 8.0.0.1.
    if (/^(0x[\da-f]*|\d+)(\.(0x[\da-f]*|\d*))*$/i.test(base))
      fail(spec, `'${base}' is not an IPv4 address (four decimal numbers, no leading zeros)`)
    if (!/^[\w](?:[\w.-]*[\w.])?$/.test(base)) fail(spec, `'${base}' is not a host name`)
    return [{ text: `${base}:${port}`, host: base, port }]
  }
  if (zone !== undefined && bytes.length === 4) fail(spec, 'an IPv4 address has no zone; choose the interface by option')
  if (zone === '') fail(spec, "the zone behind '%' is empty")
  if (isV4Mapped(bytes)) fail(spec, `is an IPv4 address written as IPv6; write ${formatAddress(bytes.subarray(12))}:${port}`)
  if (range !== undefined && !/^\d{1,5}$/.test(range))
    fail(spec, `'+${range}' is not a number of further addresses (0–${MAX_ENDPOINTS - 1})`)
  const further = range === undefined ? 0 : Number(range)
  if (further >= MAX_ENDPOINTS) fail(spec, `a range of ${further + 1} addresses is too long, the limit is ${MAX_ENDPOINTS}`)
  const last = addToAddress(bytes, further)
  if (!last) fail(spec, `the range passes the last address, ${bytes.length === 4 ? '255.255.255.255' : 'ffff:…:ffff'}`)
  if (isMulticast(last) !== isMulticast(bytes))
    fail(
      spec,
      `the range starts ${isMulticast(bytes) ? 'in' : 'out'}side and ends at ${formatAddress(last)}, ${isMulticast(last) ? 'in' : 'out'}side the multicast block`,
    )
  return Array.from({ length: further + 1 }, (_, i) => {
    const address = addToAddress(bytes, i)!
    const text = formatAddress(address)
    return {
      text: textOf(text, zone, port),
      host: text,
      bytes: address,
      ...(zone !== undefined && { zone }),
      port,
    }
  })
}

function parsePort(spec: string, host: string, rest: string): number {
  if (rest === '' && /^\d{1,5}$/.test(host)) fail(spec, `the host is missing: write 127.0.0.1:${host} for this machine`)
  if (rest === '' || rest === ':') fail(spec, `the port is missing: add one, ${spec}${rest === '' ? ':' : ''}7148`)
  const digits = rest.slice(1)
  if (/^\d{1,5}$/.test(host) && parseAddress(digits)?.length === 4) fail(spec, `the port comes last: ${digits}:${host}`)
  if (rest[0] !== ':') fail(spec, `'${rest}' is not a colon and a port`)
  if (!/^\d+$/.test(digits)) fail(spec, `'${digits}' is not a port`)
  const port = Number(digits)
  if (!(port >= 1 && port <= 65535)) fail(spec, `port ${digits} is not in 1–65535`)
  return port
}

function textOf(address: string, zone: string | undefined, port: number): string {
  return address.includes(':') ? `[${address}${zone === undefined ? '' : `%${zone}`}]:${port}` : `${address}:${port}`
}

/**
 * Looks names up and brings all endpoints to one family: `family` if given, else that of the address literals, else IPv4 if every
 * name has an IPv4 address, else IPv6. `each` says what families that mix take. A name with several addresses stands for the first the system's resolver gives.
 * @throws SpeadcastError ERR_SPEADCAST_ENDPOINT (families mixed), ERR_SPEADCAST_RESOLVE (a name), ERR_SPEADCAST_INTERFACE (a zone).
 */
export async function resolveEndpoints(
  specs: readonly EndpointSpec[],
  options: { family?: Family | undefined; each?: string } = {},
): Promise<ResolvedEndpoint[]> {
  const familyOf = (bytes: Uint8Array): Family => (bytes.length === 4 ? 4 : 6)
  const literal = specs.find(({ bytes }) => bytes)
  const literalFamily = literal && familyOf(literal.bytes!)
  const other = specs.find(({ bytes }) => bytes && familyOf(bytes) !== literalFamily)
  if (literal && other)
    throw new SpeadcastError(
      'ERR_SPEADCAST_ENDPOINT',
      `endpoints mix IPv4 and IPv6 (${literal.text} and ${other.text}); ${options.each ?? 'one stream sends from one socket, so open a stream for each family'}`,
    )
  if (literal && options.family && literalFamily !== options.family)
    throw new SpeadcastError(
      'ERR_SPEADCAST_ENDPOINT',
      `endpoint ${literal.text} is IPv${literalFamily}, but IPv${options.family} was asked for`,
    )

  const names = [...new Set(specs.filter(({ bytes }) => !bytes).map(({ host }) => host))]
  const found = new Map(await Promise.all(names.map(async (name) => [name, await lookupName(name)] as const)))
  const everyHas = (family: Family) => [...found.values()].every((list) => list.some((bytes) => familyOf(bytes) === family))
  const family = options.family ?? literalFamily ?? (everyHas(4) ? 4 : everyHas(6) ? 6 : 4)

  return specs.map(({ text, host, bytes: own, zone, port, transport }) => {
    const bytes = own ?? found.get(host)!.find((candidate) => familyOf(candidate) === family)
    ensure(bytes, 'ERR_SPEADCAST_RESOLVE', () => {
      const has = found.get(host)!.map(formatAddress).join(', ')
      return `'${host}' has no IPv${family} address (it has ${has}); ${literal ? `${literal.text} makes the stream IPv${family}` : `all endpoints must share a family`}`
    })
    const address = formatAddress(bytes)
    const scope = zone === undefined ? undefined : interfaceOfZone(zone)
    return {
      family,
      address,
      bytes,
      port,
      scopeId: scope?.index ?? 0,
      ...(scope && { zone: scope.name }),
      multicast: isMulticast(bytes),
      text: own ? text : `${transport === 'tcp' ? 'tcp://' : ''}${host} (${address}):${port}`,
    }
  })
}

/** The error for an address that means nothing without an interface, which nobody named. */
export const needsInterface = ({ text, address, port }: ResolvedEndpoint): SpeadcastError =>
  new SpeadcastError(
    'ERR_SPEADCAST_INTERFACE',
    `${text} is link-local, it needs an interface: give one as option, or as zone, such as [${address}%eth0]:${port}`,
  )

async function lookupName(name: string): Promise<Uint8Array[]> {
  try {
    // At first use: most endpoints are addresses, and it takes as long to load as all of ours.
    const { lookup } = await import('node:dns/promises')
    // verbatim: the order the system's resolver chose (RFC 6724).
    const answers = await lookup(name, { all: true, verbatim: true })
    return answers.map(({ address }) => parseAddress(address.replace(/%.*/, ''))!).filter((bytes) => bytes && !isV4Mapped(bytes))
  } catch (cause) {
    ensure(
      !localInterfaces().some((local) => local.name === name),
      'ERR_SPEADCAST_ENDPOINT',
      () => `'${name}' is an interface of this machine, not a host; give an address, and set option 'interface' to ${name}`,
    )
    throw new SpeadcastError(
      'ERR_SPEADCAST_RESOLVE',
      `'${name}' did not resolve (${(cause as NodeJS.ErrnoException).code}); check the name, or give an address`,
      { cause },
    )
  }
}
