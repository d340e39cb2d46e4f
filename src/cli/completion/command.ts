/** `speadcast completion` prints what makes a shell complete its command line. */
import { Argument, Command } from 'commander'
import { complain } from '../common/exit.js'
import { footer } from '../common/help.js'
import { printJson } from '../common/print.js'
import { explainedCodes } from '../explain.js'
import { bashScript } from './bash.js'
import { fishScript } from './fish.js'
import { modelOf } from './model.js'
import { zshScript } from './zsh.js'

const SCRIPTS = { bash: bashScript, zsh: zshScript, fish: fishScript }

/** @param wholeProgram makes the program with all its commands, whose options are completed */
export function completionCommand(wholeProgram: () => Promise<Command>): Command {
  return new Command('completion')
    .description('print a script with which bash, zsh or fish completes commands, options and their values')
    .addArgument(new Argument('<SHELL>', 'the shell that reads the script').choices(Object.keys(SCRIPTS)))
    .option('--json', 'one JSON object on standard output, everything else on standard error')
    .addHelpText(
      'after',
      footer(`
The script is the same until speadcast is updated, and starts no Node.js when you press TAB. It completes names of interfaces and RDMA
devices as they are then.

Exit status: 0 the script was printed; 1 it cannot be made; 2 bad usage.

JSON: shell, script.

Examples:
  source <(speadcast completion bash) # in ~/.bashrc
  source <(speadcast completion zsh)  # in ~/.zshrc, behind compinit
  speadcast completion fish > ~/.config/fish/completions/speadcast.fish`),
    )
    .action(async (shell: keyof typeof SCRIPTS, { json }: { readonly json?: true }) => {
      try {
        const script = SCRIPTS[shell](modelOf(await wholeProgram(), explainedCodes()))
        if (json) printJson({ shell, script })
        else process.stdout.write(script)
      } catch (error) {
        complain('completion', error)
      }
    })
}
