// Drives Firefox over WebDriver BiDi: started and commanded as the peer in Node is, see `commanded.js`.
import './old-node.js'
import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { obey } from './commanded.js'

/** A quiet browser that speaks to nobody by itself. */
const PREFERENCES = {
  'app.update.enabled': false,
  'browser.shell.checkDefaultBrowser': false,
  'datareporting.policy.dataSubmissionEnabled': false,
  'network.captive-portal-service.enabled': false,
  'network.connectivity-service.enabled': false,
  'services.settings.server': 'data:,#remote-settings-dummy/v1',
  'toolkit.telemetry.server': 'data:,'
}

let browser
let profile
let socket
let sent = 0
const waiting = new Map()

function command (method, params) {
  return new Promise((resolve, reject) => {
    waiting.set(++sent, { resolve, reject })
    socket.send(JSON.stringify({ id: sent, method, params }))
  })
}

async function launch (program) {
  profile = await mkdtemp(join(tmpdir(), 'cdi-firefox-'))
  const lines = Object.entries(PREFERENCES).map(([name, value]) =>
    `user_pref(${JSON.stringify(name)}, ${JSON.stringify(value)});`)
  await writeFile(join(profile, 'user.js'), lines.join('\n'))
  const args = ['--headless', '--no-remote', '--profile', profile, '--remote-debugging-port', '0', 'about:blank']
  browser = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  process.on('exit', () => browser.kill('SIGKILL'))
  for await (const line of createInterface({ input: browser.stderr })) {
    const [, address] = line.match(/WebDriver BiDi listening on (ws:\S+)/) ?? []
    if (address != null) return address
  }
  throw new Error(`${program} ended before it listened`)
}

await obey({
  /** Starts the browser; returns its name and version. */
  async start ({ program }) {
    socket = new WebSocket(`${await launch(program)}/session`)
    browser.stderr.resume()
    await new Promise((resolve, reject) => { socket.onopen = resolve; socket.onerror = reject })
    socket.onmessage = ({ data }) => {
      const { id, type, result, error, message } = JSON.parse(data)
      const { resolve, reject } = waiting.get(id) ?? {}
      waiting.delete(id)
      if (type === 'success') resolve?.(result)
      else reject?.(new Error(`${error}: ${message}`))
    }
    const { capabilities } = await command('session.new', { capabilities: {} })
    return `${capabilities.browserName} ${capabilities.browserVersion}`
  },

  /** Opens an address in a new tab; returns the tab's name. */
  async open (url) {
    const { context } = await command('browsingContext.create', { type: 'tab' })
    await command('browsingContext.navigate', { context, url, wait: 'complete' })
    return context
  },

  /** Runs a function body in a tab and waits for what it returns. */
  async run (context, body, args) {
    const { type, result, exceptionDetails } = await command('script.callFunction', {
      functionDeclaration: `async (args) => JSON.stringify(await (async (args) => { ${body} })(JSON.parse(args)) ?? null)`,
      arguments: [{ type: 'string', value: JSON.stringify(args) }],
      target: { context },
      awaitPromise: true
    })
    if (type !== 'success') throw new Error(exceptionDetails.text)
    return JSON.parse(result.value)
  },

  /** Closes a tab as a user does. */
  async close (context) {
    await command('browsingContext.close', { context })
  },

  /** Ends the browser. */
  async stop () {
    browser.kill('SIGKILL')
    await new Promise((resolve) => browser.once('exit', resolve))
    await rm(profile, { recursive: true, force: true, maxRetries: 5 })
  }
})
