// The MutatingAdmissionPolicy of examples/kubernetes/admission-policy, with the sidecar as the chart renders it.

// Fields that are maps of strings. All others have a type of their own.
const MAPS = new Set(['limits', 'requests']);

/** A value of JSON as CEL, where an object has the type of its path, such as Object.spec.volumes.emptyDir. */
function cel(value, type, indent) {
  const inner = `${indent}  `;
  const block = (open, items, close) => {
    const lines = items.map((item) => inner + item).join(',\n');
    return items.length === 0 ? open + close : `${open}\n${lines}\n${indent}${close}`;
  };
  if (Array.isArray(value)) return block('[', value.map((item) => cel(item, type, inner)), ']');
  if (value !== null && typeof value === 'object') {
    const isMap = MAPS.has(type.split('.').at(-1));
    const fields = Object.entries(value).map(([name, field]) =>
      isMap ? `${JSON.stringify(name)}: ${cel(field, '', inner)}` : `${name}: ${cel(field, `${type}.${name}`, inner)}`,
    );
    return block(isMap ? '{' : `${type}{`, fields, '}');
  }
  return JSON.stringify(value);
}

/** Text with each line but the first indented, so that it can stand in a YAML block. */
function indented(text, indent) {
  return text.replaceAll('\n', `\n${indent}`);
}

export function policyOf(sidecar, volumes) {
  const container = cel(sidecar, 'Object.spec.initContainers', '');
  const added = volumes.map((volume) => {
    const value = cel(volume, 'Object.spec.volumes', '');
    return `JSONPatch{op: "add", path: "/spec/volumes/-", value: ${value}}`;
  });
  return `# For Kubernetes 1.36 and later. Older ones: see README.md.
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata:
  name: changelogd-sidecar
spec:
  # A pod that cannot get its sidecar is refused.
  failurePolicy: Fail
  # Another policy may add containers that use the sidecar. They have the address too.
  reinvocationPolicy: IfNeeded
  matchConstraints:
    objectSelector:
      matchLabels:
        changelogd/sidecar: enabled
    resourceRules:
      - apiGroups: [""]
        apiVersions: [v1]
        resources: [pods]
        operations: [CREATE]
  variables:
    - name: hasSidecar
      expression: >-
        (object.spec.?initContainers.orValue([]) + object.spec.containers).exists(c, c.name == "${sidecar.name}")
    # Places of containers that lack the variable. Another changelogd is no client.
    - name: initClients
      expression: >-
        object.spec.?initContainers.orValue([]).transformList(i, c,
          !c.?env.orValue([]).exists(e, e.name in ["CHANGELOGD_ADDR", "CHANGELOGD_LISTEN"]),
          {"path": "/spec/initContainers/" + string(i) + "/env", "hasVariables": has(c.env) ? "yes" : "no"})
    - name: clients
      expression: >-
        object.spec.containers.transformList(i, c,
          !c.?env.orValue([]).exists(e, e.name in ["CHANGELOGD_ADDR", "CHANGELOGD_LISTEN"]),
          {"path": "/spec/containers/" + string(i) + "/env", "hasVariables": has(c.env) ? "yes" : "no"})
  mutations:
    - patchType: JSONPatch
      jsonPatch:
        expression: >-
          (variables.initClients + variables.clients).filter(c, c.hasVariables == "no")
            .map(c, JSONPatch{op: "add", path: c.path, value: []})
          + (variables.initClients + variables.clients).map(c, JSONPatch{op: "add", path: c.path + "/0",
            value: Object.spec.containers.env{name: "CHANGELOGD_ADDR", value: "127.0.0.1:50051"}})
          + (variables.hasSidecar ? [] :
            (has(object.spec.initContainers) ? [] : [JSONPatch{op: "add", path: "/spec/initContainers", value: []}])
            + (has(object.spec.volumes) ? [] : [JSONPatch{op: "add", path: "/spec/volumes", value: []}])
            + [
              JSONPatch{op: "add", path: "/spec/initContainers/0", value: ${indented(container, '              ')}},
              ${added.map((patch) => indented(patch, '              ')).join(',\n              ')}
            ])
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata:
  name: changelogd-sidecar
spec:
  policyName: changelogd-sidecar
`;
}
