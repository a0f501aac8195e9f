#!/bin/bash
# What the scripts of tests/image share. They are sourced with $root set.

work=$root/target/image
# No daemon, no user's configuration, and no file system driver of the kernel's. Everything stays below target/.
store=(--root "$work/storage" --runroot "$work/runroot" --storage-driver vfs)

fail() {
    echo "tests/image: $*" >&2
    exit 1
}

# Packages that are not in the ordinary list of .ci/setup, and root for chroot and mounts.
require() {
    local missing=() tool
    for tool in buildah mmdebstrap runc jq readelf objcopy column python3 node cargo rustc; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    [ ${#missing[@]} -eq 0 ] || fail "not found on PATH: ${missing[*]}; on Debian: .ci/setup image"
    [ "$(id -u)" -eq 0 ] || fail "must run as root: chroot, mounts and containers need it"
}

bud() {
    # Its cache mounts are below TMPDIR.
    TMPDIR=$work/tmp buildah "${store[@]}" "$@"
}

# The base images of the Dockerfile, as they are written there.
base_names() {
    sed -n 's/^FROM \([^ ]*\).*/\1/p' "$root/Dockerfile"
}

version() {
    sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml"
}
