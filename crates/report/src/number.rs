//! Numbers as people read them.

use std::borrow::Cow;

/// Stands for what is not known.
pub(crate) const UNKNOWN: &str = "–";

/// The text of a number, or a dash for one that is missing or not finite.
pub(crate) fn known(value: Option<f64>, text: impl Fn(f64) -> String) -> String {
    match value {
        Some(value) if value.is_finite() => text(value),
        _ => UNKNOWN.to_owned(),
    }
}

/// A share, usually in `[0, 1]`, as a percentage.
pub(crate) fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    match percent.abs() {
        0.0 => "0.00 %".to_owned(),
        // A share that is not zero should not read as if it were.
        size if !(5e-3..1e3).contains(&size) => {
            format!("{} %", known(Some(percent), significant))
        }
        _ => format!("{percent:.2} %"),
    }
}

/// Three significant digits.
pub(crate) fn significant(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        "0".to_owned()
    } else if !(1e-3..1e5).contains(&size) {
        scientific(value)
    } else if size >= 1e3 {
        grouped(value.round() as i64)
    } else {
        let before_the_point = size.log10().floor() as i32;
        format!("{value:.*}", (2 - before_the_point).max(0) as usize)
    }
}

fn scientific(value: f64) -> String {
    let text = format!("{value:.2e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => format!("{mantissa} × 10{}", superscript(exponent)),
        None => text,
    }
}

/// `10⁻³` for -3.
pub(crate) fn power_of_ten(exponent: i32) -> String {
    format!("10{}", superscript(&exponent.to_string()))
}

fn superscript(digits: &str) -> String {
    let raise = |digit| match digit {
        '-' => '⁻',
        '0' => '⁰',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        '4' => '⁴',
        '5' => '⁵',
        '6' => '⁶',
        '7' => '⁷',
        '8' => '⁸',
        '9' => '⁹',
        other => other,
    };
    digits.chars().map(raise).collect()
}

/// A whole number with its thousands set apart.
pub(crate) fn grouped(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut text = String::from(if value < 0 { "−" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with its thousands set apart.
pub(crate) fn count(value: u64) -> String {
    grouped(i64::try_from(value).unwrap_or(i64::MAX))
}

/// A duration.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.round() as i64;
    if seconds < 100.0 {
        format!("{} s", significant(seconds))
    } else if whole < 7200 {
        format!("{} min {} s", whole / 60, whole % 60)
    } else {
        format!("{} h {} min", grouped(whole / 3600), whole % 3600 / 60)
    }
}

/// One number per layer; `4 × 256` if all four are the same.
pub(crate) fn per_layer(dims: &[usize]) -> String {
    match dims {
        [] => UNKNOWN.to_owned(),
        [one] => count(*one as u64),
        [first, rest @ ..] if rest.iter().all(|dim| dim == first) => {
            format!("{} × {}", dims.len(), count(*first as u64))
        }
        _ => {
            let words: Vec<String> = dims.iter().map(|dim| count(*dim as u64)).collect();
            words.join(", ")
        }
    }
}

/// `1 cut`, `3 cuts`.
pub(crate) fn plural(number: usize, noun: &str) -> String {
    let noun = match number {
        1 => Cow::Borrowed(noun),
        _ => Cow::Owned(format!("{noun}s")),
    };
    format!("{} {noun}", count(number as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits_at_every_size() {
        let cases = [
            (0.0, "0"),
            (0.193, "0.193"),
            (-2.5, "-2.50"),
            (30.84, "30.8"),
            (9234.0, "9,234"),
            (1.97e-5, "1.97 × 10⁻⁵"),
            (1e12, "1.00 × 10¹²"),
        ];
        for (value, text) in cases {
            assert_eq!(significant(value), text);
        }
    }

    #[test]
    fn a_small_share_is_not_shown_as_none() {
        assert_eq!(percent(0.0297), "2.97 %");
        assert_eq!(percent(0.0), "0.00 %");
        assert_eq!(percent(1e-9), "1.00 × 10⁻⁷ %");
        assert_eq!(percent(1e308), "– %");
    }

    #[test]
    fn what_is_not_finite_is_a_dash() {
        for value in [None, Some(f64::NAN), Some(f64::INFINITY)] {
            assert_eq!(known(value, significant), UNKNOWN);
        }
    }

    #[test]
    fn durations_and_counts_read_like_words() {
        assert_eq!(duration(20.46), "20.5 s");
        assert_eq!(duration(754.2), "12 min 34 s");
        assert_eq!(duration(12_000.0), "3 h 20 min");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(plural(1, "cut"), "1 cut");
        assert_eq!(plural(1000, "cut"), "1,000 cuts");
    }

    #[test]
    fn equal_layers_are_said_once() {
        assert_eq!(per_layer(&[]), UNKNOWN);
        assert_eq!(per_layer(&[256]), "256");
        assert_eq!(per_layer(&[64, 64]), "2 × 64");
        assert_eq!(per_layer(&[64, 32]), "64, 32");
    }
}
