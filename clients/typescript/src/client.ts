// The calls of changelogd, with entities and keys.

import { type Api, type CallOptions, Connection, retrying } from "./connection.js";
import { encode, type Entity, type EntityType, type Key, type ValueOf } from "./entity.js";
import { ChangelogError, errorOfMessage } from "./errors.js";
import { Ack, type FlushResponse, type SetResponse } from "./gen/changelogd/v1/changelog_pb.js";
import { load, type Position, positionOf, type Selection, stream, type StreamEvent, valueOf } from "./read.js";
import { type WatchEvent, watch } from "./watch.js";
import { Writer } from "./writer.js";

export interface ClientOptions {
  /** Of calls without their own timeoutMs. Default: 30 s. */
  timeoutMs?: number;
  /** Of loads, streams, states of watches, and the close() of a writer without their own timeoutMs. Default: 5 min. */
  loadTimeoutMs?: number;
}

export interface WriteOptions extends CallOptions {
  /** True: the write is OK when it is queued, and flush() names it if it fails. Default: false. */
  buffered?: boolean;
}

/** A buffered write that failed. */
export interface WriteFailure {
  key: string;
  error: ChangelogError;
}

export interface Flushed {
  /** Writes that are still in flight. */
  remaining: bigint;
  /** Since the previous flush. */
  failures: WriteFailure[];
  /** Failures that the server no longer keeps. */
  omitted: bigint;
}

// The server keeps no more failures, and waits no longer.
const MAX_FAILURES = 10_000;
const MAX_WAIT_MS = 60_000;

/** A client of one changelogd. It has one connection, which is made by the first call. */
export class Client {
  readonly address: string;
  readonly #connection: Connection;
  readonly #timeoutMs: number;
  readonly #loadTimeoutMs: number;
  #lastFailure = 0n;

  /**
   * The address is `host:port` or `unix:/path`. Default: that of CHANGELOGD_ADDR, else 127.0.0.1:50051. An empty one
   * counts as absent. Throws INVALID_ARGUMENT if it has another form.
   */
  constructor(address?: string, { timeoutMs = 30_000, loadTimeoutMs = 300_000 }: ClientOptions = {}) {
    this.address = address || process.env.CHANGELOGD_ADDR || "127.0.0.1:50051";
    this.#connection = new Connection(this.address);
    this.#timeoutMs = timeoutMs;
    this.#loadTimeoutMs = loadTimeoutMs;
  }

  /** Ends the connection and all calls. */
  close(): void {
    this.#connection.close();
  }

  /** Stores the value of an entity. Returns where it is, or undefined if it is only queued. */
  async set(entity: Entity, options: WriteOptions = {}): Promise<Position | undefined> {
    const request = { ...target(entity.changelogKey()), value: { case: "raw" as const, value: encode(entity) } };
    const ack = ackOf(options);
    return written(await this.#call(options, (options) => this.#api.set({ ...request, ack }, options)));
  }

  /** Deletes an entity. An absent one is no error. */
  async delete(key: Key, options: WriteOptions = {}): Promise<Position | undefined> {
    const request = { ...target(key), ack: ackOf(options) };
    return written(await this.#call(options, (options) => this.#api.delete(request, options)));
  }

  /** Returns undefined if the entity is absent. On Kafka it reads a partition, so do not call it in a loop. */
  async get<T>(type: EntityType<T>, key: Key, options: CallOptions = {}): Promise<T | undefined> {
    try {
      const { entry } = await this.#call(options, (options) => this.#api.get(target(key), options));
      return entry && valueOf(entry, key, [type]);
    } catch (error) {
      if (error instanceof ChangelogError && error.reason === "KEY_NOT_FOUND") {
        return undefined;
      }
      throw error;
    }
  }

  /** Returns all entities of a workspace and a type by their ID, or throws. */
  async load<T>(workspace: string, type: EntityType<T>, options: CallOptions = {}): Promise<Map<string, T>> {
    const entries = await retrying(this.#loadOptions(options), (options) =>
      load(this.#api, workspace, [type], options),
    );
    return new Map(entries.map(({ key, value }) => [key.id, value]));
  }

  /**
   * Delivers the records that are in the log, deletes too, and a snapshot for each partition. Throws at the end if a
   * partition is not complete. For several workspaces it asks the server for the partition of each. Without types a
   * value is its bytes.
   */
  stream<const Types extends readonly EntityType<unknown>[] = readonly []>(
    selection: Selection<Types>,
    options: CallOptions = {},
  ): AsyncGenerator<StreamEvent<ValueOf<Types>>, void, undefined> {
    const typed = selection as Selection<readonly EntityType<ValueOf<Types>>[]>;
    return stream(this.#api, typed, this.#loadOptions(options));
  }

  /**
   * Delivers the state of a workspace, and then each change in order, until the signal ends it. Without types a value
   * is its bytes.
   *
   * It tries again after UNAVAILABLE, a stream that broke or was reset, RESOURCE_EXHAUSTED and DEADLINE of the server,
   * and a state that did not come within loadTimeoutMs. It waits about 0.1 s to 5 s before, and at least the error's
   * retryAfterMs, up to 60 s. The state comes again after RESYNC_REQUIRED, LOG_MOVED and LOG_TRUNCATED. It ends with
   * any other error.
   *
   * Of these failures only UNAVAILABLE may last. Others that follow each other for longer than loadTimeoutMs end it
   * with the last of them, unless the state comes in between, or all that was missed.
   *
   * A change comes once, unless the log has lost records, as in an unclean election. If it has lost a delivered change,
   * the entity's older value comes again, or the state. After more than 10,000 entities since the newest token, which
   * comes at least every 10 s, a broken stream means that the state comes again too.
   */
  watch<const Types extends readonly EntityType<unknown>[]>(
    workspace: string,
    types: Types,
    { signal }: { signal?: AbortSignal } = {},
  ): AsyncGenerator<WatchEvent<ValueOf<Types>>, void, undefined> {
    const typed = types as readonly EntityType<ValueOf<Types>>[];
    const isConnected = () => this.#connection.isConnected;
    return watch(this.#api, workspace, typed, { ...this.#loadOptions({ signal }), isConnected });
  }

  /**
   * Waits for the writes that the server accepted before, for at most waitMs (up to 60 s). Returns the buffered ones
   * that failed since the previous flush of this client. Flushes at the same time return each failure once. If it
   * throws, the next flush returns these failures. The default timeoutMs is that of calls, plus waitMs.
   */
  async flush(waitMs = 5_000, options: CallOptions = {}): Promise<Flushed> {
    const deadline = Date.now() + (options.timeoutMs ?? waitMs + this.#timeoutMs);
    const ask = (failuresAfter: bigint) => {
      const request = { timeoutMs: Math.min(Math.max(1, Math.ceil(waitMs)), MAX_WAIT_MS), failuresAfter };
      const timeoutMs = deadline - Date.now();
      return this.#call({ ...options, timeoutMs }, (options) => this.#api.flush(request, options));
    };
    let answer: FlushResponse;
    let remaining: bigint | undefined;
    let start: bigint;
    let last: bigint;
    let failures: WriteFailure[];
    let omitted: bigint;
    do {
      last = start = this.#lastFailure;
      failures = [];
      omitted = 0n;
      do {
        // One answer has at most 3 MiB of failures.
        answer = await ask(last);
        last = answer.lastFailure;
        remaining ??= answer.remaining;
        failures.push(...answer.failures.map(({ key, error }) => ({ key, error: errorOfMessage(error) })));
        omitted += answer.failuresOmitted;
        waitMs = 0;
      } while (answer.failures.length > 0 && failures.length < MAX_FAILURES);
      // If it has changed, another flush has returned these failures.
    } while (this.#lastFailure !== start);
    // Not earlier: if a call fails, the next flush returns all of them.
    this.#lastFailure = last;
    return { remaining, failures, omitted };
  }

  /** Writes many entities over one stream. It has no deadline but timeoutMs. If the signal ends it, all writes end. */
  writer(options: CallOptions = {}): Writer {
    return new Writer(this.#api, options, this.#loadTimeoutMs);
  }

  get #api(): Api {
    return this.#connection.api;
  }

  #call<T>(options: CallOptions, attempt: (options: CallOptions) => Promise<T>): Promise<T> {
    return retrying({ signal: options.signal, timeoutMs: options.timeoutMs ?? this.#timeoutMs }, attempt);
  }

  #loadOptions({ signal, timeoutMs = this.#loadTimeoutMs }: CallOptions): CallOptions & { timeoutMs: number } {
    return { signal, timeoutMs };
  }
}

function target({ workspace, changelogId }: Key): { workspaceId: string; changelogId: string } {
  return { workspaceId: workspace, changelogId };
}

function ackOf({ buffered = false }: WriteOptions): Ack {
  return buffered ? Ack.BUFFERED : Ack.DURABLE;
}

function written({ position, timestamp }: Pick<SetResponse, "position" | "timestamp">): Position | undefined {
  return position && positionOf(position, timestamp);
}
