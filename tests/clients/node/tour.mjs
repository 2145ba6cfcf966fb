// A tour through the network with the official Node client: node tour.mjs ENDPOINT MODEL
import assert from "node:assert/strict";
import OpenAI from "openai";

const [baseURL, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0, timeout: 120_000 });
const messages = [{ role: "user", content: "Say hello." }];
const parameters = {
  type: "object",
  properties: { place: { type: "string", maxLength: 6 } },
  required: ["place"],
  additionalProperties: false,
};
const ask = (members) =>
  client.chat.completions.create({ model, messages, max_tokens: 16, ...members });

async function whole() {
  const answer = await ask({ temperature: 0 });
  assert.equal(typeof answer.choices[0].message.content, "string");
  assert.ok(answer.usage.completion_tokens > 0 && answer.usage.completion_tokens <= 16);
  return answer;
}

async function streamed(wanted) {
  const stream = await ask({
    temperature: 0,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = "";
  let usage;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, wanted.choices[0].message.content);
  assert.equal(usage.completion_tokens, wanted.usage.completion_tokens);
}

async function forced() {
  const json = await ask({
    max_tokens: 300,
    response_format: {
      type: "json_schema",
      json_schema: { name: "place", strict: true, schema: parameters },
    },
  });
  assert.equal(typeof JSON.parse(json.choices[0].message.content).place, "string");
  const call = await ask({
    max_tokens: 300,
    tools: [{ type: "function", function: { name: "look_up", parameters } }],
    tool_choice: { type: "function", function: { name: "look_up" } },
  });
  const { name, arguments: text } = call.choices[0].message.tool_calls[0].function;
  assert.equal(name, "look_up");
  assert.equal(typeof JSON.parse(text).place, "string");
}

async function refused() {
  const models = await client.models.list();
  assert.ok(models.data.some((entry) => entry.id === model));
  await assert.rejects(
    client.chat.completions.create({ model: "no-such-model", messages }),
    (fault) => fault.status === 404 && fault.code === "model_not_found",
  );
}

await streamed(await whole());
await forced();
await refused();
const embedding = await client.embeddings.create({ model, input: "one" });
assert.ok(embedding.data[0].embedding.length > 8);
console.log("whole, streamed, schema, tool, models, 404, embeddings");
