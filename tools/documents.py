#!/usr/bin/env python3
"""Checks the Markdown files that git tracks.

- Every relative link leads to a file that git tracks or to a directory, and its anchor to a heading.
- README.md has at most 200 lines, ARCHITECTURE.md at most 120.
"""
import os
import re
import subprocess
import sys

LINES = {"README.md": 200, "ARCHITECTURE.md": 120}

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`[^`]*`")


def text_of(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def prose(path):
    """The lines outside of code blocks, with their numbers."""
    fenced = False
    for number, line in enumerate(text_of(path).splitlines(), 1):
        if line.startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield number, line


def anchors(path):
    """The anchors of a file's headings, as GitHub makes them."""
    found = {}
    for _, line in prose(path):
        heading = re.match(r"#+ (.*)", line)
        if not heading:
            continue
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).strip().lower()
        anchor = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        count = found.get(anchor, 0)
        found[anchor] = count + 1
        yield f"{anchor}-{count}" if count else anchor


def broken_links(path, tracked):
    for number, line in prose(path):
        for target in LINK.findall(CODE.sub("", line)):
            if re.match(r"[a-z]+:", target):
                continue
            file, _, anchor = target.partition("#")
            file = os.path.normpath(os.path.join(os.path.dirname(path), file)) if file else path
            if file not in tracked and not os.path.isdir(file):
                yield f"{path}:{number}: {target} leads to no file"
            elif anchor and (not file.endswith(".md") or anchor not in anchors(file)):
                yield f"{path}:{number}: {target} leads to no heading"


def problems(tracked):
    for path in tracked:
        if path.endswith(".md"):
            yield from broken_links(path, tracked)
    for path, limit in LINES.items():
        count = len(text_of(path).splitlines())
        if count > limit:
            yield f"{path}: {count} lines, at most {limit} are allowed"


def main():
    listed = subprocess.run(["git", "ls-files", "-z"], stdout=subprocess.PIPE, text=True)
    if listed.returncode != 0:
        print("tools/documents.py: git could not list the files of this checkout, see above", file=sys.stderr)
        return 1
    tracked = [path for path in listed.stdout.split("\0")[:-1] if os.path.exists(path)]
    found = list(problems(tracked))
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
