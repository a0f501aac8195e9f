// Keys, entities, and how values become bytes. Does not check the grammar of keys: the server does.

import { isInteger, parse, stringify } from "lossless-json";

/** The key of an entity: `{workspace}/{type}/{id}`. Only the ID may contain slashes. */
export class Key {
  constructor(
    readonly workspace: string,
    readonly type: string,
    readonly id: string,
  ) {
    // The joined form would be the key of another entity.
    if (workspace.includes("/") || type.includes("/")) {
      throw new RangeError(`the workspace "${workspace}" or the type "${type}" has a slash`);
    }
    checkText(workspace, type, id);
  }

  /** Splits at the first two slashes. */
  static parse(key: string): Key {
    const [workspace, type, ...id] = key.split("/");
    if (workspace === undefined || type === undefined || id.length === 0) {
      throw new RangeError(`the key "${key}" does not have three parts`);
    }
    return new Key(workspace, type, id.join("/"));
  }

  /** How a request names the entity. It is relative to the workspace, so that the server checks each part. */
  get changelogId(): string {
    return `/${this.type}/${this.id}`;
  }

  toString(): string {
    return `${this.workspace}${this.changelogId}`;
  }
}

/** Throws if a text has an unpaired surrogate. UTF-8 has none, so its bytes would be those of another text. */
export function checkText(...texts: readonly string[]): void {
  const wrong = texts.find((text) => /\p{Surrogate}/u.test(text));
  if (wrong !== undefined) {
    throw new RangeError(`${JSON.stringify(wrong)} has an unpaired surrogate`);
  }
}

/**
 * A value that knows its key. Its JSON document is stored. As with JSON.stringify, `toJSON()` chooses what is in it. A
 * bigint becomes an integer.
 */
export interface Entity {
  changelogKey(): Key;
}

/** A type of entities. A class with these static members is one. */
export interface EntityType<T> {
  /** The second part of the key. */
  readonly type: string;
  /**
   * Makes an entity of its JSON document, or throws. An integer is a bigint if a number can't hold it, and a number
   * otherwise. So `BigInt(json.size)` is exact for both.
   */
  fromJson(json: unknown, key: Key): T;
}

/** The value type of a list of entity types. Without types a value is its bytes. */
export type ValueOf<Types extends readonly EntityType<unknown>[]> = Types extends readonly []
  ? Uint8Array
  : Types[number] extends EntityType<infer T>
    ? T
    : never;

/** A value can't be decoded. The cause says why. */
export class DecodeError extends Error {
  override readonly name = "DecodeError";

  constructor(
    readonly key: Key,
    cause: unknown,
  ) {
    super(`the value of ${key} can't be decoded`, { cause });
  }
}

export function encode(entity: Entity): Uint8Array {
  const json = stringify(entity);
  if (json === undefined) {
    throw new TypeError(`${entity.changelogKey()} has no JSON document`);
  }
  return new TextEncoder().encode(json);
}

/** Decodes with the type of the key. If no types are given, the value is its bytes, which need not be JSON. */
export function decode<T>(value: Uint8Array, key: Key, types: readonly EntityType<T>[]): T {
  if (types.length === 0) {
    return value as T;
  }
  try {
    const json = parseJson(new TextDecoder("utf-8", { fatal: true }).decode(value));
    const type = types.find(({ type }) => type === key.type);
    if (type === undefined) {
      throw new TypeError("no entity type of this name was asked for");
    }
    return type.fromJson(json, key);
  } catch (cause) {
    throw new DecodeError(key, cause);
  }
}

function parseJson(text: string): unknown {
  // A number holds every integer of fewer than 16 digits. JSON.parse is much faster.
  if (!/\d{16}/.test(text)) {
    return JSON.parse(text);
  }
  // The last one counts, as with JSON.parse.
  return parse(text, null, { parseNumber, onDuplicateKey: ({ newValue }) => newValue });
}

function parseNumber(text: string): number | bigint {
  const number = Number(text);
  return isInteger(text) && !Number.isSafeInteger(number) ? BigInt(text) : number;
}
