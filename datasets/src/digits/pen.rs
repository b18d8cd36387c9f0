//! Antialiased strokes on a small canvas.

use super::SIDE;

/// A place, in glyph units or in pixels; x to the right, y down.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Point {
    pub(super) x: f32,
    pub(super) y: f32,
}

/// Radius up to which distances from the strokes are known, in pixels: the thickest pen and its soft edge.
const KNOWN: f32 = 2.5;

/// Squared distance of every pixel's center from the nearest stroke drawn so far.
pub(super) struct Canvas {
    squared_distance: [f32; SIDE * SIDE],
}

impl Canvas {
    pub(super) fn new() -> Self {
        Self {
            squared_distance: [f32::INFINITY; SIDE * SIDE],
        }
    }

    /// Draws straight lines from each point to the next, in pixels; the center of pixel (0, 0) is at (0.5, 0.5).
    pub(super) fn draw(&mut self, points: &[Point]) {
        for ends in points.windows(2) {
            self.draw_segment(ends[0], ends[1]);
        }
    }

    fn draw_segment(&mut self, a: Point, b: Point) {
        let (along_x, along_y) = (b.x - a.x, b.y - a.y);
        let squared_len = along_x * along_x + along_y * along_y;
        // A segment of no length is a dot: every pixel is nearest to its start.
        let scale = if squared_len > 0.0 {
            1.0 / squared_len
        } else {
            0.0
        };
        for row in near(a.y, b.y) {
            let from_y = row as f32 + 0.5 - a.y;
            for column in near(a.x, b.x) {
                let from_x = column as f32 + 0.5 - a.x;
                let t = ((from_x * along_x + from_y * along_y) * scale).clamp(0.0, 1.0);
                let (x, y) = (from_x - t * along_x, from_y - t * along_y);
                let nearest = &mut self.squared_distance[row * SIDE + column];
                *nearest = nearest.min(x * x + y * y);
            }
        }
    }

    /// How much of each pixel a pen of this radius has inked, 0 to 1, with an edge one pixel wide.
    pub(super) fn coverage(&self, radius: f32) -> [f32; SIDE * SIDE] {
        debug_assert!(
            radius + 0.5 <= KNOWN,
            "distances are known up to {KNOWN} only"
        );
        self.squared_distance
            .map(|squared| (radius + 0.5 - squared.sqrt()).clamp(0.0, 1.0))
    }
}

/// The rows or columns whose centers are within reach of a span.
fn near(a: f32, b: f32) -> std::ops::Range<usize> {
    // Casts from negative values saturate at 0.
    let (first, last) = ((a.min(b) - KNOWN) as usize, (a.max(b) + KNOWN) as usize + 1);
    first.min(SIDE)..last.min(SIDE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn point(x: f32, y: f32) -> Point {
        Point { x, y }
    }

    #[test]
    fn a_line_inks_its_pixels_and_fades_at_its_edge() {
        let mut canvas = Canvas::new();
        canvas.draw(&[point(10.5, 10.5), point(20.5, 10.5)]);
        let ink = canvas.coverage(1.0);
        let at = |column: usize, row: usize| ink[row * SIDE + column];
        assert_eq!([at(15, 10), at(15, 11), at(15, 12)], [1.0, 0.5, 0.0]);
        assert_eq!(
            [at(9, 10), at(8, 10), at(21, 10), at(22, 10)],
            [0.5, 0.0, 0.5, 0.0]
        );
    }

    #[test]
    fn a_segment_of_no_length_is_a_dot() {
        let mut canvas = Canvas::new();
        canvas.draw(&[point(5.5, 5.5), point(5.5, 5.5)]);
        let ink = canvas.coverage(0.5);
        assert_eq!((ink[5 * SIDE + 5], ink.iter().sum::<f32>()), (1.0, 1.0));
    }

    proptest! {
        /// The bounding box is a shortcut: it may leave out no pixel that has ink.
        #[test]
        fn the_bounding_box_loses_no_ink(a in (-9_f32..37.0, -9_f32..37.0), b in (-9_f32..37.0, -9_f32..37.0)) {
            let mut canvas = Canvas::new();
            canvas.draw(&[point(a.0, a.1), point(b.0, b.1)]);
            let ink = canvas.coverage(1.5);
            for row in 0..SIDE {
                for column in 0..SIDE {
                    let center = (f64::from(column as u32) + 0.5, f64::from(row as u32) + 0.5);
                    let expected = (2.0 - distance(center, a, b)).clamp(0.0, 1.0);
                    // f32 coordinates up to 40 and their squares: a few ulp of 1600, through a root near 1.
                    prop_assert!((f64::from(ink[row * SIDE + column]) - expected).abs() < 1e-3);
                }
            }
        }
    }

    fn distance(p: (f64, f64), a: (f32, f32), b: (f32, f32)) -> f64 {
        let (ax, ay, bx, by) = (
            f64::from(a.0),
            f64::from(a.1),
            f64::from(b.0),
            f64::from(b.1),
        );
        let (dx, dy) = (bx - ax, by - ay);
        let t = ((p.0 - ax) * dx + (p.1 - ay) * dy) / (dx * dx + dy * dy).max(f64::MIN_POSITIVE);
        let t = t.clamp(0.0, 1.0);
        (p.0 - ax - t * dx).hypot(p.1 - ay - t * dy)
    }
}
