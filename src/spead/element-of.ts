import type { DtypeText, NumericView, ScalarOf, StructuredText } from './dtype-text.js'
import type { StructView } from './struct-view.js'

/** View and bytes of one element of a dtype. */
export type ElementOf<D> = DtypeText extends D
  ? [NumericView, number]
  : D extends StructuredText
    ? [StructView<D>, number]
    : ScalarOf<D>
