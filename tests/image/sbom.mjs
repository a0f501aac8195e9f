// Validates a CycloneDX document against the schema of its version. Usage: node sbom.mjs TOOLS FILE

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';

const [tools, file] = process.argv.slice(2);
const require = createRequire(resolve(tools, 'npm', 'package.json'));
const { default: Ajv } = require('ajv');

const read = (name) =>
  JSON.parse(readFileSync(join(tools, 'python/cyclonedx/schema/_res', `${name}.SNAPSHOT.schema.json`), 'utf8'));
const document = JSON.parse(readFileSync(file, 'utf8'));
// The schemas use formats such as iri-reference, which ajv does not know by itself.
const ajv = new Ajv({ strict: false, validateFormats: false, allErrors: true });
// The others are referred to by the names of their files.
for (const name of ['spdx', 'jsf-0.82']) {
  const { $id, ...schema } = read(name);
  ajv.addSchema(schema, `http://cyclonedx.org/schema/${name}.SNAPSHOT.schema.json`);
}
const validate = ajv.compile(read(`bom-${document.specVersion}`));
if (!validate(document)) {
  for (const error of validate.errors) console.log(`${error.instancePath || '/'}: ${error.message}`);
  process.exit(1);
}
console.log(`valid CycloneDX ${document.specVersion}, ${document.components.length} components`);
