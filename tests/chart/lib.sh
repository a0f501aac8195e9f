#!/bin/sh
# The kinds of cases of run.sh, and what they share.

passed=0 failed=0

# Ends a case: it passed if $problems is empty.
verdict() {
    if [ -z "$problems" ]; then
        passed=$((passed + 1))
        echo "ok      $1"
    else
        failed=$((failed + 1))
        echo "FAILED  $1"
        printf '%s' "$problems" | sed 's/^/        /'
    fi
}

problem() {
    problems="$problems$*
"
}

# The rendered file, one fact per line: without indentation and quotes, an environment variable as NAME=value, and the
# first line of an item of a list also without its dash.
facts() {
    awk '
        { sub(/^ +/, ""); sub(/ +$/, "") }
        /^- name: [A-Z][A-Z_]*$/ { name = $3; next }
        name != "" && /^value: / {
            sub(/^value: /, ""); gsub(/^["\047]|["\047]$/, "")
            print name "=" $0; name = ""; next
        }
        match($0, /: "[^"]*"$/) {
            $0 = substr($0, 1, RSTART + 1) substr($0, RSTART + 3, RLENGTH - 4)
        }
        { print }
        sub(/^- /, "") { print }
    ' "$1"
}

# Checks that hold for every changelogd container, with any values but those of a security context.
# Covers C9, S14, K6, K7.
invariants() {
    for fact in 'startupProbe:' 'livenessProbe:' 'service: liveness' 'requests:' 'limits:' \
        'terminationMessagePolicy: FallbackToLogsOnError' \
        'CHANGELOGD_DATA_DIR=/var/lib/changelogd' 'mountPath: /var/lib/changelogd'; do
        grep -qxF -e "$fact" "$work/facts" || problem "not rendered: $fact"
    done
    for fact in 'runAsNonRoot: true' 'runAsUser: 65532' 'runAsGroup: 65532' 'readOnlyRootFilesystem: true' \
        'allowPrivilegeEscalation: false' '- ALL' 'type: RuntimeDefault'; do
        case "$*" in
        *ecurityContext*) ;;
        *) grep -qxF -e "$fact" "$work/facts" || problem "not rendered: $fact" ;;
        esac
    done
    grep -qE '^(args: \["serve"|- serve$)' "$work/facts" || problem 'no argument serve'
    if grep -q '^KAFKA_BROKERS=' "$work/facts" && ! grep -q '^CHANGELOGD_PARTITIONS=[1-9]' "$work/facts"; then
        problem "KAFKA_BROKERS without CHANGELOGD_PARTITIONS"
    fi
    # A template with an error may silently print floats, nil, or addresses of Go values.
    if grep -nE '[0-9]e\+[0-9]|<nil>|<no value>|%!|0xc0' "$work/facts" >"$work/odd"; then
        problem "odd: $(cat "$work/odd")"
    fi
}

# expect [+FACT | -FACT]...: each +FACT is in $work/facts, and no -FACT is.
expect() {
    for want in "$@"; do
        fact=${want#?}
        case $want in
        # A variable with any value.
        -*=) ! grep -q "^$fact" "$work/facts" || problem "rendered: $(grep "^$fact" "$work/facts")" ;;
        +*) grep -qxF -e "$fact" "$work/facts" || problem "not rendered: $fact" ;;
        -*) ! grep -qxF -e "$fact" "$work/facts" || problem "rendered: $fact" ;;
        esac
    done
}

# renders NAME KUBE CHART [helm's arguments] -- [+FACT | -FACT]...
# It renders. Each +FACT is a line of it, and no -FACT is.
renders() {
    name="$1, kubernetes $2" kube=$2 source=$3 problems=
    shift 3
    arguments=$*
    render "$kube" "$source" "$@" || problem "refused: $(cat "$work/err")"
    while [ "$1" != -- ]; do shift; done
    shift
    facts "$work/out" >"$work/facts"
    if [ -z "$problems" ]; then
        mkdir -p "$work/rendered/$kube"
        cp "$work/out" "$work/rendered/$kube/$(echo "$name" | sed 's/, kubernetes.*//' | tr -cs 'A-Za-z0-9\n' -).yaml"
        if grep -q '^CHANGELOGD_DATA_DIR=' "$work/facts"; then invariants "$arguments"; fi
        expect "$@"
    fi
    verdict "$name"
}

# renders_nothing KUBE CHART [helm's arguments]
# Covers K2.
renders_nothing() {
    name="sidecar mode renders nothing itself, kubernetes $1" problems=
    render "$@" || problem "refused: $(cat "$work/err")"
    ! grep -vE '^(---|#.*)?$' "$work/out" >"$work/odd" || problem "rendered: $(cat "$work/odd")"
    verdict "$name"
}

# refuses NAME KUBE CHART [helm's arguments] -- TEXT...
# It does not render, and each TEXT is in the messages of Helm 3 and 4.
refuses() {
    name="$1, kubernetes $2" kube=$2 source=$3 problems=
    shift 3
    if render "$kube" "$source" "$@"; then problem "not refused"; fi
    while [ "$1" != -- ]; do shift; done
    shift
    for want in "$@"; do
        for message in "$work/err" "$work/err4"; do
            grep -qF -e "$want" "$message" || problem "not in the message: $want" "(it is: $(cat "$message"))"
        done
    done
    verdict "$name"
}

# The chart alone needs an image. An argument of a case wins over it.
echo 'image: { repository: registry.example/changelogd }' >"$work/image.yaml"

# The name of the release in each case.
release=rel

# render KUBE CHART [helm's arguments] [-- ...]: into $work/out and $work/err with Helm 3, and with Helm 4 into
# $work/out4 and $work/err4. Both have to render the same, but for empty lines.
render() {
    kube=$1 source=$2
    shift 2
    # Drops the arguments after --, and keeps each argument whole, because some contain commas, braces and spaces.
    count=0
    for argument in "$@"; do
        [ "$argument" != -- ] || break
        count=$((count + 1))
    done
    index=0 total=$#
    while [ "$index" -lt "$total" ]; do
        argument=$1
        shift
        [ "$index" -ge "$count" ] || set -- "$@" "$argument"
        index=$((index + 1))
    done
    case $source in
    "$chart" | "$with_notes") set -- --values "$work/image.yaml" "$@" ;;
    esac
    set -- template "$release" "$source" --namespace ns --kube-version "$kube" "$@"
    "$helm4" "$@" >"$work/out4" 2>"$work/err4" &
    status=0 status4=0
    "$helm" "$@" >"$work/out" 2>"$work/err" || status=$?
    wait $! || status4=$?
    if [ "$status" -ne "$status4" ]; then
        problem "Helm 3 ends with $status ($(cat "$work/err")), and Helm 4 with $status4 ($(cat "$work/err4"))"
    elif [ "$status" -eq 0 ] && ! diff -B -Z "$work/out" "$work/out4" >"$work/odd"; then
        problem "Helm 4 renders something else: $(cat "$work/odd")"
    fi
    return "$status"
}

# The changelogd container in a rendered file: the list item and all lines that are indented deeper.
container() {
    awk '
        /^ *- name: "changelogd"$/ { inside = 1; match($0, /^ */); depth = RLENGTH; print; next }
        inside { match($0, /^ */); if (RLENGTH <= depth) exit; print }
    ' "$1"
}

# same NAME KUBE [helm's arguments]: native and classic render the same container, except for restartPolicy.
# Covers K1.
same() {
    name="native is classic but for restartPolicy: $1, kubernetes $2" kube=$2 problems=
    shift 2
    for type in native classic; do
        render "$kube" "$pieces" "$@" --set "changelogd.sidecar.type=$type" || problem "refused: $(cat "$work/err")"
        container "$work/out" >"$work/$type"
        # The list that the container is an item of.
        awk '/^      (initContainers|containers):$/ { list = $1 } /^ *- name: "changelogd"$/ { print list }' \
            "$work/out" >"$work/$type.list"
    done
    grep -q 'readOnlyRootFilesystem' "$work/classic" || problem "no container found"
    [ "$(cat "$work/native.list")" = initContainers: ] || problem "native is in: $(cat "$work/native.list")"
    [ "$(cat "$work/classic.list")" = containers: ] || problem "classic is in: $(cat "$work/classic.list")"
    difference=$(diff "$work/classic" "$work/native" | grep '^[<>]' | tr -s ' ') || true
    [ "$difference" = '> restartPolicy: Always' ] || problem "they differ by: $difference"
    verdict "$name"
}

# alike NAME KUBE DIFFERENCE [values]: a sidecar and a pod of standalone mode have the same container, except for the
# lines of DIFFERENCE, as diff has them.
# Covers K1.
alike() {
    name="sidecar is standalone but for what is documented: $1, kubernetes $2" kube=$2 expected=$3 problems=
    shift 3
    sidecar=
    for value in "$@"; do
        sidecar="$sidecar --set changelogd.$value"
    done
    render "$kube" "$pieces" $sidecar || problem "refused: $(cat "$work/err")"
    container "$work/out" | sed 's/^ *//' >"$work/sidecar"
    standalone=
    for value in "$@"; do
        standalone="$standalone --set $value"
    done
    render "$kube" "$chart" $standalone || problem "refused: $(cat "$work/err")"
    container "$work/out" | sed 's/^ *//' >"$work/standalone"
    grep -q 'readOnlyRootFilesystem' "$work/standalone" || problem "no container found"
    difference=$(diff "$work/standalone" "$work/sidecar" | grep '^[<>]') || true
    [ "$difference" = "$expected" ] || problem "they differ by: $difference"
    verdict "$name"
}

# notes NAME [helm's arguments] -- [+TEXT | -TEXT]...
# The notes after an installation have each +TEXT in one line, and no -TEXT.
notes() {
    name="notes: $1" problems=
    shift
    render $recent "$with_notes" --show-only templates/notes.yaml "$@" || problem "refused: $(cat "$work/err")"
    while [ "$1" != -- ]; do shift; done
    shift
    for want in "$@"; do
        text=${want#?} found=no
        if grep -qF -e "$text" "$work/out"; then found=yes; fi
        case $want$found in
        +*no) problem "not in the notes: $text" ;;
        -*yes) problem "in the notes: $text" ;;
        esac
    done
    verdict "$name"
}

# lints NAME CHART [helm's arguments]
lints() {
    name="lint: $1" problems=
    shift
    for program in "$helm" "$helm4"; do
        "$program" lint --strict --quiet "$@" >"$work/out" 2>&1 || problem "$(cat "$work/out")"
    done
    verdict "$name"
}
