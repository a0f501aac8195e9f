// Workspaces, entities and events of the tests.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";

import { ChangelogError, type Entity, Key } from "../src/index.js";

/** A workspace that no other test has. The scripted server does what its name says. */
export function workspaceOf(script = "typescript"): string {
  return `${script}.${randomUUID()}`;
}

/** An entity with any value. */
export class Deployment implements Entity {
  static readonly type = "deployment";

  constructor(
    readonly key: Key,
    readonly value: unknown,
  ) {}

  static fromJson(json: unknown, key: Key): Deployment {
    return new Deployment(key, json);
  }

  changelogKey(): Key {
    return this.key;
  }

  toJSON(): unknown {
    return this.value;
  }
}

export function keyOf(workspace: string, id: string): Key {
  return new Key(workspace, Deployment.type, id);
}

export function deployment(workspace: string, id: string, value: unknown = { name: id }): Deployment {
  return new Deployment(keyOf(workspace, id), value);
}

/** The error of a promise, or of a loop over a stream. */
export async function errorOf(failing: Promise<unknown> | AsyncIterable<unknown>): Promise<ChangelogError> {
  try {
    await (failing instanceof Promise ? failing : collect(failing));
  } catch (error) {
    assert.ok(error instanceof ChangelogError, String(error));
    return error;
  }
  return assert.fail("it did not fail");
}

export async function collect<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const event of stream) {
    all.push(event);
  }
  return all;
}

/** The next events of a stream that goes on. */
export async function take<T>(stream: AsyncIterator<T>, count: number): Promise<T[]> {
  const taken: T[] = [];
  while (taken.length < count) {
    const { done, value } = await stream.next();
    assert.ok(!done, `the stream ended after ${taken.length} of ${count} events`);
    taken.push(value);
  }
  return taken;
}

/** A short form of an event, without what the log chooses. */
export function brief(event: { kind: string; key?: Key; value?: unknown; entries?: readonly { key: Key }[] }): string {
  if (event.kind === "loaded") {
    return `loaded ${event.entries?.map(({ key }) => key.id).join(" ")}`.trim();
  }
  return event.key === undefined ? event.kind : `${event.kind} ${event.key.id}`;
}
