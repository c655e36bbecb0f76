// A program that takes commands: a line of standard input is one, `{"call": name, "args": [...]}`, and is answered by a
// line, `{"ok": value}` or `{"error": text}`.
import { createInterface } from 'node:readline'

/** Runs the commands that come, one after the other, until there are no more. */
export async function obey (commands) {
  for await (const line of createInterface({ input: process.stdin })) {
    const { call, args } = JSON.parse(line)
    let answer
    try {
      answer = { ok: await commands[call](...args) ?? null }
    } catch (error) {
      answer = { error: error.stack ?? String(error) }
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`)
  }
  process.exit(0)
}
