//! The format of `/metrics` that a scraper asks for in `Accept`.
//!
//! Promises: a scraper that asks for OpenMetrics 1.0.0 gets it. Each other one gets Prometheus' text format 0.0.4, also
//! one that asks for neither, because a scrape is worth more than an error.

use http::{HeaderMap, header::ACCEPT};
use mediatype::{MediaType, MediaTypeList, Name, ReadParams};

/// A format of `/metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsFormat {
    Text,
    OpenMetrics,
}

impl MetricsFormat {
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// Type, subtype and version.
    fn parts(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Text => ("text", "plain", "0.0.4"),
            Self::OpenMetrics => ("application", "openmetrics-text", "1.0.0"),
        }
    }

    /// How exactly a range names this format. `None` if it does not. Other parameters than the version say how values
    /// are escaped or encoded, which both formats have only one way for.
    fn matched_by(self, range: &MediaType<'_>) -> Option<usize> {
        let (main, sub, version) = self.parts();
        if range.ty == "*" && range.subty == "*" {
            return Some(0);
        }
        if range.ty != main {
            return None;
        }
        if range.subty == "*" {
            return Some(1);
        }
        if range.subty != sub || range.suffix.is_some() {
            return None;
        }
        match range.get_param(Name::new_unchecked("version")) {
            None => Some(2),
            Some(asked) => (asked.unquoted_str() == version).then_some(3),
        }
    }

    /// The format that the headers prefer.
    pub fn accepted_by(headers: &HeaderMap) -> Self {
        let lists: Vec<_> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
        // What is malformed names no format.
        let ranges: Vec<_> = lists.iter().flat_map(|list| MediaTypeList::new(list)).flatten().collect();
        let preference = |format: Self| {
            let named = ranges.iter().enumerate().filter_map(|(i, range)| {
                // Among equal ones the first counts.
                Some((format.matched_by(range)?, std::cmp::Reverse(i), quality(range)?))
            });
            named.max().map(|(exactness, place, quality)| (quality, exactness, place)).filter(|(q, ..)| *q > 0)
        };
        if preference(Self::OpenMetrics) > preference(Self::Text) { Self::OpenMetrics } else { Self::Text }
    }
}

/// The weight of a range in thousandths (RFC 9110, 12.4.2). `None` if it is malformed.
fn quality(range: &MediaType<'_>) -> Option<u32> {
    let Some(weight) = range.get_param(Name::new_unchecked("q")) else { return Some(1_000) };
    let weight: f64 = weight.as_str().parse().ok()?;
    (0.0..=1.0).contains(&weight).then_some((weight * 1_000.0).round() as u32)
}

#[cfg(test)]
mod tests {
    use super::{MetricsFormat::*, *};

    /// Covers C80.
    #[test]
    fn the_format_is_that_which_accept_prefers() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                          application/openmetrics-text;version=0.0.1;q=0.5,\
                          text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        for (accept, expected) in [
            (&[][..], Text),
            (&[""], Text),
            (&["*/*"], Text),
            (&["text/html, application/xhtml+xml, */*;q=0.8"], Text),
            (&["text/*"], Text),
            (&["application/*"], OpenMetrics),
            (&["text/plain"], Text),
            (&["text/plain;version=0.0.4"], Text),
            (&["application/openmetrics-text"], OpenMetrics),
            (&["Application/OpenMetrics-Text; Version=\"1.0.0\"; charset=utf-8"], OpenMetrics),
            (&["application/openmetrics-text; version=0.0.1"], Text),
            (&["application/openmetrics-text; version=2.0.0"], Text),
            (&["application/openmetrics-text; version=2.0.0, application/openmetrics-text;q=0.1"], OpenMetrics),
            (&[prometheus], OpenMetrics),
            (&[protobuf], Text),
            (&[&*format!("{protobuf}, {prometheus}")], OpenMetrics),
            // Weights.
            (&["application/openmetrics-text;q=0.3, text/plain;q=0.9"], Text),
            (&["text/plain;q=0.3, application/openmetrics-text;q=0.9"], OpenMetrics),
            (&["text/plain;q=0.3, application/openmetrics-text;q=0.301"], OpenMetrics),
            (&["application/openmetrics-text;q=0, text/plain;q=0.1"], Text),
            (&["application/openmetrics-text;q=0, */*"], Text),
            (&["application/openmetrics-text;q=0"], Text),
            (&["text/plain;q=0, application/openmetrics-text;q=0.1"], OpenMetrics),
            (&["text/plain;q=0, */*;q=0.1"], OpenMetrics),
            (&["application/openmetrics-text;q=2"], Text),
            (&["application/openmetrics-text;q=x, text/plain;q=0.1"], Text),
            (&["application/openmetrics-text;q=NaN"], Text),
            // With equal weights, the one that is named more exactly, then the first.
            (&["application/openmetrics-text, */*"], OpenMetrics),
            (&["text/plain, application/openmetrics-text"], Text),
            (&["application/openmetrics-text, text/plain"], OpenMetrics),
            // Several headers, and malformed ones.
            (&["text/plain;q=0.5", "application/openmetrics-text"], OpenMetrics),
            (&["nonsense, application/openmetrics-text"], OpenMetrics),
            (&["application/openmetrics-text+json"], Text),
            (&["application/openmetrics"], Text),
            (&[";;;,,,"], Text),
        ] {
            let headers = accept.iter().map(|value| (ACCEPT, value.parse().unwrap()));
            let found = MetricsFormat::accepted_by(&headers.collect());
            assert_eq!(found, expected, "{accept:?}");
        }
    }
}
