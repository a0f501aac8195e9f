// Validates rendered objects against the strict schemas of their Kubernetes version, which refuse unknown fields.
// Objects of CustomResourceDefinitions are validated against those in schemas/. Their rules in CEL do not run.
// Usage: node validate.mjs TOOLS RENDERED, where RENDERED has a directory for each version. Exits with 1 if any object
// does not fit, or if there is none.

import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const [tools, rendered] = process.argv.slice(2);
const require = createRequire(resolve(tools, 'npm', 'package.json'));
const { default: Ajv } = require('ajv/dist/2020.js');
const { parseAllDocuments } = require('yaml');

const schemas = join(dirname(fileURLToPath(import.meta.url)), 'schemas');

/** A schema of a CustomResourceDefinition that refuses fields which the API server would drop. */
function strict(schema) {
  if (Array.isArray(schema)) return schema.map(strict);
  if (schema === null || typeof schema !== 'object') return schema;
  const copy = Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, strict(value)]));
  const isClosed = schema.type === 'object' && schema.properties !== undefined;
  const isOpen = schema.additionalProperties !== undefined || schema['x-kubernetes-preserve-unknown-fields'] === true;
  if (isClosed && !isOpen) copy.additionalProperties = false;
  if (schema['x-kubernetes-int-or-string']) delete copy.type;
  // A form of Go alone.
  if (typeof schema.pattern === 'string' && schema.pattern.includes('(?i)')) delete copy.pattern;
  return copy;
}

/** Schemas of all CustomResourceDefinitions in schemas/, by apiVersion and kind. */
function customSchemas() {
  const found = new Map();
  for (const file of readdirSync(schemas, { recursive: true }).filter((name) => name.endsWith('.yaml'))) {
    for (const document of parseAllDocuments(readFileSync(join(schemas, file), 'utf8'))) {
      const definition = document.toJS();
      if (definition?.kind !== 'CustomResourceDefinition') continue;
      const { group, names, versions } = definition.spec;
      for (const { name, schema } of versions) {
        const key = `${group}/${name} ${names.kind}`;
        if (found.has(key)) throw new Error(`${file}: ${key} is in another file too`);
        const closed = strict(schema.openAPIV3Schema);
        // The metadata is that of every object.
        closed.properties.metadata = {
          $ref: '/api/_definitions.json#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta',
        };
        closed.required = [...(closed.required ?? []), 'metadata'];
        found.set(key, closed);
      }
    }
  }
  return found;
}

const custom = customSchemas();

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
    const ofKubernetes = `${object.kind}-${group}${object.apiVersion.split('/').at(-1)}.json`.toLowerCase();
    const ofCustom = `${object.apiVersion} ${object.kind}`;
    const name = custom.has(ofCustom) ? ofCustom : ofKubernetes;
    if (!custom.has(name) && !existsSync(join(directory, name))) return [`no schema ${name}`];
    if (!compiled.has(name)) compiled.set(name, ajv.compile(custom.get(name) ?? read(name)));
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
