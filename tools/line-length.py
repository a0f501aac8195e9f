#!/usr/bin/env python3
"""Fails on lines of more than 120 columns, in the files that git tracks.

Arguments limit the files, as those of `git ls-files` do. Targets of links and digests do not count. Rows of tables in
Markdown and in a Rust module's head, and Markdown's `console` blocks, may be longer.
"""
import re
import subprocess
import sys

COLUMNS = 120

NOT_CHECKED = [
    # Written by programs.
    "Cargo.lock", "*/go.mod", "*/go.sum", "clients/go/changelogv1", "*.json", "*.binpb", "*.svg", "docs/benchmarks.md",
    "docs/reliability.md",
    # Written by others.
    "LICENSE", "proto/google", "tests/chart/schemas/*.yaml", "tests/chart/schemas/*/*.yaml",
    # Bytes that must stay as they are.
    "crates/*/tests/fixtures/*", "tests/corpus", "crates/*/tests/corpus/*",
]

LINK_TARGET = re.compile(r"(?<=\])\([^)]*\)|https?://[^\s\"'`<>)]+|@sha256:[0-9a-f]{64}")


def long_lines(path):
    markdown, console = path.endswith(".md"), False
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            line = line.rstrip("\n")
            if markdown and line.startswith("```"):
                console = line.startswith("```console")
            table = line.startswith("|") if markdown else line.startswith("//! |")
            if not console and not table and len(LINK_TARGET.sub("", line)) > COLUMNS:
                yield number, len(line)


def main():
    only = sys.argv[1:] or ["."]
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", *only, *(f":(exclude,top){path}" for path in NOT_CHECKED)],
        stdout=subprocess.PIPE, text=True,
    )
    if listed.returncode != 0:
        print("tools/line-length.py: git could not list the files of this checkout, see above", file=sys.stderr)
        return 1
    paths = listed.stdout.split("\0")[:-1]
    found = [(path, number, columns) for path in paths for number, columns in long_lines(path)]
    for path, number, columns in found:
        print(f"{path}:{number}: {columns} columns, at most {COLUMNS} are allowed", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
