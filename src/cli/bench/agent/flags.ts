/** The options of `speadcast bench agent`, as commander parses them. */
export interface AgentFlags {
  readonly listen: string
  readonly dataPort?: number
  readonly buffer?: number
  readonly memory?: number
  readonly mostSeconds: number
  readonly json?: true
}
