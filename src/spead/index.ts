export { BigEndianBigIntView, BigEndianView, type WireView } from './big-endian.js'
export { Descriptor, type ItemOptions } from './descriptor.js'
export {
  alignmentOf,
  componentBytes,
  type Dtype,
  type DtypeField,
  type DtypeKind,
  isNaturalView,
  itemView,
  naturalKind,
  type ViewClass,
  viewClassOf,
  viewKind,
} from './dtype.js'
export type { DtypeText, NumericView } from './dtype-text.js'
export { BUG_COMPAT, DEFAULT_FLAVOUR, type Flavour, makeFlavour } from './flavour.js'
export { Heap, type HeapEntry, type PacketOptions, packetsOf, planOf, type RawItem } from './heap.js'
export { Item, type ItemInit, type ItemSource } from './item.js'
export { type HeapSelection, ItemGroup, type ItemGroupConstructor, type ItemGroupOptions } from './item-group.js'
export type { EntryOf, FormatField, Immediate, NameIn, Shape, Uncertain, WithItem } from './item-types.js'
export { type ExactPointer, type ExactSplit, type PacketPlan, type PlanItem, planPackets, type Split } from './plan.js'
export { FieldView, StructView } from './struct-view.js'
export { parseDtype } from './structured.js'
export { encodeValue, type ItemValue } from './value.js'
