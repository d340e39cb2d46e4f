// Runs of whole numbers, kept by a word for each run: what becomes of the heaps of an hour takes some kilobytes.

/** Joins neighbours with the same word, and gives each run to `emit` when it is over. */
export class Runs {
  #open

  constructor(emit) {
    this.emit = emit
  }

  /** Numbers from … to − 1 have this word. */
  add(from, to, word) {
    const open = this.#open
    if (open && open.word === word && open.to === from) {
      open.to = to
      return
    }
    this.flush()
    this.#open = { from, to, word }
  }

  flush() {
    if (this.#open) this.emit(this.#open)
    this.#open = undefined
  }
}

/** The numbers of runs as words of a list, '' where there is none; a number that comes again has the word 'twice'. Pure. */
export function spread(runs, length) {
  const words = new Array(length).fill('')
  for (const { from, to, word } of runs) for (let n = from; n < to && n < length; n++) words[n] = words[n] === '' ? word : 'twice'
  return words
}
