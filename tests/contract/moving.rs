//! Metrics that move: each test that makes an event happen waits until the families of this event have other values.
//!
//! `tests/local/metrics.rs` reads the calls of [`Before::moves`] in the sources of tests. A family without one fails.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::server::{PATIENCE, TestServer, http_get};

/// The samples of a scrape, by name and labels.
#[derive(Debug, Clone)]
pub struct Scrape(BTreeMap<String, f64>);

/// A scrape from before an event, and where later ones come from.
pub struct Before {
    admin: String,
    scrape: Scrape,
}

// Two test binaries use this file, and each uses a part of it.
#[allow(dead_code)]
impl Scrape {
    pub async fn of(admin: &str) -> Self {
        let (status, text) = http_get(admin, "/metrics").await;
        assert_eq!(status, 200);
        Self::parse(&text)
    }

    fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        });
        Self(samples.collect())
    }

    /// The samples of a family. Those of a histogram have a suffix.
    fn family(&self, name: &str) -> BTreeMap<&str, f64> {
        let is_of = |series: &str| {
            let rest = series.split('{').next().and_then(|found| found.strip_prefix(name));
            rest.is_some_and(|suffix| ["", "_sum", "_count", "_bucket"].contains(&suffix))
        };
        self.0.iter().filter(|(series, _)| is_of(series)).map(|(series, value)| (&**series, *value)).collect()
    }

    /// The sum over all labels.
    pub fn sum(&self, name: &str) -> f64 {
        self.family(name).values().sum()
    }

    pub fn value(&self, series: &str) -> f64 {
        *self.0.get(series).unwrap_or_else(|| panic!("{series}"))
    }
}

#[allow(dead_code)]
impl Before {
    pub async fn of(server: &TestServer) -> Self {
        Self::at(&server.admin).await
    }

    /// By the address of the admin port.
    pub async fn at(admin: &str) -> Self {
        Self { admin: admin.to_owned(), scrape: Scrape::of(admin).await }
    }

    /// The values of a process whose store is not open, for families that are not of a store.
    pub fn at_start(server: &TestServer) -> Self {
        let scrape = Scrape::parse(&changelogd::metrics::Metrics::new().plain_text());
        Self { admin: server.admin.clone(), scrape }
    }

    /// The values of one server, which those of another are compared with.
    pub async fn of_other(other: &TestServer, server: &TestServer) -> Self {
        Self { admin: server.admin.clone(), scrape: Scrape::of(&other.admin).await }
    }

    /// Waits until a sample of the family has another value than before.
    pub async fn moves(&self, family: &str) {
        let before = self.scrape.family(family);
        assert!(!before.is_empty(), "{family} exists from the start");
        self.until(family, |now| now.family(family) != before).await;
    }

    /// As [`Self::moves`], for a family whose series exist once the topic is known.
    pub async fn moves_or_begins(&self, family: &str) {
        let before = self.scrape.family(family);
        self.until(family, |now| now.family(family) != before).await;
    }

    pub async fn until(&self, what: &str, is: impl Fn(&Scrape) -> bool) {
        let started = Instant::now();
        while !is(&Scrape::of(&self.admin).await) {
            assert!(started.elapsed() < PATIENCE, "{what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The families that a source says to move.
#[allow(dead_code)]
pub fn families_moved_in(source: &str) -> BTreeSet<String> {
    // In two parts, so that this file has no such call.
    let calls = [concat!(".moves", "(\""), concat!(".moves_or_begins", "(\"")];
    let names = calls.iter().flat_map(|call| source.split(call).skip(1));
    names.filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
}
