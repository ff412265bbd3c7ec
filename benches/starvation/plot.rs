//! The picture: how soon each noticed what was done, and how often each suspected who was well.

use super::pressure::Pressure;
use super::record::{Fault, Record, Who};
use plotters::prelude::*;
use std::error::Error;
use std::path::Path;

const SERIES: [(Who, Fault, RGBColor); 4] = [
    (Who::ZetaBft, Fault::Kill, RGBColor(0, 90, 181)),
    (Who::ZetaBft, Fault::Stop, RGBColor(90, 170, 240)),
    (Who::Serf, Fault::Kill, RGBColor(200, 60, 20)),
    (Who::Serf, Fault::Stop, RGBColor(240, 160, 90)),
];

/// Draws both charts, side by side.
///
/// # Errors
/// Those of the file.
pub fn draw(record: &Record, file: &Path) -> Result<(), Box<dyn Error>> {
    let area = SVGBackend::new(file, (1200, 480)).into_drawing_area();
    area.fill(&WHITE)?;
    let (left, right) = area.split_horizontally(680);
    let mut chart = ChartBuilder::on(&left)
        .caption("detection: share of faults noticed within", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(50)
        .build_cartesian_2d((5.0..60_000.0).log_scale(), 0.0..1.0)?;
    chart.configure_mesh().x_desc("ms").y_desc("share").draw()?;
    for (who, fault, colour) in SERIES {
        let millis = record.millis(who, fault, None);
        let share = |index: usize| f64::from(u32::try_from(index + 1).unwrap_or(u32::MAX)) / f64::from(count(&millis));
        let points: Vec<(f64, f64)> =
            millis.iter().enumerate().map(|(index, millis)| (millis.max(5.0), share(index))).collect();
        let name = format!("{}, {} (n={})", who.name(), fault.name(), millis.len());
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .border_style(BLACK)
        .background_style(WHITE.mix(0.9))
        .draw()?;

    let most = Pressure::ALL.into_iter().flat_map(|pressure| Who::ALL.map(|who| record.rate(who, pressure)));
    let most = most.fold(1.0_f64, f64::max) * 1.1;
    let groups = Pressure::ALL.len();
    let mut chart = ChartBuilder::on(&right)
        .caption("false suspicions per watched process and hour", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(50)
        .build_cartesian_2d(0.0..f64::from(u32::try_from(groups)?), 0.0..most)?;
    let name = |x: &f64| {
        let group =
            Pressure::ALL.into_iter().zip(0_u32..).find(|(_, number)| (f64::from(*number) + 0.5 - x).abs() < 0.01);
        group.map_or_else(String::new, |(pressure, _)| pressure.name().to_owned())
    };
    chart.configure_mesh().disable_x_mesh().x_labels(groups * 2 + 1).x_label_formatter(&name).draw()?;
    for (who, offset, colour) in [(Who::ZetaBft, 0.1, SERIES[0].2), (Who::Serf, 0.5, SERIES[2].2)] {
        let bars = Pressure::ALL.into_iter().zip(0_u32..).map(|(pressure, number)| {
            let x = f64::from(number) + offset;
            Rectangle::new([(x, 0.0), (x + 0.4, record.rate(who, pressure))], colour.filled())
        });
        chart
            .draw_series(bars)?
            .label(who.name())
            .legend(move |(x, y)| Rectangle::new([(x, y - 4), (x + 12, y + 4)], colour.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .border_style(BLACK)
        .background_style(WHITE.mix(0.9))
        .draw()?;
    area.present()?;
    Ok(())
}

fn count(values: &[f64]) -> u32 {
    u32::try_from(values.len()).unwrap_or(u32::MAX).max(1)
}
