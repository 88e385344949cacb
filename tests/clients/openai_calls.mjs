// Calls a server with node's `openai` package and its helpers; prints what came back as JSON.
//
//     node openai_calls.mjs MODULES URL
//
// MODULES is the folder in which npm installed it (scripts/setup_clients);
// tests/e2e/test_openai_node.py judges.

import { createRequire } from "node:module";
import { join } from "node:path";

const [modules, url] = process.argv.slice(2);
const require = createRequire(join(modules, "package.json"));
const OpenAI = require("openai");
const { zodResponseFormat, zodTextFormat } = require("openai/helpers/zod");
const { z } = require("zod");

const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
const model = "default";
const ask = (content) => [{ role: "user", content }];
const parameters = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};
const Sum = z.object({ left: z.number().int(), right: z.number().int() });

const calls = {
  async chat() {
    const answer = await client.chat.completions.create({ model, messages: ask("Hi") });
    const { message, finish_reason } = answer.choices[0];
    return [message.content, finish_reason, answer.usage.total_tokens > 0];
  },

  async stream() {
    const messages = ask("unicode");
    const options = { include_usage: true };
    let [text, usage] = ["", null];
    const stream = await client.chat.completions.create({
      model, messages, stream: true, stream_options: options,
    });
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta?.content ?? "";
      usage = chunk.usage ?? usage;
    }
    return [text, usage.completion_tokens];
  },

  async tool_run() {
    const cities = [];
    const runner = client.chat.completions.runTools({
      model,
      messages: ask("What is the weather in Paris?"),
      stream: true,
      tools: [{
        type: "function",
        function: {
          name: "get_weather",
          description: "Tells the weather.",
          parameters,
          parse: JSON.parse,
          function: ({ city }) => {
            cities.push(city);
            return "18 degrees";
          },
        },
      }],
    });
    return [cities, await runner.finalContent()].reverse();
  },

  async parse() {
    const answer = await client.chat.completions.parse({
      model, messages: ask("a sum"), response_format: zodResponseFormat(Sum, "sum"),
    });
    return answer.choices[0].message.parsed;
  },

  async responses() {
    const answer = await client.responses.create({ model, input: "Hi" });
    const again = await client.responses.retrieve(answer.id);
    return [answer.output_text, again.output_text];
  },

  async responses_tool_stream() {
    const stream = client.responses.stream({
      model,
      input: "What is the weather in Paris?",
      tools: [{ type: "function", name: "get_weather", parameters, strict: true }],
    });
    let deltas = 0;
    stream.on("response.function_call_arguments.delta", () => { deltas += 1; });
    const [call] = (await stream.finalResponse()).output.filter((o) => o.type === "function_call");
    return [call.name, JSON.parse(call.arguments), deltas > 1];
  },

  async responses_parse() {
    const answer = await client.responses.parse({
      model, input: "a sum", text: { format: zodTextFormat(Sum, "sum") },
    });
    return answer.output_parsed;
  },

  async models() {
    const ids = [];
    for await (const one of client.models.list()) ids.push(one.id);
    return ids.length > 0;
  },

  async errors() {
    const raised = [];
    try {
      await client.chat.completions.create({ model: "no-such-model", messages: ask("Hi") });
    } catch (error) {
      raised.push(error instanceof OpenAI.NotFoundError, error.code);
    }
    try {
      const stream = await client.chat.completions.create({
        model, messages: ask("fail"), stream: true,
      });
      for await (const _ of stream);
    } catch (error) {
      raised.push(error instanceof OpenAI.APIError, error.type);
    }
    return raised;
  },
};

const told = {};
for (const [name, call] of Object.entries(calls)) {
  try {
    told[name] = await call();
  } catch (error) {
    told[name] = `${error.constructor.name}: ${error.message}`;
  }
}
console.log(JSON.stringify(told));
