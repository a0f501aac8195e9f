// Checks the annotations of Chart.yaml that Artifact Hub reads: names, and those whose text is YAML.
// Usage: node annotations.mjs TOOLS CHART.YAML. Exits with 1 if one does not fit.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';

const [tools, path] = process.argv.slice(2);
const { parse } = createRequire(resolve(tools, 'npm', 'package.json'))('yaml');
const SWITCH = (text) => text === 'true' || text === 'false';
const KINDS = ['added', 'changed', 'deprecated', 'removed', 'fixed', 'security'];
/** Each annotation that Artifact Hub knows and a chart like this one may have, and what its text must be. */
const KNOWN = {
  license: (text) => text === 'Apache-2.0',
  category: (text) => text === 'streaming-messaging',
  prerelease: SWITCH,
  operator: SWITCH,
  containsSecurityUpdates: SWITCH,
  changes: (text) =>
    parse(text).every(({ kind, description }) => KINDS.includes(kind) && typeof description === 'string'),
  images: (text) => parse(text).every(({ name, image }) => typeof name === 'string' && typeof image === 'string'),
  links: (text) => parse(text).every(({ name, url }) => typeof name === 'string' && URL.canParse(url)),
};

const found = Object.entries(parse(readFileSync(path, 'utf8')).annotations)
  .filter(([name]) => name.startsWith('artifacthub.io/'))
  .map(([name, text]) => [name.slice('artifacthub.io/'.length), text]);
const wrong = found.filter(([name, text]) => !(typeof text === 'string' && KNOWN[name]?.(text)));
for (const [name, text] of wrong) console.log(`artifacthub.io/${name} does not fit: ${text}`);
for (const name of ['license', 'changes']) {
  if (!found.some(([other]) => other === name)) wrong.push(name);
}
process.exit(wrong.length === 0 ? 0 : 1);
