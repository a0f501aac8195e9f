// The servers that the tests run against.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";

import { Client, type EntityType, Key } from "../src/index.js";

const PATIENCE_MS = 10_000;

/** A missing server is a failure. */
export function address(server: "EMBEDDED" | "ON_KAFKA" | "UNIX" | "SCRIPTED"): string {
  const variable = `CHANGELOGD_TEST_${server}`;
  return process.env[variable] || assert.fail(`${variable} is not set`);
}

export async function on(server: "EMBEDDED" | "ON_KAFKA" | "SCRIPTED", test: (client: Client) => Promise<void>) {
  const client = new Client(address(server));
  try {
    await test(client);
  } finally {
    client.close();
  }
}

/** The embedded store and Kafka. */
export async function onBoth(test: (client: Client) => Promise<void>) {
  await on("EMBEDDED", test);
  await on("ON_KAFKA", test);
}

/** What the scripted server has seen of a workspace. */
export interface Observed {
  calls: number;
  timeoutMs: number;
  cancelled: boolean;
  messages: number;
  mostMutations: number;
  mostBytes: number;
}

const OBSERVED: EntityType<Observed> = { type: "observed", fromJson: (json) => json as Observed };

export async function observed(client: Client, workspace: string): Promise<Observed> {
  const counts = await client.get(OBSERVED, new Key(workspace, OBSERVED.type, "calls"));
  return counts ?? assert.fail("the scripted server always answers");
}

export async function until(condition: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + PATIENCE_MS;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `not within ${PATIENCE_MS} ms: ${condition}`);
    await sleep(10);
  }
}
