// Watches a workspace: delivers its state, and then each change in order. It misses none that is still in the log.

import { type Api, backoffMs, type CallOptions, check, pause, receive, timerMs } from "./connection.js";
import { Delivered } from "./delivered.js";
import { checkText, type EntityType } from "./entity.js";
import { ChangelogError } from "./errors.js";
import { Code } from "./gen/changelogd/v1/changelog_pb.js";
import { type Changed, changeOf, type Deleted } from "./read.js";

// Failures of this side.
class LateError extends ChangelogError {}
class LostError extends ChangelogError {}

/** The whole state. It replaces everything that came before. */
export interface LoadedEvent<T> {
  kind: "loaded";
  entries: Changed<T>[];
}

export type WatchEvent<T> = LoadedEvent<T> | Changed<T> | Deleted;

// After these the token can't be used any more.
const START_AGAIN = ["RESYNC_REQUIRED", "LOG_MOVED", "LOG_TRUNCATED"];
const MAX_BACKOFF_MS = 4_000;
// With an empty token a watch begins with the state.
const NO_TOKEN: Uint8Array = new Uint8Array();

/** The state must come within timeoutMs, and so must the first message of a call that resumes. */
export async function* watch<T>(
  api: Api,
  workspaceId: string,
  types: readonly EntityType<T>[],
  { signal, timeoutMs, isConnected }: CallOptions & { timeoutMs: number; isConnected: () => boolean },
): AsyncGenerator<WatchEvent<T>, void, undefined> {
  const request = { workspaceId, entityTypes: types.map(({ type }) => type) };
  checkText(workspaceId, ...request.entityTypes);
  let resumeToken = NO_TOKEN;
  const delivered = new Delivered();
  const covered = (token = NO_TOKEN) => {
    // With an empty token a watch would begin with the state.
    if (token.length > 0) {
      resumeToken = token;
      delivered.clear();
    }
  };
  // Since the last event that came after `synced`. A watch may reach that again and again, and get no further.
  let failures = 0;
  // When the failures began that have followed each other without `synced` or an UNAVAILABLE among them.
  let failingSince: number | undefined;
  for (;;) {
    if (delivered.overflowed) {
      resumeToken = NO_TOKEN;
    }
    delivered.beginAttempt();
    // The part of the state that has come. Undefined if none is to come.
    let state: Changed<T>[] | undefined;
    if (resumeToken.length === 0) {
      state = [];
      delivered.clear();
    }
    // A deadline of the call would end the changes too.
    const call = new AbortController();
    const cancel = () => call.abort(signal?.reason);
    const noAnswer = { code: Code.DEADLINE_EXCEEDED, message: "no state or answer within the timeout of a load" };
    const late = () => {
      if (state === undefined && !isConnected()) {
        // An outage is no missing answer, and may last.
        timer = setTimeout(late, timerMs(timeoutMs));
      } else {
        call.abort(new LateError(noAnswer));
      }
    };
    check(signal);
    signal?.addEventListener("abort", cancel, { once: true });
    let timer = setTimeout(late, timerMs(timeoutMs));
    let retryAfterMs: number | undefined;
    try {
      const open = (options: CallOptions) => api.watch({ ...request, resumeToken }, options);
      let isSynced = false;
      for await (const { event } of receive({ signal: call.signal }, open)) {
        if (state === undefined) {
          // The server answers. What was missed is taken as it comes, so its time depends on the caller.
          clearTimeout(timer);
        }
        if (isSynced) {
          failures = 0;
        }
        if (event.case === "batch") {
          for (const entry of event.value.entries) {
            if (state !== undefined) {
              const change = changeOf(entry, types);
              if (change.kind === "changed") {
                state.push(change);
              }
              // What came after the event with the token comes again.
            } else if (delivered.isNew(entry)) {
              yield changeOf(entry, types);
            }
          }
        } else if (event.case === "synced") {
          if (!delivered.isWhole()) {
            throw new LostError({ code: Code.ABORTED, message: "the log has lost changes that were delivered" });
          }
          isSynced = true;
          failingSince = undefined;
          covered(event.value.snapshot?.resumeToken);
          if (state !== undefined) {
            clearTimeout(timer);
            const entries = state;
            state = undefined;
            yield { kind: "loaded", entries };
          }
        } else if (event.case === "bookmark") {
          covered(event.value.resumeToken);
        }
      }
      throw new ChangelogError({ code: Code.UNAVAILABLE, message: "a watch has ended" });
    } catch (error) {
      if (!(error instanceof ChangelogError)) {
        throw error;
      }
      if (startsAgain(error)) {
        resumeToken = NO_TOKEN;
      }
      if (!passes(error)) {
        throw error;
      }
      // Those of long outages may last.
      failingSince = error.code === Code.UNAVAILABLE ? undefined : (failingSince ?? performance.now());
      if (failingSince !== undefined && performance.now() - failingSince > timeoutMs) {
        throw error;
      }
      retryAfterMs = error.retryAfterMs;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", cancel);
    }
    await pause(backoffMs(failures++, MAX_BACKOFF_MS, retryAfterMs), signal);
  }
}

/** Says that the token can't be used any more. */
function startsAgain(error: ChangelogError): boolean {
  return error instanceof LostError || START_AGAIN.includes(error.reason ?? "");
}

/** Says that another attempt helps. The caller has not cancelled: then its reason is thrown instead. */
function passes(error: ChangelogError): boolean {
  if (error instanceof LateError || startsAgain(error)) {
    return true;
  }
  const { code, reason } = error;
  switch (code) {
    case Code.UNAVAILABLE:
      return true;
    case Code.RESOURCE_EXHAUSTED:
      // Without a reason a message is larger than this client or a proxy takes.
      return reason !== undefined;
    case Code.DEADLINE_EXCEEDED:
      return reason === "DEADLINE";
    case Code.CANCELLED:
      // The server resets a stream whose client reads too slowly.
      return reason === undefined;
    default:
      return false;
  }
}
