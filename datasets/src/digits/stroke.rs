//! One movement of the pen, and the points it passes.

use super::pen::Point;

/// One movement of the pen.
pub(super) enum Stroke {
    /// Straight from point to point.
    Lines(&'static [[f32; 2]]),
    /// A smooth curve through the points.
    Curve(&'static [[f32; 2]]),
}
use Stroke::{Curve, Lines};

/// Straight pieces between two points of a stroke. Lines have as many as curves: the bend deforms them too.
const PIECES: usize = 5;

impl Stroke {
    /// The stroke as points close enough to be joined by straight lines.
    pub(super) fn flatten(&self) -> Vec<Point> {
        let (Lines(points) | Curve(points)) = self;
        let at = |span, t| match self {
            Lines(_) => line(points, span, t),
            Curve(_) => catmull_rom(points, span, t),
        };
        let mut flat = Vec::with_capacity((points.len() - 1) * PIECES + 1);
        for span in 0..points.len() - 1 {
            flat.extend((0..PIECES).map(|piece| at(span, piece as f32 / PIECES as f32)));
        }
        flat.push(at(points.len() - 2, 1.0));
        flat
    }
}

fn line(points: &[[f32; 2]], span: usize, t: f32) -> Point {
    let ([ax, ay], [bx, by]) = (points[span], points[span + 1]);
    Point {
        x: ax + (bx - ax) * t,
        y: ay + (by - ay) * t,
    }
}

/// Uniform Catmull-Rom spline; beyond its ends the curve is continued by reflection.
fn catmull_rom(points: &[[f32; 2]], span: usize, t: f32) -> Point {
    let (b, c) = (points[span], points[span + 1]);
    let reflect =
        |center: [f32; 2], from: [f32; 2]| [2.0 * center[0] - from[0], 2.0 * center[1] - from[1]];
    let a = if span > 0 {
        points[span - 1]
    } else {
        reflect(b, c)
    };
    let d = points
        .get(span + 2)
        .copied()
        .unwrap_or_else(|| reflect(c, b));
    let at = |axis: usize| {
        let (a, b, c, d) = (a[axis], b[axis], c[axis], d[axis]);
        b + 0.5 * t * (c - a + t * (2.0 * a - 5.0 * b + 4.0 * c - d + t * (3.0 * (b - c) + d - a)))
    };
    Point { x: at(0), y: at(1) }
}

#[cfg(test)]
mod tests {
    use super::super::glyphs::GLYPHS;
    use super::*;

    #[test]
    fn a_flattened_stroke_passes_through_its_points() {
        for stroke in GLYPHS
            .iter()
            .flat_map(|variants| variants.iter())
            .flat_map(|glyph| glyph.iter())
        {
            let (Lines(points) | Curve(points)) = stroke;
            let flat = stroke.flatten();
            assert_eq!(flat.len(), (points.len() - 1) * PIECES + 1);
            for (point, flat) in points.iter().zip(flat.iter().step_by(PIECES)) {
                // The spline is exact at the start of a span; at t = 1 it rounds a few times near 1.
                assert!((point[0] - flat.x).abs() < 1e-6 && (point[1] - flat.y).abs() < 1e-6);
            }
        }
    }
}
