// Compares the sidecar and the volumes of a pod with those of a patch. Usage: node same.mjs TOOLS POD PATCH. Exits with
// 1 if they differ.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { isDeepStrictEqual } from 'node:util';

const [tools, pod, patch] = process.argv.slice(2);
const { parse } = createRequire(resolve(tools, 'npm', 'package.json'))('yaml');
const read = (path) => parse(readFileSync(path, 'utf8')).spec;

const found = read(pod);
const expected = read(patch).template.spec;
const sidecar = found.initContainers.find(({ name }) => name === 'changelogd');
const same = isDeepStrictEqual([sidecar, found.volumes], [expected.initContainers[0], expected.volumes]);
if (!same) console.log(JSON.stringify([sidecar, found.volumes, expected]));
process.exit(same ? 0 : 1);
