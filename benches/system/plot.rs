//! Plots as SVG, both axes logarithmic.

use std::path::Path;

use plotters::prelude::*;

/// A name and its points.
pub type Series<'a> = (&'a str, Vec<(f64, f64)>);

const SIZE: (u32, u32) = (760, 420);
const COLOURS: [RGBColor; 4] =
    [RGBColor(31, 97, 171), RGBColor(205, 92, 0), RGBColor(60, 128, 60), RGBColor(120, 60, 140)];

/// The labels of an axis.
pub type Marks = fn(&f64) -> String;

/// A plain number.
pub fn plain(value: &f64) -> String {
    let digits = if *value < 0.1 { 2 } else { usize::from(*value < 1.0) };
    format!("{value:.digits$}")
}

/// 10 as 90 %, 100 as 99 %, and so on.
pub fn percentile(value: &f64) -> String {
    let percent = 100.0 - 100.0 / value;
    let digits = (value.log10().round() as usize).saturating_sub(2);
    format!("{percent:.digits$} %")
}

/// Draws curves. `x` and `y` are the labels of the axes.
pub fn curves(file: &Path, title: &str, x: (&str, Marks), y: &str, series: &[Series<'_>]) -> Result<(), String> {
    draw(file, title, x, y, series).map_err(|error| format!("{}: {error}", file.display()))
}

fn range(series: &[Series<'_>], of: fn(&(f64, f64)) -> f64) -> (f64, f64) {
    let values = || series.iter().flat_map(|(_, points)| points).map(of).filter(|v| *v > 0.0);
    let (min, max) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
    if min < max { (min, max) } else { (1.0, 10.0) }
}

fn draw(
    file: &Path,
    title: &str,
    (x_label, x_marks): (&str, Marks),
    y_label: &str,
    series: &[Series<'_>],
) -> Result<(), Box<dyn std::error::Error>> {
    let (x, y) = (range(series, |p| p.0), range(series, |p| p.1));
    // The axis has marks at whole numbers and at powers of ten only.
    let lowest = 10_f64.powf(y.0.log10().floor());
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(70)
        .build_cartesian_2d((x.0..x.1 * 1.05).log_scale(), (lowest..y.1 * 1.25).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(RGBColor(240, 240, 240))
        .x_desc(x_label)
        .y_desc(y_label)
        .x_label_formatter(&x_marks)
        .y_label_formatter(&plain)
        .label_style(("sans-serif", 13))
        .draw()?;
    for ((name, points), colour) in series.iter().zip(COLOURS.into_iter().cycle()) {
        let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2));
        chart
            .draw_series(line)?
            .label(*name)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], colour.stroke_width(2)));
        // If there are few points, the reader wants to see each measurement.
        if points.len() <= 12 {
            chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
        }
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(RGBColor(200, 200, 200))
        .label_font(("sans-serif", 13))
        .draw()?;
    area.present()?;
    Ok(())
}
