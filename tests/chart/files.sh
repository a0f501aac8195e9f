#!/bin/sh
# What the chart's files say of each other. run.sh reads this file.

# Each rendered object fits the strict schema of its Kubernetes version.
# Covers K12.
rendered_objects_fit_the_schemas() {
    problems=
    node "$here/validate.mjs" "$root/target/tools" "$work/rendered" >"$work/out" 2>&1 || problem "$(cat "$work/out")"
    verdict "rendered objects fit the schemas: $(tail -1 "$work/out")"
}
rendered_objects_fit_the_schemas

# The README shows the examples as they are: each file of them is a block there. It has no other block of YAML.
# Covers K9.
readme_shows_the_example() {
    problems=
    set -- consumer/Chart.yaml consumer/values.yaml consumer/templates/deployment.yaml strimzi/tls.yaml \
        strimzi/scram.yaml
    for file in "$@"; do
        awk -v file="$here/$file" '
            BEGIN { while ((getline line < file) > 0) want = want line "\n" }
            /^```/ { if (inside && block == want) found = 1; inside = !inside; block = ""; next }
            inside { block = block $0 "\n" }
            END { exit !found }
        ' "$chart/README.md" || problem "not in helm/changelogd/README.md as it is: tests/chart/$file"
    done
    blocks=$(grep -c '^```yaml' "$chart/README.md")
    [ "$blocks" -eq $# ] || problem "helm/changelogd/README.md has $blocks blocks of YAML, and $# files"
    verdict 'the README shows the examples as they are'
}
readme_shows_the_example

# Each pod is restricted by the pod security standards, those of hooks and tests included.
# Covers K7, K12.
rendered_pods_are_restricted() {
    problems=
    "$root/target/tools/bin/pod-security" "$work/rendered" >"$work/out" 2>&1 || true
    # One case takes the security contexts away.
    refused=$(sed -n 's,^.*/\(.*\)\.yaml: .*: not restricted.*,\1,p' "$work/out" | sort -u)
    [ "$refused" = null-for-each-map-and-list ] || problem "refused are: $(cat "$work/out")"
    verdict "rendered pods are restricted: $(grep ' pods, ' "$work/out")"
}
rendered_pods_are_restricted

# Covers K9.
readme_has_each_value() {
    problems=
    node "$root/tools/chart-readme.mjs" --check >"$work/out" 2>&1 || problem "$(cat "$work/out")"
    verdict 'the README has each value'
}
readme_has_each_value

# A package has each file of the chart that git tracks, and no others.
# Covers K14.
package_has_the_chart_alone() {
    problems=
    mkdir -p "$work/package"
    cp -R "$chart" "$work/package/changelogd"
    for file in .DS_Store .git/config .idea/x values.yaml.orig values-mine.yaml templates/x.yaml~ \
        changelogd-0.0.1.tgz; do
        mkdir -p "$(dirname "$work/package/changelogd/$file")"
        echo x >"$work/package/changelogd/$file"
    done
    git -C "$root" ls-files helm/changelogd | sed 's,^helm/,,' | sort >"$work/package/expected"
    grep -qx changelogd/values.schema.json "$work/package/expected" || problem 'git lists no files of the chart'
    for program in "$helm" "$helm4"; do
        "$program" package "$work/package/changelogd" --destination "$work/package" >"$work/out" 2>&1 ||
            problem "$(cat "$work/out")"
        tar -tzf "$work/package/changelogd-$(sed -n 's/^version: //p' "$chart/Chart.yaml").tgz" |
            sort >"$work/package/found"
        diff "$work/package/expected" "$work/package/found" >"$work/out" || problem "$(cat "$work/out")"
    done
    verdict 'a package has the chart alone'
}
package_has_the_chart_alone

# Artifact Hub reads the annotations of Chart.yaml.
annotations_fit_artifact_hub() {
    problems=
    node "$here/annotations.mjs" "$root/target/tools" "$chart/Chart.yaml" >"$work/out" 2>&1 ||
        problem "$(cat "$work/out")"
    verdict 'the annotations fit Artifact Hub'
}
annotations_fit_artifact_hub

# The templates know the version of their chart, so that they can refuse the values of another one.
templates_have_the_version_of_the_chart() {
    problems=
    version=$(sed -n 's/^version: //p' "$chart/Chart.yaml")
    grep -A1 'define "changelogd.v1.version"' "$chart/templates/_checks.tpl" | grep -qxF "$version" ||
        problem "templates/_checks.tpl does not have version $version"
    grep -qxF "  templates: $version" "$chart/Chart.yaml" || problem "Chart.yaml does not have templates: $version"
    verdict 'the templates have the version of the chart'
}
templates_have_the_version_of_the_chart

# A tag starts the release. Its check finds each place of the version, so that one that is left out stops it.
the_release_checks_each_version_of_the_chart() {
    problems=
    sed -n '/The tag is the version of/,/^      - /p' "$root/.github/workflows/release.yml" |
        sed -n '/grep/s/^ *//p' >"$work/release.check"
    rm -rf "$work/release"
    mkdir -p "$work/release/helm/changelogd/templates"
    # released VERSION SED FILE: the check of the workflow with a version, after a change of one file.
    released() {
        cp "$root/Cargo.toml" "$work/release/"
        cp "$chart/Chart.yaml" "$work/release/helm/changelogd/"
        cp "$chart/templates/_checks.tpl" "$work/release/helm/changelogd/templates/"
        sed -i "$2" "$work/release/$3"
        (cd "$work/release" && version=$1 bash -e "$work/release.check")
    }
    version=$(sed -n 's/^version: //p' "$chart/Chart.yaml")
    released "$version" '' Cargo.toml || problem "version $version is refused"
    ! released 9.9.9 '' Cargo.toml || problem 'version 9.9.9 is not refused'
    ! released "$version" "s/^version: .*/version: 9.9.9/" helm/changelogd/Chart.yaml || problem 'version'
    ! released "$version" "s/^appVersion: .*/appVersion: 9.9.9/" helm/changelogd/Chart.yaml || problem 'appVersion'
    ! released "$version" "s/^  templates: .*/  templates: 9.9.9/" helm/changelogd/Chart.yaml || problem 'templates'
    ! released "$version" "s/^$version\$/9.9.9/" helm/changelogd/templates/_checks.tpl || problem '_checks.tpl'
    verdict 'a release checks each version of the chart'
}
the_release_checks_each_version_of_the_chart

# Each value of the schema is in values.yaml with its default, and the other way round.
# Covers K9.
schema_and_values_have_the_same_names() {
    problems=
    # Helm 4 leaves out defaults that are null.
    "$helm" template rel "$with_notes" --values "$work/image.yaml" --kube-version $recent \
        --show-only templates/values.yaml >"$work/out" 2>"$work/err" || problem "refused: $(cat "$work/err")"
    sed -n 's/^values: //p' "$work/out" >"$work/values.json"
    python3 "$here/names.py" "$chart/values.schema.json" "$work/values.json" "$chart/README.md" >"$work/names" 2>&1 ||
        problem "$(cat "$work/names")"
    verdict 'schema and values have the same names'
}
schema_and_values_have_the_same_names
