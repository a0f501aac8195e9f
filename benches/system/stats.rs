//! Statistics of measurements: quantiles, ratios of pairs with their spread, and a straight line.

use std::fmt;

/// The measurements of one quantity.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The measurement of a round.
    pub fn at(&self, round: usize) -> Option<f64> {
        self.0.get(round).copied()
    }

    /// By nearest rank, so it is a measured value. NaN if there is none.
    pub fn quantile(&self, q: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let rank = (q * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// p50, p90, p99, p99.9 and the worst, as cells of a table.
    pub fn cells(&self) -> String {
        let cells = [0.5, 0.9, 0.99, 0.999, 1.0].map(|q| format!("{:.3}", self.quantile(q)));
        format!("{} | {}", self.len(), cells.join(" | "))
    }

    pub fn spread(&self) -> Spread {
        Spread { middle: self.median(), min: self.quantile(0.0), max: self.quantile(1.0) }
    }

    /// (1 / (1 - q), quantile), for a plot in which each further nine has the same width.
    pub fn curve(&self) -> Vec<(f64, f64)> {
        const EACH_NINE: f64 = 40.0;
        let last = (self.len() as f64).log10() * EACH_NINE;
        let steps = (0..=last as usize).map(|step| 10_f64.powf(step as f64 / EACH_NINE));
        steps.map(|x| (x, self.quantile(1.0 - 1.0 / x))).collect()
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<T: IntoIterator<Item = f64>>(values: T) -> Self {
        Self(values.into_iter().collect())
    }
}

/// A median, and the spread of the measurements.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    pub middle: f64,
    pub min: f64,
    pub max: f64,
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.middle.abs() >= 100.0 { 0 } else { 2 };
        write!(f, "{:.digits$} ({:.digits$}–{:.digits$})", self.middle, self.min, self.max)
    }
}

/// One measurement of ours and one of the reference next to it.
#[derive(Debug, Clone, Default)]
pub struct Pairs {
    pub ours: Samples,
    pub reference: Samples,
}

impl Pairs {
    pub fn push(&mut self, ours: f64, reference: f64) {
        self.ours.push(ours);
        self.reference.push(reference);
    }

    /// Ours divided by the reference: the ratio of the medians, and the smallest and largest of a pair.
    pub fn ratio(&self) -> Spread {
        let each: Samples =
            self.ours.0.iter().zip(&self.reference.0).map(|(ours, reference)| ours / reference).collect();
        Spread { middle: self.ours.median() / self.reference.median(), ..each.spread() }
    }

    /// The reference divided by ours.
    pub fn inverse(&self) -> Spread {
        Self { ours: self.reference.clone(), reference: self.ours.clone() }.ratio()
    }
}

/// y = intercept + slope · x
#[derive(Debug, Clone, Copy)]
pub struct Line {
    pub intercept: f64,
    pub slope: f64,
    /// The part of y's variance that the line explains.
    pub r_squared: f64,
}

impl Line {
    /// By least squares.
    pub fn fit(points: &[(f64, f64)]) -> Self {
        let count = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
        let (mean_x, mean_y) = (mean(|p| p.0), mean(|p| p.1));
        let sum = |of: &dyn Fn(f64, f64) -> f64| points.iter().map(|(x, y)| of(x - mean_x, y - mean_y)).sum::<f64>();
        let slope = sum(&|x, y| x * y) / sum(&|x, _| x * x);
        let mut line = Self { intercept: mean_y - slope * mean_x, slope, r_squared: 0.0 };
        let unexplained: f64 = points.iter().map(|(x, y)| (y - line.at(*x)).powi(2)).sum();
        line.r_squared = 1.0 - unexplained / sum(&|_, y| y * y);
        line
    }

    pub fn at(&self, x: f64) -> f64 {
        self.intercept + self.slope * x
    }
}
