import assert from "node:assert/strict";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { backoffMs } from "../src/connection.js";
import { Client, Code, type WatchEvent } from "../src/index.js";
import { address, observed, on, onBoth, until } from "./servers.js";
import { brief, Deployment, deployment, errorOf, keyOf, take, workspaceOf } from "./support.js";

/** The entity and the version of a scripted change. */
function version(event: WatchEvent<Deployment>): string {
  if (event.kind !== "changed") {
    return event.kind;
  }
  return `${event.key.id} ${(event.value.value as { version: number }).version}`;
}

test("watch loads and then delivers changes", () =>
  onBoth(async (client) => {
    const workspace = workspaceOf();
    await client.set(deployment(workspace, "a"));
    const cancel = new AbortController();
    const events = client.watch(workspace, [Deployment], { signal: cancel.signal });
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

test("watch resumes after a broken stream", () =>
  on("SCRIPTED", async (client) => {
    const workspace = workspaceOf("resume");
    const events = client.watch(workspace, [Deployment]);
    const live = ["loaded a", "changed a", "changed b"];
    // What was missed comes once, deletes too, although one stream breaks before all of it has come.
    const missed = ["deleted a", "changed c", "changed d"];
    assert.deepEqual((await take(events, 6)).map(brief), [...live, ...missed]);
    assert.equal((await observed(client, workspace)).calls, 4);
    await events.return();
    await until(async () => (await observed(client, workspace)).cancelled);
  }));

test("watch reloads when it must", () =>
  on("SCRIPTED", async (client) => {
    for (const script of ["resync", "moved", "truncated"]) {
      const workspace = workspaceOf(script);
      const events = client.watch(workspace, [Deployment]);
      assert.deepEqual((await take(events, 4)).map(brief), ["loaded a", "changed a", "loaded b", "changed c"]);
      assert.equal((await observed(client, workspace)).calls, 3);
      await events.return();
    }
  }));

test("watch delivers what replaced lost changes", () =>
  on("SCRIPTED", async (client) => {
    const workspace = workspaceOf("lost");
    const events = client.watch(workspace, [Deployment]);
    const before = ["loaded", "z 1", "a 2", "b 3", "a 4", "c 5", "e 6"];
    // The log lost what was at 4 and above. What it has instead comes, and what it still has does not come again.
    assert.deepEqual((await take(events, 11)).map(version), [...before, "a 2", "c 4", "e 60", "d 7"]);
    assert.equal((await observed(client, workspace)).calls, 2);
    await events.return();
  }));

test("watch reloads when a delivered entity is gone", () =>
  on("SCRIPTED", async (client) => {
    const workspace = workspaceOf("phantom");
    const events = client.watch(workspace, [Deployment]);
    const expected = ["loaded a", "changed b", "changed c", "loaded a c d", "changed e"];
    assert.deepEqual((await take(events, 5)).map(brief), expected);
    assert.equal((await observed(client, workspace)).calls, 4);
    await events.return();
  }));

test("watch remembers ten thousand entities", () =>
  on("SCRIPTED", async (client) => {
    for (const [count, last] of [[10_000, "changed b"], [10_001, "loaded b"]] as const) {
      const workspace = workspaceOf(`many-${count}`);
      const events = client.watch(workspace, [Deployment]);
      const many = Array.from({ length: count }, (_, i) => `changed x${i + 1}`);
      assert.deepEqual((await take(events, count + 2)).map(brief), ["loaded a", ...many, last]);
      assert.equal((await observed(client, workspace)).calls, 2);
      await events.return();
    }
  }));

test("watch asks again if a resumed call is not answered", () =>
  on("SCRIPTED", async (client) => {
    const hasty = new Client(address("SCRIPTED"), { loadTimeoutMs: 300 });
    const workspace = workspaceOf("mute-1");
    const cancel = new AbortController();
    const events = hasty.watch(workspace, [Deployment], { signal: cancel.signal });
    assert.deepEqual((await take(events, 2)).map(brief), ["loaded a", "changed b"]);
    await until(async () => (await observed(client, workspace)).cancelled);
    // After its first message a resumed call has no timeout. One would be noticed while the next event is awaited.
    const next = events.next();
    await sleep(500);
    assert.equal((await observed(client, workspace)).calls, 3);
    cancel.abort();
    await assert.rejects(next);

    // Calls that are never answered end it.
    const mute = workspaceOf("mute-9");
    const unanswered = hasty.watch(mute, [Deployment]);
    assert.deepEqual((await take(unanswered, 1)).map(brief), ["loaded a"]);
    const error = await errorOf(unanswered);
    assert.deepEqual([error.code, error.reason], [Code.DEADLINE_EXCEEDED, undefined]);
    assert.equal((await observed(client, mute)).calls, 3);
    hasty.close();
  }));

test("a pause has a random part", () => {
  // The longer one counts.
  for (const [failures, asked, least] of [
    [0, undefined, 100],
    [2, undefined, 400],
    [1_000, 1_000, 4_000],
    [0, 30_000, 30_000],
    [0, 3_600_000, 60_000],
  ] as const) {
    const pauses = Array.from({ length: 100 }, () => backoffMs(failures, 4_000, asked));
    assert.ok(Math.min(...pauses) >= least && Math.max(...pauses) <= least * 1.25, `${least}: ${pauses}`);
    assert.ok(new Set(pauses).size > 1, `${least}: ${pauses}`);
  }
});

test("watch ends with what does not pass", () =>
  on("SCRIPTED", async (client) => {
    const hasty = new Client(address("SCRIPTED"), { loadTimeoutMs: 500 });
    for (const [script, expected, code, reason] of [
      ["too-large", [], Code.RESOURCE_EXHAUSTED, "REPLAY_TOO_LARGE"],
      ["stuck", ["loaded a", "changed b"], Code.DEADLINE_EXCEEDED, "DEADLINE"],
    ] as const) {
      const workspace = workspaceOf(script);
      const events = hasty.watch(workspace, [Deployment]);
      assert.deepEqual((await take(events, expected.length)).map(brief), expected);
      const error = await errorOf(events);
      assert.deepEqual([error.code, error.reason], [code, reason]);
      assert.ok((await observed(client, workspace)).calls >= 3);
    }
    // But an outage may last.
    const workspace = workspaceOf("outage");
    const events = hasty.watch(workspace, [Deployment]);
    assert.deepEqual((await take(events, 1)).map(brief), ["loaded a"]);
    assert.equal((await observed(client, workspace)).calls, 4);
    await events.return();
    hasty.close();
  }));

test("watch waits longer until a later event", async () => {
  // A state ends a row of failures, so the timeout of a load does not end this watch.
  const hasty = new Client(address("SCRIPTED"), { loadTimeoutMs: 300 });
  let start = performance.now();
  const events = hasty.watch(workspaceOf("lagging"), [Deployment]);
  assert.deepEqual((await take(events, 7)).map(brief), [...Array(6).fill("loaded a"), "changed b"]);
  // Five pauses of at most 125 ms would take 0.6 s.
  assert.ok(performance.now() - start >= 1_000);
  start = performance.now();
  assert.deepEqual((await take(events, 1)).map(brief), ["changed c"]);
  // A pause that is twice as long as the one before would be at least 3.2 s.
  assert.ok(performance.now() - start < 1_400);
  await events.return();
  hasty.close();
});

test("a watch without synced delivers no state", () =>
  on("SCRIPTED", async (client) => {
    const workspace = workspaceOf("unsynced");
    const events = client.watch(workspace, [Deployment]);
    assert.deepEqual((await take(events, 1)).map(brief), ["loaded b"]);
    assert.equal((await observed(client, workspace)).calls, 3);
    await events.return();
  }));

test("watch outlives what passes", () =>
  on("SCRIPTED", async (client) => {
    const workspace = workspaceOf("crowded");
    const start = performance.now();
    const events = client.watch(workspace, [Deployment]);
    assert.deepEqual((await take(events, 2)).map(brief), ["loaded a", "changed b"]);
    // The server asks twice for 200 ms. A timer may be a millisecond early.
    const elapsed = performance.now() - start;
    assert.ok(elapsed >= 390, `${elapsed} ms`);
    assert.equal((await observed(client, workspace)).calls, 5);
    await events.return();

    // A state that does not come in time is asked for again.
    const slow = workspaceOf("hang");
    const hasty = new Client(address("SCRIPTED"), { loadTimeoutMs: 100 });
    const error = await errorOf(hasty.watch(slow, [Deployment]));
    assert.deepEqual([error.code, error.reason], [Code.DEADLINE_EXCEEDED, undefined]);
    assert.equal((await observed(client, slow)).calls, 2);
    hasty.close();

    // The changes have no timeout.
    const patient = new Client(address("SCRIPTED"), { loadTimeoutMs: 300 });
    const quiet = workspaceOf("unknown-event");
    const changes = patient.watch(quiet, [Deployment]);
    assert.deepEqual((await take(changes, 2)).map(brief), ["loaded a", "changed b"]);
    const before = await observed(client, quiet);
    await sleep(400);
    assert.deepEqual(await observed(client, quiet), before);
    await changes.return();
    patient.close();
  }));

test("watch resumes after a long outage", async () => {
  const [host, port] = address("SCRIPTED").split(":");
  const sockets: Socket[] = [];
  const relay = createServer((client) => {
    const server = connect(Number(port), host);
    client.pipe(server).pipe(client);
    for (const socket of [client, server]) {
      socket.on("error", () => {});
      sockets.push(socket);
    }
  });
  const listen = (port: number) => new Promise<void>((resolve) => relay.listen(port, "127.0.0.1", resolve));
  const stop = () => {
    relay.close();
    sockets.splice(0).forEach((socket) => socket.destroy());
  };
  await listen(0);
  const here = (relay.address() as AddressInfo).port;
  const hasty = new Client(`127.0.0.1:${here}`, { loadTimeoutMs: 300 });
  const events = hasty.watch(workspaceOf("unknown-event"), [Deployment]);
  assert.deepEqual((await take(events, 2)).map(brief), ["loaded a", "changed b"]);
  stop();
  const next = errorOf(events);
  await sleep(1_500);
  await listen(here);
  // The script refuses the call that resumes.
  assert.equal((await next).reason, "TOKEN_INVALID");
  hasty.close();
  stop();
});

test("watch ends with an error that stays", () =>
  on("SCRIPTED", async (client) => {
    const workspace = workspaceOf("recreated");
    const events = client.watch(workspace, [Deployment]);
    assert.deepEqual((await take(events, 1)).map(brief), ["loaded a"]);
    const error = await errorOf(events);
    assert.deepEqual([error.code, error.reason], [Code.FAILED_PRECONDITION, "TOPIC_RECREATED"]);
    assert.equal((await observed(client, workspace)).calls, 1);
  }));
