import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { test } from "node:test";

import { ChangelogError, Client, Code } from "../src/index.js";
import { address, observed, on } from "./servers.js";
import { Deployment, deployment, errorOf, take, workspaceOf } from "./support.js";

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
      isSafe("status-14-").then((isSafe) => assert.equal(isSafe, false)),
      isSafe("status-4-DEADLINE").then((isSafe) => assert.equal(isSafe, true)),
      isSafe("status-4-OUTCOME_UNKNOWN").then((isSafe) => assert.equal(isSafe, false)),
    ]);
  }));

test("unavailable is retried", () =>
  on("SCRIPTED", async (client) => {
    // The second one has 300,000 bytes.
    for (const value of [1, "x".repeat(299_998)]) {
      const workspace = workspaceOf("starting");
      await client.set(deployment(workspace, "a", value));
      assert.equal((await observed(client, workspace)).calls, 3);
    }
  }));

test("a retry waits as the server asks", () =>
  on("SCRIPTED", async (client) => {
    const workspace = workspaceOf("details-14");
    // The server asks for 1.5 s, which are not left.
    const error = await errorOf(client.set(deployment(workspace, "a"), { timeoutMs: 1_400 }));
    assert.deepEqual([error.code, error.retryAfterMs], [Code.UNAVAILABLE, 1_500]);
    assert.equal((await observed(client, workspace)).calls, 1);
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

test("a timeout has no upper limit", async () => {
  const client = new Client(address("SCRIPTED"), { timeoutMs: Infinity, loadTimeoutMs: Infinity });
  await client.set(deployment(workspaceOf("starting"), "a"));
  assert.equal((await client.load(workspaceOf("unknown-event"), Deployment)).size, 1);
  const events = client.watch(workspaceOf("unknown-event"), [Deployment]);
  assert.equal((await take(events, 1))[0]?.kind, "loaded");
  await events.return();
  const writer = client.writer({ timeoutMs: 2 ** 31 });
  await writer.set(deployment(workspaceOf("count"), "a"));
  await writer.close();
  client.close();
});

test("a call without a server says why", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  await once(server.close(), "close");
  const client = new Client(`127.0.0.1:${port}`);
  const options = { timeoutMs: 300 };
  const calls = [client.set(deployment("ws", "a"), options), client.load("ws", Deployment, options)];
  for (const error of await Promise.all(calls.map(errorOf))) {
    assert.deepEqual([error.code, error.isSafeToRetry], [Code.DEADLINE_EXCEEDED, false]);
    let cause: unknown = error;
    while (cause instanceof Error && cause.cause !== undefined) {
      cause = cause.cause;
    }
    assert.match(String(cause), /ECONNREFUSED/);
  }
  client.close();
});

test("an address that is none is refused", () => {
  for (const wrong of ["localhost", "a b:1", "http://a:1", "a:1/path", "user@a:1", "a:99999", ":1", "::1:1", "unix:"]) {
    const message = `"${wrong}" is not host:port or unix:/path`;
    assert.throws(() => new Client(wrong), { name: "ChangelogError", code: Code.INVALID_ARGUMENT, message });
  }
  assert.equal(new Client("[::1]:50051").address, "[::1]:50051");
});

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
    for (const client of [new Client(), new Client("")]) {
      const entity = deployment(workspaceOf(), "a");
      await client.set(entity);
      assert.deepEqual(await client.get(Deployment, entity.key), entity);
      client.close();
    }
    process.env.CHANGELOGD_ADDR = "";
    assert.equal(new Client("").address, "127.0.0.1:50051");
    delete process.env.CHANGELOGD_ADDR;
    assert.equal(new Client().address, "127.0.0.1:50051");
  } finally {
    if (before !== undefined) {
      process.env.CHANGELOGD_ADDR = before;
    }
  }
});
