//! What a row of the bench says: medians, the ratio, the bar, and whether it holds.
//!
//! A bar holds when the median ratio of the pairs reaches it. A peer far below what it is known to reach
//! makes the row void: then something slowed the machine or the peer was set up wrongly, and nothing is won.

use serde_json::{Value, json};

/// Below this part of its known figure a peer makes the row void.
const VOID: f64 = 0.6;

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bar {
    /// Ours at least so many times theirs.
    Ratio(f64),
    /// Ours at most so much.
    AtMost(f64),
    /// Ours less than so much.
    Below(f64),
    /// Ours at least so much.
    AtLeast(f64),
    /// Only shown.
    None,
}

impl Bar {
    fn value(self) -> Option<f64> {
        match self {
            Self::Ratio(bar) | Self::AtMost(bar) | Self::Below(bar) | Self::AtLeast(bar) => Some(bar),
            Self::None => None,
        }
    }

    fn rule(self) -> &'static str {
        match self {
            Self::Ratio(_) => "ratio >= bar",
            Self::AtMost(_) => "ours <= bar",
            Self::Below(_) => "ours < bar",
            Self::AtLeast(_) => "ours >= bar",
            Self::None => "none",
        }
    }
}

/// Some numbers and how far they spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Spread {
    /// `None` of nothing.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let upper = *values.get(values.len() / 2)?;
        let lower = *values.get((values.len() - 1) / 2)?;
        Some(Self { median: f64::midpoint(lower, upper), min, max })
    }

    pub(super) fn one(value: f64) -> Self {
        Self { median: value, min: value, max: value }
    }

    fn json(self) -> Value {
        json!({ "median": round(self.median), "min": round(self.min), "max": round(self.max) })
    }
}

/// CPU seconds of both ends in one run, each the median over the runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cpu {
    pub(super) client: f64,
    pub(super) server: f64,
}

/// One row.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) scenario: &'static str,
    pub(super) subject: String,
    pub(super) peer: String,
    pub(super) ours: Option<Spread>,
    pub(super) theirs: Option<Spread>,
    pub(super) unit: &'static str,
    /// How many times better ours is; more than 1 is better, whatever the unit.
    pub(super) ratio: Option<Spread>,
    pub(super) bar: Bar,
    /// What the peer is known to reach; less than [`VOID`] of it makes the row void.
    pub(super) known: Option<f64>,
    /// Ours and theirs.
    pub(super) cpu: Option<(Cpu, Cpu)>,
    pub(super) pairs: usize,
    /// Why it was not measured, or what is special about it.
    pub(super) note: String,
}

impl Row {
    pub(super) fn is_void(&self) -> bool {
        let Some((known, theirs)) = self.known.zip(self.theirs) else { return false };
        // Of memory less is more, and a peer that needs less than it did is no fault of the machine.
        self.unit != "kB" && theirs.median < known * VOID
    }

    /// `None` if there is no bar.
    pub(super) fn holds(&self) -> Option<bool> {
        self.bar.value()?;
        let ours = self.ours.map(|ours| ours.median);
        let reached = match self.bar {
            Bar::Ratio(bar) => self.ratio.is_some_and(|ratio| ratio.median >= bar),
            Bar::AtMost(bar) => ours.is_some_and(|ours| ours <= bar),
            Bar::Below(bar) => ours.is_some_and(|ours| ours < bar),
            Bar::AtLeast(bar) => ours.is_some_and(|ours| ours >= bar),
            Bar::None => return None,
        };
        Some(reached && !self.is_void())
    }

    /// Whether the bar lies within the spread of the ratios, so that more pairs would tell more.
    pub(super) fn is_close(&self) -> bool {
        let (Bar::Ratio(bar), Some(ratio)) = (self.bar, self.ratio) else { return false };
        ratio.min < bar && bar < ratio.max
    }

    pub(super) fn json(&self, is_quick: bool) -> Value {
        let cpu = self.cpu.map(|(ours, theirs)| {
            json!({
                "ours": { "client": round(ours.client), "server": round(ours.server) },
                "theirs": { "client": round(theirs.client), "server": round(theirs.server) },
            })
        });
        json!({
            "scenario": self.scenario,
            "subject": self.subject,
            "peer": self.peer,
            "ours": self.ours.map(|ours| round(ours.median)),
            "theirs": self.theirs.map(|theirs| round(theirs.median)),
            "unit": self.unit,
            "ratio": self.ratio.map(|ratio| round(ratio.median)),
            "bar": self.bar.value(),
            "holds": self.holds(),
            "rule": self.bar.rule(),
            "void": self.is_void(),
            "pairs": self.pairs,
            "quick": is_quick,
            "spread": {
                "ours": self.ours.map(Spread::json),
                "theirs": self.theirs.map(Spread::json),
                "ratio": self.ratio.map(Spread::json),
            },
            "cpu_seconds": cpu,
            "note": self.note,
        })
    }

    /// The row for people, in columns.
    pub(super) fn line(&self) -> String {
        let number = |spread: Option<Spread>| spread.map_or("-".to_owned(), |spread| shown(spread.median));
        let ratio = self.ratio.map_or("-".to_owned(), |ratio| {
            format!("{:.2} ({:.2}-{:.2})", ratio.median, ratio.min, ratio.max)
        });
        let bar = match self.bar {
            Bar::Ratio(bar) => format!("{bar:.1}x"),
            Bar::AtMost(bar) | Bar::Below(bar) => format!("< {bar}"),
            Bar::AtLeast(bar) => format!("> {bar}"),
            Bar::None => "-".to_owned(),
        };
        let verdict = match (self.holds(), self.ours) {
            (None, _) => "",
            (_, None) => "NOT MEASURED",
            (_, Some(_)) if self.is_void() => "VOID",
            (Some(true), _) => "holds",
            (Some(false), _) => "MISSED",
        };
        format!(
            "{:<26} {:>9} {:>9} {:<9} {:<20} {:<8} {verdict}",
            self.scenario,
            number(self.ours),
            number(self.theirs),
            self.unit,
            ratio,
            bar
        )
    }
}

/// The heads of the columns of [`Row::line`].
pub(super) fn head() -> String {
    format!(
        "{:<26} {:>9} {:>9} {:<9} {:<20} {:<8}",
        "scenario", "ours", "theirs", "unit", "ratio (min-max)", "bar"
    )
}

pub(super) fn shown(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

/// Three digits behind the point are more than any of it is worth.
fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ratios: &[f64], bar: Bar) -> Row {
        Row {
            scenario: "x",
            subject: "ours".to_owned(),
            peer: "theirs".to_owned(),
            ours: Some(Spread::one(150.0)),
            theirs: Some(Spread::one(100.0)),
            unit: "MB/s",
            ratio: Spread::of(ratios.iter().copied()),
            bar,
            known: None,
            cpu: None,
            pairs: ratios.len(),
            note: String::new(),
        }
    }

    #[test]
    fn the_median_decides() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]).unwrap().median, 2.0);
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of([]), None);
        assert_eq!(row(&[1.0, 1.5, 1.6], Bar::Ratio(1.5)).holds(), Some(true));
        assert_eq!(row(&[1.0, 1.4, 1.6], Bar::Ratio(1.5)).holds(), Some(false));
        assert_eq!(row(&[1.0, 1.4, 1.6], Bar::None).holds(), None);
        assert!(row(&[1.0, 1.4, 1.6], Bar::Ratio(1.5)).is_close());
        assert!(!row(&[1.6, 1.7, 1.8], Bar::Ratio(1.5)).is_close());
    }

    #[test]
    fn a_lame_peer_makes_a_row_void() {
        let mut row = row(&[2.0, 2.0], Bar::Ratio(1.5));
        row.known = Some(160.0);
        assert_eq!(row.holds(), Some(true));
        row.known = Some(170.0);
        assert_eq!((row.is_void(), row.holds()), (true, Some(false)));
        row.unit = "kB";
        assert!(!row.is_void());
    }

    #[test]
    fn bars_on_our_own_figure() {
        assert_eq!(row(&[], Bar::AtMost(150.0)).holds(), Some(true));
        assert_eq!(row(&[], Bar::Below(150.0)).holds(), Some(false));
        assert_eq!(row(&[], Bar::AtLeast(151.0)).holds(), Some(false));
        let mut unmeasured = row(&[], Bar::AtMost(150.0));
        unmeasured.ours = None;
        assert_eq!(unmeasured.holds(), Some(false));
        let json = unmeasured.json(true);
        for field in ["scenario", "subject", "peer", "ours", "theirs", "unit", "ratio", "bar", "holds"] {
            assert!(json.get(field).is_some(), "{field}");
        }
    }
}
