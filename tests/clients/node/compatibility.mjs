// The official Node client of OpenAI, and Vercel's AI SDK: node compatibility.mjs URL MODEL WHICH
// Prints a JSON object for each case.
import assert from "node:assert/strict";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, streamText, tool, embed } from "ai";
import OpenAI, { toFile } from "openai";
import { z } from "zod";

globalThis.AI_SDK_LOG_WARNINGS = false;
const [baseURL, model, which] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0, timeout: 60_000 });
const messages = [{ role: "user", content: "Say hello." }];
const parameters = {
  type: "object",
  properties: { city: { type: "string", maxLength: 10 }, days: { type: "integer", minimum: 1, maximum: 9 } },
  required: ["city", "days"],
  additionalProperties: false,
};
const look = { type: "function", function: { name: "look_up", parameters } };
const named = { type: "function", function: { name: "look_up" } };
const ask = (members) =>
  client.chat.completions.create({ model, messages, max_tokens: 24, seed: 7, ...members });

function fits(text) {
  const value = typeof text === "string" ? JSON.parse(text) : text;
  assert.deepEqual(Object.keys(value).sort(), ["city", "days"]);
  assert.ok(value.days >= 1 && value.days <= 9);
}

const openai = {
  "a whole answer and the same as a stream": async () => {
    const answer = await ask({ temperature: 0 });
    let text = "";
    let usage;
    const stream = await ask({ temperature: 0, stream: true, stream_options: { include_usage: true } });
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta?.content ?? "";
      usage = chunk.usage ?? usage;
    }
    assert.equal(text, answer.choices[0].message.content);
    assert.deepEqual(usage.completion_tokens, answer.usage.completion_tokens);
  },
  "the client's stream helper": async () => {
    const stream = client.chat.completions.stream({ model, messages, max_tokens: 16, seed: 7 });
    const final = await stream.finalChatCompletion();
    assert.equal(typeof final.choices[0].message.content, "string");
  },
  "tools, forced and streamed": async () => {
    const members = { tools: [look], tool_choice: named, max_tokens: 300 };
    const call = (await ask(members)).choices[0].message.tool_calls[0];
    assert.equal(call.function.name, "look_up");
    fits(call.function.arguments);
    let text = "";
    for await (const chunk of await ask({ ...members, stream: true }))
      text += chunk.choices[0]?.delta?.tool_calls?.[0]?.function?.arguments ?? "";
    assert.equal(text, call.function.arguments);
  },
  "a JSON schema": async () => {
    const json_schema = { name: "c", strict: true, schema: parameters };
    const answer = await ask({ max_tokens: 300, response_format: { type: "json_schema", json_schema } });
    fits(answer.choices[0].message.content);
  },
  "choices, stop, logprobs": async () => {
    assert.equal((await ask({ n: 2 })).choices.length, 2);
    const first = (await ask({})).choices[0].message.content;
    const stop = first.slice(first.length >> 1).slice(0, 2);
    assert.equal((await ask({ stop })).choices[0].message.content, first.split(stop)[0]);
    const scored = await ask({ logprobs: true, top_logprobs: 2, max_tokens: 3 });
    assert.equal(scored.choices[0].logprobs.content[0].top_logprobs.length, 2);
  },
  "pictures": async () => {
    const url = "data:image/gif;base64,R0lGODlhAQABAAAAACw=";
    const content = [{ type: "text", text: "What?" }, { type: "image_url", image_url: { url } }];
    const answer = await ask({ messages: [{ role: "user", content }] });
    assert.match(answer.choices[0].message.content, /gif of 14 bytes/);
  },
  "responses, whole and as events": async () => {
    const members = { model, input: "Say hello.", max_output_tokens: 300 };
    const answer = await client.responses.create(members);
    assert.equal(answer.status, "completed");
    let text = "";
    for await (const event of await client.responses.create({ ...members, stream: true }))
      if (event.type === "response.output_text.delta") text += event.delta;
    assert.ok(text.length > 0 && answer.output_text.length > 0);
  },
  "embeddings, completions, models": async () => {
    const embedding = await client.embeddings.create({ model, input: ["one", "two"] });
    assert.ok(embedding.data[1].embedding.length > 8);
    const plain = await client.completions.create({ model, prompt: "One, two,", max_tokens: 4 });
    assert.equal(plain.object, "text_completion");
    const models = await client.models.list();
    assert.ok(models.data.some((entry) => entry.id === model));
    assert.equal((await client.models.retrieve(model)).id, model);
  },
  "audio": async () => {
    const sound = await client.audio.speech.create({ model, voice: "alloy", input: "Hi" });
    const file = await toFile(Buffer.from(await sound.arrayBuffer()), "a.wav");
    const heard = await client.audio.transcriptions.create({ model, file });
    assert.match(heard.text, /^I heard a wav of \d+ bytes/);
  },
  "mistakes are told": async () => {
    const unknown = client.chat.completions.create({ model: "no-such-model", messages });
    await assert.rejects(unknown, (fault) => fault.status === 404 && fault.code === "model_not_found");
    await assert.rejects(ask({ messages: [] }), (fault) => fault.status === 400);
  },
};

const provider = createOpenAICompatible({
  name: "cocoon", baseURL, apiKey: "none", supportsStructuredOutputs: true,
});
const shape = z.object({ city: z.string().max(10), days: z.number().int().min(1).max(9) });
const settings = { model: provider(model), maxRetries: 0, maxOutputTokens: 300, seed: 7 };
const ai = {
  "text, whole and streamed": async () => {
    const whole = await generateText({ ...settings, maxOutputTokens: 16, prompt: "Say hello." });
    assert.ok(whole.usage.outputTokens > 0);
    const stream = streamText({ ...settings, maxOutputTokens: 16, prompt: "Say hello." });
    let text = "";
    for await (const part of stream.textStream) text += part;
    assert.equal(text, whole.text);
  },
  "tool call": async () => {
    const tools = { look_up: tool({ description: "Looks up.", inputSchema: shape }) };
    const answer = await generateText({ ...settings, tools, toolChoice: "required", prompt: "Look Bern up." });
    assert.equal(answer.toolCalls[0].toolName, "look_up");
    fits(answer.toolCalls[0].input);
  },
  "structured answer": async () => {
    const answer = await generateObject({ ...settings, schema: shape, prompt: "Where?" });
    fits(answer.object);
  },
  "embedding": async () => {
    const answer = await embed({ model: provider.embeddingModel(model), value: "one", maxRetries: 0 });
    assert.ok(answer.embedding.length > 8);
  },
};

for (const [title, run] of Object.entries(which === "ai" ? ai : openai)) {
  const result = { case: title, outcome: "passed" };
  try {
    await run();
  } catch (fault) {
    result.outcome = "failed";
    result.why = `${fault.name}: ${fault.message} ${fault.stack?.split("\n")[1] ?? ""}`.slice(0, 600);
  }
  console.log(JSON.stringify(result));
}
