//! A chart: an SVG with heading, legend and caption, as HTML.

use std::fmt::Write;
use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::text::escape;

/// In units of the SVG. A wide page has three charts side by side, a page of 360 pixels has one.
/// The text of a chart of this width is readable at both sizes.
const WIDTH: u32 = 400;
const HEIGHT: u32 = 280;
/// Margins around the plot: names of marks above it, half a tick's label to its right, ticks and
/// axis names below it and to its left.
const TOP: u32 = 22;
const RIGHT: u32 = 16;
const BOTTOM: u32 = 44;
const LEFT: u32 = 74;
/// Extra space for the name of the y axis.
const EDGE: u32 = 4;
/// In plotters' units. SVG's font size is this divided by 1.24.
const TICK_FONT: u32 = 16;
const NAME_FONT: u32 = 17;
/// The approximate number of ticks on an axis.
const TICKS: f64 = 4.0;
/// Space above the highest value of a linear axis, for the names of horizontal lines.
const HEADROOM: f64 = 1.12;

/// Colours that people with any colour vision can distinguish (Okabe and Ito, "Color Universal
/// Design").
pub const BLUE: RGBColor = RGBColor(0, 114, 178);
pub const ORANGE: RGBColor = RGBColor(230, 159, 0);
pub const GREEN: RGBColor = RGBColor(0, 158, 115);
pub const RED: RGBColor = RGBColor(213, 94, 0);
pub const PURPLE: RGBColor = RGBColor(204, 121, 167);
pub const SKY: RGBColor = RGBColor(86, 180, 233);
pub const BLACK: RGBColor = RGBColor(40, 40, 40);
pub const GREY: RGBColor = RGBColor(140, 140, 140);
/// Colours of axes, horizontal and vertical lines. No series has these colours.
const AXIS: RGBColor = RGBColor(160, 163, 168);
const BOUND: RGBColor = RGBColor(80, 84, 90);
const MARK: RGBColor = RGBColor(160, 60, 130);
/// Colours of series without a meaning of their own.
pub const PALETTE: [RGBColor; 7] = [BLUE, RED, GREEN, ORANGE, PURPLE, SKY, BLACK];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Line,
    Dashed,
    Dots,
    Crosses,
}

pub struct Series {
    pub name: String,
    pub color: RGBColor,
    pub style: Style,
    /// Sorted by x.
    pub points: Vec<(f64, f64)>,
}

/// The scale of an axis.
#[derive(Clone, Copy)]
pub enum Scale {
    Linear,
    /// Equal height for each decade. Values that are not positive are left out.
    Log,
}

pub struct Chart {
    pub title: String,
    /// One or two sentences that explain how to read the chart.
    pub caption: String,
    pub x: String,
    pub y: String,
    pub scale: Scale,
    pub format: fn(f64) -> String,
    pub series: Vec<Series>,
    /// Horizontal lines: a value of y and its name.
    pub bounds: Vec<(f64, String)>,
    /// Vertical lines: a value of x and its name, which may be empty.
    pub marks: Vec<(f64, String)>,
    /// Shaded ranges of x.
    pub bands: Vec<(f64, f64)>,
}

type Failure<'a> = DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>;

impl Chart {
    pub fn new(title: &str, caption: &str, x: &str, y: &str, format: fn(f64) -> String) -> Chart {
        Chart {
            title: title.to_owned(),
            caption: caption.to_owned(),
            x: x.to_owned(),
            y: y.to_owned(),
            scale: Scale::Linear,
            format,
            series: Vec::new(),
            bounds: Vec::new(),
            marks: Vec::new(),
            bands: Vec::new(),
        }
    }

    /// Adds a series, unless it has no points on this scale.
    pub fn add(&mut self, name: &str, color: RGBColor, style: Style, mut points: Vec<(f64, f64)>) {
        if matches!(self.scale, Scale::Log) {
            points.retain(|(_, y)| *y > 0.0);
        }
        if !points.is_empty() {
            self.series.push(Series { name: name.to_owned(), color, style, points });
        }
    }

    /// Adds horizontal lines for the whole machine and for one core.
    pub fn add_cpu_bounds(&mut self, cores: usize) {
        if cores <= 1 {
            self.bounds.push((100.0, "one core: the whole machine".to_owned()));
            return;
        }
        self.bounds.push((100.0, format!("{cores} cores: the whole machine")));
        self.bounds.push((100.0 / cores as f64, "one core".to_owned()));
    }

    /// Renders the chart as an HTML figure, or a remark if it has no points.
    ///
    /// The attribute `data-plot` has the position of the plot in the SVG, in its units: left, top,
    /// right and bottom.
    pub fn html(&self) -> String {
        let plot = format!("{LEFT} {TOP} {} {}", WIDTH - RIGHT, HEIGHT - BOTTOM);
        let mut out = format!("<figure data-plot=\"{plot}\"><h3>{}</h3>", escape(&self.title));
        let mut svg = String::new();
        if self.series.iter().all(|series| series.points.is_empty()) {
            out.push_str("<p class=\"empty\">No figures: nothing was measured for this.</p>");
        } else if self.draw(&mut svg).is_ok() {
            let role = format!("<svg role=\"img\" aria-label=\"{}\" ", escape(&self.title));
            out.push_str(&svg.replacen("<svg ", &role, 1));
            out.push_str(&self.legend());
        }
        let _ = writeln!(out, "<figcaption>{}</figcaption></figure>", escape(&self.caption));
        out
    }

    fn legend(&self) -> String {
        let mut out = String::from("<ul class=\"legend\">");
        for series in &self.series {
            let RGBColor(red, green, blue) = series.color;
            let sign = match series.style {
                Style::Line => "━",
                Style::Dashed => "╌",
                Style::Dots => "●",
                Style::Crosses => "✕",
            };
            // Writing to a string cannot fail.
            let _ = write!(
                out,
                "<li><b style=\"color:rgb({red},{green},{blue})\">{sign}</b> {}</li>",
                escape(&series.name)
            );
        }
        out + "</ul>"
    }

    fn draw(&self, svg: &mut String) -> Result<(), Failure<'_>> {
        let root = SVGBackend::with_string(svg, (WIDTH, HEIGHT)).into_drawing_area();
        self.draw_on(&root)?;
        root.present()
    }

    fn draw_on<'s>(&self, root: &DrawingArea<SVGBackend<'s>, Shift>) -> Result<(), Failure<'s>> {
        let (x, y) = (self.x_axis(), self.y_axis());
        let (left, right) = (x.range.start, x.range.end);
        let (bottom, top) = (y.range.start, y.range.end);
        let mut chart = ChartBuilder::on(root)
            .margin_top(TOP)
            .margin_right(RIGHT)
            .margin_left(EDGE)
            .x_label_area_size(BOTTOM)
            .y_label_area_size(LEFT - EDGE)
            .build_cartesian_2d(x, y)?;
        // Axes and grid.
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(AXIS.mix(0.3))
            .axis_style(AXIS)
            .label_style(("sans-serif", TICK_FONT).into_font().color(&BLACK))
            .axis_desc_style(("sans-serif", NAME_FONT).into_font().color(&BLACK))
            .x_desc(&self.x)
            .y_desc(&self.y)
            .x_label_formatter(&|value| super::text::short(*value))
            .y_label_formatter(&|value| (self.format)(self.real(*value)))
            .draw()?;
        // Shaded ranges, then horizontal and vertical lines, then the series over them.
        for (from, to) in &self.bands {
            let corners = [(from.max(left), bottom), (to.min(right), top)];
            chart.draw_series([Rectangle::new(corners, GREY.mix(0.12).filled())])?;
        }
        for (value, _) in &self.bounds {
            let y = self.placed(*value);
            chart.draw_series(DashedLineSeries::new([(left, y), (right, y)], 6, 4, BOUND.stroke_width(1)))?;
        }
        for (x, name) in &self.marks {
            let line = vec![(*x, bottom), (*x, top)];
            let style = if name.is_empty() { MARK.mix(0.5).stroke_width(1) } else { MARK.stroke_width(2) };
            chart.draw_series([PathElement::new(line, style)])?;
        }
        for series in &self.series {
            let points: Vec<(f64, f64)> = series
                .points
                .iter()
                .filter(|(_, y)| matches!(self.scale, Scale::Linear) || *y > 0.0)
                .map(|(x, y)| (*x, self.placed(*y)))
                .collect();
            let color = series.color;
            match series.style {
                // A line through one point would be invisible.
                Style::Line if points.len() == 1 => {
                    chart.draw_series(points.into_iter().map(|at| Circle::new(at, 3, color.filled())))?;
                }
                Style::Line => {
                    chart.draw_series(LineSeries::new(points, color.stroke_width(2)))?;
                }
                Style::Dashed => {
                    chart.draw_series(DashedLineSeries::new(points, 5, 5, color.stroke_width(2)))?;
                }
                Style::Dots => {
                    chart.draw_series(points.into_iter().map(|at| Circle::new(at, 4, color.filled())))?;
                }
                Style::Crosses => {
                    chart
                        .draw_series(points.into_iter().map(|at| Cross::new(at, 4, color.stroke_width(2))))?;
                }
            }
        }
        // Names come last, so that no line crosses them.
        let small = |color: &RGBColor, at: HPos| {
            ("sans-serif", TICK_FONT).into_font().color(color).pos(Pos::new(at, VPos::Bottom))
        };
        for (value, name) in &self.bounds {
            let at = (left + (right - left) * 0.01, self.placed(*value));
            chart.draw_series([Text::new(name.clone(), at, small(&BOUND, HPos::Left))])?;
        }
        for (x, name) in &self.marks {
            let side = if *x > left + (right - left) * 0.6 { HPos::Right } else { HPos::Left };
            chart.draw_series([Text::new(format!(" {name} "), (*x, top), small(&MARK, side))])?;
        }
        Ok(())
    }

    /// The position of a value on the y axis.
    fn placed(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(f64::MIN_POSITIVE).log10(),
        }
    }

    /// The value at a position on the y axis.
    fn real(&self, placed: f64) -> f64 {
        match self.scale {
            Scale::Linear => placed,
            Scale::Log => 10f64.powf(placed),
        }
    }

    fn x_axis(&self) -> Axis {
        let values = self.series.iter().flat_map(|series| series.points.iter().map(|point| point.0));
        let highest = values.chain(self.marks.iter().map(|mark| mark.0)).fold(0.0, f64::max).max(1e-9);
        Axis { range: 0.0..highest * 1.02, ticks: ticks(0.0, highest * 1.02, step(highest / TICKS)) }
    }

    fn y_axis(&self) -> Axis {
        let points = self.series.iter().flat_map(|series| series.points.iter().map(|point| point.1));
        let values: Vec<f64> = points.chain(self.bounds.iter().map(|(value, _)| *value)).collect();
        match self.scale {
            Scale::Linear => {
                let highest = values.iter().copied().fold(0.0, f64::max).max(1e-9) * HEADROOM;
                Axis { range: 0.0..highest, ticks: ticks(0.0, highest, step(highest / TICKS)) }
            }
            Scale::Log => {
                let positive = || values.iter().copied().filter(|value| *value > 0.0);
                let (lowest, highest) =
                    (positive().fold(f64::MAX, f64::min), positive().fold(1e-9, f64::max));
                let bottom = lowest.min(highest).log10().floor();
                let top = highest.log10().ceil().max(bottom + 1.0);
                Axis { range: bottom..top, ticks: ticks(bottom, top, 1.0) }
            }
        }
    }
}

/// An axis with explicit ticks: plotters cannot format ticks that it chooses itself.
struct Axis {
    range: Range<f64>,
    ticks: Vec<f64>,
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let share = (value - self.range.start) / (self.range.end - self.range.start);
        // A value far outside is clamped, so that it does not wrap around.
        from + (share.clamp(-1.0, 2.0) * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

/// The smallest of 1, 2, 5, 10, … that is at least `least`.
fn step(least: f64) -> f64 {
    let decade = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * decade)
        .find(|step| *step >= least)
        .unwrap_or(least)
}

fn ticks(from: f64, to: f64, step: f64) -> Vec<f64> {
    (0..=((to - from) / step + 1e-9) as u32).map(|number| from + f64::from(number) * step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::text::short;

    #[test]
    fn ticks_are_round() {
        assert_eq!(step(0.7), 1.0);
        assert_eq!(step(1.1), 2.0);
        assert_eq!(step(33_000.0), 50_000.0);
        assert_eq!(ticks(0.0, 7.5, 2.0), [0.0, 2.0, 4.0, 6.0]);
    }

    #[test]
    fn a_chart_has_its_points_and_names_and_survives_odd_values() {
        let mut chart = Chart::new("A & B", "says <it>", "seconds", "events", short);
        assert!(chart.html().contains("No figures"));
        chart.add("first", BLUE, Style::Line, vec![(0.0, 0.0), (1.0, 5.0)]);
        chart.add("an empty one", BLUE, Style::Line, Vec::new());
        chart.marks.push((0.5, "limit".into()));
        for scale in [Scale::Linear, Scale::Log] {
            chart.scale = scale;
            let html = chart.html();
            for part in ["A &amp; B", "says &lt;it&gt;", "<svg", "first", "limit", "seconds"] {
                assert!(html.contains(part), "{part}: {html}");
            }
            assert!(!html.contains("NaN") && !html.contains("an empty one"), "{html}");
        }
        chart.series[0].points = vec![(0.0, 0.0)];
        assert!(chart.html().contains("<svg"));
    }
}
