//! What the metrics of all crates have in common: boundaries of histograms, and families whose series all exist from
//! the start.
//!
//! A series that appears with its first event hides that event: a rate needs a value before it. So each family here
//! knows its labels, and makes all series at once. The handles are kept, so that an event takes no lock of a family.

use std::fmt;

use prometheus_client::{
    encoding::EncodeMetric,
    metrics::{TypedMetric, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// The boundaries of all durations, in seconds: 0.5 ms to 60 s, in steps of 1, 2.5 and 5.
pub const DURATION_BOUNDARIES: [f64; 17] =
    [5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 60.0];

/// A histogram of durations in seconds.
pub fn durations() -> Histogram {
    Histogram::new(DURATION_BOUNDARIES)
}

/// The labels of a series, by name.
pub type Labels<const N: usize> = [(&'static str, &'static str); N];

/// A family with all of its series.
pub struct Series<M, const N: usize> {
    family: Family<Labels<N>, M, fn() -> M>,
    members: Vec<(Labels<N>, M)>,
}

impl<M: fmt::Debug, const N: usize> fmt::Debug for Series<M, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.members).finish()
    }
}

impl<M: Clone, const N: usize> Clone for Series<M, N> {
    fn clone(&self) -> Self {
        Self { family: self.family.clone(), members: self.members.clone() }
    }
}

impl<M: Clone, const N: usize> Series<M, N> {
    /// A series for each of these labels.
    pub fn new(labels: impl IntoIterator<Item = Labels<N>>, new: fn() -> M) -> Self {
        let family = Family::<Labels<N>, M, fn() -> M>::new_with_constructor(new);
        let members = labels.into_iter().map(|labels| (labels, family.get_or_create(&labels).clone())).collect();
        Self { family, members }
    }

    /// The series whose labels have these values. `None` if there is no such series.
    pub fn get(&self, values: [&str; N]) -> Option<&M> {
        let has_values = |labels: &Labels<N>| labels.iter().zip(values).all(|((_, label), value)| *label == value);
        self.members.iter().find(|(labels, _)| has_values(labels)).map(|(_, member)| member)
    }

    /// All series.
    pub fn members(&self) -> &[(Labels<N>, M)] {
        &self.members
    }
}

impl<M: Clone + EncodeMetric + TypedMetric + fmt::Debug + Send + Sync + 'static, const N: usize> Series<M, N> {
    /// Adds the family to a registry.
    pub fn register(&self, registry: &mut Registry, name: &str, help: &str) {
        registry.register(name, help, self.family.clone());
    }

    /// As [`Series::register`], with a unit.
    pub fn register_with_unit(&self, registry: &mut Registry, name: &str, help: &str, unit: Unit) {
        registry.register_with_unit(name, help, unit, self.family.clone());
    }
}

impl<const N: usize> Series<Gauge, N> {
    /// Sets the series with these values to 1, and the others to 0.
    pub fn set_only(&self, values: [&str; N]) {
        let only = self.get(values);
        for (_, member) in &self.members {
            member.set(0);
        }
        if let Some(only) = only {
            only.set(1);
        }
    }
}

/// A number for a metric of floats, which keep 52 bits of it.
#[expect(clippy::cast_precision_loss, reason = "a graph needs no more digits")]
pub fn approximate(number: u64) -> f64 {
    number as f64
}

/// The used part of a limit, from 0 to 1.
pub fn used_part(used: u64, limit: u64) -> f64 {
    (approximate(used) / approximate(limit.max(1))).min(1.0)
}

/// A number for a gauge. The largest if it is larger.
pub fn saturated(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text::encode, metrics::counter::Counter};

    use super::*;

    #[test]
    fn all_series_exist_from_the_start_and_one_state_holds() {
        let mut registry = Registry::default();
        let states = Series::new([[("state", "a")], [("state", "b")]], Gauge::default);
        states.register(&mut registry, "state", "State");
        let counts = Series::new([[("x", "1"), ("y", "2")]], Counter::<u64>::default);
        counts.register(&mut registry, "events", "Events");
        states.set_only(["a"]);
        states.set_only(["b"]);
        assert!(counts.get(["1", "1"]).is_none());
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in ["state{state=\"a\"} 0\n", "state{state=\"b\"} 1\n", "events_total{x=\"1\",y=\"2\"} 0\n"] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    #[test]
    fn boundaries_are_steps_of_one_two_and_a_half_and_five() {
        assert!(DURATION_BOUNDARIES.is_sorted());
        let begins = DURATION_BOUNDARIES.map(|bound| format!("{bound:e}"));
        assert!(begins[..16].iter().all(|bound| ["1e", "2.5e", "5e"].iter().any(|step| bound.starts_with(step))));
    }
}
