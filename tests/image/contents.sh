#!/bin/bash
# What the image says of itself, and which files are in it. Each check prints what it found.

documents=/usr/share/doc/changelogd

# Covers S14.
configuration() {
    row "user" is '.User' 65532:65532
    row "entrypoint and command" is '(.Entrypoint + .Cmd) | join(" ")' "/usr/local/bin/changelogd serve"
    row "volume" is '.Volumes | keys | join(" ")' /var/lib/changelogd
    row "CA roots" has_file "$(jq -r '.Env[] | select(startswith("SSL_CERT_FILE=")) | .[14:]' <<<"$image_config")"
    row "label title" label title changelogd
    row "label description" label description "$(sed -n 's/.*\.description="\(.*\)" \\$/\1/p' "$root/Dockerfile")"
    row "label licenses" label licenses Apache-2.0
    row "label version" label version "$(version)"
    row "label revision" label revision "$revision"
    row "label created" label created "$(date --utc --date "@$epoch" +%Y-%m-%dT%H:%M:%SZ)"
    row "label base.name" label base.name "$(base_names | sed -n '2s/@.*//p')"
    for name in source url documentation; do
        row "label $name" is_address "$name"
    done
}

is() {
    local found
    found=$(jq -r "$1" <<<"$image_config")
    echo "$found"
    [ "$found" = "$2" ]
}

label() {
    is ".Labels[\"org.opencontainers.image.$1\"]" "$2"
    [ -n "$2" ] && [ "$2" != null ]
}

is_address() {
    local found
    found=$(jq -r ".Labels[\"org.opencontainers.image.$1\"]" <<<"$image_config")
    echo "$found"
    [[ $found == https://?* ]]
}

# Covers S13, S14.
contents() {
    row "binary" mode_of /usr/local/bin/changelogd "755 0:0"
    row "binary: linked libraries" links_to_what_is_there
    row "binary: list of packages" auditable_data
    row "binary: paths of the build machine" no_paths
    row "data directory" mode_of /var/lib/changelogd "770 65532:0"
    row "shells and package managers" no_shell
    row "setuid and setgid files" no_setuid
    row "licence" same_file "$root/LICENSE" "$documents/LICENSE"
    row "licences of what is linked" third_party
    row "licences of the standard library" standard_library
    row "SBOM: schema" node "$root/tests/image/sbom.mjs" "$root/target/tools" "$rootfs$documents/sbom.cdx.json"
    row "SBOM: packages and C libraries" sbom_components
    row "SBOM: versions" sbom_versions
    row "SBOM: time of the commit" sbom_time
}

has_file() {
    [ -n "$1" ] && [ -s "$rootfs$1" ]
    echo "$1, $(wc -c <"$rootfs$1") bytes"
}

mode_of() {
    local found
    found=$(stat -c '%a %u:%g' "$rootfs$1")
    echo "$found"
    [ "$found" = "$2" ]
}

same_file() {
    cmp "$1" "$rootfs$2"
    echo "$2"
}

# The dynamic linker of the image resolves each library, within the image.
links_to_what_is_there() {
    local linker listed
    linker=$(readelf --program-headers "$rootfs/usr/local/bin/changelogd" | sed -n 's/.*interpreter: \(.*\)\]/\1/p')
    listed=$(chroot "$rootfs" "$linker" --list /usr/local/bin/changelogd)
    [[ $listed != *"not found"* ]]
    awk '{ sub(/\.so.*/, "", $1); sub(/.*\//, "", $1); print $1 }' <<<"$listed" | sort | paste -sd ' '
}

# The section that cargo-auditable writes: JSON, compressed by zlib.
packages_of_binary() {
    objcopy --dump-section .dep-v0=/dev/stdout "$rootfs/usr/local/bin/changelogd" /dev/null |
        python3 -c 'import sys, zlib; sys.stdout.buffer.write(zlib.decompress(sys.stdin.buffer.read()))'
}

auditable_data() {
    local packages
    packages=$(packages_of_binary)
    jq -e '.packages | any(.name == "rdkafka-sys") and any(.name == "changelogd" and .root)' <<<"$packages" >/dev/null
    jq -r '.packages | length | tostring + " packages"' <<<"$packages"
}

# Of cargo's home, of the toolchain and of users.
no_paths() {
    local found
    found=$(grep -aoE -m 1 '(/root/|/home/|/usr/local/cargo|/usr/local/rust)[[:graph:]]{0,60}' \
        "$rootfs/usr/local/bin/changelogd" | head -n 1) || true
    echo "${found:-none}"
    [ -z "$found" ]
}

no_shell() {
    local found
    found=$(cd "$rootfs" && find . -xdev \( -type f -o -type l \) -regextype posix-extended \
        -regex '.*/(sh|bash|dash|ash|zsh|busybox|apt|apt-get|dpkg|apk|rpm)' -path '*bin/*' -print -quit)
    echo "${found:-none}"
    [ -z "$found" ]
}

no_setuid() {
    local found
    found=$(find "$rootfs" -xdev -type f -perm /6000 -print -quit)
    echo "${found:-none}"
    [ -z "$found" ]
}

# Each package of the list in the binary is named, and so are the C libraries. Texts of the latter are there.
third_party() {
    local text=$rootfs$documents/THIRD-PARTY.txt name
    while read -r name; do
        grep -qxF -- "$name" <(cut -d: -f1 "$text") || { echo "$name is missing"; return 1; }
    done < <(linked | jq -r '"\(.name) \(.version)"')
    for name in 'Magnus Edenhill' 'Jean-loup Gailly' 'Meta Platforms' 'Dave Gamble' 'LZ4 Library'; do
        grep -qF "$name" "$text" || { echo "nothing of $name"; return 1; }
    done
    for name in openssl librdkafka zlib zstd lz4 cjson; do
        grep -q "^$name [0-9.]*: .*(C, in " "$text" || { echo "$name is missing"; return 1; }
    done
    echo "$(grep -c '^-----' "$text") texts, $(wc -c <"$text") bytes"
}

# The packages of others in the binary, one JSON object per line.
linked() {
    packages_of_binary | jq -c '.packages[] | select(.source != "local" and .kind != "build")'
}

standard_library() {
    grep -q 'Rust' "$rootfs$documents/rust-std.html"
    echo "$(wc -c <"$rootfs$documents/rust-std.html") bytes"
}

sbom_components() {
    local sbom=$rootfs$documents/sbom.cdx.json expected found
    expected=$(packages_of_binary | jq -r '[.packages[] | select(.kind != "build" and (.root | not))] | length')
    found=$(jq '[.components[] | select(.purl | startswith("pkg:cargo/"))] | length' "$sbom")
    echo "$found packages, $(jq -r '[.components[] | select(.cpe) | .name] | join(", ")' "$sbom")"
    [ "$expected" = "$found" ]
    # Each reference of the graph is to a component.
    jq -e '([.components[]["bom-ref"]] + [.metadata.component["bom-ref"]]) as $known
        | [.dependencies[] | .ref, .dependsOn[]] - $known == []' "$sbom" >/dev/null
}

# The version that Cargo.lock has of the package with the library's sources.
sbom_versions() {
    local sbom=$rootfs$documents/sbom.cdx.json name package expected found all=
    for name in openssl:openssl-src librdkafka:rdkafka-sys zstd:zstd-sys; do
        package=${name#*:} name=${name%:*}
        expected=$(sed -n "/^name = \"$package\"$/{n;s/^version = \".*+[a-z.]*\(.*\)\"$/\1/p}" "$root/Cargo.lock")
        found=$(jq -r --arg name "$name" '.components[] | select(.cpe and .name == $name) | .version' "$sbom")
        all+="$name $found, "
        [ -n "$expected" ] && [ "$expected" = "$found" ]
    done
    echo "${all%, }"
}

sbom_time() {
    local found
    found=$(jq -r .metadata.timestamp "$rootfs$documents/sbom.cdx.json")
    echo "$found"
    [ "$found" = "$(jq -r '.Labels["org.opencontainers.image.created"]' <<<"$image_config")" ]
}

same_layers() {
    local first second
    first=$(jq -c .OCIv1.rootfs.diff_ids <<<"$inspected")
    second=$(bud inspect --type image localhost/changelogd:again | jq -c .OCIv1.rootfs.diff_ids)
    jq -r '.[-1]' <<<"$second"
    [ "$first" = "$second" ]
}

same_binary() {
    local other status=0
    other=$(bud from --pull-never localhost/changelogd:again)
    cmp "$rootfs/usr/local/bin/changelogd" "$(bud mount "$other")/usr/local/bin/changelogd" || status=$?
    bud umount "$other" >/dev/null
    bud rm "$other" >/dev/null
    echo "sha256 $(sha256sum <"$rootfs/usr/local/bin/changelogd" | cut -d' ' -f1)"
    return "$status"
}
