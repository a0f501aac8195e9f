//! Whole numbers with a range, which errors name.

use std::{fmt::Display, str::FromStr};

/// A parser of whole numbers from `least` to `greatest`. The errors of clap's own parsers name no range for what is no
/// number.
pub fn whole_number<T>(least: T, greatest: T) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: FromStr + PartialOrd + Display + Copy,
{
    move |text| {
        let number = text.parse().ok().filter(|number| (least..=greatest).contains(number));
        number.ok_or_else(|| format!("must be a whole number from {least} to {greatest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers B24.
    #[test]
    fn each_error_of_a_number_names_its_range() {
        let parse = whole_number::<u16>(1, 64);
        assert_eq!((parse("1"), parse("64")), (Ok(1), Ok(64)));
        for bad in ["0", "65", "abc", "", "-1", "1.5", "2 ", "99999999999999999999", "0x10"] {
            assert_eq!(parse(bad), Err("must be a whole number from 1 to 64".to_owned()), "{bad}");
        }
    }
}
