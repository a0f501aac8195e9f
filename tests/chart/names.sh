#!/bin/sh
# The names of objects. run.sh reads this file.

# names_in FILE: the Deployment, the Service or -, and the label app.kubernetes.io/name of each selector, in one line.
names_in() {
    awk '
        /^kind: / { kind = $2 }
        /^metadata:/ { inside = 1 }
        inside && /^  name: / { gsub(/"/, "", $2); name[kind] = $2; inside = 0 }
        /^  selector:/ { selector = 1 }
        selector && /app.kubernetes.io\/name: / {
            gsub(/"/, "", $2)
            if (!($2 in seen)) labels = labels " " $2
            seen[$2]; selector = 0
        }
        END { print name["Deployment"], ("Service" in name ? name["Service"] : "-") labels }
    ' "$1"
}

# An upgrade must not make a second Deployment next to the first one, and a selector can never change.
names_of_the_chart_before_stay() {
    problems=
    count=0 kept=$release
    # Without -r a backslash continues a line.
    while read release values deployment service label; do
        case $release in '#'*) continue ;; esac
        [ "$values" != - ] || values=
        # UPGRADING.md says so: a longer name is another one, and fullnameOverride keeps the old one.
        full=$release-${label}
        case $values in
        *fullnameOverride*) ;;
        *) [ ${#full} -le 63 ] || [ "$deployment" = "$release" ] || values="$values,fullnameOverride=$deployment" ;;
        esac
        [ "$service" = - ] || values="$values,service.enabled=true,api.insecureListen=true"
        if "$helm" template "$release" "$chart" --namespace ns --kube-version "$recent" --values "$work/image.yaml" \
            --show-only templates/deployment.yaml $([ "$service" = - ] || echo --show-only templates/service.yaml) \
            --set "${values#,}" >"$work/out" 2>"$work/err"; then
            found=$(names_in "$work/out")
            [ "$found" = "$deployment $service $label" ] ||
                problem "release $release, $values: $found, and not $deployment $service $label"
        else
            problem "release $release, $values: refused: $(cat "$work/err")"
        fi
        count=$((count + 1))
    done <"$here/first-names.txt"
    release=$kept
    [ "$count" -ge 20 ] || problem "only $count lines"
    verdict 'objects and selectors have the names of the chart before 0.1.0'
}
names_of_the_chart_before_stay

# Two aliases may both be in the name of the release, so theirs is always in the name of an object.
release=orders-state-prices
renders 'objects of two aliases in a release with both names' $recent "$two" \
    --set ordersState.topic.job.enabled=true -- '+name: orders-state-prices-orders-state-topic'
release=orders-state
renders 'objects of an alias that is the release' $recent "$two" --set ordersState.topic.job.enabled=true -- \
    '+name: orders-state-topic'
release=2024
renders 'a release that begins with a digit' $recent "$chart" --set admin.podListen=true \
    --set monitoring.podMonitor.enabled=true -- '+name: 2024-changelogd' '+app.kubernetes.io/instance: 2024'
renders 'a Service of a release that begins with a digit' $recent "$chart" \
    --set fullnameOverride=state,service.enabled=true,api.insecureListen=true -- '+name: state' '+kind: Service'
for values in service.enabled=true,api.insecureListen=true data.claim.enabled=true \
    monitoring.serviceMonitor.enabled=true,admin.podListen=true; do
    refuses "a Service whose name begins with a digit, $values" $recent "$chart" --set "$values" -- \
        "changelogd: ${values%%=*}: a Service's name begins with a letter, and 2024-changelogd"
done
release=a.b
renders 'a release with a dot' $recent "$chart" --set service.enabled=true,api.insecureListen=true -- \
    '+name: a.b-changelogd' '+name: a-b-changelogd' '+args: ["describe","--addr","a-b-changelogd:50051"]'
notes 'a release with a dot' --set service.enabled=true,api.insecureListen=true -- \
    '+In the cluster: a-b-changelogd.ns:50051' '+deployment/a.b-changelogd'
release=rel
