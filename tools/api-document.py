#!/usr/bin/env python3
"""Writes docs/api.md from the comments of proto/changelog.proto. With --check it compares them instead.

buf parses the file, so that no grammar is written again here.
"""
import argparse
import json
import re
import subprocess
import sys

BUF = "target/tools/npm/node_modules/.bin/buf"
SOURCE = "changelog.proto"
TARGET = "docs/api.md"
PACKAGE = ".changelog.v1."

# Field numbers of google/protobuf/descriptor.proto, which a SourceCodeInfo.Location has in its path.
FILE_MESSAGE, FILE_ENUM, FILE_SERVICE, FILE_SYNTAX = 4, 5, 6, 12
SERVICE_METHOD, ENUM_VALUE, MESSAGE_FIELD, MESSAGE_ONEOF = 2, 2, 2, 8

HEAD = """# API reference

This page has the comments of [proto/changelog.proto](../proto/changelog.proto). `make api` writes it.
[semantics.md](semantics.md) explains what the calls promise.
"""


def descriptor():
    image = subprocess.run([BUF, "build", "proto", "-o", "-#format=json"], check=True, capture_output=True).stdout
    return next(file for file in json.loads(image)["file"] if file["name"] == SOURCE)


def comments(file):
    """The comment before each definition, by its path. The first one of the file is under `detached`."""
    found = {}
    for location in file["sourceCodeInfo"]["location"]:
        path = tuple(location.get("path", ()))
        found[path] = unindented(location.get("leadingComments", ""))
        if path == (FILE_SYNTAX,):
            found["detached"] = unindented("\n".join(location.get("leadingDetachedComments", ())))
    return found


def unindented(comment):
    return "\n".join(line.removeprefix(" ").rstrip() for line in comment.strip("\n").split("\n"))


def overview(comment):
    """The comment of the file: a heading for each part, whose text is laid out by hand."""
    first, *parts = re.split(r"^([A-Z][A-Z ]+)\n", comment, flags=re.MULTILINE)
    lines = [first.strip()]
    for heading, text in zip(parts[::2], parts[1::2]):
        text = "\n".join(line.removeprefix("  ") for line in text.strip("\n").split("\n"))
        lines += [f"## {heading.capitalize()}", f"```text\n{text.rstrip()}\n```"]
    return lines


def type_name(field, maps):
    name = field.get("typeName", "").removeprefix(PACKAGE)
    if entry := maps.get(name.rpartition(".")[2]):
        return "map<{}, {}>".format(*(type_name(part, {}) for part in entry["field"]))
    if not name:
        name = field["type"].removeprefix("TYPE_").lower()
    return ("repeated " if field["label"] == "LABEL_REPEATED" else "") + name.removeprefix(".")


def linked(name):
    """A type of this file as a link to its section."""
    plain = name.removeprefix("repeated ")
    return f"`{name}`" if "." in plain or plain[0].islower() else f"[`{name}`](#{plain.lower()})"


def cell(comment):
    return " ".join(comment.split()).replace("|", "\\|")


def service(number, definition, comment_of):
    lines = [f"## {definition['name']}", comment_of[(FILE_SERVICE, number)]]
    for index, method in enumerate(definition["method"]):
        sides = []
        for side, streams in (("input", "clientStreaming"), ("output", "serverStreaming")):
            name = linked(method[f"{side}Type"].removeprefix(PACKAGE))
            sides.append(("stream of " if method.get(streams) else "") + name)
        path = (FILE_SERVICE, number, SERVICE_METHOD, index)
        lines += [f"### {method['name']}", f"{sides[0]} → {sides[1]}", comment_of[path]]
    return lines


def message(number, definition, comment_of):
    path = (FILE_MESSAGE, number)
    lines = [f"### {definition['name']}", comment_of[path]]
    maps = {nested["name"]: nested for nested in definition.get("nestedType", ())}
    oneofs = definition.get("oneofDecl", ())
    rows = []
    for index, field in enumerate(definition.get("field", ())):
        text = cell(comment_of[(*path, MESSAGE_FIELD, index)])
        is_optional = field.get("proto3Optional", False)
        if "oneofIndex" in field and not is_optional:
            text = f"One of `{oneofs[field['oneofIndex']]['name']}`. {text}"
        kind = linked(type_name(field, maps))
        rows.append(f"| {field['number']} | `{field['name']}` | {'optional ' if is_optional else ''}{kind} | {text} |")
    if rows:
        lines.append("\n".join(["| number | field | type | |", "|--:|---|---|---|", *rows]))
    for index, oneof in enumerate(oneofs):
        if not oneof["name"].startswith("_"):
            lines.append(f"`{oneof['name']}`: {cell(comment_of[(*path, MESSAGE_ONEOF, index)])}")
    return lines


def enum(number, definition, comment_of):
    path = (FILE_ENUM, number)
    rows = [
        f"| {value.get('number', 0)} | `{value['name']}` | {cell(comment_of[(*path, ENUM_VALUE, index)])} |"
        for index, value in enumerate(definition["value"])
    ]
    table = "\n".join(["| number | value | |", "|--:|---|---|", *rows])
    return [f"### {definition['name']}", comment_of[path], table]


def document(file):
    comment_of = comments(file)
    parts = [HEAD.strip(), *overview(comment_of["detached"] or comment_of[(FILE_SYNTAX,)])]
    for number, definition in enumerate(file["service"]):
        parts += service(number, definition, comment_of)
    parts.append("## Messages")
    for number, definition in enumerate(file["messageType"]):
        parts += message(number, definition, comment_of)
    parts.append("## Enums")
    for number, definition in enumerate(file["enumType"]):
        parts += enum(number, definition, comment_of)
    return "\n\n".join(parts) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--check", action="store_true", help="fail if the page is not what it would write")
    text = document(descriptor())
    if not parser.parse_args().check:
        with open(TARGET, "w", encoding="utf-8") as page:
            page.write(text)
        return
    with open(TARGET, encoding="utf-8") as page:
        if page.read() != text:
            sys.exit(f"{TARGET} is not what proto/{SOURCE} says: run `make api`")


if __name__ == "__main__":
    main()
