"""Reads the answers of /metrics with the parsers of Prometheus' own Python library.

Arguments: a file in the text format 0.0.4, and one in the OpenMetrics format, of the same metrics.
Prints the number of families. Fails if a parser refuses a file, or if the files differ in more than their formats do.
"""

import sys
from pathlib import Path

from prometheus_client.openmetrics import parser as open_metrics
from prometheus_client import parser as plain_text


def read(parser, path):
    text = Path(path).read_text(encoding="utf-8")
    families = list(parser.text_string_to_metric_families(text))
    for family in families:
        assert family.documentation, f"{family.name} has no help text"
        assert family.type != "unknown", f"{family.name} has no type"
    return {family.name: family for family in families}


def main():
    plain, full = (read(parser, path) for parser, path in zip((plain_text, open_metrics), sys.argv[1:], strict=True))
    # The older format has no info type.
    expected = {f"{name}_info" if family.type == "info" else name: family for name, family in full.items()}
    assert plain.keys() == expected.keys(), plain.keys() ^ expected.keys()
    for name, family in plain.items():
        other = expected[name]
        assert family.type == ("gauge" if other.type == "info" else other.type), (name, family.type, other.type)
        assert family.documentation == other.documentation, (name, family.documentation, other.documentation)
        samples, others = ({sample.name for sample in found.samples} for found in (family, other))
        assert samples == others, (name, samples ^ others)
    kinds = {family.type for family in full.values()}
    assert kinds >= {"counter", "gauge", "histogram", "info"}, kinds
    print(len(full))


main()
