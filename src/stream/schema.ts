/** Schemas that several options share. */
import * as v from 'valibot'
import { oneOf } from '../checks.js'

export const whole = (low: number, high: number, unit: string) => {
  const message = `must be a whole number from ${low} to ${high} (${unit})`
  return v.pipe(
    v.number(message),
    v.check((n) => Number.isInteger(n) && n >= low && n <= high, message),
  )
}

export const choice = <const T extends readonly string[]>(names: T) => v.picklist(names, `must be ${oneOf(names)}`)
