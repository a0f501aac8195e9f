// Writes entities, loads them, reads their records, and watches for one change.

import { randomUUID } from "node:crypto";

import { Client, type Entity, Key } from "changelogd";

class Deployment implements Entity {
  static readonly type = "deployment";

  constructor(
    readonly workspace: string,
    readonly id: string,
    readonly name: string,
    readonly version: string,
  ) {}

  static fromJson(json: unknown, key: Key): Deployment {
    const { name, version } = json as { name: string; version: string };
    return new Deployment(key.workspace, key.id, name, version);
  }

  changelogKey(): Key {
    return new Key(this.workspace, Deployment.type, this.id);
  }

  // The key has the workspace and the ID, so they are not stored.
  toJSON(): object {
    return { name: this.name, version: this.version };
  }

  toString(): string {
    return `${this.id}: ${this.name} ${this.version}`;
  }
}

// The server's address is in CHANGELOGD_ADDR.
const client = new Client();
// New workspaces, so that this program can run again.
const [first, second] = [randomUUID(), randomUUID()];

// A write is durable when it returns. A buffered one is durable when flush() says so.
await client.set(new Deployment(first, "dep-1", "web", "v1"));
await client.set(new Deployment(first, "dep-2", "api", "v1"), { buffered: true });
await client.set(new Deployment(first, "dep-3", "old", "v1"), { buffered: true });
await client.delete(new Key(first, Deployment.type, "dep-3"), { buffered: true });
await client.set(new Deployment(second, "dep-4", "web", "v2"), { buffered: true });
const { remaining, failures } = await client.flush();
console.log(`flushed: ${remaining} in flight, ${failures.length} failed`);

// Each load is complete, or throws.
for (const [name, workspace] of [["first", first], ["second", second]] as const) {
  const deployments = await client.load(workspace, Deployment);
  console.log(`the ${name} workspace has ${deployments.size}`);
  for (const id of [...deployments.keys()].sort()) {
    console.log(`  ${deployments.get(id)}`);
  }
}

// The records of the log, deletes too. A log can still have older values of an entity, so the last record counts.
const last = new Map<string, string>();
for await (const record of client.stream({ workspaces: [first], types: [Deployment] })) {
  if (record.kind !== "snapshot") {
    last.set(record.key.id, record.kind);
  }
}
console.log("the last records:", [...last].sort().map(([id, kind]) => `${id} ${kind}`).join(", "));

// The state, and then each change. Leaving the loop ends the call.
for await (const event of client.watch(first, [Deployment])) {
  if (event.kind === "loaded") {
    console.log(`watching ${event.entries.length}`);
    await client.set(new Deployment(first, "dep-1", "web", "v2"));
  } else {
    console.log(event.kind === "changed" ? `changed: ${event.value}` : `deleted: ${event.key.id}`);
    break;
  }
}

client.close();
