// One connection to a server: how it is made, and how calls on it wait, repeat and end.

import { once, setMaxListeners } from "node:events";
import type { ClientSessionOptions } from "node:http2";
import { connect, type NetConnectOpts, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

import { Code as ConnectCode, ConnectError, createClient } from "@connectrpc/connect";
import type { Client as ConnectClient, Interceptor } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";

import { ChangelogError, errorOfCall } from "./errors.js";
import { ChangelogService, Code } from "./gen/changelogd/v1/changelog_pb.js";

export interface CallOptions {
  /** Cancels the call, which then throws the signal's reason. */
  signal?: AbortSignal;
  /** The deadline, from now. More than 2,147,483,647 ms (24 days) mean that. */
  timeoutMs?: number;
}

export type Api = ConnectClient<typeof ChangelogService>;

const MAX_ATTEMPTS = 5;
// Pauses, without their random part.
const MIN_BACKOFF_MS = 100;
const MAX_BACKOFF_MS = 1_600;
// The longest wait that the server can ask for.
const MAX_RETRY_AFTER_MS = 60_000;
const CONNECT_TIMEOUT_MS = 5_000;
// About 25 days. Node ends a longer timer at once.
const MAX_TIMER_MS = 2 ** 31 - 1;

/** Opens no connection before the first call. */
export class Connection {
  readonly api: Api;
  readonly #session: Http2SessionManager;
  #isClosed = false;

  /** Throws if the address is not `host:port` or `unix:/path`. */
  constructor(address: string) {
    const { baseUrl, target } = targetOf(address);
    // A ping finds a connection that is dead but not closed.
    const pings = { pingIntervalMs: 30_000, pingTimeoutMs: 10_000 };
    const http2: ClientSessionOptions = {
      // Node counts what a broken stream did not send forever, and then refuses all calls of the connection. What is
      // sent is bounded by the calls, and what is received by the windows of HTTP/2.
      maxSessionMemory: Number.MAX_SAFE_INTEGER,
      createConnection: () => open(target),
    };
    this.#session = new Http2SessionManager(baseUrl, pings, http2);
    const transport = createGrpcTransport({
      baseUrl,
      sessionManager: this.#session,
      interceptors: [this.#waitForReady],
      // A sidecar is near. Compression would cost more time than it saves.
      acceptCompression: [],
    });
    this.api = createClient(ChangelogService, transport);
  }

  /** False while calls wait for the server. */
  get isConnected(): boolean {
    return !["closed", "connecting", "error"].includes(this.#session.state());
  }

  close(): void {
    this.#isClosed = true;
    this.#session.abort(closed());
  }

  // A call waits for its server, and is not sent before. Its deadline and its caller end the wait.
  readonly #waitForReady: Interceptor = (next) => async (request) => {
    const { signal } = request;
    const ended = once(signal, "abort");
    let failure: unknown;
    for (let failures = 0; !signal.aborted; failures++) {
      if (this.#isClosed) {
        throw closed();
      }
      const state = await Promise.race([this.#session.connect(), ended]);
      if (signal.aborted) {
        break;
      }
      if (state !== "error") {
        return next(request);
      }
      failure = this.#session.error() ?? failure;
      await sleep(backoffMs(failures, MAX_BACKOFF_MS), undefined, { signal }).catch(() => {});
    }
    // A deadline alone does not say what is wrong with the server.
    if (signal.reason instanceof ConnectError) {
      signal.reason.cause ??= failure;
    }
    throw signal.reason;
  };
}

/** Where the server is, and the URL that Connect needs. */
function targetOf(address: string): { baseUrl: string; target: NetConnectOpts } {
  const path = /^unix:(?:\/\/)?(.+)$/.exec(address)?.[1];
  if (path !== undefined) {
    // HTTP/2 allows no path as the name of a server.
    return { baseUrl: "http://localhost", target: { path } };
  }
  const baseUrl = `http://${address}`;
  // A URL can have parts that would be left out without a word.
  if (!/^[^\s/\\?#@]+:\d+$/.test(address) || !URL.canParse(baseUrl)) {
    const message = `${JSON.stringify(address)} is not host:port or unix:/path`;
    throw new ChangelogError({ code: Code.INVALID_ARGUMENT, message });
  }
  const { hostname, port } = new URL(baseUrl);
  // A URL has brackets around an IPv6 address, and leaves out its default port.
  return { baseUrl, target: { host: hostname.replace(/^\[|\]$/g, ""), port: Number(port || 80) } };
}

/** Node alone would wait for two minutes for a server that does not answer. */
function open(target: NetConnectOpts): Socket {
  const socket = connect(target);
  const late = Object.assign(new Error(`no connection within ${CONNECT_TIMEOUT_MS} ms`), { code: "ETIMEDOUT" });
  const timer = setTimeout(() => socket.destroy(late), CONNECT_TIMEOUT_MS);
  socket.once("connect", () => clearTimeout(timer));
  socket.once("close", () => clearTimeout(timer));
  return socket;
}

function closed(): ConnectError {
  return new ConnectError("the client is closed", ConnectCode.FailedPrecondition);
}

/**
 * Doubles with each failure up to maxMs, and is at least what the server asks for. Up to a quarter more is random, so
 * that clients of one server do not return at the same time.
 */
export function backoffMs(failures: number, maxMs: number, retryAfterMs = 0): number {
  const backoff = Math.min(MIN_BACKOFF_MS * 2 ** failures, maxMs);
  return Math.max(backoff, Math.min(retryAfterMs, MAX_RETRY_AFTER_MS)) * (1 + Math.random() / 4);
}

/** A timeout that Connect and Node take. For Connect 0 means no deadline. */
export function timerMs(timeoutMs: number): number {
  return Math.min(Math.max(1, Math.ceil(timeoutMs)), MAX_TIMER_MS);
}

/** Throws if the signal is aborted. Otherwise any number of calls may wait for it: Node warns of more than ten. */
export function check(signal: AbortSignal | undefined): void {
  signal?.throwIfAborted();
  if (signal !== undefined) {
    setMaxListeners(0, signal);
  }
}

/** Waits, and throws the signal's reason if it is aborted. */
export async function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => signal?.throwIfAborted());
}

/**
 * Repeats a call that is answered with UNAVAILABLE, unless its deadline comes before the next attempt.
 *
 * This is safe only if one writer owns a key. The first attempt may have been applied before its connection broke, so a
 * retry may overwrite a newer write.
 */
export async function retrying<T>(
  { signal, timeoutMs }: CallOptions & { timeoutMs: number },
  attempt: (options: CallOptions) => Promise<T>,
): Promise<T> {
  const deadline = Date.now() + Math.ceil(timeoutMs);
  check(signal);
  for (let attempts = 1; ; attempts++) {
    try {
      return await attempt({ signal, timeoutMs: timerMs(deadline - Date.now()) });
    } catch (cause) {
      signal?.throwIfAborted();
      const error = errorOfCall(cause);
      if (!(error instanceof ChangelogError && error.code === Code.UNAVAILABLE) || attempts === MAX_ATTEMPTS) {
        throw error;
      }
      const backoff = backoffMs(attempts - 1, MAX_BACKOFF_MS, error.retryAfterMs);
      if (Date.now() + backoff >= deadline) {
        throw error;
      }
      await pause(backoff, signal);
    }
  }
}

/** The messages of a stream, as the loop over them asks for them. The call ends when the loop does. */
export async function* receive<Message>(
  { signal, timeoutMs }: CallOptions,
  stream: (options: CallOptions) => AsyncIterable<Message>,
): AsyncGenerator<Message, void, undefined> {
  check(signal);
  const call = new AbortController();
  // Another reason would reset the stream with another code than CANCEL.
  const cancel = () => call.abort(new ConnectError("cancelled", ConnectCode.Canceled));
  signal?.addEventListener("abort", cancel, { once: true });
  const messages = stream({ signal: call.signal, timeoutMs: timeoutMs === undefined ? undefined : timerMs(timeoutMs) });
  try {
    for await (const message of messages) {
      signal?.throwIfAborted();
      yield message;
    }
  } catch (error) {
    signal?.throwIfAborted();
    throw errorOfCall(error);
  } finally {
    signal?.removeEventListener("abort", cancel);
    // Connect does not notice that a loop ends. It ends the call and its timer when it is asked for the next message.
    cancel();
    await drain(messages);
  }
}

/** Reads what is left of a stream that was cancelled. */
async function drain(messages: AsyncIterable<unknown>): Promise<void> {
  try {
    for await (const _ of messages);
  } catch {
    // That it was cancelled.
  }
}
