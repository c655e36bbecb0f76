// The test protocols, the same ones that the Rust page and the native node serve:
// echo: every byte comes back, and the end does. sink: 8 bytes say how many follow; one byte confirms them.
// both: like sink, but both ends send as many, and the dialler's are confirmed.
const ECHO = '/cdi-test/1/echo'
const SINK = '/cdi-test/1/sink'
const BOTH = '/cdi-test/1/both'
/** Bytes of one `send`: js-libp2p splits them into the transport's frames itself. */
const CHUNK = 64 * 1024
const OVER_ANYTHING = { runOnLimitedConnection: true, maxInboundStreams: 64, maxOutboundStreams: 64 }

/** Serves all three. */
export function serve (node) {
  const guarded = (task) => async (stream) => {
    try {
      await task(stream)
    } catch (error) {
      stream.abort(error)
    }
  }
  node.handle(ECHO, guarded(async (stream) => {
    for await (const chunk of stream) {
      if (!stream.send(chunk)) await stream.onDrain()
    }
    await stream.close()
  }), OVER_ANYTHING)
  node.handle(SINK, guarded(async (stream) => {
    const read = reader(stream)
    await read.skip(await announced(read))
    stream.send(new Uint8Array(1))
    await stream.close()
  }), OVER_ANYTHING)
  node.handle(BOTH, guarded(async (stream) => {
    const read = reader(stream)
    const bytes = await announced(read)
    await Promise.all([fill(stream, bytes), read.skip(bytes)])
    stream.send(new Uint8Array(1))
    await stream.close()
  }), OVER_ANYTHING)
}

export async function echo (connection, bytes, options) {
  const begin = performance.now()
  const stream = await connection.newStream(ECHO, { ...OVER_ANYTHING, ...options })
  const sent = new Uint8Array(bytes).map((_, index) => index * 7 % 251)
  const write = async () => {
    for (let at = 0; at < bytes; at += CHUNK) {
      if (!stream.send(sent.subarray(at, at + CHUNK))) await stream.onDrain(options)
    }
    // Rejects when the other end does not confirm (FIN_ACK).
    await stream.close(options)
  }
  const read = async () => {
    let at = 0
    for await (const chunk of stream) {
      for (const byte of chunk.subarray()) {
        if (byte !== sent[at++]) throw new Error(`byte ${at - 1} is wrong`)
      }
    }
    if (at !== bytes) throw new Error(`${at} of ${bytes} bytes came back`)
  }
  await Promise.all([write(), read()])
  return performance.now() - begin
}

export async function measureEcho (connection, bytes, rounds) {
  const stream = await connection.newStream(ECHO, OVER_ANYTHING)
  const read = reader(stream)
  const message = new Uint8Array(bytes)
  const times = []
  for (let round = 0; round < rounds; round++) {
    const begin = performance.now()
    if (!stream.send(message)) await stream.onDrain()
    await read.skip(bytes)
    times.push(performance.now() - begin)
  }
  over(stream)
  return times.sort((a, b) => a - b)
}

export async function measureSend (connection, bytes) {
  const stream = await connection.newStream(SINK, OVER_ANYTHING)
  const read = reader(stream)
  const begin = performance.now()
  announce(stream, bytes)
  await fill(stream, bytes)
  await read.skip(1)
  const ms = performance.now() - begin
  over(stream)
  return ms
}

export async function measureBoth (connection, bytes) {
  const stream = await connection.newStream(BOTH, OVER_ANYTHING)
  const read = reader(stream)
  const begin = performance.now()
  announce(stream, bytes)
  await Promise.all([fill(stream, bytes), read.skip(bytes + 1)])
  const ms = performance.now() - begin
  over(stream)
  return ms
}

/** What was to be measured has been. On a busy machine js-libp2p gives some closes up. */
function over (stream) {
  stream.close().catch((error) => stream.abort(error))
}

function announce (stream, bytes) {
  const header = new DataView(new ArrayBuffer(8))
  header.setBigUint64(0, BigInt(bytes))
  stream.send(new Uint8Array(header.buffer))
}

async function announced (read) {
  const header = await read.take(8)
  return Number(new DataView(header.buffer).getBigUint64(0))
}

async function fill (stream, bytes) {
  const chunk = new Uint8Array(CHUNK)
  for (let left = bytes; left > 0; left -= CHUNK) {
    if (!stream.send(chunk.subarray(0, Math.min(left, CHUNK)))) await stream.onDrain()
  }
}

/** Reads exact numbers of bytes, as they arrive: an iterator over a stream that falls behind makes it break. */
function reader (stream) {
  const chunks = []
  let ended = false
  let wake = () => {}
  stream.addEventListener('message', ({ data }) => {
    chunks.push(data.subarray())
    wake()
  })
  stream.addEventListener('close', ({ error }) => {
    ended = error ?? new Error('the stream ended too early')
    wake()
  })
  /** Hands the next bytes to `use`, at most `bytes`, until there were that many. */
  const read = async (bytes, use) => {
    while (bytes > 0) {
      const [chunk] = chunks
      if (chunk == null) {
        if (ended) throw ended
        await new Promise((resolve) => { wake = resolve })
        continue
      }
      const part = chunk.subarray(0, bytes)
      use(part)
      bytes -= part.length
      if (part.length === chunk.length) chunks.shift()
      else chunks[0] = chunk.subarray(part.length)
    }
  }
  return {
    skip: (bytes) => read(bytes, () => {}),
    async take (bytes) {
      const taken = new Uint8Array(bytes)
      let at = 0
      await read(bytes, (part) => {
        taken.set(part, at)
        at += part.length
      })
      return taken
    }
  }
}
