import assert from "node:assert/strict";
import { test } from "node:test";

import { Code, DecodeError, type EntityType, Key } from "../src/index.js";
import { on, onBoth } from "./servers.js";
import { brief, collect, Deployment, deployment, errorOf, keyOf, take, workspaceOf } from "./support.js";

test("a typed value is set, read and deleted", () =>
  onBoth(async (client) => {
    const value = {
      name: "Zoë 日本 \u{1f980} \u0000 \u2028 \"'\\",
      nested: { list: [1, [2, { deep: null }], "three", true], empty: {} },
      integers: [0, -1, 2 ** 53 - 1, 9_007_199_254_740_993n, 9_223_372_036_854_775_807n, -9_223_372_036_854_775_808n],
      fractions: [0.1, -2.5e-7, 1e300],
    };
    const written = deployment(workspaceOf(), "a", value);
    const position = await client.set(written);
    assert.ok(position !== undefined && position.offset >= 0n && position.timestamp instanceof Date);
    const read = await client.get(Deployment, written.key);
    assert.deepEqual(read, written);
    await client.delete(written.key);
    assert.equal(await client.get(Deployment, written.key), undefined);
  }));

test("an absent entity is no error", () =>
  onBoth(async (client) => {
    const key = keyOf(workspaceOf(), "a");
    assert.equal(await client.get(Deployment, key), undefined);
    await client.set(new Deployment(key, 1));
    assert.notEqual(await client.get(Deployment, key), undefined);
    await client.delete(key);
    assert.equal(await client.get(Deployment, key), undefined);
    await client.delete(key);
  }));

test("a load is a map of typed values", () =>
  onBoth(async (client) => {
    const workspace = workspaceOf();
    assert.deepEqual(await client.load(workspace, Deployment), new Map());
    const [a, b, c] = ["a", "b", "c"].map((id) => deployment(workspace, id));
    assert.ok(a && b && c);
    const ofOtherType = new Deployment(new Key(workspace, "environment", "a"), 1);
    for (const entity of [a, b, c, ofOtherType, deployment(workspaceOf(), "d")]) {
      await client.set(entity);
    }
    await client.delete(b.key);
    const loaded = await client.load(workspace, Deployment);
    assert.deepEqual(loaded, new Map([["a", a], ["c", c]]));
    assert.ok(loaded.get("a") instanceof Deployment);
  }));

test("a value of another form is an error with its key", () =>
  on("EMBEDDED", async (client) => {
    const workspace = workspaceOf();
    const numbered: EntityType<number> = {
      type: Deployment.type,
      fromJson(json) {
        assert.ok(typeof json === "number", "not a number");
        return json;
      },
    };
    await client.set(deployment(workspace, "good", 1));
    assert.deepEqual(await client.load(workspace, numbered), new Map([["good", 1]]));
    const bad = deployment(workspace, "bad/one", "text");
    await client.set(bad);
    const named = (error: unknown) => {
      assert.ok(error instanceof DecodeError);
      assert.deepEqual(error.key, bad.key);
      assert.match(error.message, new RegExp(`${bad.key}`));
      return true;
    };
    await assert.rejects(client.load(workspace, numbered), named);
    await assert.rejects(client.get(numbered, bad.key), named);
    // What comes before the value is delivered, also in the same message.
    const records = client.stream({ workspaces: [workspace], types: [numbered] });
    assert.deepEqual((await take(records, 1)).map(brief), ["changed good"]);
    await assert.rejects(records.next(), named);
    await client.delete(bad.key);
    const changes = client.watch(workspace, [numbered]);
    assert.deepEqual((await take(changes, 1)).map(brief), ["loaded good"]);
    await client.set(deployment(workspace, "better", 2));
    await client.set(bad);
    assert.deepEqual((await take(changes, 1)).map(brief), ["changed better"]);
    await assert.rejects(changes.next(), named);
  }));

test("a key is split", () =>
  onBoth(async (client) => {
    const workspace = workspaceOf();
    const text = `${workspace}/deployment/a/b`;
    const key = Key.parse(text);
    assert.deepEqual([key.workspace, key.type, key.id, `${key}`], [workspace, "deployment", "a/b", text]);
    await client.set(new Deployment(key, 1));
    const loaded = await client.load(workspace, Deployment);
    assert.deepEqual([...loaded.entries()], [["a/b", new Deployment(key, 1)]]);
    const [first] = await collect(client.stream({ workspaces: [workspace], types: [Deployment] }));
    assert.ok(first?.kind === "changed");
    assert.deepEqual([first.key, first.value.key], [key, key]);
    // These would be other keys, or none.
    assert.throws(() => Key.parse(`${workspace}/deployment`), RangeError);
    assert.throws(() => new Key("a/b", "deployment", "c"), RangeError);
    assert.throws(() => new Key(workspace, "a/b", "c"), RangeError);
    // UTF-8 has no unpaired surrogates.
    assert.equal(new Key("\u{1f980}", "\u{1f980}", "\u{1f980}").id, "\ud83e\udd80");
    for (const half of ["\ud83e", "\udd80", "a\udd80\ud83e"]) {
      for (const parts of [[half, "b", "c"], ["a", half, "c"], ["a", "b", half]]) {
        assert.throws(() => Key.parse(parts.join("/")), RangeError);
      }
      await assert.rejects(client.load(half, Deployment), RangeError);
      await assert.rejects(collect(client.stream({ workspaces: [half] })), RangeError);
      await assert.rejects(collect(client.watch(half, [Deployment])), RangeError);
    }
  }));

test("an invalid key is refused with its field", () =>
  onBoth(async (client) => {
    const facts = async (key: Key) => {
      const { code, reason, field, isSafeToRetry } = await errorOf(client.set(new Deployment(key, 1)));
      return { code, reason, field, isSafeToRetry };
    };
    const invalid = { code: Code.INVALID_ARGUMENT, reason: "KEY_INVALID", isSafeToRetry: false };
    assert.deepEqual(await facts(new Key(workspaceOf(), "", "a")), { ...invalid, field: "changelog_id" });
    assert.deepEqual(await facts(new Key("", "deployment", "a")), { ...invalid, field: "workspace_id" });
    const load = await errorOf(client.load("a\u0000b", Deployment));
    assert.deepEqual([load.code, load.reason, load.field], [Code.INVALID_ARGUMENT, "KEY_INVALID", "workspace_id"]);
  }));
