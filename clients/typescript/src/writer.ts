// Writes many mutations over one stream. Each gets its own verdict.

import { create, type MessageInitShape } from "@bufbuild/protobuf";

import { type Api, type CallOptions, check, receive } from "./connection.js";
import { encode, type Entity, type Key } from "./entity.js";
import { ChangelogError, errorOfMessage } from "./errors.js";
import { Code, PositionSchema, type Verdict, type WriteRequestSchema } from "./gen/changelogd/v1/changelog_pb.js";
import { type Position, positionOf } from "./read.js";

const MAX_MESSAGE = { mutations: 1_000, bytes: 1024 * 1024 };
// Less than the 16,384 units after which the server reads no further.
const MAX_OUTSTANDING = { mutations: 10_000, bytes: 8 * 1024 * 1024 };
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
 * 8 MiB of them have no verdict. Then `set` and `delete` wait for room. Nothing is sent again.
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
  readonly #verdicts: Promise<void>;

  /** As Client.writer() says. */
  constructor(api: Api, options: CallOptions) {
    this.#verdicts = this.#receive(api, options);
  }

  /** Mutations without a verdict that take up room. */
  get outstanding(): { mutations: number; bytes: number } {
    return { mutations: this.#outstanding.size, bytes: this.#outstandingBytes };
  }

  /**
   * Resolves when the value is in the log. The signal ends the wait, for room or for the verdict. Then the outcome is
   * not known, and the promise rejects with the signal's reason.
   */
  async set(entity: Entity, { signal }: { signal?: AbortSignal } = {}): Promise<Position> {
    return this.#write(entity.changelogKey(), { case: "raw", value: encode(entity) }, signal);
  }

  /** As `set`. Deleting an absent entity is no error. */
  async delete(key: Key, { signal }: { signal?: AbortSignal } = {}): Promise<Position> {
    return this.#write(key, { case: "deletion", value: {} }, signal);
  }

  /** Takes no more mutations, and resolves when each one has its verdict or error. */
  async close(): Promise<void> {
    this.#isClosing = true;
    this.#end ??= new ChangelogError({ code: Code.FAILED_PRECONDITION, message: "the writer is closed" });
    this.#wake();
    await this.#verdicts;
  }

  async #write(key: Key, change: Change, signal: AbortSignal | undefined): Promise<Position> {
    check(signal);
    if (this.#end !== undefined) {
      throw this.#end;
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

  async #receive(api: Api, options: CallOptions): Promise<void> {
    let end: unknown = new ChangelogError({ code: Code.UNKNOWN, message: "the stream has ended" });
    try {
      for await (const { verdicts } of receive(options, (options) => api.write(this.#messages(), options))) {
        verdicts.forEach((verdict) => this.#answer(verdict));
        this.#admit();
      }
    } catch (error) {
      end = error;
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
