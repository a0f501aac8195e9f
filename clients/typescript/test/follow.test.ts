import assert from "node:assert/strict";
import { test } from "node:test";

import { Client, Code } from "../src/index.js";
import { address, observed, on, onBoth, until } from "./servers.js";
import { brief, Deployment, deployment, errorOf, keyOf, take, workspaceOf } from "./support.js";

test("follow loads and then delivers changes", () =>
  onBoth(async (client) => {
    const workspace = workspaceOf();
    await client.set(deployment(workspace, "a"));
    const cancel = new AbortController();
    const events = client.follow(workspace, [Deployment], { signal: cancel.signal });
    const [loaded] = await take(events, 1);
    assert.ok(loaded?.kind === "loaded");
    assert.deepEqual(loaded.entries.map(({ value }) => value), [deployment(workspace, "a")]);

    const changed = deployment(workspace, "b", { name: "b", version: 2 });
    await client.set(changed);
    await client.delete(keyOf(workspace, "a"));
    await client.set(deployment(workspace, "c"));
    const changes = await take(events, 3);
    assert.deepEqual(changes.map(brief), ["changed b", "deleted a", "changed c"]);
    assert.ok(changes[0]?.kind === "changed");
    assert.deepEqual(changes[0].value, changed);

    const waiting = events.next();
    cancel.abort();
    await assert.rejects(waiting, (error) => error === cancel.signal.reason);
    assert.deepEqual(await events.next(), { done: true, value: undefined });
  }));

test("follow resumes after a broken stream", () =>
  on("SCRIPTED", async (client) => {
    const workspace = workspaceOf("resume");
    const events = client.follow(workspace, [Deployment]);
    assert.deepEqual((await take(events, 4)).map(brief), ["loaded a", "changed a", "changed b", "deleted a"]);
    // One load, a stream with each token.
    assert.equal((await observed(client, workspace)).calls, 3);
    await events.return();
    await until(async () => (await observed(client, workspace)).cancelled);
  }));

test("follow reloads when it must", () =>
  on("SCRIPTED", async (client) => {
    for (const script of ["resync", "moved", "truncated"]) {
      const workspace = workspaceOf(script);
      const events = client.follow(workspace, [Deployment]);
      assert.deepEqual((await take(events, 3)).map(brief), ["loaded a", "loaded b", "changed c"]);
      assert.equal((await observed(client, workspace)).calls, 4);
      await events.return();
    }
  }));

test("follow outlives what passes", () =>
  on("SCRIPTED", async (client) => {
    const workspace = workspaceOf("crowded");
    const start = performance.now();
    const events = client.follow(workspace, [Deployment]);
    assert.deepEqual((await take(events, 2)).map(brief), ["loaded a", "changed b"]);
    // The server asks twice for 200 ms. A timer may be a millisecond early.
    const elapsed = performance.now() - start;
    assert.ok(elapsed >= 390, `${elapsed} ms`);
    // Two loads, four streams.
    assert.equal((await observed(client, workspace)).calls, 6);
    await events.return();

    // Loads that are too slow.
    const slow = workspaceOf("hang");
    const cancel = new AbortController();
    const impatient = new Client(address("SCRIPTED"), { loadTimeoutMs: 100 });
    const ended = assert.rejects(
      impatient.follow(slow, [Deployment], { signal: cancel.signal }).next(),
      (error) => error === cancel.signal.reason,
    );
    await until(async () => (await observed(client, slow)).calls >= 3);
    cancel.abort();
    await ended;
    impatient.close();
  }));

test("follow ends with an error that stays", () =>
  on("SCRIPTED", async (client) => {
    const workspace = workspaceOf("recreated");
    const events = client.follow(workspace, [Deployment]);
    assert.deepEqual((await take(events, 1)).map(brief), ["loaded a"]);
    const error = await errorOf(events);
    assert.deepEqual([error.code, error.reason], [Code.FAILED_PRECONDITION, "TOPIC_RECREATED"]);
    assert.equal((await observed(client, workspace)).calls, 2);
  }));
