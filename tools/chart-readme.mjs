// Writes the table of values in helm/changelogd/README.md from values.yaml and its comments. With --check it compares
// instead, and exits with 1 if they differ.

import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const { isMap, parseDocument } = createRequire(join(root, 'target/tools/npm/package.json'))('yaml');
const chart = join(root, 'helm/changelogd');
const BEGIN = '<!-- Written by `make chart-values`. -->\n\n';
const END = '\n## ';

/** The text of a comment as one line of Markdown. */
function textOf(comment) {
  const paragraph = (comment ?? '').split('\n\n').at(-1);
  return paragraph.replaceAll(/\s+/g, ' ').trim().replaceAll(/[|<]/g, '\\$&');
}

/** Rows of all values below a map. A map that Kubernetes defines is one value. */
function* rows(map, path, schema, definitions) {
  for (const [index, { key, value }] of map.items.entries()) {
    const name = path === '' ? key.value : `${path}.${key.value}`;
    // The comment of the first key stands before the map.
    const description = textOf(index === 0 ? (key.commentBefore ?? map.commentBefore) : key.commentBefore);
    let inner = schema.properties?.[key.value] ?? {};
    inner = definitions[inner.$ref?.replace('#/definitions/', '')] ?? inner;
    if (isMap(value) && value.items.length > 0 && inner.properties && inner.additionalProperties === false) {
      if (description !== '') yield `| \`${name}\` | | ${description} |`;
      yield* rows(value, name, inner, definitions);
    } else {
      const json = JSON.stringify(value.toJSON()).replaceAll('|', '\\|');
      yield `| \`${name}\` | \`${json}\` | ${description} |`;
    }
  }
}

const values = parseDocument(readFileSync(join(chart, 'values.yaml'), 'utf8'));
const schema = JSON.parse(readFileSync(join(chart, 'values.schema.json'), 'utf8'));
const head = ['| value | default | what it sets |', '|---|---|---|'];
const table = [...head, ...rows(values.contents, '', schema, schema.definitions)];

const path = join(chart, 'README.md');
const found = readFileSync(path, 'utf8');
const begin = found.indexOf(BEGIN);
if (begin < 0) throw new Error(`${path}: no line ${BEGIN.trim()}`);
const end = found.indexOf(END, begin);
const expected = found.slice(0, begin) + BEGIN + table.join('\n') + '\n' + found.slice(end);
if (!process.argv.includes('--check')) {
  writeFileSync(path, expected);
} else if (found !== expected) {
  console.error('helm/changelogd/README.md: the table of values differs from values.yaml; run `make chart-values`');
  process.exit(1);
}
