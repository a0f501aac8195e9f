// Writes the manifests of deploy/kubernetes and the policy of examples/kubernetes, rendered from the chart, for users
// without Helm. With --check it compares instead, and exits with 1 if they differ.

import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

import { policyOf } from './admission-policy.mjs';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const { Document, parse, parseAllDocuments } = createRequire(join(root, 'target/tools/npm/package.json'))('yaml');
const chart = join(root, 'helm/changelogd');
const work = join(root, 'target/kubernetes-yaml');
const HEAD = ' Written by `make kubernetes-yaml` from helm/changelogd. The image is yours: none is published yet.\n';
// The oldest version whose objects and fields hold for all later ones, native sidecars included.
const KUBERNETES = '1.29.0';
const IMAGE = { image: { repository: 'registry.example/changelogd' } };
const CLAIM = { data: { claim: { enabled: true } } };
const KAFKA = { kafka: { brokers: ['kafka:9092'] }, topic: { partitions: 12 } };

/** What Helm renders, one document for each object. Empty ones are left out. */
function render(source, values, ...more) {
  const file = join(work, 'values.json');
  writeFileSync(file, JSON.stringify(values));
  const environment = { ...process.env, KUBECONFIG: '/dev/null', HELM_CONFIG_HOME: join(work, 'helm') };
  const argv = ['template', 'changelogd', source, '--kube-version', KUBERNETES, '--values', file, ...more];
  const text = execFileSync(join(root, 'target/tools/bin/helm'), argv, { encoding: 'utf8', env: environment });
  return parseAllDocuments(text).filter((document) => document.contents !== null);
}

/** Text of documents, without line breaks in strings. */
function textOf(documents) {
  documents[0].commentBefore = HEAD.trimEnd();
  return documents.map((document) => document.toString({ lineWidth: 0, directives: false })).join('---\n');
}

/** Objects without namespace and Helm's own labels. */
function plain(documents) {
  for (const document of documents) {
    document.commentBefore = null;
    const { contents } = document;
    contents.commentBefore = contents.commentBefore?.replace(/^ Source: .*\n?/, '');
    document.deleteIn(['metadata', 'namespace']);
    for (const metadata of [['metadata'], ['spec', 'template', 'metadata']]) {
      for (const label of ['helm.sh/chart', 'app.kubernetes.io/managed-by']) {
        if (document.hasIn([...metadata, 'labels', label])) document.deleteIn([...metadata, 'labels', label]);
      }
    }
  }
  return documents;
}

/** A pod spec that only has what the chart adds to that of an application. */
function sidecarPod() {
  const parent = join(work, 'parent');
  mkdirSync(join(parent, 'templates'), { recursive: true });
  cpSync(chart, join(parent, 'charts/changelogd'), { recursive: true });
  writeFileSync(join(parent, 'Chart.yaml'), 'apiVersion: v2\nname: application\nversion: 0.1.0\n');
  const application = '(dict "containers" (list (dict "name" "application")))';
  writeFileSync(
    join(parent, 'templates/pod.yaml'),
    `{{ include "changelogd.v1.pod" (list .Subcharts.changelogd ${application}) }}\n`,
  );
  const values = { changelogd: { mode: 'sidecar', ...IMAGE, ...KAFKA } };
  return render(parent, values, '--show-only', 'templates/pod.yaml')[0].toJS();
}

/** A strategic merge patch. Its kind and name do not count, because the component has a target. */
function patch(kind, spec) {
  const object = { apiVersion: 'apps/v1', kind, metadata: { name: 'changelogd' }, spec: { template: { spec } } };
  return textOf([new Document(object)]);
}

/** What changes in the container if the API listens on the pod's address. */
function servicePatch() {
  const of = (values) =>
    render(chart, { ...IMAGE, ...KAFKA, ...values }, '--show-only', 'templates/deployment.yaml')[0].toJS().spec.template
      .spec.containers[0];
  const [closed, open] = [of({}), of({ api: { insecureListen: true } })];
  const added = (name, key) => {
    const before = new Set(closed[name].map((item) => JSON.stringify(item)));
    return open[name].filter((item) => !before.has(JSON.stringify(item)) && item[key] !== undefined);
  };
  const container = { name: closed.name, env: added('env', 'name'), ports: added('ports', 'containerPort') };
  return patch('Deployment', { containers: [container] });
}

rmSync(work, { recursive: true, force: true });
mkdirSync(work, { recursive: true });
const service = { api: { insecureListen: true }, service: { enabled: true } };
const { initContainers, volumes, enableServiceLinks, terminationGracePeriodSeconds } = sidecarPod();
const files = {
  'deploy/kubernetes/embedded/changelogd.yaml': textOf(plain(render(chart, { ...IMAGE, ...CLAIM }))),
  'deploy/kubernetes/kafka/changelogd.yaml': textOf(plain(render(chart, { ...IMAGE, ...KAFKA, replicas: 2 }))),
  'deploy/kubernetes/service/service.yaml': textOf(
    plain(render(chart, { ...IMAGE, ...KAFKA, ...service }, '--show-only', 'templates/service.yaml')),
  ),
  'deploy/kubernetes/service/patch.yaml': servicePatch(),
  'deploy/kubernetes/sidecar/patch.yaml': patch('Deployment', {
    enableServiceLinks,
    terminationGracePeriodSeconds,
    initContainers,
    volumes,
  }),
  'examples/kubernetes/admission-policy/policy.yaml': `#${HEAD}${policyOf(initContainers[0], volumes)}`,
};

let differ = 0;
for (const [name, expected] of Object.entries(files)) {
  const path = join(root, name);
  if (expected.split('\n').some((line) => line.length > 120)) throw new Error(`${name}: a line is too long`);
  parseAllDocuments(expected).forEach((document) => parse(document.toString()));
  if (!process.argv.includes('--check')) {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, expected);
  } else if (!existsSync(path) || readFileSync(path, 'utf8') !== expected) {
    console.error(`${name}: differs from the chart; run \`make kubernetes-yaml\``);
    differ += 1;
  }
}
process.exit(differ === 0 ? 0 : 1);
