//! Colors that stay apart for color-blind readers and in a gray print.

use plotters::style::RGBColor;

/// Ink of axes and labels.
pub(super) const INK: RGBColor = RGBColor(34, 34, 34);
/// Grid lines.
pub(super) const GRID: RGBColor = RGBColor(228, 228, 228);
/// Marks of cuts.
pub(super) const CUT: RGBColor = RGBColor(150, 150, 150);
/// Marks of what went wrong or was taken back.
pub(super) const ALERT: RGBColor = RGBColor(204, 51, 17);
/// Where there is nothing to rank.
pub(super) const NOTHING: RGBColor = RGBColor(205, 205, 205);

/// The colors of Okabe and Ito (2008) without yellow, which is faint on white, the far ones first.
const FEW: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
    RGBColor(0, 0, 0),
];

/// Evenly spaced colors of the map viridis by Smith, van der Walt and Firing (2015), which is in the public domain.
const VIRIDIS: [RGBColor; 9] = [
    RGBColor(68, 1, 84),
    RGBColor(71, 45, 123),
    RGBColor(59, 82, 139),
    RGBColor(44, 114, 142),
    RGBColor(33, 145, 140),
    RGBColor(40, 174, 128),
    RGBColor(94, 201, 98),
    RGBColor(173, 220, 48),
    RGBColor(253, 231, 37),
];

/// The color of number `index` of `number` things.
pub(super) fn of(index: usize, number: usize) -> RGBColor {
    match FEW.get(index) {
        Some(color) if number <= FEW.len() => *color,
        _ => in_order(index, number),
    }
}

/// The color of number `index` of `number` things whose order matters.
pub(super) fn in_order(index: usize, number: usize) -> RGBColor {
    let last = number.max(2) - 1;
    // The bright end is hard to see as a line on white.
    viridis(0.9 * index as f64 / last as f64)
}

/// The map viridis at a finite `share`, from 0 (dark) to 1 (bright); what lies outside gets the color of the end.
pub(super) fn viridis(share: f64) -> RGBColor {
    let last = VIRIDIS.len() - 1;
    let place = share.clamp(0.0, 1.0) * last as f64;
    let below = (place as usize).min(last - 1);
    let (RGBColor(r0, g0, b0), RGBColor(r1, g1, b1)) = (VIRIDIS[below], VIRIDIS[below + 1]);
    let mix = |from: u8, to: u8| {
        let (from, to) = (f64::from(from), f64::from(to));
        (from + (place - below as f64) * (to - from)).round() as u8
    };
    RGBColor(mix(r0, r1), mix(g0, g1), mix(b0, b1))
}

/// As CSS writes it.
pub(super) fn css(color: RGBColor) -> String {
    let RGBColor(red, green, blue) = color;
    format!("#{red:02x}{green:02x}{blue:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_takes_every_number() {
        assert_eq!(viridis(-1.0), viridis(0.0));
        assert_eq!(viridis(2.0), viridis(1.0));
        assert_eq!(viridis(0.0), VIRIDIS[0]);
        assert_eq!(viridis(0.5), VIRIDIS[4]);
        assert_eq!(viridis(1.0), VIRIDIS[8]);
    }

    #[test]
    fn few_things_and_many_are_told_apart() {
        for number in [1, 2, 7, 8, 40] {
            let mut colors: Vec<String> = (0..number).map(|i| css(of(i, number))).collect();
            colors.sort();
            colors.dedup();
            assert_eq!(colors.len(), number);
        }
    }
}
