// Complete loads, and streams of records.

import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";

import { type Api, type CallOptions, receive, retrying } from "./connection.js";
import { checkText, decode, type EntityType, Key } from "./entity.js";
import { PartialLoadError } from "./errors.js";
import { Content, type Entry } from "./gen/changelogd/v1/changelog_pb.js";

/** Where a record is in the log. */
export interface Position {
  partition: number;
  offset: bigint;
  /** Undefined if the log has none. */
  timestamp: Date | undefined;
}

/** A value of an entity. */
export interface Changed<T> extends Position {
  kind: "changed";
  key: Key;
  value: T;
}

/** An entity was deleted, by a tombstone. */
export interface Deleted extends Position {
  kind: "deleted";
  key: Key;
}

/** A partition is complete, up to the offset before `endOffset`. */
export interface PartitionSnapshot {
  kind: "snapshot";
  partition: number;
  startOffset: bigint;
  endOffset: bigint;
}

export type StreamEvent<T> = Changed<T> | Deleted | PartitionSnapshot;

/** Narrows a stream. What is absent or empty means all. Each list has at most 10,000 elements. */
export interface Selection<Types> {
  workspaces?: readonly string[];
  partitions?: readonly number[];
  types?: Types;
}

/** Loads a workspace completely, or throws. */
export async function load<T>(
  api: Api,
  workspaceId: string,
  types: readonly EntityType<T>[],
  options: CallOptions,
): Promise<Changed<T>[]> {
  const request = { workspaceId, entityTypes: types.map(({ type }) => type) };
  checkText(workspaceId, ...request.entityTypes);
  const entries: Changed<T>[] = [];
  let isWhole = false;
  for await (const { event } of receive(options, (options) => api.loadWorkspace(request, options))) {
    // An event of a later version has no case.
    if (event.case === "batch") {
      const changes = event.value.entries.map((entry) => changeOf(entry, types));
      entries.push(...changes.filter((change) => change.kind === "changed"));
    } else if (event.case === "snapshot") {
      isWhole = true;
    }
  }
  if (!isWhole) {
    throw new PartialLoadError();
  }
  return entries;
}

/** Streams the records that are in the log, and throws at the end if a partition is not complete. */
export async function* stream<T>(
  api: Api,
  selection: Selection<readonly EntityType<T>[]>,
  options: CallOptions & { timeoutMs: number },
): AsyncGenerator<StreamEvent<T>, void, undefined> {
  const { workspaces = [], partitions = [], types = [] } = selection;
  const request = {
    workspaceIds: [...workspaces],
    partitions: [...partitions],
    entityTypes: types.map(({ type }) => type),
    content: Content.RECORDS,
  };
  checkText(...request.workspaceIds, ...request.entityTypes);
  const complete = new Set<number>();
  const deadline = Date.now() + options.timeoutMs;
  for await (const { event } of receive(options, (options) => api.streamAll(request, options))) {
    if (event.case === "batch") {
      // One by one, so that those before a value that can't be decoded are delivered.
      for (const entry of event.value.entries) {
        yield changeOf(entry, types);
      }
    } else if (event.case === "snapshot") {
      const { partition, startOffset, endOffset } = event.value;
      complete.add(partition);
      yield { kind: "snapshot", partition, startOffset, endOffset };
    }
  }
  // Without a Snapshot there is nothing to compare. Partitions are never removed, so it is not too late to ask.
  const left = { ...options, timeoutMs: deadline - Date.now() };
  const expected = complete.size === 0 ? [] : await partitionsOf(api, workspaces, partitions, complete, left);
  // Describe may not know the partitions. Then the stream is not known to be complete.
  if (expected.length === 0 || !expected.every((partition) => complete.has(partition))) {
    throw new PartialLoadError();
  }
}

/** The partitions of a selection, of which some are complete. */
async function partitionsOf(
  api: Api,
  workspaces: readonly string[],
  partitions: readonly number[],
  complete: ReadonlySet<number>,
  options: CallOptions & { timeoutMs: number },
): Promise<readonly number[]> {
  const deadline = Date.now() + options.timeoutMs;
  const describe = (workspaceId: string) => {
    const left = { ...options, timeoutMs: deadline - Date.now() };
    return retrying(left, (options) => api.describe({ workspaceId }, options));
  };
  if (workspaces.length === 1) {
    // All entities of a workspace are in one partition.
    return [...complete];
  }
  if (workspaces.length > 1) {
    const expected = [];
    for (const workspace of workspaces) {
      // No partition has the number -1.
      expected.push((await describe(workspace)).workspacePartition ?? -1);
    }
    return expected;
  }
  return partitions.length > 0 ? partitions : [...Array((await describe("")).partitionCount).keys()];
}

export function changeOf<T>(entry: Entry, types: readonly EntityType<T>[]): Changed<T> | Deleted {
  const key = Key.parse(entry.key);
  const position = positionOf(entry, entry.timestamp);
  if (entry.isTombstone) {
    return { kind: "deleted", key, ...position };
  }
  return { kind: "changed", key, value: valueOf(entry, key, types), ...position };
}

export function valueOf<T>({ value }: Entry, key: Key, types: readonly EntityType<T>[]): T {
  return decode(value.case === "raw" ? value.value : new Uint8Array(), key, types);
}

export function positionOf(
  { partition, offset }: { partition: number; offset: bigint },
  timestamp: Timestamp | undefined,
): Position {
  return { partition, offset, timestamp: timestamp && timestampDate(timestamp) };
}
