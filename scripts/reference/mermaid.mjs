// A Mermaid flowchart as text. The site has no network and no 3 MB of renderer for one diagram; GitHub draws it from the same block.

/** `id["label"]`, and the same in the brackets of other shapes. */
const NODE = /^(\w+)[[({]+"(.*)"[\])}]+$/
const SUBGRAPH = /^subgraph \w+\["(.*)"\]$/
const ARROW = /\s+(?:--\s+"([^"]*)"\s+-->|-\.\s+"([^"]*)"\s+\.->|-->|-\.->)\s+/

/** Returns the text of a block of Mermaid: its nodes, those of a subgraph below its title, then its arrows, each with what it carries. */
export function flowchartAsText(block) {
  const names = new Map()
  const nodes = []
  const arrows = []
  let indent = ''
  for (const line of block.split('\n').map((text) => text.trim())) {
    const [, title] = line.match(SUBGRAPH) ?? []
    const [, id, label = ''] = line.match(NODE) ?? []
    if (title) {
      nodes.push(`${title}:`)
      indent = '  '
    } else if (line === 'end') indent = ''
    else if (id) {
      const lines = label.split('<br/>')
      names.set(id, lines[0].split(':')[0])
      nodes.push(indent + lines.join(`\n${indent}    `))
    } else if (ARROW.test(line)) arrows.push(...arrowsOf(line.split(ARROW)))
  }
  return [
    ...nodes,
    '',
    ...arrows.map(({ from, to, label }) => `${names.get(from)} → ${names.get(to)}${label && `: ${label}`}`),
  ].join('\n')
}

/** @param parts of a chain of arrows: a node, the label of either kind of arrow, a node, … */
function arrowsOf(parts) {
  const arrows = []
  for (let i = 0; i + 3 < parts.length; i += 3)
    arrows.push({ from: parts[i], to: parts[i + 3], label: (parts[i + 1] ?? parts[i + 2] ?? '').replaceAll('<br/>', ' ') })
  return arrows
}
