/**
 * The object that has the views of a heap, by item name. A name that it has not is a mistake of the caller's, which `undefined` would
 * hide: so its prototype is a proxy that refuses such names. The views are plain properties of the object itself, found before the
 * prototype is asked.
 */
import { shown } from '../checks.js'
import { SpeadcastError } from '../errors.js'

export interface HeapNames {
  /** The items that have views. */
  readonly views: readonly string[]
  /** The items that have columns. */
  readonly immediates: readonly string[]
}

/** Names that language, runtime and test frameworks ask of any object, to learn what it is. */
const ASKED_OF_ALL: ReadonlySet<string> = new Set([
  ...['then', 'toJSON', 'inspect', 'length', 'nodeType', 'nodeName', 'tagName', 'hasAttribute', 'isEqualNode', 'ownerDocument'],
  ...['asymmetricMatch', '$$typeof', '_isMockFunction', 'getMockName', '@@__IMMUTABLE_ITERABLE__@@', '@@__IMMUTABLE_RECORD__@@'],
  ...['@@__IMMUTABLE_KEYED__@@', '@@__IMMUTABLE_LIST__@@', '@@__IMMUTABLE_ORDERED__@@', '@@__IMMUTABLE_SET__@@'],
])

/**
 * Prototypes by the names. Batches of equal items share one, because V8 has a hidden class for each prototype, and a loop over batches
 * should see one. A program that makes up names without end would fill it, so it is emptied now and then.
 */
const prototypes = new Map<string, object>()
const MOST_PROTOTYPES = 256

function prototypeOf(names: HeapNames): object {
  const key = JSON.stringify([names.views, names.immediates])
  let prototype = prototypes.get(key)
  if (!prototype) {
    const isName = (name: string | symbol, target: object): name is string =>
      typeof name === 'string' && !ASKED_OF_ALL.has(name) && !(name in target)
    prototype = new Proxy(
      {},
      {
        get(target, name, heap) {
          if (isName(name, target)) throw noView(names, name)
          return Reflect.get(target, name, heap)
        },
        set(target, name, value, heap) {
          if (isName(name, target)) throw noView(names, name)
          return Reflect.set(target, name, value, heap)
        },
      },
    )
    if (prototypes.size >= MOST_PROTOTYPES) prototypes.clear()
    prototypes.set(key, prototype)
  }
  return prototype
}

/** Says what has the value instead of a view, or which views there are. */
export function noView({ views, immediates }: HeapNames, name: unknown): SpeadcastError {
  const why = immediates.includes(name as string)
    ? `item ${shown(name)} is an immediate, which has a column instead: immediate(${shown(name)})`
    : `the batch has no addressed item ${shown(name)}; it has ${views.map(shown).join(', ') || 'none'}`
  return new SpeadcastError('ERR_SPEADCAST_ITEM', why)
}

/** Returns a function that makes the object of a heap from its views, which are in the order of the names. */
export function heapMaker(names: HeapNames): (views: readonly unknown[]) => object {
  const prototype = prototypeOf(names)
  return (views) => {
    const heap = Object.create(prototype) as object
    // Defined and not assigned: an item may have any name, '__proto__' too. Read-only, because a store would replace the view and send nothing.
    names.views.forEach((name, i) => {
      Object.defineProperty(heap, name, { value: views[i], enumerable: true })
    })
    return heap
  }
}
