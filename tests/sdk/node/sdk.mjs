// The official Node client against a running turnout: one function per promise.
// Reads TURNOUT_URL (…/v1), TURNOUT_MODEL and TURNOUT_DIALECT; the vendor's script stands in tests/tests/it/sdk.rs.

import assert from "node:assert/strict";
import OpenAI from "openai";

const { TURNOUT_URL: url, TURNOUT_MODEL: model, TURNOUT_DIALECT: dialect } = process.env;
const provider = model.split("/")[0]; // whose other models fail as their names say
const pixel =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const weather = {
  type: "function",
  function: {
    name: "get_weather",
    description: "The weather in a city",
    parameters: {
      type: "object",
      properties: { city: { type: "string" }, unit: { type: "string" } },
      required: ["city"],
    },
  },
};
const city = {
  type: "json_schema",
  json_schema: {
    name: "city",
    strict: true,
    schema: {
      type: "object",
      properties: { city: { type: "string" }, population: { type: "integer" } },
      required: ["city", "population"],
      additionalProperties: false,
    },
  },
};

/** A client that notes every HTTP answer in `answers`. */
function client(answers = [], settings = {}) {
  const noted = async (...args) => {
    const answer = await fetch(...args);
    answers.push(answer);
    return answer;
  };
  return new OpenAI({ baseURL: url, apiKey: "unused", fetch: noted, timeout: 30_000, ...settings });
}

const say = (content, more = {}) => ({ model, messages: [{ role: "user", content }], ...more });

async function collect(body) {
  const chunks = [];
  for await (const chunk of await client().chat.completions.create({ ...body, stream: true })) chunks.push(chunk);
  const text = chunks.map((c) => c.choices[0]?.delta.content ?? "").join("");
  return { chunks, text };
}

/** The request fails with that class after exactly one HTTP request: nothing is worth a retry. */
async function fails(body, type, status) {
  const answers = [];
  const call = client(answers).chat.completions.create(body);
  await assert.rejects(call, (error) => {
    assert.ok(error instanceof type, `${error.constructor.name}: ${error.message}`);
    if (status) assert.equal(error.status, status);
    assert.ok(error.requestID, "no request id");
    return true;
  });
  assert.deepEqual(answers.map((a) => a.headers.get("x-should-retry")), ["false"], body.messages[0].content);
}

const scenarios = {
  async plain() {
    const answer = await client().chat.completions.create(say("greet me"));
    assert.equal(answer.choices[0].message.content, "Hello there, friend");
    assert.equal(answer.choices[0].finish_reason, "stop");
    assert.equal(answer.model, model);
    assert.ok(answer._request_id);
    assert.equal(answer.usage.prompt_tokens, 20);
    assert.equal(answer.usage.completion_tokens, 5);
    assert.equal(answer.usage.prompt_tokens_details.cached_tokens, 8);
  },

  async auto() {
    const answer = await client().chat.completions.create({ ...say("greet me"), model: "auto" });
    assert.equal(answer.choices[0].message.content, "Hello there, friend");
    assert.equal(answer.model, model);
  },

  async stream() {
    const { chunks, text } = await collect(say("greet me"));
    assert.equal(text, "Hello there, friend");
    assert.equal(chunks[0].choices[0].delta.role, "assistant");
    assert.ok(chunks.every((c) => c.usage == null), "usage nobody asked for");
  },

  async stream_usage() {
    const { chunks } = await collect(say("greet me", { stream_options: { include_usage: true } }));
    const last = chunks.at(-1);
    assert.deepEqual(last.choices, []);
    assert.equal(last.usage.prompt_tokens, 20);
    assert.equal(last.usage.completion_tokens, 5);
  },

  async tools() {
    const api = client();
    const question = { role: "user", content: "what is the weather" };
    const first = await api.chat.completions.create({ model, messages: [question], tools: [weather] });
    assert.equal(first.choices[0].finish_reason, "tool_calls");
    const [call] = first.choices[0].message.tool_calls;
    assert.deepEqual(JSON.parse(call.function.arguments), { city: "Paris", unit: "celsius" });
    const result = { role: "tool", tool_call_id: call.id, content: "sunny-17" };
    const messages = [question, first.choices[0].message, result];
    const second = await api.chat.completions.create({ model, messages, tools: [weather] });
    assert.equal(second.choices[0].message.content, "The tool said sunny-17");
  },

  async tools_stream() {
    // The SDK's own accumulator refuses deltas whose index, id or name are wrong.
    const runner = client().chat.completions.stream(say("what is the weather, twice", { tools: [weather] }));
    const answer = await runner.finalChatCompletion();
    assert.equal(answer.choices[0].finish_reason, "tool_calls");
    const calls = answer.choices[0].message.tool_calls;
    assert.deepEqual(calls.map((c) => JSON.parse(c.function.arguments).city), ["Paris", "Oslo"]);
    assert.ok(calls.every((c) => c.id && c.function.name === "get_weather"));
  },

  async schema() {
    const answer = await client().chat.completions.create(say("Paris as json", { response_format: city }));
    assert.deepEqual(JSON.parse(answer.choices[0].message.content), { city: "Paris", population: 2100000 });
  },

  async schema_stream() {
    const { text } = await collect(say("Paris as json", { response_format: city }));
    assert.deepEqual(JSON.parse(text), { city: "Paris", population: 2100000 });
  },

  async images() {
    const parts = [
      { type: "text", text: "what is in this picture" },
      { type: "image_url", image_url: { url: `data:image/png;base64,${pixel}` } },
    ];
    const answer = await client().chat.completions.create(say(parts));
    assert.equal(answer.choices[0].message.content, "I see one pixel");
  },

  async unknown_fields() {
    const extra = { x_custom: { a: [1] }, routing: { tags: { team: "blue" }, explain: true } };
    const answer = await client().chat.completions.create({ ...say("greet me, custom"), ...extra });
    assert.ok(answer.turnout, "explain adds a turnout object");
  },

  async stream_trailer() {
    const trailers = async (more) => {
      const chunks = [];
      for await (const chunk of await client().chat.completions.create(say("greet me", { stream: true, ...more })))
        chunks.push(chunk);
      assert.equal(chunks.map((c) => c.choices[0]?.delta.content ?? "").join(""), "Hello there, friend");
      return [chunks.filter((c) => c.turnout), chunks.at(-1)];
    };
    assert.deepEqual((await trailers({}))[0], []);
    const [[trailer, ...more], last] = await trailers({ routing: { explain: true } });
    assert.ok(more.length === 0 && trailer === last && trailer.choices.length === 0);
    assert.equal(trailer.turnout.outcome.status, "delivered");
  },

  async errors() {
    await fails({ ...say("greet me"), model: "nobody/nothing" }, OpenAI.NotFoundError, 404);
    await fails(say("greet me", { temperature: "hot" }), OpenAI.BadRequestError, 400);
    await fails(say("greet me", { routing: { max_cost: 1 } }), OpenAI.BadRequestError, 400);
    await fails(say("fail", { model: `${provider}/fail-400` }), OpenAI.BadRequestError, 400);
    await fails(say("fail", { model: `${provider}/fail-401` }), OpenAI.InternalServerError);
  },

  async rate_limited() {
    const answers = [];
    const call = client(answers, { maxRetries: 1 }).chat.completions.create(
      say("fail", { model: `${provider}/fail-429` }),
    );
    await assert.rejects(
      call,
      (error) =>
        error instanceof OpenAI.RateLimitError &&
        error.error.metadata.decision === error.headers.get("x-turnout-decision"),
    );
    const expected = answers[0].headers.get("x-should-retry") === "true" ? 2 : 1;
    assert.equal(answers.length, expected);
  },

  async broken_stream() {
    let got = "";
    const reading = (async () => {
      const stream = await client().chat.completions.create(say("greet me", { model: `${provider}/cut`, stream: true }));
      for await (const chunk of stream) got += chunk.choices[0]?.delta.content ?? "";
    })();
    await assert.rejects(
      reading,
      (error) => error instanceof OpenAI.APIError && error.error.metadata.decision.startsWith("req_"),
    );
    assert.ok(got, "the failure came before the first token");
  },

  async disconnect() {
    const stream = await client().chat.completions.create(say("slowly please", { stream: true }));
    for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break;
    stream.controller.abort(); // that the vendor was cancelled is checked there
  },

  async many_streams() {
    const one = async (i) => assert.equal((await collect(say(`echo ${i}`))).text, `echo number ${i}`);
    await Promise.all(Array.from({ length: 64 }, (_, i) => one(i)));
  },

  async models() {
    const names = [];
    for await (const m of client().models.list()) names.push(m.id);
    assert.ok(names.includes("auto") && names.includes(model), names.join());
    assert.equal((await client().models.retrieve("auto")).id, "auto");
  },

  async feedback() {
    const answer = await client().chat.completions.create(say("greet me"));
    await client().post("/feedback", { body: { request_id: answer._request_id, score: 1, source: "sdk" } });
  },
};

const failed = [];
for (const [name, run] of Object.entries(scenarios)) {
  try {
    await run();
    console.log("ok", name);
  } catch (error) {
    failed.push(name);
    console.log("FAILED", name, "\n", error);
  }
}
if (failed.length) console.log(`failed against ${dialect}: ${failed.join(", ")}`);
process.exit(failed.length ? 1 : 0);
