"""Compares the names of values.schema.json with those of the default values, as JSON. Prints each difference.

A list has no defaults for the names of its items. The row of the list in the README has to have each of them.
"""

import json
import re
import sys

# Helm and parent charts set the first two. The third is an old name, which is refused with the new one.
WITHOUT_DEFAULT = {"global", "enabled", "pod.serviceAccountName"}
# Limits and requests that are better left out.
RESOURCES_WITHOUT_DEFAULT = (
    "resources.limits.cpu",
    "resources.limits.ephemeral-storage",
    "resources.requests.ephemeral-storage",
)


def items(path, schema, definitions, rows, found):
    """The names of the items of each list in the schema."""
    schema = definitions.get(schema.get("$ref", "").removeprefix("#/definitions/"), schema)
    item = schema.get("items", {})
    if item.get("additionalProperties") is False:
        for name in item["properties"]:
            if not re.search(rf"\b{name}\b", rows.get(path, "")):
                found.append(f"{path}: the README does not have {name} of its items")
    for name, inner in schema.get("properties", {}).items():
        items(f"{path}.{name}" if path else name, inner, definitions, rows, found)


def names(path, schema, definitions, value, found):
    reference = schema.get("$ref", "").removeprefix("#/definitions/")
    schema = definitions.get(reference, schema)
    listed = schema.get("properties", {})
    if path and schema.get("additionalProperties") is not False:
        return
    patterns = schema.get("patternProperties", {})
    for name in sorted(set(listed) | set(value)):
        child = f"{path}.{name}" if path else name
        if name not in value:
            if child not in WITHOUT_DEFAULT and not child.endswith(RESOURCES_WITHOUT_DEFAULT):
                found.append(f"{child} is in the schema, and has no default")
        elif name not in listed and not any(re.search(pattern, name) for pattern in patterns):
            found.append(f"{child} has a default, and is not in the schema")
        elif name in listed and isinstance(value[name], dict):
            names(child, listed[name], definitions, value[name], found)


def main():
    schema, values = (json.load(open(path, encoding="utf-8")) for path in sys.argv[1:3])
    with open(sys.argv[3], encoding="utf-8") as readme:
        rows = dict(re.findall(r"^\| `([^`]+)` \|(.*)$", readme.read(), re.MULTILINE))
    found = []
    items("", schema, schema["definitions"], rows, found)
    names("", schema, schema["definitions"], values, found)
    print("\n".join(found))
    sys.exit(1 if found else 0)


main()
