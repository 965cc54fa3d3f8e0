//! Bounds of size and time: `>1M`, `<=2G`, `>2012-01-01 08:47`, `<5D`, `>=today`.
//!
//! Sizes are bytes, or K, M, G as powers of 1024. Times are local: a date, a date with a time, or an age in
//! Y(ears), D(ays), H(ours), N (minutes) or S(econds), where one more S goes back to the beginning of that
//! unit. Greater is larger and newer.

use std::fmt;
use std::time::SystemTime;

use jiff::civil::{Date, DateTime, Time};
use jiff::{RoundMode, Span, Unit, Zoned, ZonedRound};

use super::pattern::Token;
use super::{MaskError, span, trim};

/// At most one lower and one upper bound each of size and of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bounds {
    size: Pair<u64>,
    time: Pair<When>,
}

#[derive(Clone, Debug, PartialEq)]
struct Pair<T> {
    low: Option<Bound<T>>,
    high: Option<Bound<T>>,
}

impl<T> Default for Pair<T> {
    fn default() -> Self {
        Pair { low: None, high: None }
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Bound<T> {
    value: T,
    inclusive: bool,
}

/// A moment, as written and as reckoned.
#[derive(Clone, Debug, PartialEq)]
struct When {
    written: Written,
    at: SystemTime,
}

#[derive(Clone, Debug, PartialEq)]
enum Written {
    Date(Date),
    DateTime(DateTime),
    Age { n: i64, unit: Step, start: bool },
}

/// A unit of ages.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Year,
    Day,
    Hour,
    Minute,
    Second,
}

impl Bounds {
    /// Parses bounds alone: `>1M<2G>5D`, `>today`. Ages are reckoned from now.
    pub fn parse(text: &str) -> Result<Self, MaskError> {
        Self::parse_at(text, &Zoned::now())
    }

    /// Parses bounds alone, at a moment and in a zone of the caller's.
    pub fn parse_at(text: &str, now: &Zoned) -> Result<Self, MaskError> {
        let tokens = super::pattern::tokens(text);
        let tokens = trim(&tokens);
        if tokens.first().is_some_and(|t| !t.separates('<') && !t.separates('>')) {
            return Err(MaskError::new(span(tokens), "a bound begins with '<' or '>'").of(text));
        }
        Self::read(tokens, now).map_err(|e| e.of(text))
    }

    /// Whether nothing is bounded.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether an entry of this size and time lies within. What is not known lies within no bound.
    pub fn hold(&self, size: Option<u64>, modified: Option<SystemTime>) -> bool {
        holds(&self.size, size, |b| *b) && holds(&self.time, modified, |w| w.at)
    }

    /// Reads tokens that begin with `<` or `>`, or are none.
    pub(super) fn read(tokens: &[Token], now: &Zoned) -> Result<Self, MaskError> {
        let mut bounds = Bounds::default();
        let mut rest = tokens;
        while let [sign, more @ ..] = rest {
            let next = more.iter().position(|t| matches!(t.c, '<' | '>')).unwrap_or(more.len());
            let (value, after) = more.split_at(next);
            let whole = sign.at..value.last().map_or(sign.end(), Token::end);
            if let Some(t) = value.iter().chain(after.first()).find(|t| t.doubled) {
                return Err(MaskError::new(t.at..t.end(), "a bound holds no such character"));
            }
            let (inclusive, value) = match value {
                [equal, value @ ..] if equal.c == '=' => (true, value),
                _ => (false, value),
            };
            let text: String = trim(value).iter().map(|t| t.c).collect();
            let twice = if let Some(value) = size(&text) {
                let value = value.ok_or_else(|| MaskError::new(whole.clone(), "the size is too large"))?;
                set(&mut bounds.size, sign.c, Bound { value, inclusive })
            } else if let Some(written) = written(&text) {
                let at = written.reckon(now).ok_or_else(|| {
                    MaskError::new(whole.clone(), "the time is outside of what can be reckoned")
                })?;
                set(&mut bounds.time, sign.c, Bound { value: When { written, at }, inclusive })
            } else {
                return Err(MaskError::new(whole, "this is neither a size nor a time"));
            };
            if twice {
                return Err(MaskError::new(whole, "there is such a bound already"));
            }
            rest = after;
        }
        Ok(bounds)
    }
}

/// The moment that a time of a mask names: `2012-01-01`, `2012-01-01 08:47:30`, `5D`, `today`; ages are
/// reckoned from now.
pub fn moment(text: &str) -> Result<SystemTime, MaskError> {
    let wrong = |why| MaskError::new(0..text.len(), why).of(text);
    let written = written(text.trim()).ok_or_else(|| wrong("this is no time"))?;
    written.reckon(&Zoned::now()).ok_or_else(|| wrong("the time is outside of what can be reckoned"))
}

/// Sets a bound; whether there was one.
fn set<T>(pair: &mut Pair<T>, sign: char, bound: Bound<T>) -> bool {
    let slot = if sign == '>' { &mut pair.low } else { &mut pair.high };
    slot.replace(bound).is_some()
}

fn holds<T, V: Copy + Ord>(pair: &Pair<T>, value: Option<V>, of: impl Fn(&T) -> V) -> bool {
    if pair.low.is_none() && pair.high.is_none() {
        return true;
    }
    let Some(value) = value else { return false };
    let low = pair.low.as_ref().is_none_or(|b| value > of(&b.value) || b.inclusive && value == of(&b.value));
    let high =
        pair.high.as_ref().is_none_or(|b| value < of(&b.value) || b.inclusive && value == of(&b.value));
    low && high
}

/// `12`, `12K`: a size, which may be too large. `None` for what is no size.
#[allow(clippy::option_option, reason = "two questions: is it a size, and does it fit")]
fn size(text: &str) -> Option<Option<u64>> {
    let (digits, shift) = match text.as_bytes() {
        [.., b'k' | b'K'] => (text.get(..text.len() - 1)?, 10),
        [.., b'm' | b'M'] => (text.get(..text.len() - 1)?, 20),
        [.., b'g' | b'G'] => (text.get(..text.len() - 1)?, 30),
        _ => (text, 0),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift)))
}

fn written(text: &str) -> Option<Written> {
    let lower = text.to_ascii_lowercase();
    match lower.as_str() {
        "today" => return Some(Written::Age { n: 0, unit: Step::Day, start: true }),
        "yesterday" => return Some(Written::Age { n: 1, unit: Step::Day, start: true }),
        _ => {}
    }
    let digits = lower.bytes().take_while(u8::is_ascii_digit).count();
    let (unit, start) = match lower.as_bytes().get(digits..)? {
        [unit] => (*unit, false),
        [unit, b's'] => (*unit, true),
        _ => return civil(text),
    };
    let unit = match unit {
        b'y' => Step::Year,
        b'd' => Step::Day,
        b'h' => Step::Hour,
        b'n' => Step::Minute,
        b's' => Step::Second,
        _ => return None,
    };
    let n = lower.get(..digits)?.parse().ok()?;
    Some(Written::Age { n, unit, start })
}

/// `2012-01-01`, `2012-01-01 08:47`, `2012-01-01 08:47:30`.
fn civil(text: &str) -> Option<Written> {
    let (date, time) = match text.split_once(' ') {
        Some((date, time)) => (date, Some(time.trim_start())),
        None => (text, None),
    };
    let [year, month, day] = numbers::<3>(date, '-', &[4, 2, 2])?;
    let date = Date::new(i16::try_from(year).ok()?, small(month)?, small(day)?).ok()?;
    let Some(time) = time else { return Some(Written::Date(date)) };
    let [hour, minute, second] = match numbers::<3>(time, ':', &[2, 2, 2]) {
        Some(all) => all,
        None => {
            let [hour, minute] = numbers::<2>(time, ':', &[2, 2])?;
            [hour, minute, 0]
        }
    };
    let time = Time::new(small(hour)?, small(minute)?, small(second)?, 0).ok()?;
    Some(Written::DateTime(date.to_datetime(time)))
}

fn small(n: u16) -> Option<i8> {
    i8::try_from(n).ok()
}

/// `N` numbers of at most so many digits.
fn numbers<const N: usize>(text: &str, between: char, digits: &[usize; N]) -> Option<[u16; N]> {
    let mut out = [0; N];
    let mut parts = text.split(between);
    for (slot, digits) in out.iter_mut().zip(digits) {
        let part = parts.next()?;
        let fits = !part.is_empty() && part.len() <= *digits && part.bytes().all(|b| b.is_ascii_digit());
        *slot = fits.then(|| part.parse().ok()).flatten()?;
    }
    parts.next().is_none().then_some(out)
}

impl Written {
    fn reckon(&self, now: &Zoned) -> Option<SystemTime> {
        let zoned = match self {
            Written::Date(date) => date.to_zoned(now.time_zone().clone()).ok()?,
            Written::DateTime(moment) => moment.to_zoned(now.time_zone().clone()).ok()?,
            Written::Age { n, unit, start } => {
                let (span, round) = match unit {
                    Step::Year => (Span::new().try_years(*n), None),
                    Step::Day => (Span::new().try_days(*n), Some(Unit::Day)),
                    Step::Hour => (Span::new().try_hours(*n), Some(Unit::Hour)),
                    Step::Minute => (Span::new().try_minutes(*n), Some(Unit::Minute)),
                    Step::Second => (Span::new().try_seconds(*n), Some(Unit::Second)),
                };
                let then = now.checked_sub(span.ok()?).ok()?;
                match (start, round) {
                    (false, _) => then,
                    (true, Some(unit)) => {
                        then.round(ZonedRound::new().smallest(unit).mode(RoundMode::Trunc)).ok()?
                    }
                    (true, None) => then.first_of_year().ok()?.start_of_day().ok()?,
                }
            }
        };
        Some(SystemTime::from(zoned.timestamp()))
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (sign, bound) in [('>', &self.size.low), ('<', &self.size.high)] {
            if let Some(bound) = bound {
                let equal = if bound.inclusive { "=" } else { "" };
                let n = bound.value;
                match n.trailing_zeros() {
                    _ if n == 0 => write!(f, "{sign}{equal}0")?,
                    30.. => write!(f, "{sign}{equal}{}G", n >> 30)?,
                    20.. => write!(f, "{sign}{equal}{}M", n >> 20)?,
                    10.. => write!(f, "{sign}{equal}{}K", n >> 10)?,
                    _ => write!(f, "{sign}{equal}{n}")?,
                }
            }
        }
        for (sign, bound) in [('>', &self.time.low), ('<', &self.time.high)] {
            if let Some(bound) = bound {
                write!(f, "{sign}{}{}", if bound.inclusive { "=" } else { "" }, bound.value.written)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Written::Date(d) => write!(f, "{:04}-{:02}-{:02}", d.year(), d.month(), d.day()),
            Written::DateTime(m) => write!(
                f,
                "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
                m.year(),
                m.month(),
                m.day(),
                m.hour(),
                m.minute(),
                m.second()
            ),
            Written::Age { n, unit, start } => {
                let unit = match unit {
                    Step::Year => 'Y',
                    Step::Day => 'D',
                    Step::Hour => 'H',
                    Step::Minute => 'N',
                    Step::Second => 'S',
                };
                write!(f, "{n}{unit}{}", if *start { "S" } else { "" })
            }
        }
    }
}
