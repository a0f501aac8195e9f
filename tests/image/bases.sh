#!/bin/bash
# The base images of tests/image/build.sh, from Debian's packages. They are made once, and again when this file changes.
# Real base images come from a registry; these have what the Dockerfile relies on, and nothing that would hide a lack.

suite=bookworm

make_bases() {
    local want
    want=$(cksum <"$root/tests/image/bases.sh")
    if [ "$(cat "$work/bases.stamp" 2>/dev/null)" = "$want" ] &&
        bud inspect --type image localhost/changelogd-base-build >/dev/null 2>&1 &&
        bud inspect --type image localhost/changelogd-base-final >/dev/null 2>&1; then
        return
    fi
    rm -f "$work/bases.stamp"
    make_build_base
    make_final_base
    echo "$want" >"$work/bases.stamp"
}

# A C compiler, make and Perl, as in the image `rust`. The toolchain is mounted. Cargo's home is another directory than
# in that image, so that the cache mounts of the Dockerfile do not hide the mounted registry.
make_build_base() {
    debootstrap apt "$work/base-build.tar" gcc g++ make perl libc6-dev ca-certificates
    local container
    container=$(bud from scratch)
    bud add --quiet "$container" "$work/base-build.tar" / >/dev/null
    bud config --env PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        --env CARGO_HOME=/cargo --env CARGO_NET_OFFLINE=true "$container"
    commit "$container" localhost/changelogd-base-build "$work/base-build.tar"
}

# The packages of distroless/cc that a program can link to or read, extracted and not installed: no shell, no package
# manager. OpenSSL is left out, because the binary has its own.
make_final_base() {
    local dir=$work/base-final container
    debootstrap extract "$work/base-final.tar" base-files netbase tzdata ca-certificates libc6 libgcc-s1 libstdc++6
    rm -rf "$dir"
    mkdir -p "$dir"
    tar -C "$dir" -xf "$work/base-final.tar" --exclude './dev/*'
    # Tools of the packages, which distroless does not have either.
    (cd "$dir" && rm -rf usr/bin usr/sbin bin/* sbin/* var/lib/apt var/lib/dpkg)
    # update-ca-certificates would do this.
    mkdir -p "$dir/etc/ssl/certs" "$dir/home/nonroot"
    cat "$dir"/usr/share/ca-certificates/mozilla/*.crt >"$dir/etc/ssl/certs/ca-certificates.crt"
    printf '%s\n' root:x:0:0:root:/root:/sbin/nologin nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin \
        >"$dir/etc/passwd"
    printf '%s\n' root:x:0: nonroot:x:65532: >"$dir/etc/group"
    chown 65532:65532 "$dir/home/nonroot"
    container=$(bud from scratch)
    bud add --quiet "$container" "$dir" / >/dev/null
    bud config --user 65532 --workingdir /home/nonroot --env SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
        --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
    commit "$container" localhost/changelogd-base-final "$dir" "$work/base-final.tar"
}

debootstrap() {
    local variant=$1 tar=$2 packages
    shift 2
    packages=$(IFS=,; echo "$*")
    echo "tests/image: making $(basename "$tar") of Debian $suite"
    mmdebstrap --quiet --variant="$variant" --include="$packages" "$suite" "$tar" ||
        fail "mmdebstrap could not make $tar (are Debian's package archives reachable?)"
}

commit() {
    local container=$1 name=$2
    shift 2
    bud commit --quiet "$container" "$name" >/dev/null
    bud rm "$container" >/dev/null
    rm -rf "$@"
}
