//! How people write the ten digits: strokes in a box from -1 to 1, x to the right, y down.

use super::stroke::Stroke::{self, Curve, Lines};

/// The variants of each digit, all equally frequent.
pub(super) const GLYPHS: [&[&[Stroke]]; 10] = [
    &[ZERO_ROUND, ZERO_OPEN],
    &[ONE_BAR, ONE_FLAG, ONE_BASE],
    &[TWO_PLAIN, TWO_LOOP],
    &[THREE_ROUND, THREE_FLAT],
    &[FOUR_OPEN, FOUR_CLOSED],
    &[FIVE_CORNERED, FIVE_ROUND],
    &[SIX_ROUND, SIX_SLIM],
    &[SEVEN_PLAIN, SEVEN_CROSSED],
    &[EIGHT_CROSSING, EIGHT_STACKED],
    &[NINE_STRAIGHT, NINE_HOOKED],
];

const ZERO_ROUND: &[Stroke] = &[
    Curve(&[
        [0.05, -1.0], [-0.42, -0.72], [-0.62, 0.0], [-0.42, 0.75], [0.0, 1.0],
        [0.45, 0.75], [0.62, 0.0], [0.42, -0.75], [0.0, -1.0], [-0.2, -0.92],
    ]),
];
const ZERO_OPEN: &[Stroke] = &[
    Curve(&[
        [0.2, -0.85], [-0.15, -0.98], [-0.5, -0.55], [-0.58, 0.25], [-0.25, 0.92],
        [0.25, 0.9], [0.55, 0.35], [0.5, -0.4], [0.15, -0.95],
    ]),
];

const ONE_BAR: &[Stroke] = &[Lines(&[[0.0, -1.0], [0.0, 1.0]])];
const ONE_FLAG: &[Stroke] = &[Lines(&[[-0.38, -0.55], [0.05, -1.0], [0.05, 1.0]])];
const ONE_BASE: &[Stroke] = &[
    Lines(&[[-0.35, -0.6], [0.05, -1.0], [0.05, 0.95]]),
    Lines(&[[-0.4, 0.95], [0.45, 0.95]]),
];

const TWO_PLAIN: &[Stroke] = &[
    Curve(&[
        [-0.52, -0.55], [-0.3, -0.9], [0.1, -1.0], [0.45, -0.7],
        [0.38, -0.2], [0.0, 0.35], [-0.55, 0.95],
    ]),
    Lines(&[[-0.55, 0.95], [0.6, 0.92]]),
];
const TWO_LOOP: &[Stroke] = &[
    Curve(&[
        [-0.5, -0.6], [-0.25, -0.93], [0.15, -0.97], [0.45, -0.6], [0.3, -0.05], [-0.1, 0.55],
        [-0.48, 0.92], [-0.58, 0.68], [-0.28, 0.62], [0.12, 0.88], [0.6, 0.82],
    ]),
];

const THREE_ROUND: &[Stroke] = &[
    Curve(&[[-0.45, -0.72], [-0.1, -1.0], [0.38, -0.8], [0.33, -0.3], [-0.12, -0.05]]),
    Curve(&[[-0.12, -0.05], [0.4, 0.15], [0.5, 0.6], [0.1, 0.98], [-0.35, 0.9], [-0.55, 0.62]]),
];
const THREE_FLAT: &[Stroke] = &[
    Lines(&[[-0.45, -0.95], [0.45, -0.95], [-0.05, -0.2]]),
    Curve(&[[-0.05, -0.2], [0.42, 0.05], [0.5, 0.55], [0.12, 0.97], [-0.5, 0.78]]),
];

const FOUR_OPEN: &[Stroke] = &[
    Curve(&[[-0.4, -0.92], [-0.48, -0.4], [-0.55, 0.12]]),
    Lines(&[[-0.55, 0.12], [0.6, 0.08]]),
    Lines(&[[0.32, -0.85], [0.25, 1.0]]),
];
const FOUR_CLOSED: &[Stroke] = &[
    Lines(&[[0.2, -1.0], [-0.6, 0.3], [0.6, 0.3]]),
    Lines(&[[0.2, -1.0], [0.2, 1.0]]),
];

const FIVE_CORNERED: &[Stroke] = &[
    Lines(&[[0.48, -0.95], [-0.35, -0.95], [-0.42, -0.15]]),
    Curve(&[
        [-0.42, -0.15], [0.05, -0.3], [0.48, 0.02], [0.5, 0.5],
        [0.15, 0.93], [-0.3, 0.95], [-0.55, 0.7],
    ]),
];
const FIVE_ROUND: &[Stroke] = &[
    Curve(&[
        [0.52, -0.92], [0.0, -0.95], [-0.4, -0.72], [-0.35, -0.25], [0.15, -0.15],
        [0.48, 0.22], [0.38, 0.78], [-0.1, 0.98], [-0.52, 0.8],
    ]),
];

const SIX_ROUND: &[Stroke] = &[
    Curve(&[
        [0.3, -0.98], [-0.15, -0.7], [-0.48, -0.05], [-0.5, 0.55], [-0.15, 0.97],
        [0.3, 0.9], [0.5, 0.5], [0.28, 0.1], [-0.12, 0.1], [-0.46, 0.48],
    ]),
];
const SIX_SLIM: &[Stroke] = &[
    Curve(&[
        [0.1, -1.0], [-0.25, -0.45], [-0.47, 0.25], [-0.36, 0.82], [0.05, 1.0],
        [0.4, 0.75], [0.36, 0.35], [0.0, 0.22], [-0.4, 0.58],
    ]),
];

const SEVEN_PLAIN: &[Stroke] = &[
    Lines(&[[-0.52, -0.9], [0.52, -0.9]]),
    Curve(&[[0.52, -0.9], [0.15, -0.1], [-0.1, 1.0]]),
];
const SEVEN_CROSSED: &[Stroke] = &[
    Curve(&[[-0.52, -0.75], [-0.3, -0.92], [0.52, -0.9]]),
    Curve(&[[0.52, -0.9], [0.15, -0.1], [-0.15, 1.0]]),
    Lines(&[[-0.22, 0.05], [0.45, -0.02]]),
];

const EIGHT_CROSSING: &[Stroke] = &[
    Curve(&[
        [0.4, -0.68], [0.08, -0.98], [-0.36, -0.78], [-0.3, -0.3], [0.1, 0.02],
        [0.45, 0.42], [0.35, 0.85], [0.0, 1.0], [-0.4, 0.82], [-0.42, 0.4],
        [-0.05, 0.0], [0.32, -0.35], [0.4, -0.68], [0.25, -0.9],
    ]),
];
const EIGHT_STACKED: &[Stroke] = &[
    Curve(&[
        [0.0, -0.98], [-0.34, -0.75], [-0.32, -0.3], [0.0, -0.06],
        [0.34, -0.3], [0.34, -0.75], [0.0, -0.98],
    ]),
    Curve(&[
        [0.0, -0.06], [-0.42, 0.2], [-0.44, 0.7], [0.0, 0.98],
        [0.44, 0.7], [0.42, 0.2], [0.0, -0.06],
    ]),
];

const NINE_STRAIGHT: &[Stroke] = &[
    Curve(&[
        [0.42, -0.62], [0.1, -0.98], [-0.35, -0.8], [-0.45, -0.38],
        [-0.15, -0.08], [0.25, -0.22], [0.42, -0.62],
    ]),
    Lines(&[[0.42, -0.75], [0.34, 1.0]]),
];
const NINE_HOOKED: &[Stroke] = &[
    Curve(&[
        [0.42, -0.6], [0.08, -0.97], [-0.36, -0.8], [-0.44, -0.38],
        [-0.12, -0.1], [0.25, -0.22], [0.42, -0.6],
    ]),
    Curve(&[[0.42, -0.75], [0.46, 0.1], [0.28, 0.75], [-0.1, 0.98], [-0.45, 0.82]]),
];

#[cfg(test)]
mod tests {
    use super::super::pen::Point;
    use super::*;

    #[test]
    fn every_glyph_stays_in_its_box_and_uses_its_height() {
        for (digit, variants) in GLYPHS.iter().enumerate() {
            for glyph in *variants {
                let points: Vec<Point> = glyph.iter().flat_map(Stroke::flatten).collect();
                assert!(
                    points.iter().all(|p| p.x.abs() <= 0.75 && p.y.abs() <= 1.1),
                    "{digit}: {points:?}"
                );
                let (top, bottom) = points.iter().fold((0.0_f32, 0.0_f32), |(top, bottom), p| {
                    (top.min(p.y), bottom.max(p.y))
                });
                assert!(top < -0.8 && bottom > 0.8, "{digit}: {top} to {bottom}");
            }
        }
    }
}
