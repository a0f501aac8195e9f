// Makes the calls of a file with the generated code, and prints what each of them got: one line of JSON for each line.
// clients/BEHAVIOUR.md describes both.

import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

import { type DescMethod, fromJson, type JsonValue, type Message, toJson } from "@bufbuild/protobuf";
import { type CallOptions, type Code, ConnectError, createClient } from "@connectrpc/connect";
import { compressionGzip, createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";

import { ChangelogService } from "../src/gen/changelogd/v1/changelog_pb.js";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../src/gen/google/rpc/error_details_pb.js";

interface Call {
  name: string;
  address: string;
  call: string;
  requests: JsonValue[];
  timeoutMs: number;
  gzip: boolean;
  cancelAfter?: number;
  maxMessageBytes?: number;
}

interface Answer {
  name: string;
  code: Code | 0;
  message: string;
  error: Record<string, unknown> | null;
  responses: JsonValue[];
}

/** The longest time that requests may take to leave, before responses are read. */
const UNSENT_MS = 5_000;

type Client = ReturnType<typeof createClient<typeof ChangelogService>>;
/** A call of the client, with a message or with a stream of them. Responses are one or a stream. */
type Made = (request: unknown, options: CallOptions) => Promise<Message> | AsyncIterable<Message>;

/** A client whose connection is for one call. */
function connect(call: Call): { client: Client; connection: Http2SessionManager } {
  const baseUrl = `http://${call.address}`;
  const connection = new Http2SessionManager(baseUrl, { pingIntervalMs: 10_000, pingTimeoutMs: 5_000 });
  const compression = call.gzip ? { sendCompression: compressionGzip } : {};
  const limit = call.maxMessageBytes === undefined ? {} : { readMaxBytes: call.maxMessageBytes };
  const transport = createGrpcTransport({ baseUrl, sessionManager: connection, ...compression, ...limit });
  return { client: createClient(ChangelogService, transport), connection };
}

async function answerOf(call: Call, client: Client): Promise<Answer> {
  const answer: Answer = { name: call.name, code: 0, message: "", error: null, responses: [] };
  try {
    await make(call, client, answer.responses);
  } catch (error) {
    if (!(error instanceof ConnectError)) {
      throw error;
    }
    answer.code = error.code;
    answer.message = error.rawMessage;
    answer.error = detailsOf(error);
  }
  return answer;
}

async function make(call: Call, client: Client, responses: JsonValue[]): Promise<void> {
  const methods: DescMethod[] = ChangelogService.methods;
  const method = methods.find(({ name }) => name === call.call);
  if (method === undefined) {
    throw new Error(`no call ${call.call}`);
  }
  const messages = call.requests.map((request) => fromJson(method.input, request));
  const canceller = new AbortController();
  const options = { signal: canceller.signal, timeoutMs: call.timeoutMs };
  const made = client[method.localName as keyof Client] as Made;
  const response =
    method.methodKind === "bidi_streaming" ? await sendAll(made, messages, options) : made(messages[0], options);
  if (!(Symbol.asyncIterator in response)) {
    responses.push(toJson(method.output, await response));
    return;
  }
  for await (const message of response) {
    responses.push(toJson(method.output, message));
    if (responses.length === call.cancelAfter) {
      canceller.abort();
    }
  }
}

/** Sends everything before it reads. */
async function sendAll(made: Made, messages: Message[], options: CallOptions) {
  let hasSent = () => {};
  const sent = new Promise<void>((resolve) => (hasSent = resolve));
  async function* outgoing() {
    try {
      yield* messages;
    } finally {
      hasSent();
    }
  }
  const response = made(outgoing(), options);
  // A call that has ended sends no more, and Connect does not say that before its responses are read.
  const bound = new AbortController();
  await Promise.race([sent, sleep(UNSENT_MS, undefined, { signal: bound.signal })]);
  bound.abort();
  return response;
}

function detailsOf(error: ConnectError): Record<string, unknown> | null {
  const [info] = error.findDetails(ErrorInfoSchema);
  const [request] = error.findDetails(BadRequestSchema);
  const delay = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
  return info === undefined
    ? null
    : {
        domain: info.domain,
        reason: info.reason,
        field: request?.fieldViolations[0]?.field ?? "",
        retryMs: delay === undefined ? null : Number(delay.seconds) * 1_000 + delay.nanos / 1_000_000,
        metadata: info.metadata,
      };
}

// A server sees that a call was cancelled, and not that its connection was closed: all stay open up to the end.
const connections: Http2SessionManager[] = [];
for await (const line of createInterface({ input: createReadStream(process.argv[2]!) })) {
  const call = JSON.parse(line) as Call;
  const { client, connection } = connect(call);
  connections.push(connection);
  process.stdout.write(`${JSON.stringify(await answerOf(call, client))}\n`);
}
for (const connection of connections) {
  connection.abort();
}
