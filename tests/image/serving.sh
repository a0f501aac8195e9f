#!/bin/bash
# The image at work, as one user: with an empty volume, and started again with the same one.

# serving UID GID
# Covers S14.
serving() {
    local as=$1:$2 volume=$work/volume log=$work/serve-$1.log
    # A new volume has the owner and the mode of the image's directory.
    rm -rf "$volume"
    cp -a "$rootfs$(jq -r '.Volumes | keys[0]' <<<"$image_config")" "$volume"

    start "$1" "$2" "$volume" "$log" || { row "as $as: starts" last_line "$log"; return; }
    row "as $as: becomes ready" inside wait --timeout 30s
    row "as $as: read-only root, no privileges" confined "$1" "$2"
    row "as $as: health" prints '"status":"SERVING"' inside health
    row "as $as: write" prints '"offset":0' inside set shop/order/1 '{"total":1}'
    row "as $as: load" prints '"entries":1' inside load shop
    row "as $as: export" prints '"total":1' inside export
    row "as $as: topic, version" prints "$(version)" inside describe --output json
    row "as $as: stops" stops_well "$log"

    start "$1" "$2" "$volume" "$log.again" || { row "as $as: starts again" last_line "$log.again"; return; }
    row "as $as: started again, ready" inside wait --timeout 30s
    row "as $as: started again, load" prints '"total":1' inside load shop
    row "as $as: started again, stops" stops_well "$log.again"
    row "as $as: files of the store" owned_by "$1" "$volume"
}

# Of a container that did not start.
last_line() {
    tail -n 1 "$1"
    return 1
}

# The output has the text, and the command does not fail.
prints() {
    local text=$1 found
    shift
    found=$("$@")
    grep -qF -- "$text" <<<"$found" || { echo "$found"; return 1; }
    echo "$text"
}

# By what the kernel says of the process.
confined() {
    local pid status
    pid=$(runc state "$container_id" | jq .pid)
    status=$(cat "/proc/$pid/status")
    grep -qP "^Uid:\t$1\t$1\t$1\t$1$" <<<"$status"
    grep -qP "^Gid:\t$2\t$2\t$2\t$2$" <<<"$status"
    grep -qP '^CapEff:\t0+$' <<<"$status"
    grep -qP '^CapBnd:\t0+$' <<<"$status"
    grep -qP '^NoNewPrivs:\t1$' <<<"$status"
    awk '$5 == "/" { print $6 }' "/proc/$pid/mountinfo" | grep -q '^ro'
    echo "uid $1, gid $2, no capability, / is read-only"
}

# With exit status 0. Prints the end of the log otherwise.
stops_well() {
    local status
    status=$(stop)
    echo "status $status"
    [ "$status" = 0 ] || { tail -n 1 "$1"; return 1; }
}

owned_by() {
    local found
    found=$(find "$2" -mindepth 1 ! -user "$1" -print -quit)
    [ -z "$found" ]
    echo "$(find "$2" -mindepth 1 | wc -l) files, all of user $1"
}
