import assert from "node:assert/strict";
import { test } from "node:test";

import { ChangelogError, Client, Code } from "../src/index.js";
import { address, observed, on } from "./servers.js";
import { Deployment, deployment, errorOf, workspaceOf } from "./support.js";

function factsOf({ code, message, reason, field, retryAfterMs, metadata }: ChangelogError) {
  return { code, message, reason, field, retryAfterMs, metadata };
}

test("an error has its facts", () =>
  on("SCRIPTED", async (client) => {
    const busy = {
      code: Code.RESOURCE_EXHAUSTED,
      message: "the queue is full",
      reason: "PRODUCER_QUEUE_FULL",
      field: undefined,
      retryAfterMs: 1_500,
      metadata: { limit: "1000" },
    };
    const refused = {
      code: Code.INVALID_ARGUMENT,
      message: "too large",
      reason: "VALUE_TOO_LARGE",
      field: "raw",
      retryAfterMs: undefined,
      metadata: { limit: "10", got: "11" },
    };
    for (const [script, facts] of Object.entries({ busy, refused })) {
      const entity = deployment(workspaceOf(script), "a");
      assert.deepEqual(factsOf(await errorOf(client.set(entity))), facts);
      const writer = client.writer();
      assert.deepEqual(factsOf(await errorOf(writer.set(entity))), facts);
      await writer.close();
    }
  }));

test("safe to retry follows the status table", () =>
  on("SCRIPTED", async (client) => {
    const isSafe = async (script: string) => {
      const error = await errorOf(client.set(deployment(workspaceOf(script), "a")));
      assert.equal(error.code, Number(script.split("-")[1]));
      return error.isSafeToRetry;
    };
    const codes = Array.from({ length: 16 }, (_, i) => i + 1);
    const safe = [Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.ABORTED];
    await Promise.all([
      ...codes.map(async (code) => assert.equal(await isSafe(`status-${code}-ANY`), safe.includes(code), Code[code])),
      ...codes.map(async (code) => assert.equal(await isSafe(`status-${code}`), false, Code[code])),
      isSafe("status-4-DEADLINE").then((isSafe) => assert.equal(isSafe, true)),
      isSafe("status-4-OUTCOME_UNKNOWN").then((isSafe) => assert.equal(isSafe, false)),
    ]);
  }));

test("unavailable is retried", () =>
  on("SCRIPTED", async (client) => {
    const workspace = workspaceOf("starting");
    await client.set(deployment(workspace, "a"));
    assert.equal((await observed(client, workspace)).calls, 3);
  }));

test("an unknown outcome is not retried", () =>
  on("SCRIPTED", async (client) => {
    const workspace = workspaceOf("unknown");
    const error = await errorOf(client.set(deployment(workspace, "a")));
    assert.deepEqual([error.code, error.reason], [Code.DEADLINE_EXCEEDED, "OUTCOME_UNKNOWN"]);
    assert.equal((await observed(client, workspace)).calls, 1);
  }));

test("the deadline is passed on", () =>
  on("SCRIPTED", async (client) => {
    const workspace = workspaceOf("hang");
    const start = performance.now();
    const error = await errorOf(client.set(deployment(workspace, "a"), { timeoutMs: 500 }));
    const elapsed = performance.now() - start;
    assert.deepEqual([error.code, error.reason], [Code.DEADLINE_EXCEEDED, undefined]);
    assert.ok(elapsed > 400 && elapsed < 5_000, `${elapsed} ms`);
    const { calls, timeoutMs } = await observed(client, workspace);
    assert.equal(calls, 1);
    assert.ok(timeoutMs > 0 && timeoutMs <= 500, `${timeoutMs} ms`);

    // A call without a deadline has the client's.
    const other = workspaceOf("unknown-event");
    await client.load(other, Deployment);
    const loadTimeoutMs = (await observed(client, other)).timeoutMs;
    assert.ok(loadTimeoutMs > 290_000 && loadTimeoutMs <= 300_000, `${loadTimeoutMs} ms`);
  }));

test("a unix socket works", async () => {
  const path = address("UNIX");
  for (const target of [`unix:${path}`, `unix://${path}`]) {
    const client = new Client(target);
    const entity = deployment(workspaceOf(), "a");
    await client.set(entity);
    assert.deepEqual(await client.load(entity.key.workspace, Deployment), new Map([["a", entity]]));
    client.close();
  }
});

test("CHANGELOGD_ADDR names the server", async () => {
  const before = process.env.CHANGELOGD_ADDR;
  try {
    process.env.CHANGELOGD_ADDR = address("EMBEDDED");
    const client = new Client();
    const entity = deployment(workspaceOf(), "a");
    await client.set(entity);
    assert.deepEqual(await client.get(Deployment, entity.key), entity);
    client.close();
    delete process.env.CHANGELOGD_ADDR;
    assert.equal(new Client().address, "127.0.0.1:50051");
  } finally {
    if (before !== undefined) {
      process.env.CHANGELOGD_ADDR = before;
    }
  }
});
