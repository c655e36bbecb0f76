// The yardstick: a bare `RTCDataChannel` between two pages of one origin, which signal over a BroadcastChannel.
// No libp2p, no framing; a message is what is sent.
const MESSAGE = 16 * 1024
const WINDOW = 256 * 1024
let channel
let receive = () => {}

function connection (role, signals, opened) {
  const pc = new RTCPeerConnection()
  pc.onicecandidate = ({ candidate }) => candidate && signals.postMessage({ role, candidate: candidate.toJSON() })
  signals.onmessage = async ({ data }) => {
    if (data.role === role) return
    if (data.candidate != null) return pc.addIceCandidate(data.candidate)
    await pc.setRemoteDescription(data.description)
    if (data.description.type === 'offer') {
      await pc.setLocalDescription()
      signals.postMessage({ role, description: pc.localDescription.toJSON() })
    }
  }
  const use = (made) => {
    channel = made
    channel.binaryType = 'arraybuffer'
    channel.bufferedAmountLowThreshold = WINDOW / 2
    channel.onmessage = ({ data }) => receive(data)
    channel.onopen = opened
  }
  pc.ondatachannel = (event) => use(event.channel)
  return { pc, use }
}

const drained = () => new Promise((resolve) => { channel.onbufferedamountlow = resolve })

async function fill (bytes, message) {
  const chunk = new Uint8Array(message)
  for (let left = bytes; left > 0; left -= message) {
    channel.send(left < message ? chunk.subarray(0, left) : chunk)
    if (channel.bufferedAmount >= WINDOW) await drained()
  }
}

/** Resolves when that many bytes have arrived. */
const arrived = (bytes) => new Promise((resolve) => {
  receive = (data) => {
    bytes -= data.byteLength
    if (bytes <= 0) resolve()
  }
})

globalThis.peer = {
  /** Waits for the other page. A text message `[what, bytes, message]` says what it wants. */
  listen () {
    connection('listener', new BroadcastChannel('raw'), () => {})
    const idle = async (data) => {
      if (typeof data !== 'string') return channel.send(data)
      const [what, bytes, message] = JSON.parse(data)
      const all = arrived(bytes)
      if (what === 'both') await fill(bytes, message)
      await all
      receive = idle
      channel.send('done')
    }
    receive = idle
  },

  /** Connects; returns the milliseconds that it took. */
  async dial () {
    const signals = new BroadcastChannel('raw')
    const begin = performance.now()
    await new Promise((resolve) => {
      const { pc, use } = connection('dialler', signals, resolve)
      use(pc.createDataChannel('raw'))
      pc.setLocalDescription().then(() => {
        signals.postMessage({ role: 'dialler', description: pc.localDescription.toJSON() })
      })
    })
    return performance.now() - begin
  },

  async measureEcho (bytes, rounds) {
    const message = new Uint8Array(bytes)
    const times = []
    for (let round = 0; round < rounds; round++) {
      const begin = performance.now()
      const back = arrived(bytes)
      channel.send(message)
      await back
      times.push(performance.now() - begin)
    }
    return times.sort((a, b) => a - b)
  },

  measureSend: (bytes, message = MESSAGE) => measure('send', bytes, message, 0),
  measureBoth: (bytes, message = MESSAGE) => measure('both', bytes, message, bytes)
}

async function measure (what, bytes, message, expected) {
  const begin = performance.now()
  const done = new Promise((resolve) => {
    let left = expected
    let confirmed = false
    receive = (data) => {
      if (typeof data === 'string') confirmed = true
      else left -= data.byteLength
      if (confirmed && left <= 0) resolve()
    }
  })
  channel.send(JSON.stringify([what, bytes, message]))
  await fill(bytes, message)
  await done
  return performance.now() - begin
}
