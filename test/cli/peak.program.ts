/** Loaded before a program (`--import`): writes the most KiB that were resident to standard error, at the end. */
process.on('exit', () => process.stderr.write(String(process.resourceUsage().maxRSS)))
