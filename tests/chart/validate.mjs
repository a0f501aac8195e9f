// Validates rendered objects against the strict schemas of their Kubernetes version, which refuse unknown fields.
// Usage: node validate.mjs TOOLS RENDERED, where RENDERED has a directory for each version. Exits with 1 if any object
// does not fit, or if there is none.

import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';

const [tools, rendered] = process.argv.slice(2);
const require = createRequire(resolve(tools, 'npm', 'package.json'));
const { default: Ajv } = require('ajv/dist/2020.js');
const { parseAllDocuments } = require('yaml');

/** The schemas of a version, compiled when they are first needed. */
function validators(version) {
  const directory = join(tools, 'python/kubernetes_validate/kubernetes-json-schema', `v${version}-local-strict`);
  const read = (name) => JSON.parse(readFileSync(join(directory, name), 'utf8'));
  // The schemas use formats such as int32, and keywords that strict mode warns of.
  const ajv = new Ajv({ strict: false, validateFormats: false, allErrors: true });
  ajv.addSchema(read('_definitions.json'), '/api/_definitions.json');
  const compiled = new Map();
  return (object) => {
    const group = object.apiVersion.includes('/') ? object.apiVersion.split('/')[0].split('.')[0] + '-' : '';
    const name = `${object.kind}-${group}${object.apiVersion.split('/').at(-1)}.json`.toLowerCase();
    if (!existsSync(join(directory, name))) return [`no schema ${name}`];
    if (!compiled.has(name)) compiled.set(name, ajv.compile(read(name)));
    const validate = compiled.get(name);
    if (validate(object)) return [];
    return validate.errors.map((error) => {
      const unknown = error.params.additionalProperty;
      return `${error.instancePath || '/'}: ${error.message}${unknown === undefined ? '' : `: ${unknown}`}`;
    });
  };
}

// Helm and the API server read YAML 1.1, where on and n are switches.
let objects = 0;
let failed = 0;
for (const version of readdirSync(rendered)) {
  const problemsOf = validators(version);
  for (const file of readdirSync(join(rendered, version))) {
    for (const document of parseAllDocuments(readFileSync(join(rendered, version, file), 'utf8'), { version: '1.1' })) {
      const problems = document.errors.map(String);
      const object = document.toJS();
      // A comment alone.
      if (problems.length === 0 && object === null) continue;
      objects += 1;
      if (problems.length === 0) problems.push(...problemsOf(object));
      for (const problem of problems) console.log(`${version}/${file}: ${object?.kind}: ${problem}`);
      failed += problems.length === 0 ? 0 : 1;
    }
  }
}
console.log(`${objects} objects, ${failed} do not fit`);
process.exit(objects > 0 && failed === 0 ? 0 : 1);
