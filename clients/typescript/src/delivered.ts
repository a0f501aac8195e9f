// What a watch remembers of the changes that it delivered.

import { createHash } from "node:crypto";

import type { Entry } from "./gen/changelogd/v1/changelog_pb.js";

// With keys of the largest size they take about 15 MiB.
const MAX_ENTITIES = 10_000;

/**
 * The entities that were delivered after the newest token, each with its last record. A watch that resumes gets them
 * again, as far as the log still has them.
 */
export class Delivered {
  /** An entity was delivered and is not remembered. Then the token can't be used. */
  overflowed = false;
  // By key: what tells two records apart, and in which attempt it came. What comes again must come in one of them.
  readonly #records = new Map<string, { version: string; attempt: number }>();
  #attempt = 0;

  beginAttempt(): void {
    this.#attempt++;
  }

  /** A newer token covers what came before. */
  clear(): void {
    this.#records.clear();
    this.overflowed = false;
  }

  /** Remembers an entry. False if the last delivered record of its entity was the same one. */
  isNew(entry: Entry): boolean {
    const { key } = entry;
    const version = versionOf(entry);
    const known = this.#records.get(key);
    if (known !== undefined || this.#records.size < MAX_ENTITIES) {
      this.#records.set(key, { version, attempt: this.#attempt });
    } else {
      this.overflowed = true;
    }
    return known?.version !== version;
  }

  /** Says that each remembered entity has come in this attempt. */
  isWhole(): boolean {
    return [...this.#records.values()].every(({ attempt }) => attempt === this.#attempt);
  }
}

/** After an unclean election an offset may have another record, so the offset alone is not enough. */
function versionOf({ offset, timestamp, isTombstone, value }: Entry): string {
  const hash = createHash("sha256");
  if (value.case === "raw") {
    hash.update(value.value);
  }
  return `${offset} ${timestamp?.seconds} ${timestamp?.nanos} ${isTombstone} ${hash.digest("base64")}`;
}
