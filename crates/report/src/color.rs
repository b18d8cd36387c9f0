//! Colors that stay apart for color-blind readers and in a gray print.

use plotters::style::RGBColor;
use plotters::style::colors::colormaps::ViridisRGB;

/// Ink of axes and labels.
pub(crate) const INK: RGBColor = RGBColor(34, 34, 34);
/// Grid lines.
pub(crate) const GRID: RGBColor = RGBColor(228, 228, 228);
/// Marks of cuts.
pub(crate) const CUT: RGBColor = RGBColor(150, 150, 150);
/// Marks of what went wrong or was taken back.
pub(crate) const ALERT: RGBColor = RGBColor(204, 51, 17);
/// Where there is nothing to rank.
pub(crate) const NOTHING: RGBColor = RGBColor(205, 205, 205);

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

/// The color of number `index` of `number` things.
pub(crate) fn of(index: usize, number: usize) -> RGBColor {
    match FEW.get(index) {
        Some(color) if number <= FEW.len() => *color,
        _ => in_order(index, number),
    }
}

/// The color of number `index` of `number` things whose order matters.
pub(crate) fn in_order(index: usize, number: usize) -> RGBColor {
    let last = number.max(2) - 1;
    // The bright end is hard to see as a line on white.
    viridis(0.9 * index as f64 / last as f64)
}

/// The map viridis by Smith, van der Walt and Firing (2015) at a finite `share`, from 0 (dark) to 1 (bright); what lies
/// outside gets the color of the end.
pub(crate) fn viridis(share: f64) -> RGBColor {
    ViridisRGB::get_color(share)
}

/// As CSS writes it.
pub(crate) fn css(color: RGBColor) -> String {
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
        assert_eq!(viridis(0.0), RGBColor(68, 1, 84));
        assert_eq!(viridis(1.0), RGBColor(254, 232, 37));
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
