import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";

import { Code, type Entity, type EntityType, Key, PartialLoadError } from "../src/index.js";
import { observed, on, onBoth, until } from "./servers.js";
import { brief, collect, Deployment, deployment, errorOf, take, workspaceOf } from "./support.js";

test("a partial load is an error", () =>
  on("SCRIPTED", async (client) => {
    const partial = await errorOf(client.load(workspaceOf("partial"), Deployment));
    assert.ok(partial instanceof PartialLoadError);
    assert.deepEqual([partial.code, partial.reason, partial.isSafeToRetry], [Code.INTERNAL, undefined, false]);
    const broken = await errorOf(client.load(workspaceOf("broken"), Deployment));
    assert.deepEqual([broken.code, broken.message, broken.reason], [Code.INTERNAL, "broken", undefined]);
    assert.equal(broken.isSafeToRetry, false);
  }));

test("an unknown event is ignored", () =>
  on("SCRIPTED", async (client) => {
    const workspace = workspaceOf("unknown-event");
    const loaded = await client.load(workspace, Deployment);
    assert.deepEqual(loaded, new Map([["a", deployment(workspace, "a", { name: "a", version: 0 })]]));
    const events = client.watch(workspace, [Deployment]);
    assert.deepEqual((await take(events, 2)).map(brief), ["loaded a", "changed b"]);
    await events.return();
  }));

test("cancel stops a load", () =>
  on("SCRIPTED", async (client) => {
    const workspace = workspaceOf("hang");
    const cancel = new AbortController();
    const load = client.load(workspace, Deployment, { signal: cancel.signal });
    const ended = assert.rejects(load, (error) => error === cancel.signal.reason);
    await until(async () => (await observed(client, workspace)).calls === 1);
    const start = performance.now();
    cancel.abort();
    await ended;
    assert.ok(performance.now() - start < 1_000);
    await until(async () => (await observed(client, workspace)).cancelled);
    // A signal that is aborted before makes no call.
    await assert.rejects(client.load(workspace, Deployment, { signal: cancel.signal }), { name: "AbortError" });
    assert.equal((await observed(client, workspace)).calls, 1);
  }));

test("a stream has tombstones and snapshots", async () => {
  await onBoth(async (client) => {
    const workspace = workspaceOf();
    await client.set(deployment(workspace, "a"));
    await client.set(deployment(workspace, "b"));
    await client.delete(deployment(workspace, "b").key);
    const events = await collect(client.stream({ workspaces: [workspace], types: [Deployment] }));
    assert.equal(brief(events[0]!), "changed a");
    // Kafka may still have the record that the delete superseded.
    assert.deepEqual(events.slice(-2).map(brief), ["deleted b", "snapshot"]);
    assert.equal(events.filter(({ kind }) => kind === "snapshot").length, 1);

    // Without a type the value is its bytes. Other selections have their snapshots, too.
    const [untyped] = await collect(client.stream({ workspaces: [workspace] }));
    assert.ok(untyped?.kind === "changed");
    assert.equal(new TextDecoder().decode(untyped.value), '{"name":"a"}');
    const other = workspaceOf();
    const several = await collect(client.stream({ workspaces: [workspace, other], types: [Deployment] }));
    assert.ok(several.some(({ kind }) => kind === "snapshot"));
    const fresh: EntityType<unknown> = { type: `type-${randomUUID()}`, fromJson: (json) => json };
    const entity: Entity = { changelogKey: () => new Key(workspace, fresh.type, "a") };
    const position = await client.set(entity);
    assert.ok(position);
    const all = await collect(client.stream({ types: [fresh] }));
    assert.deepEqual(all.filter(({ kind }) => kind === "changed").map(brief), ["changed a"]);
    const numbers = all.flatMap((event) => (event.kind === "snapshot" ? [event.partition] : []));
    assert.deepEqual(numbers.sort((a, b) => a - b), [...numbers.keys()]);
    const { partition } = position;
    const one = await collect(client.stream({ partitions: [partition], types: [fresh] }));
    assert.deepEqual(one.map(brief), ["changed a", "snapshot"]);
  });
  await on("SCRIPTED", async (client) => {
    const partial = client.stream({ workspaces: [workspaceOf("partial")], types: [Deployment] });
    assert.deepEqual((await take(partial, 1)).map(brief), ["changed a"]);
    assert.ok((await errorOf(partial)) instanceof PartialLoadError);
    const broken = client.stream({ workspaces: [workspaceOf("broken")], types: [Deployment] });
    assert.deepEqual((await take(broken, 1)).map(brief), ["changed a"]);
    assert.equal((await errorOf(broken)).code, Code.INTERNAL);
  });
});
