#!/bin/bash
# Runs the image with runc: read-only root, no capability, no new privileges, and a network namespace of its own, which
# has loopback only. Programs in it are started as `kubectl exec` would.

bundle=$work/bundle
container_id=changelogd-image-test-$$
# Of the process that waits for the container, and then writes its exit status into the bundle.
runc_pid=

runc() {
    command runc --root "$work/runc" "$@"
}

# start UID GID VOLUME LOG: starts what the image says, with a directory as the volume. The group is the only one.
start() {
    local uid=$1 gid=$2 volume=$3 log=$4
    rm -rf "$bundle"
    mkdir -p "$bundle" "$work/runc"
    (cd "$bundle" && runc spec)
    jq --argjson image "$image_config" --argjson uid "$uid" --argjson gid "$gid" \
        --arg root "$rootfs" --arg volume "$volume" --arg path "$(jq -r '.Volumes | keys[0]' <<<"$image_config")" '
        .root = {path: $root, readonly: true}
        | .process.terminal = false
        | .process.user = {uid: $uid, gid: $gid}
        | .process.args = $image.Entrypoint + $image.Cmd
        | .process.env = $image.Env
        | .process.cwd = "/"
        | .process.noNewPrivileges = true
        | .process.capabilities = {}
        | .mounts |= map(select(.type != "cgroup"))
        | .mounts += [{destination: $path, type: "bind", source: $volume, options: ["rbind", "rw", "nosuid", "nodev"]}]
        ' "$bundle/config.json" >"$bundle/config.new"
    mv "$bundle/config.new" "$bundle/config.json"
    {
        local status=0
        runc run --bundle "$bundle" "$container_id" >"$log" 2>&1 || status=$?
        echo "$status" >"$bundle/status"
    } &
    runc_pid=$!
    for _ in $(seq 100); do
        [ "$(runc state "$container_id" 2>/dev/null | jq -r .status)" = running ] && return
        kill -0 "$runc_pid" 2>/dev/null || break
        sleep 0.1
    done
    # What it said is the answer of the check that comes next.
    echo "tests/image: the container did not start, see $log" >&2
    return 1
}

# A command of the same binary, in the container.
inside() {
    local user
    user=$(jq -r '"\(.process.user.uid):\(.process.user.gid)"' "$bundle/config.json")
    timeout 60 runc --root "$work/runc" exec --user "$user" "$container_id" /usr/local/bin/changelogd "$@"
}

# Ends the container as Kubernetes does, and prints its exit status.
stop() {
    runc kill "$container_id" TERM
    # The program's own drain has a shorter limit.
    timeout 60 tail --pid "$runc_pid" -f /dev/null || runc kill "$container_id" KILL
    cat "$bundle/status"
}

# At the end of the script, also of one that failed.
remove() {
    if [ -n "$runc_pid" ]; then
        runc kill "$container_id" KILL 2>/dev/null || true
        wait "$runc_pid" 2>/dev/null || true
    fi
}
