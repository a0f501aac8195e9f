#!/bin/sh
# What scrapes, alerts and shows. run.sh reads this file.

for kube in $oldest $newest; do
    # Covers K2.
    renders 'standalone, scraped' "$kube" "$chart" --set admin.podListen=true \
        --set monitoring.serviceMonitor.enabled=true,monitoring.podMonitor.enabled=true \
        --set monitoring.prometheusRule.enabled=true,monitoring.dashboard.enabled=true \
        --set monitoring.serviceMonitor.labels.release=prometheus,monitoring.podMonitor.interval=15s \
        --set monitoring.prometheusRule.runbook=https://docs.example/operations -- \
        '+kind: ServiceMonitor' '+kind: PodMonitor' '+kind: PrometheusRule' '+kind: ConfigMap' '+release: prometheus' \
        '+interval: 15s' '+grafana_dashboard: 1' '+port: changelogd-http' '+targetPort: changelogd-http' \
        '+runbook_url: https://docs.example/operations#changelogdnotready' '+publishNotReadyAddresses: true'
    # A link that no pager can open is left out.
    # Covers K2.
    renders 'alerts without a runbook' "$kube" "$chart" --set monitoring.prometheusRule.enabled=true -- \
        '+kind: PrometheusRule' '-runbook_url: docs/operations.md#changelogdnotready' '+alert: ChangelogdLogLinesLost'
    renders 'standalone, not scraped' "$kube" "$chart" -- \
        '-kind: ServiceMonitor' '-kind: PodMonitor' '-kind: PrometheusRule' '-kind: ConfigMap'
    renders 'sidecar, its pods scraped' "$kube" "$chart" --set mode=sidecar,admin.podListen=true \
        --set sidecar.type=classic,monitoring.podMonitor.enabled=true -- \
        '+kind: PodMonitor' '+changelogd-metrics: rel-changelogd'
done
refuses 'a PodMonitor of what listens on loopback' $recent "$chart" --set monitoring.podMonitor.enabled=true -- \
    'monitoring.podMonitor.enabled' 'admin.podListen'
refuses 'a ServiceMonitor of what listens on loopback' $recent "$chart" \
    --set monitoring.serviceMonitor.enabled=true -- 'monitoring.serviceMonitor.enabled' 'admin.podListen'
refuses 'a ServiceMonitor of sidecars' $recent "$chart" --set mode=sidecar,admin.podListen=true \
    --set monitoring.serviceMonitor.enabled=true -- 'sidecars have no Service'

# The label of the template is that which the PodMonitor selects.
sidecars_are_selected() {
    problems=
    render $recent "$pieces" --set changelogd.admin.podListen=true \
        --set changelogd.monitoring.podMonitor.enabled=true || problem "refused: $(cat "$work/err")"
    facts "$work/out" >"$work/facts"
    [ "$(grep -cx 'changelogd-metrics: rel-changelogd' "$work/facts")" -eq 2 ] ||
        problem "not on the pod and in the selector: $(grep -n 'changelogd-metrics' "$work/facts")"
    verdict 'a PodMonitor selects pods with the labels of the template'
}
sidecars_are_selected

rules=$chart/files/rules.yaml
command -v promtool >/dev/null || {
    echo 'tests/chart/run.sh: no promtool: install the Debian package prometheus' >&2
    exit 1
}

# Each alert fires on the series of its event, and only then. The file is one that Prometheus reads.
alerts_fire() {
    problems=
    mkdir -p "$work/rules"
    cp "$rules" "$here/rules-test.yaml" "$work/rules/"
    promtool check rules "$work/rules/rules.yaml" >"$work/out" 2>&1 || problem "$(cat "$work/out")"
    promtool test rules "$work/rules/rules-test.yaml" >"$work/out" 2>&1 || problem "$(cat "$work/out")"
    sed -n 's/^ *- alert: //p' "$rules" >"$work/alerts"
    [ -s "$work/alerts" ] || problem 'no alerts'
    while read -r alert; do
        [ "$(grep -c "alertname: $alert\$" "$here/rules-test.yaml")" -ge 2 ] || problem "no test of $alert"
        grep -qx "### $alert" "$root/docs/operations.md" || problem "docs/operations.md has no entry $alert"
        link=docs/operations.md#$(echo "$alert" | tr '[:upper:]' '[:lower:]')
        grep -qF "runbook_url: $link" "$rules" || problem "no runbook_url: $link"
    done <"$work/alerts"
    verdict 'each alert fires on its event only, and has a runbook entry'
}
alerts_fire

dashboard_is_whole() {
    problems=
    node -e '
        const { panels, schemaVersion } = JSON.parse(require("node:fs").readFileSync(process.argv[1], "utf8"));
        const empty = panels.filter((p) => p.type !== "row" && !(p.description && p.targets.every((t) => t.expr)));
        if (schemaVersion < 41 || panels.length < 20 || empty.length > 0) throw new Error(JSON.stringify(empty));
    ' "$chart/files/dashboard.json" >"$work/out" 2>&1 || problem "$(cat "$work/out")"
    verdict 'each panel of the dashboard has a description and queries'
}
dashboard_is_whole
