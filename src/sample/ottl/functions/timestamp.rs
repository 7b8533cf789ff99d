//! Times as texts, in the directives of strptime that the collector knows.
//!
//! Does not do: names of zones, places other than UTC, languages other than English, and formats
//! without a year; they are refused when a condition is compiled.

use super::super::error::EvalError;
use super::super::eval::{Arg, Scene};
use super::super::value::{Time, Val};
use super::time::{Civil, civil, of_civil};
use super::{Function, Kind, f, o, p, prepared};

type Outcome<'a> = Result<Val<'a>, EvalError>;

pub(super) const FUNCTIONS: &[Function] = &[
    prepared(
        f(
            "Time",
            &[
                p("Time", Kind::Text),
                p("Format", Kind::RawText),
                o("Location", Kind::RawText),
                o("Locale", Kind::RawText),
            ],
            time,
        ),
        |args| {
            if args[2].raw().is_some_and(|place| !matches!(place, "" | "UTC" | "Local")) {
                return Err("locations other than UTC are not supported by tracemill".to_owned());
            }
            if args[3].raw().is_some_and(|locale| locale != "en") {
                return Err("locales other than en are not supported by tracemill".to_owned());
            }
            let directives = check(args[1].raw().unwrap_or_default())?;
            if !directives.is_empty()
                && !directives.iter().any(|directive| "YyDxFc".contains(*directive))
            {
                return Err("a format without a year is not supported by tracemill".to_owned());
            }
            Ok(())
        },
    ),
    prepared(
        f("FormatTime", &[p("Time", Kind::Time), p("Format", Kind::RawText)], |args, scene| {
            let time = args[0].time(scene)?;
            Ok(Val::text(format(args[1].raw().unwrap_or_default(), time)))
        }),
        |args| check(args[1].raw().unwrap_or_default()).map(drop),
    ),
];

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const DIRECTIVES: &str = "YymoqbhBdegaAHlIpPMSLfszwijkDxFTXrRnt%c";

/// The directives of `format`, all of which are known.
fn check(format: &str) -> Result<Vec<char>, String> {
    if format.is_empty() {
        return Err("format cannot be nil".to_owned());
    }
    if format.bytes().any(|b| b.is_ascii_digit()) {
        return Err("format string should not contain decimals".to_owned());
    }
    let mut directives = Vec::new();
    let mut chars = format.chars().peekable();
    let mut before = None;
    while let Some(c) = chars.next() {
        let directive = if c == '%' { chars.next() } else { None };
        if let Some(directive) = directive {
            if directive == 'Z' {
                return Err("names of zones are not supported by tracemill".to_owned());
            }
            if !DIRECTIVES.contains(directive) {
                return Err(format!("unsupported directive: %{directive}"));
            }
            if "Lfs".contains(directive) && before.is_some_and(|c| c != '.' && c != ',') {
                return Err(format!("invalid fractional seconds directive: '%{directive}'"));
            }
            directives.push(directive);
        }
        before = directive.or(Some(c));
    }
    Ok(directives)
}

/// Directives that stand for several.
fn long_form(directive: char) -> Option<&'static str> {
    match directive {
        'D' | 'x' => Some("%m/%d/%Y"),
        'F' => Some("%Y-%m-%d"),
        'T' | 'X' => Some("%H:%M:%S"),
        'r' => Some("%I:%M:%S %P"),
        'R' => Some("%H:%M"),
        'c' => Some("%a %b %d %H:%M:%S %Y"),
        _ => None,
    }
}

fn format(format: &str, time: Time) -> String {
    let mut out = String::new();
    let c = civil(time);
    let mut chars = format.chars().peekable();
    while let Some(letter) = chars.next() {
        let fraction = matches!(letter, '.' | ',') && {
            let mut next = chars.clone();
            next.next() == Some('%') && next.next().is_some_and(|d| "Lfs".contains(d))
        };
        match (fraction, letter) {
            (true, _) => {
                let directive = chars.nth(1);
                let digits = match directive {
                    Some('L') => 3,
                    Some('f') => 6,
                    _ => 9,
                };
                let text = format!("{:09}", c.nanosecond);
                let shown = text[..digits].trim_end_matches('0');
                if !shown.is_empty() {
                    out.push(letter);
                    out.push_str(shown);
                }
            }
            (false, '%') => match chars.next() {
                Some(directive) => match long_form(directive) {
                    Some(long) => out.push_str(&self::format(long, time)),
                    None => out.push_str(&one(directive, c, time.offset)),
                },
                None => out.push('%'),
            },
            (false, letter) => out.push(letter),
        }
    }
    out
}

fn one(directive: char, c: Civil, offset: i32) -> String {
    let name = |names: &[&str], at: i64| {
        let at = usize::try_from(at).unwrap_or(0);
        names.get(at).copied().unwrap_or_default().to_owned()
    };
    let short = |name: String| name.get(..3).unwrap_or_default().to_owned();
    let hour = if c.hour % 12 == 0 { 12 } else { c.hour % 12 };
    let sign = if offset < 0 { '-' } else { '+' };
    let east = offset.unsigned_abs();
    let (h, m, s) = (east / 3600, east / 60 % 60, east % 60);
    match directive {
        'Y' => format!("{:04}", c.year),
        'y' => format!("{:02}", c.year.rem_euclid(100)),
        'm' => format!("{:02}", c.month),
        'o' => format!("_{}", c.month),
        'q' => c.month.to_string(),
        'b' | 'h' => short(name(&MONTHS, c.month - 1)),
        'B' => name(&MONTHS, c.month - 1),
        'd' => format!("{:02}", c.day),
        'e' => format!("{:2}", c.day),
        'g' => c.day.to_string(),
        'a' => short(name(&WEEKDAYS, c.weekday)),
        'A' => name(&WEEKDAYS, c.weekday),
        'H' => format!("{:02}", c.hour),
        'l' => hour.to_string(),
        'I' => format!("{hour:02}"),
        'p' => if c.hour >= 12 { "PM" } else { "AM" }.to_owned(),
        'P' => if c.hour >= 12 { "pm" } else { "am" }.to_owned(),
        'M' => format!("{:02}", c.minute),
        'S' => format!("{:02}", c.second),
        'z' if offset == 0 => "Z".to_owned(),
        'z' => format!("{sign}{h:02}{m:02}"),
        'w' => format!("{sign}{h:02}{m:02}{s:02}"),
        'i' => format!("{sign}{h:02}"),
        'j' => format!("{sign}{h:02}:{m:02}"),
        'k' => format!("{sign}{h:02}:{m:02}:{s:02}"),
        'n' => "\n".to_owned(),
        't' => "\t".to_owned(),
        other => other.to_string(),
    }
}

fn time<'a>(args: &'a [Arg], scene: &Scene<'a>) -> Outcome<'a> {
    const BAD: EvalError = EvalError::Failed("text that is not a time of this format");
    let text = args[0].text(scene)?;
    let text = std::str::from_utf8(&text).map_err(|_| BAD)?;
    let mut reader = Reader {
        rest: text,
        c: Civil { month: 1, day: 1, ..Civil::default() },
        ..Reader::default()
    };
    reader.read(args[1].raw().unwrap_or_default()).ok_or(BAD)?;
    reader.time().filter(|_| reader.rest.is_empty() && !text.is_empty()).map(Val::Time).ok_or(BAD)
}

/// Reads a time off a text.
#[derive(Default)]
struct Reader<'t> {
    rest: &'t str,
    c: Civil,
    /// Noon or later, where the text says so.
    afternoon: Option<bool>,
    /// Seconds east of Greenwich.
    offset: i32,
}

impl Reader<'_> {
    fn read(&mut self, format: &str) -> Option<()> {
        let mut chars = format.chars().peekable();
        while let Some(letter) = chars.next() {
            let fraction = matches!(letter, '.' | ',') && {
                let mut next = chars.clone();
                next.next() == Some('%') && next.next().is_some_and(|d| "Lfs".contains(d))
            };
            if fraction {
                chars.nth(1);
                self.fraction()?;
            } else if letter == '%' {
                match chars.next() {
                    Some('D' | 'x') => self.american_date()?,
                    Some(directive) => match long_form(directive) {
                        Some(long) => self.read(long)?,
                        None => {
                            self.directive(directive)?;
                            let after: String = chars.clone().take(3).collect();
                            let follows = [".%L", ".%f", ".%s", ",%L", ",%f", ",%s"];
                            if directive == 'S' && !follows.contains(&after.as_str()) {
                                self.fraction()?;
                            }
                        }
                    },
                    None => self.literal('%')?,
                }
            } else {
                self.literal(letter)?;
            }
        }
        Some(())
    }

    /// `5/26/2023` or `5/26/23`
    fn american_date(&mut self) -> Option<()> {
        self.read("%m/%d/")?;
        let digits = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        self.directive(if digits >= 4 { 'Y' } else { 'y' })
    }

    /// Spaces stand for as many as there are.
    fn literal(&mut self, letter: char) -> Option<()> {
        if letter == ' ' {
            if !self.rest.is_empty() && !self.rest.starts_with(' ') {
                return None;
            }
            self.rest = self.rest.trim_start_matches(' ');
            return Some(());
        }
        self.rest = self.rest.strip_prefix(letter)?;
        Some(())
    }

    /// A number of at least one and at most `digits` digits, after any white space.
    fn number(&mut self, digits: usize) -> Option<i64> {
        let text = self.rest.trim_start_matches(|c: char| c.is_ascii_whitespace());
        let len = text.bytes().take(digits).take_while(u8::is_ascii_digit).count();
        let number = text.get(..len)?.parse().ok()?;
        self.rest = &text[len..];
        Some(number)
    }

    fn exactly(&mut self, digits: usize) -> Option<i64> {
        let before = self.rest.trim_start_matches(|c: char| c.is_ascii_whitespace()).len();
        let number = self.number(digits)?;
        (before - self.rest.len() == digits).then_some(number)
    }

    fn directive(&mut self, directive: char) -> Option<()> {
        let within = |n: i64, range: std::ops::RangeInclusive<i64>| range.contains(&n).then_some(n);
        match directive {
            'Y' => self.c.year = self.exactly(4)?,
            'y' => {
                let year = self.exactly(2)?;
                self.c.year = if year >= 69 { 1900 + year } else { 2000 + year };
            }
            'm' | 'o' | 'q' => self.c.month = within(self.number(2)?, 1..=12)?,
            'd' | 'e' | 'g' => self.c.day = within(self.number(2)?, 1..=31)?,
            'H' => self.c.hour = within(self.number(2)?, 0..=23)?,
            'I' | 'l' => self.c.hour = within(self.number(2)?, 0..=12)?,
            'M' => self.c.minute = within(self.number(2)?, 0..=59)?,
            'S' => self.c.second = within(self.number(2)?, 0..=59)?,
            'b' | 'h' => self.c.month = 1 + self.name(&MONTHS, true)?,
            'B' => self.c.month = 1 + self.name(&MONTHS, false)?,
            'a' => drop(self.name(&WEEKDAYS, true)?),
            'A' => drop(self.name(&WEEKDAYS, false)?),
            'p' => self.afternoon = Some(self.half("AM", "PM")?),
            'P' => self.afternoon = Some(self.half("am", "pm")?),
            'z' | 'i' | 'j' | 'k' | 'w' => self.zone(directive)?,
            'n' => self.literal('\n')?,
            't' => self.literal('\t')?,
            other => self.literal(other)?,
        }
        Some(())
    }

    /// The place of a name in `names`, in any case; `short` are three letters.
    fn name(&mut self, names: &[&str], short: bool) -> Option<i64> {
        for (at, name) in names.iter().enumerate() {
            let name = if short { &name[..3] } else { name };
            let start = self.rest.get(..name.len());
            if start.is_some_and(|start| start.eq_ignore_ascii_case(name)) {
                self.rest = &self.rest[name.len()..];
                return i64::try_from(at).ok();
            }
        }
        None
    }

    fn half(&mut self, morning: &str, afternoon: &str) -> Option<bool> {
        let is_afternoon = self.rest.starts_with(afternoon);
        self.rest = self.rest.strip_prefix(if is_afternoon { afternoon } else { morning })?;
        Some(is_afternoon)
    }

    /// A point or comma and digits, or nothing; beyond nine digits they do not count.
    fn fraction(&mut self) -> Option<()> {
        let Some(digits) = self.rest.strip_prefix(['.', ',']) else { return Some(()) };
        let len = digits.bytes().take_while(u8::is_ascii_digit).count();
        if len > 0 {
            let shown = &digits[..len.min(9)];
            self.c.nanosecond = format!("{shown:0<9}").parse().ok()?;
            self.rest = &digits[len..];
        }
        Some(())
    }

    /// `%z` is `Z` or any form of an offset; the others are one form each.
    fn zone(&mut self, directive: char) -> Option<()> {
        if let Some(rest) = self.rest.strip_prefix('Z').filter(|_| directive == 'z') {
            self.rest = rest;
            return Some(());
        }
        let negative = self.rest.starts_with('-');
        self.rest = self.rest.strip_prefix(['-', '+'])?;
        let hours = self.exactly(2)?;
        let colon = self.rest.starts_with(':');
        let more = match directive {
            'z' => {
                let digits = self.rest.strip_prefix(':').unwrap_or(self.rest);
                usize::from(digits.bytes().take(2).filter(u8::is_ascii_digit).count() == 2)
            }
            'i' => 0,
            'j' => 1,
            _ => 2,
        };
        let mut parts = [0, 0];
        for part in parts.iter_mut().take(more) {
            if colon && directive != 'w' || directive == 'j' || directive == 'k' {
                self.literal(':')?;
            }
            *part = self.exactly(2).filter(|n| *n < 60)?;
        }
        let east = i32::try_from(hours * 3600 + parts[0] * 60 + parts[1]).ok()?;
        self.offset = if negative { -east } else { east };
        (hours <= 24).then_some(())
    }

    fn time(&self) -> Option<Time> {
        let mut c = self.c;
        match self.afternoon {
            Some(true) if c.hour < 12 => c.hour += 12,
            Some(false) if c.hour == 12 => c.hour = 0,
            _ => {}
        }
        // the year 0 would be taken for the current one
        let nanos = of_civil(c).filter(|_| c.year > 0)?;
        let offset = self.offset;
        Some(Time { nanos: nanos - i128::from(offset) * 1_000_000_000, offset })
    }
}
