import assert from "node:assert/strict";
import { test } from "node:test";

import { ChangelogError, Code, Key, type Position, type Writer } from "../src/index.js";
import { observed, on, onBoth, until } from "./servers.js";
import { Deployment, deployment, errorOf, keyOf, workspaceOf } from "./support.js";

/** The positions or errors of deployments that are set at once. */
function setAll(writer: Writer, workspace: string, values: readonly unknown[]) {
  return Promise.allSettled(values.map((value, i) => writer.set(deployment(workspace, `${i}`, value))));
}

function rejected(result: PromiseSettledResult<Position> | undefined): ChangelogError {
  assert.ok(result?.status === "rejected" && result.reason instanceof ChangelogError);
  return result.reason;
}

test("flush lists failed writes", async () => {
  await onBoth(async (client) => {
    const workspace = workspaceOf();
    const entities = ["a", "b", "c"].map((id) => deployment(workspace, id));
    for (const entity of entities) {
      assert.equal(await client.set(entity, { buffered: true }), undefined);
    }
    await client.delete(keyOf(workspace, "b"), { buffered: true });
    assert.deepEqual(await client.flush(), { remaining: 0n, failures: [], omitted: 0n });
    assert.deepEqual([...(await client.load(workspace, Deployment)).keys()], ["a", "c"]);
  });
  await on("SCRIPTED", async (client) => {
    const { remaining, failures } = await client.flush();
    assert.equal(remaining, 0n);
    const error = { code: Code.UNAVAILABLE, reason: "BROKERS_UNREACHABLE", retryAfterMs: 1_000, isSafeToRetry: true };
    assert.deepEqual(
      failures.map(({ key, error: { code, reason, retryAfterMs, isSafeToRetry } }) => ({
        key,
        error: { code, reason, retryAfterMs, isSafeToRetry },
      })),
      [
        { key: "flush/deployment/a", error },
        { key: "flush/deployment/b", error },
      ],
    );
    assert.deepEqual((await client.flush()).failures, []);
  });
  await on("SCRIPTED", async (client) => {
    const all = await Promise.all([client.flush(), client.flush(), client.flush()]);
    const keys = all.flatMap(({ failures }) => failures.map(({ key }) => key));
    assert.deepEqual(keys.sort(), ["flush/deployment/a", "flush/deployment/b"]);
  });
});

test("a writer answers each mutation", () =>
  onBoth(async (client) => {
    const workspace = workspaceOf();
    const writer = client.writer();
    const verdicts = Promise.all([
      writer.set(deployment(workspace, "a")),
      writer.set(deployment(workspace, "b")),
      errorOf(writer.set(new Deployment(new Key(workspace, "", "a"), 1))),
      writer.delete(keyOf(workspace, "a")),
      writer.set(deployment(workspace, "b", "newer")),
    ]);
    await writer.close();
    const [a, b, refused, deleted, newer] = await verdicts;
    assert.deepEqual([refused.code, refused.reason], [Code.INVALID_ARGUMENT, "KEY_INVALID"]);
    assert.equal(refused.field, "changelog_id");
    assert.ok(a.offset < b.offset && b.offset < deleted.offset && deleted.offset < newer.offset);
    assert.ok([b, deleted, newer].every(({ partition }) => partition === a.partition));
    assert.deepEqual(await client.load(workspace, Deployment), new Map([["b", deployment(workspace, "b", "newer")]]));
    assert.equal((await errorOf(writer.set(deployment(workspace, "c")))).code, Code.FAILED_PRECONDITION);
  }));

test("a writer bounds its batches", () =>
  on("SCRIPTED", async (client) => {
    const counted = async (values: readonly unknown[]) => {
      const workspace = workspaceOf("count");
      const writer = client.writer();
      const results = setAll(writer, workspace, values);
      await writer.close();
      const offsets = (await results).map((result) => result.status === "fulfilled" && result.value.offset);
      assert.deepEqual(offsets, [...values.keys()].map(BigInt));
      return observed(client, workspace);
    };
    const small = await counted(Array(12_500).fill(0));
    assert.equal(small.mostMutations, 1_000);
    assert.ok(small.messages >= 13 && small.messages < 100, `${small.messages} messages`);
    const large = await counted(Array(30).fill("x".repeat(300_000)));
    assert.ok(large.mostBytes > 600_000 && large.mostBytes <= 1024 * 1024, `${large.mostBytes} bytes`);
    const alone = await counted([0, "x".repeat(1_500_000), "x".repeat(9_000_000), 0]);
    assert.ok(alone.mostBytes > 9_000_000 && alone.mostBytes < 9_001_000, `${alone.mostBytes} bytes`);

    // A server that does not read.
    const stalled = async (values: readonly unknown[], outstanding: number) => {
      const workspace = workspaceOf("stall");
      const cancel = new AbortController();
      const writer = client.writer({ signal: cancel.signal });
      const results = setAll(writer, workspace, values);
      await until(async () => (await observed(client, workspace)).messages === 1);
      const late = new AbortController();
      const waiting = assert.rejects(writer.set(deployment(workspace, "late"), late), { name: "AbortError" });
      assert.equal(writer.outstanding.mutations, outstanding);
      assert.ok(writer.outstanding.bytes <= 8 * 1024 * 1024);
      late.abort();
      await waiting;
      assert.equal((await observed(client, workspace)).messages, 1);
      cancel.abort();
      const [first, ...others] = await results;
      assert.equal(rejected(first).isSafeToRetry, false);
      assert.ok(others.every(({ status }) => status === "rejected"));
    };
    await stalled(Array(10_010).fill(0), 10_000);
    await stalled(Array(100).fill("x".repeat(100_000)), 83);
  }));

test("a broken writer answers with unknown outcomes", () =>
  on("SCRIPTED", async (client) => {
    const workspace = workspaceOf("cut");
    const writer = client.writer();
    const [first, ...others] = await setAll(writer, workspace, [0, 1, 2]);
    assert.ok(first?.status === "fulfilled");
    assert.deepEqual([first.value.partition, first.value.offset], [0, 0n]);
    assert.equal(others.length, 2);
    for (const error of others.map(rejected)) {
      assert.deepEqual([error.code, error.reason, error.isSafeToRetry], [Code.UNAVAILABLE, undefined, false]);
    }
    assert.equal((await errorOf(writer.set(deployment(workspace, "later")))).code, Code.UNAVAILABLE);
    assert.equal((await errorOf(writer.close())).code, Code.UNAVAILABLE);
    await writer.close();

    // The verdicts are dropped.
    const unread = client.writer();
    void setAll(unread, workspace, [0, 1, 2]);
    assert.equal((await errorOf(unread.close())).code, Code.UNAVAILABLE);
    await unread.close();

    // A server that gives no verdict.
    const stalled = client.writer();
    const results = setAll(stalled, workspaceOf("stall"), [0, 1]);
    assert.equal((await errorOf(stalled.close({ timeoutMs: 100 }))).code, Code.DEADLINE_EXCEEDED);
    for (const error of (await results).map(rejected)) {
      assert.deepEqual([error.code, error.reason, error.isSafeToRetry], [Code.DEADLINE_EXCEEDED, undefined, false]);
    }

    // Streams that break while much is on its way leave nothing behind. Node counts 10 MB for a connection by default.
    const large = Array(3).fill("x".repeat(1_000_000));
    for (let sent = 0; sent < 15; sent++) {
      const [, second, third] = await setAll(client.writer(), workspace, large);
      assert.deepEqual([second, third].map((result) => rejected(result).code), [Code.UNAVAILABLE, Code.UNAVAILABLE]);
    }
    await client.set(deployment(workspaceOf("starting"), "a"));
  }));
