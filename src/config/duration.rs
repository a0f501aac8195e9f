//! Durations with a unit: `250ms`, `10s`, `5m`, `24h`, `7d`.

use std::time::Duration;

/// A hundred years. More could overflow when added to a clock.
const MAX_MILLIS: u64 = 100 * 366 * 86_400_000;

/// Parses a whole number with a unit: ms, s, m, h or d. A number without a unit is refused, because it would be
/// ambiguous.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let wanted = "must be a whole number and a unit (ms, s, m, h, d), such as 10s";
    let number: u64 = text[..digits].parse().map_err(|_| wanted.to_owned())?;
    let unit_millis = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wanted.to_owned()),
    };
    match number.checked_mul(unit_millis) {
        Some(millis) if millis <= MAX_MILLIS => Ok(Duration::from_millis(millis)),
        _ => Err("must be at most a hundred years".to_owned()),
    }
}

/// Formats a duration so that [`parse_duration`] accepts it.
pub fn format_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    for (unit, unit_millis) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if millis >= unit_millis && millis.is_multiple_of(unit_millis) {
            return format!("{}{unit}", millis / unit_millis);
        }
    }
    format!("{millis}ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        for bad in
            ["", "10", "s", "-1s", "1.5s", "10 s", "10S", "99999999999999999999s", "9999999h9", "1w", "99999999999d"]
        {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_shown_duration_can_be_parsed() {
        for text in ["250ms", "10s", "5m", "24h", "0ms"] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), text);
        }
    }
}
