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

# The README shows the example as it is: each file of it is a block there.
# Covers K9.
readme_shows_the_example() {
    problems=
    for file in Chart.yaml values.yaml templates/deployment.yaml; do
        awk -v file="$here/consumer/$file" '
            BEGIN { while ((getline line < file) > 0) want = want line "\n" }
            /^```/ { if (inside && block == want) found = 1; inside = !inside; block = ""; next }
            inside { block = block $0 "\n" }
            END { exit !found }
        ' "$chart/README.md" || problem "not in helm/changelogd/README.md as it is: tests/chart/consumer/$file"
    done
    verdict 'the README shows the example as it is'
}
readme_shows_the_example

# Covers K9.
readme_has_each_value() {
    problems=
    node "$root/tools/chart-readme.mjs" --check >"$work/out" 2>&1 || problem "$(cat "$work/out")"
    verdict 'the README has each value'
}
readme_has_each_value

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

# Each value of the schema is in values.yaml with its default, and the other way round.
# Covers K9.
schema_and_values_have_the_same_names() {
    problems=
    render $recent "$with_notes" --show-only templates/values.yaml || problem "refused: $(cat "$work/err")"
    sed -n 's/^values: //p' "$work/out" >"$work/values.json"
    python3 "$here/names.py" "$chart/values.schema.json" "$work/values.json" >"$work/names" 2>&1 ||
        problem "$(cat "$work/names")"
    verdict 'schema and values have the same names'
}
schema_and_values_have_the_same_names
