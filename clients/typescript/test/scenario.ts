// Makes the calls of a file with the generated code, and prints what each of them got: one line of JSON for each line.
// clients/BEHAVIOUR.md describes both.

import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

import {
  type DescMethodStreaming,
  type DescMethodUnary,
  fromJson,
  type JsonValue,
  toJson,
} from "@bufbuild/protobuf";
import { type Code, ConnectError, type Transport } from "@connectrpc/connect";
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

/** Makes a call on a connection of its own. */
async function answerOf(call: Call): Promise<Answer> {
  const baseUrl = `http://${call.address}`;
  const sessionManager = new Http2SessionManager(baseUrl, { pingIntervalMs: 10_000, pingTimeoutMs: 5_000 });
  const compression = call.gzip ? { sendCompression: compressionGzip } : {};
  const transport = createGrpcTransport({ baseUrl, sessionManager, ...compression });
  const answer: Answer = { name: call.name, code: 0, message: "", error: null, responses: [] };
  try {
    await make(call, transport, answer.responses);
  } catch (error) {
    if (!(error instanceof ConnectError)) {
      throw error;
    }
    answer.code = error.code;
    answer.message = error.rawMessage;
    answer.error = detailsOf(error);
  } finally {
    sessionManager.abort();
  }
  return answer;
}

async function make(call: Call, transport: Transport, responses: JsonValue[]): Promise<void> {
  const { requests, timeoutMs } = call;
  const methods: (DescMethodUnary | DescMethodStreaming)[] = Object.values(ChangelogService.method);
  const method = methods.find(({ name }) => name === call.call);
  if (method === undefined) {
    throw new Error(`no call ${call.call}`);
  }
  const messages = requests.map((request) => fromJson(method.input, request));
  const canceller = new AbortController();
  if (method.methodKind === "unary") {
    const response = await transport.unary(method, canceller.signal, timeoutMs, undefined, messages[0]!);
    responses.push(toJson(method.output, response.message));
    return;
  }
  for await (const message of await sendAll(method, transport, canceller.signal, timeoutMs, messages)) {
    responses.push(toJson(method.output, message));
    if (responses.length === call.cancelAfter) {
      canceller.abort();
    }
  }
}

/** Sends everything before it reads. */
async function sendAll<Message>(
  method: DescMethodStreaming,
  transport: Transport,
  signal: AbortSignal,
  timeoutMs: number,
  messages: Message[],
) {
  let hasSent = () => {};
  const sent = new Promise<void>((resolve) => (hasSent = resolve));
  async function* outgoing() {
    try {
      yield* messages;
    } finally {
      hasSent();
    }
  }
  const response = transport.stream(method, signal, timeoutMs, undefined, outgoing() as AsyncIterable<never>);
  // A call that has ended sends no more, and Connect does not say that before its responses are read.
  const bound = new AbortController();
  await Promise.race([sent, response.then(() => sent), sleep(UNSENT_MS, undefined, { signal: bound.signal })]);
  bound.abort();
  return (await response).message;
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

for await (const line of createInterface({ input: createReadStream(process.argv[2]!) })) {
  process.stdout.write(`${JSON.stringify(await answerOf(JSON.parse(line) as Call))}\n`);
}
