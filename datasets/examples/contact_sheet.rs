//! Writes a sheet of drawn digits as a PGM image, one column per class.
//!
//! ```text
//! cargo run --release -p datasets --example contact_sheet -- sheet.pgm [ROWS] [SEED]
//! ```

use std::error::Error;
use std::fs;

use datasets::Part;
use datasets::digits::{self, SIDE};

const COLUMNS: usize = 10;
/// Blank pixels between images.
const GAP: usize = 2;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments
        .next()
        .ok_or("usage: contact_sheet FILE.pgm [ROWS] [SEED]")?;
    let rows: usize = arguments.next().map_or(Ok(12), |rows| rows.parse())?;
    let seed: u64 = arguments.next().map_or(Ok(0), |seed| seed.parse())?;

    let (width, height) = (COLUMNS * (SIDE + GAP), rows * (SIDE + GAP));
    let mut sheet = vec![96; width * height];
    for index in 0..COLUMNS * rows {
        let image = digits::render(seed, Part::Train, index as u64);
        let corner = (index / COLUMNS * width + index % COLUMNS) * (SIDE + GAP);
        for (row, pixels) in image.chunks_exact(SIDE).enumerate() {
            let start = corner + row * width;
            sheet[start..start + SIDE].copy_from_slice(pixels);
        }
    }
    let mut file = format!("P5 {width} {height} 255\n").into_bytes();
    file.extend(sheet);
    fs::write(path, file)?;
    Ok(())
}
