// Node 18 and 20, which are still in wide use, lack some of the globals that js-libp2p needs.
import { webcrypto } from 'node:crypto'
import { WebSocket } from 'ws'

globalThis.WebSocket ??= WebSocket
globalThis.crypto ??= webcrypto
globalThis.CustomEvent ??= class extends Event {
  constructor (type, { detail = null, ...options } = {}) {
    super(type, options)
    this.detail = detail
  }
}
Promise.withResolvers ??= function () {
  const made = {}
  made.promise = new this((resolve, reject) => Object.assign(made, { resolve, reject }))
  return made
}
