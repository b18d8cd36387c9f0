//! The IDX format of unsigned bytes, plain or gzipped: how MNIST and its relatives are published.
//!
//! A file is `00 00 08 rank`, then `rank` axis sizes as big-endian `u32`, then the values, last axis fastest.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

use flate2::bufread::GzDecoder;

use crate::error::FileFault;

/// Most values accepted, far above any file read here and small enough to hold.
const LIMIT: usize = 1 << 30;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// An array of bytes, `data` being `dims.iter().product()` long, last axis fastest.
#[derive(Debug, PartialEq)]
pub(crate) struct IdxArray {
    pub(crate) dims: Vec<usize>,
    pub(crate) data: Vec<u8>,
}

/// Reads a whole IDX file of examples, the first axis counting them and the others being `example_dims`.
pub(crate) fn read_file(path: &Path, example_dims: &[usize]) -> Result<IdxArray, FileFault> {
    let file = File::open(path).map_err(|source| FileFault::Unreadable { source })?;
    read(BufReader::new(file), example_dims)
}

/// As [`read_file`]. Whether the stream is gzipped is seen from its first bytes, not from a name.
fn read(mut stream: impl BufRead, example_dims: &[usize]) -> Result<IdxArray, FileFault> {
    let start = stream
        .fill_buf()
        .map_err(|source| FileFault::Unreadable { source })?;
    if !start.starts_with(&GZIP_MAGIC) {
        return parse(&mut stream, example_dims);
    }
    let mut decoder = GzDecoder::new(stream);
    let array = parse(&mut decoder, example_dims)?;
    // The decoder stops at the end of its stream and would leave appended bytes unseen.
    let rest = decoder.into_inner().bytes().next();
    match rest
        .transpose()
        .map_err(|source| FileFault::Unreadable { source })?
    {
        Some(_) => Err(FileFault::TrailingBytes {
            offset: (4 * (1 + array.dims.len()) + array.data.len()) as u64,
        }),
        None => Ok(array),
    }
}

fn parse(stream: &mut impl Read, example_dims: &[usize]) -> Result<IdxArray, FileFault> {
    let rank = example_dims.len() + 1;
    let header_len = 4 * (1 + rank);
    let header = read_up_to(stream, header_len)?;

    // A wrong magic first: whatever else is wrong with a file of another kind says nothing.
    let expected = [0, 0, 8, rank as u8];
    match header.first_chunk() {
        Some(magic) if *magic == expected => {}
        Some(magic) => {
            return Err(FileFault::Magic {
                seen: *magic,
                expected,
            });
        }
        None => return Err(truncated(header.len(), header_len)),
    }
    if header.len() < header_len {
        return Err(truncated(header.len(), header_len));
    }

    let (sizes, _) = header[4..].as_chunks();
    let dims: Vec<usize> = sizes
        .iter()
        .map(|size| u32::from_be_bytes(*size) as usize)
        .collect();
    if dims[1..] != *example_dims {
        return Err(FileFault::ExampleSize {
            seen: dims[1..].to_vec(),
            expected: example_dims.to_vec(),
        });
    }
    let len = dims
        .iter()
        .try_fold(1_usize, |product, dim| product.checked_mul(*dim));
    let Some(len) = len.filter(|len| *len <= LIMIT) else {
        return Err(FileFault::TooLarge { dims, limit: LIMIT });
    };
    if len == 0 {
        return Err(FileFault::Empty);
    }

    // One byte more than announced: it shows what is left over, and takes a gzip stream to its checksum.
    let mut data = read_up_to(stream, len + 1).map_err(|fault| after(header_len, len, fault))?;
    if data.len() < len {
        return Err(truncated(header_len + data.len(), header_len + len));
    }
    if data.len() > len {
        return Err(FileFault::TrailingBytes {
            offset: (header_len + len) as u64,
        });
    }
    data.shrink_to_fit();
    Ok(IdxArray { dims, data })
}

/// The next `len` bytes, or what there is of them.
fn read_up_to(stream: &mut impl Read, len: usize) -> Result<Vec<u8>, FileFault> {
    // Grows with what arrives: a header that lies about its size allocates nothing.
    let mut bytes = Vec::new();
    match stream.take(len as u64).read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(fault_of(error, bytes.len(), len)),
    }
}

fn fault_of(source: io::Error, seen: usize, expected: usize) -> FileFault {
    match source.kind() {
        ErrorKind::UnexpectedEof => truncated(seen, expected),
        ErrorKind::InvalidInput | ErrorKind::InvalidData => FileFault::CorruptGzip { source },
        _ => FileFault::Unreadable { source },
    }
}

fn truncated(seen: usize, expected: usize) -> FileFault {
    FileFault::Truncated {
        seen: seen as u64,
        expected: expected as u64,
    }
}

/// A fault met while reading `len` values, as seen from the start of the file.
fn after(header_len: usize, len: usize, fault: FileFault) -> FileFault {
    match fault {
        FileFault::Truncated { seen, .. } => {
            truncated(header_len + seen as usize, header_len + len)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;
    use std::io::Write;

    /// Two examples of 2 x 3 bytes, 1 to 12.
    fn plain() -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3];
        bytes.extend(1..=12);
        bytes
    }

    fn gzipped(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn fault(bytes: &[u8]) -> FileFault {
        read(bytes, &[2, 3]).unwrap_err()
    }

    #[test]
    fn plain_and_gzipped_files_read_alike() {
        let expected = IdxArray {
            dims: vec![2, 2, 3],
            data: (1..=12).collect(),
        };
        assert_eq!(read(&plain()[..], &[2, 3]).unwrap(), expected);
        assert_eq!(read(&gzipped(&plain())[..], &[2, 3]).unwrap(), expected);
    }

    #[test]
    fn a_plain_file_cut_anywhere_is_truncated() {
        let bytes = plain();
        for len in 0..bytes.len() {
            let fault = fault(&bytes[..len]);
            assert!(
                matches!(fault, FileFault::Truncated { seen, .. } if seen == len as u64),
                "{len}: {fault}"
            );
        }
    }

    #[test]
    fn a_gzipped_file_cut_anywhere_is_truncated() {
        let bytes = gzipped(&plain());
        // Below 2 bytes it cannot be told from a plain file that is too short, which is the same fault.
        for len in 0..bytes.len() {
            let fault = fault(&bytes[..len]);
            assert!(
                matches!(fault, FileFault::Truncated { .. }),
                "{len} of {}: {fault}",
                bytes.len()
            );
        }
    }

    #[test]
    fn a_flipped_checksum_byte_is_corrupt() {
        let mut bytes = gzipped(&plain());
        let crc = bytes.len() - 8;
        bytes[crc] ^= 1;
        assert!(
            matches!(fault(&bytes), FileFault::CorruptGzip { .. }),
            "{}",
            fault(&bytes)
        );
    }

    #[test]
    fn a_flipped_payload_byte_is_never_accepted() {
        let good = gzipped(&plain());
        for index in 10..good.len() {
            let mut bytes = good.clone();
            bytes[index] ^= 0x10;
            assert!(read(&bytes[..], &[2, 3]).is_err(), "byte {index}");
        }
    }

    #[test]
    fn another_magic_is_named() {
        for (index, value) in [(0, 1), (2, 9), (3, 1)] {
            let mut bytes = plain();
            bytes[index] = value;
            let fault = fault(&bytes);
            assert!(
                matches!(
                    fault,
                    FileFault::Magic {
                        expected: [0, 0, 8, 3],
                        ..
                    }
                ),
                "{fault}"
            );
        }
        assert!(matches!(
            fault(b"<!DOCTYPE html><html>"),
            FileFault::Magic {
                seen: [b'<', ..],
                ..
            }
        ));
    }

    #[test]
    fn examples_of_another_size_are_named() {
        let mut bytes = plain();
        bytes[11] = 28;
        let fault = fault(&bytes);
        assert!(
            matches!(&fault, FileFault::ExampleSize { seen, .. } if *seen == [28, 3]),
            "{fault}"
        );
        assert_eq!(
            fault.to_string(),
            "holds examples of 28 x 3 bytes, expected 2 x 3"
        );
    }

    #[test]
    fn a_header_that_claims_too_much_is_refused_before_reading() {
        let mut bytes = plain();
        bytes[4..8].fill(0xff);
        let fault = fault(&bytes);
        assert!(matches!(fault, FileFault::TooLarge { .. }), "{fault}");
    }

    #[test]
    fn a_header_that_lies_within_the_limit_costs_no_memory() {
        let mut bytes = plain();
        bytes[4..8].copy_from_slice(&((LIMIT / 6) as u32).to_be_bytes());
        // 1 GiB claimed; were it allocated and filled, this would take seconds instead of microseconds.
        assert!(matches!(
            fault(&bytes),
            FileFault::Truncated { seen: 28, .. }
        ));
    }

    #[test]
    fn no_examples_are_a_fault() {
        let mut bytes = plain();
        bytes[4..8].fill(0);
        assert!(matches!(fault(&bytes), FileFault::Empty));
    }

    #[test]
    fn bytes_after_the_data_are_a_fault() {
        let mut longer = plain();
        longer.push(0);
        let mut appended = gzipped(&plain());
        appended.push(0);
        for bytes in [longer.clone(), gzipped(&longer), appended] {
            assert!(
                matches!(fault(&bytes), FileFault::TrailingBytes { offset: 28 }),
                "{}",
                fault(&bytes)
            );
        }
    }

    #[test]
    fn a_missing_file_is_unreadable() {
        let fault = read_file(Path::new("no/such/file"), &[]).unwrap_err();
        assert!(matches!(fault, FileFault::Unreadable { .. }), "{fault}");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes[..], &[2, 3]);
            let _ = read(&gzipped(&bytes)[..], &[]);
        }

        #[test]
        fn arbitrary_bytes_after_a_true_magic_never_panic(tail in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = read(&[&[0, 0, 8, 1], &tail[..]].concat()[..], &[]);
            let _ = read(&[&[0x1f, 0x8b], &tail[..]].concat()[..], &[]);
        }

        #[test]
        fn what_is_written_is_read_back(data in prop::collection::vec(any::<u8>(), 1..100)) {
            let bytes = [&[0, 0, 8, 1][..], &(data.len() as u32).to_be_bytes(), &data].concat();
            prop_assert_eq!(read(&gzipped(&bytes)[..], &[]).unwrap(), IdxArray { dims: vec![data.len()], data });
        }
    }
}
