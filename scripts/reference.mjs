#!/usr/bin/env node
// npm run docs: makes the reference as a site of files that needs no network and no server, in docs/site. Warnings are errors: a public
// name without a comment, a link that leads nowhere, a type that is used and not exported.
//
//   --out FOLDER    another folder for the site; empty for none
//   --json FILE     the same as JSON, for tests
//   --draft         in spite of warnings
import { parseArgs } from 'node:util'
import { Application } from 'typedoc'
import { at, say } from './lib/process.mjs'
import { extend } from './reference/extend.mjs'
import { OPTIONS } from './reference/options.mjs'

const { values } = parseArgs({
  options: {
    out: { type: 'string', default: at('docs/site') },
    json: { type: 'string' },
    draft: { type: 'boolean', default: false },
  },
})

const app = await Application.bootstrap(OPTIONS)
extend(app)
const failed = () => app.logger.hasErrors() || app.logger.hasWarnings()
const project = await app.convert()
if (project) app.validate(project)
if (!project || (failed() && !values.draft)) process.exitCode = 1
else {
  if (values.json) await app.generateJson(project, values.json)
  if (values.out) {
    await app.generateDocs(project, values.out)
    say(`made ${values.out}/index.html`)
  }
  if (failed() && !values.draft) process.exitCode = 1
}
