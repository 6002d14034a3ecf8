//! What one measurement yields, and how several are summed up.

use serde_json::{Value, json};

/// Which way a figure is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Throughput and the like.
    Higher,
    /// Latency, memory and the like.
    Lower,
}

/// One number with its meaning.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// In which unit.
    pub unit: String,
    /// How much.
    pub value: f64,
    /// Which way is good.
    pub better: Better,
}

/// A figure over something: memory over entries, garbage over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What x is, with its unit.
    pub x: String,
    /// What y is, with its unit.
    pub y: String,
    /// The points, x ascending.
    pub points: Vec<(f64, f64)>,
}

/// What one run of one workload on one map yields. The first figure is the headline.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// The figures, the headline first.
    pub figures: Vec<Figure>,
    /// Curves, if the workload makes any.
    pub series: Vec<Series>,
    /// CPU time of the measured threads as a share of threads x wall time: 1 if they always ran. Less means that
    /// they waited for locks, slept by design, or that others used the cores.
    pub cpu_share: f64,
    /// CPU time that the rest of the machine used meanwhile, as a share of all cores: the noise.
    pub others_share: f64,
}

impl Sample {
    /// Adds a figure.
    pub fn figure(mut self, name: &str, unit: &str, better: Better, value: f64) -> Self {
        self.figures.push(Figure { name: name.to_owned(), unit: unit.to_owned(), value, better });
        self
    }

    /// Adds the percentiles of a histogram of nanoseconds, in microseconds.
    pub fn latencies(self, what: &str, histogram: &hdrhistogram::Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        let name = |percentile| format!("{what} {percentile}");
        self.figure(&name("max"), "µs", Better::Lower, histogram.max() as f64 / 1000.0)
            .figure(&name("p50"), "µs", Better::Lower, at(0.5))
            .figure(&name("p99"), "µs", Better::Lower, at(0.99))
            .figure(&name("p99.9"), "µs", Better::Lower, at(0.999))
            .figure(&name("p99.99"), "µs", Better::Lower, at(0.9999))
    }

    /// As the child process hands it to its parent.
    pub fn to_json(&self) -> Value {
        let figures: Vec<Value> = self
            .figures
            .iter()
            .map(|figure| {
                let lower = figure.better == Better::Lower;
                json!({"name": figure.name, "unit": figure.unit, "value": figure.value, "lower_is_better": lower})
            })
            .collect();
        let series: Vec<Value> =
            self.series.iter().map(|series| json!({"x": series.x, "y": series.y, "points": series.points})).collect();
        json!({
            "figures": figures,
            "series": series,
            "cpu_share": self.cpu_share,
            "others_share": self.others_share,
        })
    }

    /// The reverse of [`Sample::to_json`]; `None` if this is not one.
    pub fn from_json(value: &Value) -> Option<Self> {
        let text = |value: &Value, key: &str| Some(value.get(key)?.as_str()?.to_owned());
        let figures = value.get("figures")?.as_array()?.iter().map(|figure| {
            Some(Figure {
                name: text(figure, "name")?,
                unit: text(figure, "unit")?,
                value: figure.get("value")?.as_f64()?,
                better: if figure.get("lower_is_better")?.as_bool()? { Better::Lower } else { Better::Higher },
            })
        });
        let series = value.get("series")?.as_array()?.iter().map(|series| {
            let points = series.get("points")?.as_array()?.iter();
            Some(Series {
                x: text(series, "x")?,
                y: text(series, "y")?,
                points: points
                    .map(|point| Some((point.get(0)?.as_f64()?, point.get(1)?.as_f64()?)))
                    .collect::<Option<_>>()?,
            })
        });
        Some(Self {
            figures: figures.collect::<Option<_>>()?,
            series: series.collect::<Option<_>>()?,
            cpu_share: value.get("cpu_share")?.as_f64()?,
            others_share: value.get("others_share")?.as_f64()?,
        })
    }
}

/// Median, least and greatest of some values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle value; of an even number, the mean of the middle two.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// Of these values; `None` if there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            (values.get(middle)? + values.get(middle.checked_sub(1)?)?) / 2.0
        };
        Some(Self { median, min: *values.first()?, max: *values.last()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_takes_the_middle_and_the_ends() {
        assert_eq!(Spread::of([]), None);
        let odd = Spread::of([3.0, 1.0, 2.0]).expect("three values");
        assert_eq!((odd.median, odd.min, odd.max), (2.0, 1.0, 3.0));
        let even = Spread::of([4.0, 1.0, 2.0, 3.0]).expect("four values");
        assert_eq!((even.median, even.min, even.max), (2.5, 1.0, 4.0));
    }

    #[test]
    fn a_sample_survives_the_way_through_json() {
        let mut sample = Sample::default().figure("throughput", "M ops/s", Better::Higher, 12.5).figure(
            "max",
            "µs",
            Better::Lower,
            3.0,
        );
        sample.series.push(Series {
            x: "entries".to_owned(),
            y: "bytes".to_owned(),
            points: vec![(1.0, 2.0), (3.0, 4.5)],
        });
        sample.cpu_share = 0.5;
        assert_eq!(Sample::from_json(&sample.to_json()), Some(sample));
    }
}
