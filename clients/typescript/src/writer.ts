// Writes many mutations over one stream. Each gets its own verdict.

import { create, type MessageInitShape } from "@bufbuild/protobuf";

import { type Api, type CallOptions, check, receive, timerMs } from "./connection.js";
import { encode, type Entity, type Key } from "./entity.js";
import { ChangelogError, errorOfMessage } from "./errors.js";
import { Code, PositionSchema, type Verdict, type WriteRequestSchema } from "./gen/changelogd/v1/changelog_pb.js";
import { type Position, positionOf } from "./read.js";

const MAX_MESSAGE = { mutations: 1_000, bytes: 1024 * 1024 };
// Less than the 16,384 units after which the server reads no further.
const MAX_OUTSTANDING = { mutations: 10_000, bytes: 8 * 1024 * 1024 };
// Callers that wait for room.
const MAX_WAITING = 100_000;
// What the fields of a mutation need besides their strings and bytes, at most.
const FIELDS_BYTES = 32;

type Change = { case: "raw"; value: Uint8Array } | { case: "deletion"; value: object };

interface Pending {
  mutation: { id: bigint; workspaceId: string; changelogId: string; change: Change };
  bytes: number;
  resolve(position: Position): void;
  reject(error: unknown): void;
}

/**
 * A stream of Write. Its mutations are applied in the order of the calls, as far as they are of one workspace.
 *
 * Messages form without a timer: while one is sent, the mutations for the next one queue. At most 10,000 mutations and
 * 8 MiB of them have no verdict. Then `set` and `delete` wait for room. If 100,000 of them wait, more are rejected with
 * RESOURCE_EXHAUSTED, and are not sent. Nothing is sent again.
 */
export class Writer {
  // No room yet. Each entry is of a caller that waits.
  readonly #waiting = new Set<Pending>();
  // Without a verdict, sent or queued, by mutation.id.
  readonly #outstanding = new Map<bigint, Pending>();
  #outstandingBytes = 0;
  readonly #queue: Pending[] = [];
  #nextId = 1n;
  #wake: () => void = () => {};
  #isClosing = false;
  // Why the stream takes no more mutations.
  #end: unknown;
  readonly #canceller = new AbortController();
  readonly #closeTimeoutMs: number;
  // Resolves to the error of the stream, or to undefined. close() throws it once.
  #verdicts: Promise<unknown>;

  /** As Client.writer() says. */
  constructor(api: Api, { signal, timeoutMs }: CallOptions, closeTimeoutMs: number) {
    this.#closeTimeoutMs = closeTimeoutMs;
    const own = this.#canceller.signal;
    this.#verdicts = this.#receive(api, { signal: signal ? AbortSignal.any([signal, own]) : own, timeoutMs });
  }

  /** Mutations without a verdict that take up room. */
  get outstanding(): { mutations: number; bytes: number } {
    return { mutations: this.#outstanding.size, bytes: this.#outstandingBytes };
  }

  /**
   * Resolves when the value is in the log. The wait for room or for the verdict has no bound of its own. The signal
   * ends it. Then the outcome is not known, and the promise rejects with the signal's reason.
   */
  async set(entity: Entity, { signal }: { signal?: AbortSignal } = {}): Promise<Position> {
    return this.#write(entity.changelogKey(), { case: "raw", value: encode(entity) }, signal);
  }

  /** As `set`. Deleting an absent entity is no error. */
  async delete(key: Key, { signal }: { signal?: AbortSignal } = {}): Promise<Position> {
    return this.#write(key, { case: "deletion", value: {} }, signal);
  }

  /**
   * Takes no more mutations, and resolves when each one has its verdict. If the stream breaks, before or now, it throws
   * that error, and mutations without a verdict may be lost. It ends the stream after timeoutMs, with
   * DEADLINE_EXCEEDED. The default is the client's loadTimeoutMs, 5 min. A second call does not throw the error again.
   */
  async close({ timeoutMs = this.#closeTimeoutMs }: { timeoutMs?: number } = {}): Promise<void> {
    this.#isClosing = true;
    this.#end ??= new ChangelogError({ code: Code.FAILED_PRECONDITION, message: "the writer is closed" });
    this.#wake();
    const verdicts = this.#verdicts;
    this.#verdicts = verdicts.then(() => undefined);
    const late = new ChangelogError({ code: Code.DEADLINE_EXCEEDED, message: "the writer did not close in time" });
    const timer = setTimeout(() => this.#canceller.abort(late), timerMs(timeoutMs));
    const error = await verdicts;
    clearTimeout(timer);
    if (error !== undefined) {
      throw error;
    }
  }

  async #write(key: Key, change: Change, signal: AbortSignal | undefined): Promise<Position> {
    check(signal);
    if (this.#end !== undefined) {
      throw this.#end;
    }
    if (this.#waiting.size === MAX_WAITING) {
      const message = `${MAX_WAITING} writes wait for room: await some of them before the next one`;
      throw new ChangelogError({ code: Code.RESOURCE_EXHAUSTED, message });
    }
    const { workspace: workspaceId, changelogId } = key;
    const mutation = { id: this.#nextId++, workspaceId, changelogId, change };
    const valueBytes = change.case === "raw" ? change.value.length : 0;
    const bytes = Buffer.byteLength(workspaceId) + Buffer.byteLength(changelogId) + valueBytes + FIELDS_BYTES;
    let cancel = () => {};
    const verdict = new Promise<Position>((resolve, reject) => {
      const pending = { mutation, bytes, resolve, reject };
      cancel = () => {
        this.#waiting.delete(pending);
        reject(signal?.reason);
      };
      this.#waiting.add(pending);
    });
    this.#admit();
    signal?.addEventListener("abort", cancel, { once: true });
    try {
      return await verdict;
    } finally {
      signal?.removeEventListener("abort", cancel);
    }
  }

  #admit(): void {
    for (const pending of this.#waiting) {
      const { mutations, bytes } = this.outstanding;
      const isFull = mutations === MAX_OUTSTANDING.mutations || bytes + pending.bytes > MAX_OUTSTANDING.bytes;
      // A mutation that is larger than all the room goes alone.
      if (isFull && mutations > 0) {
        break;
      }
      this.#waiting.delete(pending);
      this.#outstanding.set(pending.mutation.id, pending);
      this.#outstandingBytes += pending.bytes;
      this.#queue.push(pending);
    }
    this.#wake();
  }

  /** The transport asks for the next message when it has sent the previous one. */
  async *#messages(): AsyncGenerator<MessageInitShape<typeof WriteRequestSchema>, void, undefined> {
    for (;;) {
      while (this.#queue.length === 0) {
        if (this.#isClosing && this.#waiting.size === 0) {
          return;
        }
        await new Promise<void>((resolve) => (this.#wake = resolve));
      }
      yield { mutations: this.#take().map(({ mutation }) => mutation) };
    }
  }

  /** The queued mutations, up to a full message. */
  #take(): Pending[] {
    let bytes = 0;
    let count = 0;
    for (const pending of this.#queue) {
      bytes += pending.bytes;
      if (count === MAX_MESSAGE.mutations || (count > 0 && bytes > MAX_MESSAGE.bytes)) {
        break;
      }
      count++;
    }
    return this.#queue.splice(0, count);
  }

  /** Returns the error that ended the stream, or undefined if each mutation has its verdict. */
  async #receive(api: Api, options: CallOptions): Promise<unknown> {
    let error: unknown;
    try {
      for await (const { verdicts } of receive(options, (options) => api.write(this.#messages(), options))) {
        verdicts.forEach((verdict) => this.#answer(verdict));
        this.#admit();
      }
    } catch (cause) {
      error = cause;
    }
    const end = error ?? new ChangelogError({ code: Code.UNKNOWN, message: "the stream has ended" });
    if (this.#outstanding.size + this.#waiting.size > 0) {
      error = end;
    }
    this.#end ??= end;
    this.#isClosing = true;
    for (const { reject } of this.#outstanding.values()) {
      reject(unknownOutcome(end));
    }
    // These were not sent.
    for (const { reject } of this.#waiting) {
      reject(end);
    }
    this.#outstanding.clear();
    this.#outstandingBytes = 0;
    this.#waiting.clear();
    this.#queue.length = 0;
    this.#wake();
    return error;
  }

  #answer({ id, outcome }: Verdict): void {
    const pending = this.#outstanding.get(id);
    // An outcome of a later version is not known. The end of the stream answers its mutation.
    if (pending === undefined || outcome.case === undefined) {
      return;
    }
    this.#outstanding.delete(id);
    this.#outstandingBytes -= pending.bytes;
    if (outcome.case === "error") {
      pending.reject(errorOfMessage(outcome.value));
    } else {
      const { position, timestamp } = outcome.value;
      pending.resolve(positionOf(position ?? create(PositionSchema), timestamp));
    }
  }
}

/** Has no reason, so that it is not safe to retry. */
function unknownOutcome(cause: unknown): ChangelogError {
  const code = cause instanceof ChangelogError ? cause.code : Code.CANCELLED;
  return new ChangelogError({ code, message: "the stream ended without a verdict for this write" }, { cause });
}
