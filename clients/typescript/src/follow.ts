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
          for (const change of event.value.entries.map((entry) => changeOf(entry, types))) {
            // A resumed stream delivers again what came after its token.
            if (change.offset > last) {
              last = change.offset;
              yield change;
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
      } else if (error.code !== Code.UNAVAILABLE) {
        throw error;
      }
      const backoff = Math.max(backoffMs(failures, MAX_BACKOFF_MS), error.retryAfterMs ?? 0);
      await pause(Math.min(backoff, MAX_BACKOFF_MS), signal);
    }
  }
}
