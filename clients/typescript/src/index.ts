// A client of changelogd.

export { Client, type ClientOptions, type Flushed, type WriteFailure, type WriteOptions } from "./client.js";
export type { CallOptions } from "./connection.js";
export { DecodeError, type Entity, type EntityType, Key, type ValueOf } from "./entity.js";
export { ChangelogError, type Facts, PartialLoadError } from "./errors.js";
export { Code } from "./gen/changelogd/v1/changelog_pb.js";
export type { Changed, Deleted, PartitionSnapshot, Position, Selection, StreamEvent } from "./read.js";
export type { LoadedEvent, WatchEvent } from "./watch.js";
export { Writer } from "./writer.js";
