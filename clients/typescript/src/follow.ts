// Follows a workspace: loads it once, and then delivers each change once and in order.

import { type Api, backoffMs, type CallOptions, pause, receive, retrying } from "./connection.js";
import type { EntityType } from "./entity.js";
import { ChangelogError } from "./errors.js";
import { Code, Content } from "./gen/changelogd/v1/changelog_pb.js";
import { type Changed, changeOf, type Deleted, load } from "./read.js";

/** The whole state. It replaces everything that came before. */
export interface LoadedEvent<T> {
  kind: "loaded";
  entries: Changed<T>[];
}

export type FollowEvent<T> = LoadedEvent<T> | Changed<T> | Deleted;

// After these the token can't be used any more.
const RELOAD = ["RESYNC_REQUIRED", "LOG_MOVED", "LOG_TRUNCATED"];
const MAX_BACKOFF_MS = 5_000;

export async function* follow<T>(
  api: Api,
  workspace: string,
  types: readonly EntityType<T>[],
  { signal, timeoutMs }: CallOptions & { timeoutMs: number },
): AsyncGenerator<FollowEvent<T>, void, undefined> {
  const request = { workspaceIds: [workspace], entityTypes: types.map(({ type }) => type), content: Content.RECORDS };
  let resumeToken: Uint8Array | undefined;
  // The offset of the last delivered entry. A workspace is in one partition, so its offsets increase.
  let last = -1n;
  for (let failures = 0; ; failures++) {
    try {
      if (resumeToken === undefined) {
        const loaded = await retrying({ signal, timeoutMs }, (options) => load(api, workspace, types, options));
        resumeToken = loaded.resumeToken;
        last = loaded.entries.at(-1)?.offset ?? -1n;
        yield { kind: "loaded", entries: loaded.entries };
      }
      const open = (options: CallOptions) => api.streamAll({ ...request, resumeToken, follow: true }, options);
      for await (const { event } of receive({ signal }, open)) {
        failures = 0;
        if (event.case === "batch") {
          for (const entry of event.value.entries) {
            // A resumed stream delivers again what came after its token.
            if (entry.offset > last) {
              last = entry.offset;
              yield changeOf(entry, types);
            }
          }
        } else if (event.case !== undefined) {
          resumeToken = event.value.resumeToken;
        }
      }
      throw new ChangelogError({ code: Code.UNAVAILABLE, message: "a stream that follows has ended" });
    } catch (error) {
      if (!(error instanceof ChangelogError)) {
        throw error;
      }
      if (RELOAD.includes(error.reason ?? "")) {
        resumeToken = undefined;
      } else if (!passes(error, resumeToken === undefined)) {
        throw error;
      }
      await pause(backoffMs(failures, MAX_BACKOFF_MS, error.retryAfterMs), signal);
    }
  }
}

/** Says that another attempt helps. The caller has not cancelled: then its reason is thrown instead. */
function passes({ code, reason }: ChangelogError, isOfLoad: boolean): boolean {
  switch (code) {
    case Code.UNAVAILABLE:
      return true;
    case Code.RESOURCE_EXHAUSTED:
      // Without a reason a message is larger than this client or a proxy takes.
      return reason !== undefined;
    case Code.DEADLINE_EXCEEDED:
      // Without a reason it is the timeout of a load. `follow` itself has none.
      return reason === "DEADLINE" || (reason === undefined && isOfLoad);
    case Code.CANCELLED:
      // The server resets a stream whose client reads too slowly.
      return reason === undefined;
    default:
      return false;
  }
}
