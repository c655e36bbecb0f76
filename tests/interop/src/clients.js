// OpenAI's and Ollama's own clients, against whatever serves their interfaces at `base`.
import './old-node.js'
import { Ollama } from 'ollama'
import OpenAI from 'openai'
import { obey } from './commanded.js'

const messages = (question) => [{ role: 'user', content: question }]

/** What a call that must fail fails with. */
async function refusal (call) {
  try {
    await call()
  } catch (error) {
    return { status: error.status ?? error.status_code, code: error.code ?? null, message: error.message }
  }
  throw new Error('it was not refused')
}

function openAi (base) {
  return new OpenAI({ baseURL: `${base}/v1`, apiKey: 'none', maxRetries: 0 })
}

await obey({
  /** The greedy answer, whole and streamed, and what is refused. */
  async openai (base, question, tokens) {
    const client = openAi(base)
    const model = (await client.models.list()).data[0].id
    const ask = { model, messages: messages(question), temperature: 0, max_tokens: tokens }
    const whole = await client.chat.completions.create(ask)
    const chunks = await client.chat.completions.create({ ...ask, stream: true, stream_options: { include_usage: true } })
    let streamed = ''
    let usage = null
    for await (const chunk of chunks) {
      streamed += chunk.choices[0]?.delta?.content ?? ''
      usage = chunk.usage ?? usage
    }
    const tools = [{ type: 'function', function: { name: 'f', parameters: { type: 'object' } } }]
    return {
      model,
      whole: whole.choices[0].message.content,
      finish: whole.choices[0].finish_reason,
      streamed,
      usage: [whole.usage, usage],
      missing: await refusal(() => client.chat.completions.create({ ...ask, model: 'absent' })),
      unsupported: await refusal(() => client.chat.completions.create({ ...ask, tools }))
    }
  },

  /** The same for Ollama, by both of its calls. */
  async ollama (base, question, tokens) {
    const client = new Ollama({ host: base })
    const model = (await client.list()).models[0].name
    const options = { temperature: 0, num_predict: tokens }
    const whole = await client.chat({ model, messages: messages(question), options })
    let streamed = ''
    for await (const part of await client.chat({ model, messages: messages(question), options, stream: true })) {
      streamed += part.message.content
    }
    const generated = await client.generate({ model, prompt: question, options })
    const { model_info: shown } = await client.show({ model })
    return {
      model,
      whole: whole.message.content,
      finish: whole.done_reason,
      streamed,
      generated: generated.response,
      tokens: whole.eval_count,
      layers: shown['llama.block_count'],
      missing: await refusal(() => client.chat({ model: 'absent', messages: messages(question) }))
    }
  },

  /** Reads the beginning of an answer and hangs up. */
  async hangUp (base, question) {
    const client = openAi(base)
    const model = (await client.models.list()).data[0].id
    const stream = await client.chat.completions.create({ model, messages: messages(question), stream: true })
    let read = 0
    for await (const chunk of stream) {
      if (chunk.choices[0]?.delta?.content) read += 1
      if (read === 3) break
    }
    return read
  }
})
