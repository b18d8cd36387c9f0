//! System files as numpy's `savez` writes them: a zip archive of arrays.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};

use hsv::{Mat, c64};
use npyz::num_complex::Complex;
use npyz::{DType, NpyFile, TypeChar};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as WordError, StrDeserializer};
use thiserror::Error;
use zip::ZipArchive;

use super::system_file::{
    AccuracyWord, Matrices, Questions, StateMatrix, SystemFile, SystemFileError, Time,
};

const NAMES: [&str; 10] = [
    "lambda", "A", "B", "C", "D", "time", "accuracy", "tau", "ranks", "omega",
];

const USABLE: &str = "real or complex numbers of 32 or 64 bits a part, integers, or text";

/// Most bytes of one array, unpacked: a state matrix of 8192 states. A small archive can hold much more.
const MOST_BYTES: u64 = 1 << 30;

/// What is wrong with an array.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ArrayFault {
    /// Nobody asked for it.
    #[error("unknown, expected one of {known}")]
    Unknown {
        /// The names there are.
        known: String,
    },
    /// It cannot be unpacked.
    #[error("cannot be read: {0}")]
    Unpack(#[from] io::Error),
    /// It is larger than any system that can be analyzed.
    #[error("it has more than {limit} bytes; reduce the system in parts")]
    TooLarge {
        /// The most there may be.
        limit: u64,
    },
    /// Its header claims more than it has, or is none.
    #[error("its header is damaged")]
    Header,
    /// Its values are of a type that means nothing here.
    #[error("its type is {found}, expected {expected}")]
    DataType {
        /// The type, as numpy writes it.
        found: String,
        /// What it may be.
        expected: &'static str,
    },
    /// It has other axes.
    #[error("its shape is {found:?}, expected {expected}")]
    Shape {
        /// The shape.
        found: Vec<usize>,
        /// What it may be.
        expected: &'static str,
    },
    /// A rank is negative.
    #[error("{rank} is not a rank")]
    Rank {
        /// The rank.
        rank: i128,
    },
    /// Its word is not one of those there are.
    #[error("{0}")]
    Word(#[from] WordError),
}

impl SystemFile {
    /// Reads an archive of arrays.
    pub(super) fn from_npz(bytes: &[u8]) -> Result<Self, SystemFileError> {
        let mut arrays = Arrays::read(bytes)?;
        let lambda = arrays.take("lambda", Array::vector)?;
        let dense = arrays.take("A", Array::matrix)?;
        let missing = |name| SystemFileError::MissingArray { name };
        let accuracy: Option<AccuracyWord> = arrays.take("accuracy", Array::word)?;
        let time: Option<Time> = arrays.take("time", Array::word)?;
        Ok(Self {
            matrices: Matrices {
                state: StateMatrix::of(lambda, dense)?,
                input: arrays
                    .take("B", Array::matrix)?
                    .ok_or_else(|| missing("B"))?,
                output: arrays
                    .take("C", Array::matrix)?
                    .ok_or_else(|| missing("C"))?,
                feedthrough: arrays.take("D", Array::matrix)?,
            },
            time: time.unwrap_or_default(),
            questions: Questions {
                accuracy: accuracy.unwrap_or_default().into(),
                tau: arrays.take("tau", Array::decimals)?.unwrap_or_default(),
                ranks: arrays.take("ranks", Array::ranks)?.unwrap_or_default(),
                omega: arrays.take("omega", Array::reals)?.unwrap_or_default(),
            },
        })
    }
}

/// The arrays of an archive by name.
struct Arrays(BTreeMap<&'static str, Array>);

impl Arrays {
    fn read(bytes: &[u8]) -> Result<Self, SystemFileError> {
        let mut archive = ZipArchive::new(Cursor::new(bytes))?;
        let mut arrays = BTreeMap::new();
        for index in 0..archive.len() {
            let file = archive.by_index(index)?;
            let name = file.name();
            let name = name.strip_suffix(".npy").unwrap_or(name).to_owned();
            let fault = |fault| SystemFileError::Array {
                name: name.clone(),
                fault,
            };
            let known = NAMES.into_iter().find(|known| *known == name);
            let known = known.ok_or_else(|| {
                fault(ArrayFault::Unknown {
                    known: format!("`{}`", NAMES.join("`, `")),
                })
            })?;
            let array = unpacked(file).and_then(|bytes| Array::read(&bytes));
            arrays.insert(known, array.map_err(fault)?);
        }
        Ok(Self(arrays))
    }

    /// What an array says, if it is there.
    fn take<T>(
        &mut self,
        name: &'static str,
        say: impl FnOnce(&Array) -> Result<T, ArrayFault>,
    ) -> Result<Option<T>, SystemFileError> {
        let said = self.0.remove(name).map(|array| say(&array)).transpose();
        said.map_err(|fault| SystemFileError::Array {
            name: name.to_owned(),
            fault,
        })
    }
}

fn unpacked(file: impl Read) -> Result<Vec<u8>, ArrayFault> {
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(ArrayFault::TooLarge { limit: MOST_BYTES });
    }
    Ok(bytes)
}

/// Values in the order in which they are stored, and how far it is from one to the next along each axis.
struct Array {
    shape: Vec<usize>,
    strides: Vec<usize>,
    values: Values,
    /// The type, as numpy writes it.
    data_type: String,
}

enum Values {
    Real(Vec<f64>),
    /// Apart from the above for their decimals.
    Single(Vec<f32>),
    Complex(Vec<c64>),
    Integer(Vec<i128>),
    Text(Vec<String>),
}

impl Array {
    /// Reads the content of an `.npy` file.
    fn read(bytes: &[u8]) -> Result<Self, ArrayFault> {
        let data = check_header(bytes)?;
        let npy = NpyFile::new(bytes).map_err(|_| ArrayFault::Header)?;
        let data_type = npy.dtype().descr();
        let unusable = || ArrayFault::DataType {
            found: data_type.clone(),
            expected: USABLE,
        };
        let DType::Plain(element) = npy.dtype() else {
            return Err(unusable());
        };
        let size = element.num_bytes().ok_or(ArrayFault::Header)?;
        // Elements of no size could be as many as the header likes.
        let claimed = (npy.len() as usize).checked_mul(size.max(1));
        if claimed != Some(data) {
            return Err(ArrayFault::Header);
        }
        let narrow = |sizes: &[u64]| sizes.iter().map(|size| *size as usize).collect();
        let (shape, strides) = (narrow(npy.shape()), narrow(npy.strides()));
        let values = match (element.type_char(), element.size_field()) {
            (TypeChar::Float, 8) => Values::Real(all(npy, |x: f64| x)?),
            (TypeChar::Float, 4) => Values::Single(all(npy, |x: f32| x)?),
            (TypeChar::Complex, 16) => Values::Complex(all(npy, |z: c64| z)?),
            (TypeChar::Complex, 8) => Values::Complex(all(npy, |z: Complex<f32>| {
                c64::new(z.re.into(), z.im.into())
            })?),
            (TypeChar::Int, 1) => Values::Integer(all(npy, |k: i8| k.into())?),
            (TypeChar::Int, 2) => Values::Integer(all(npy, |k: i16| k.into())?),
            (TypeChar::Int, 4) => Values::Integer(all(npy, |k: i32| k.into())?),
            (TypeChar::Int, 8) => Values::Integer(all(npy, |k: i64| k.into())?),
            (TypeChar::Uint, 1) => Values::Integer(all(npy, |k: u8| k.into())?),
            (TypeChar::Uint, 2) => Values::Integer(all(npy, |k: u16| k.into())?),
            (TypeChar::Uint, 4) => Values::Integer(all(npy, |k: u32| k.into())?),
            (TypeChar::Uint, 8) => Values::Integer(all(npy, |k: u64| k.into())?),
            (TypeChar::UnicodeStr | TypeChar::ByteStr, _) => {
                Values::Text(all(npy, |text: String| text)?)
            }
            _ => return Err(unusable()),
        };
        Ok(Self {
            shape,
            strides,
            values,
            data_type,
        })
    }

    /// The real number at this place of the storage.
    fn real(&self, at: usize) -> Option<f64> {
        match &self.values {
            Values::Real(values) => Some(values[at]),
            Values::Single(values) => Some(values[at].into()),
            Values::Integer(values) => Some(values[at] as f64),
            Values::Complex(_) | Values::Text(_) => None,
        }
    }

    /// Reads numbers with this many axes, or real ones with one more for the pair of real and imaginary part.
    fn numbers(
        &self,
        axes: usize,
        expected: &'static str,
    ) -> Result<impl Fn(usize) -> c64, ArrayFault> {
        if matches!(self.values, Values::Text(_)) {
            return Err(self.wrong_type("numbers"));
        }
        let real = !matches!(self.values, Values::Complex(_));
        let pairs = real && self.shape.len() == axes + 1 && self.shape[axes] == 2;
        if !pairs && self.shape.len() != axes {
            return Err(self.wrong_shape(expected));
        }
        let from_pair = pairs.then(|| self.strides[axes]);
        let part = move |at| {
            self.real(at)
                .expect("what is neither complex nor text is real")
        };
        Ok(move |at| match (&self.values, from_pair) {
            (Values::Complex(values), _) => values[at],
            (_, Some(stride)) => c64::new(part(at), part(at + stride)),
            (_, None) => c64::new(part(at), 0.0),
        })
    }

    fn vector(&self) -> Result<Vec<c64>, ArrayFault> {
        let number = self.numbers(1, "[state], or [state, 2] for real and imaginary parts")?;
        let places = (0..self.shape[0]).map(|i| i * self.strides[0]);
        Ok(places.map(number).collect())
    }

    fn matrix(&self) -> Result<Mat<c64>, ArrayFault> {
        let number = self.numbers(
            2,
            "[row, column], or [row, column, 2] for real and imaginary parts",
        )?;
        let (rows, columns) = (self.strides[0], self.strides[1]);
        Ok(Mat::from_fn(self.shape[0], self.shape[1], |i, j| {
            number(i * rows + j * columns)
        }))
    }

    /// The numbers of a list, or of one alone.
    fn reals(&self) -> Result<Vec<f64>, ArrayFault> {
        self.check_list()?;
        let reals = (0..self.len()).map(|at| self.real(at));
        let reals: Option<_> = reals.collect();
        reals.ok_or_else(|| self.wrong_type("real numbers"))
    }

    /// The numbers of a list, each by its shortest decimal.
    fn decimals(&self) -> Result<Vec<String>, ArrayFault> {
        self.check_list()?;
        match &self.values {
            Values::Real(values) => Ok(values.iter().map(f64::to_string).collect()),
            Values::Single(values) => Ok(values.iter().map(f32::to_string).collect()),
            Values::Integer(values) => Ok(values.iter().map(i128::to_string).collect()),
            Values::Complex(_) | Values::Text(_) => Err(self.wrong_type("real numbers")),
        }
    }

    fn ranks(&self) -> Result<Vec<usize>, ArrayFault> {
        self.check_list()?;
        let rank =
            |rank: &i128| usize::try_from(*rank).map_err(|_| ArrayFault::Rank { rank: *rank });
        match &self.values {
            Values::Integer(values) => values.iter().map(rank).collect(),
            // numpy has no integers in an empty list.
            _ if self.len() == 0 => Ok(Vec::new()),
            _ => Err(self.wrong_type("integers")),
        }
    }

    /// One word out of a few.
    fn word<W: for<'de> Deserialize<'de>>(&self) -> Result<W, ArrayFault> {
        match &self.values {
            Values::Text(words) if words.len() == 1 => {
                let word: StrDeserializer<'_, WordError> = words[0].as_str().into_deserializer();
                Ok(W::deserialize(word)?)
            }
            Values::Text(_) => Err(self.wrong_shape("one word")),
            _ => Err(self.wrong_type("text")),
        }
    }

    fn len(&self) -> usize {
        self.shape.iter().product()
    }

    fn check_list(&self) -> Result<(), ArrayFault> {
        match self.shape.len() {
            0 | 1 => Ok(()),
            _ => Err(self.wrong_shape("a list of numbers")),
        }
    }

    fn wrong_type(&self, expected: &'static str) -> ArrayFault {
        ArrayFault::DataType {
            found: self.data_type.clone(),
            expected,
        }
    }

    fn wrong_shape(&self, expected: &'static str) -> ArrayFault {
        ArrayFault::Shape {
            found: self.shape.clone(),
            expected,
        }
    }
}

/// All values in the order in which they are stored.
fn all<T: npyz::Deserialize, U>(
    npy: NpyFile<&[u8]>,
    convert: impl Fn(T) -> U,
) -> Result<Vec<U>, ArrayFault> {
    let values = npy.data::<T>().map_err(|_| ArrayFault::Header)?;
    let values = values.map(|value| Ok(convert(value?)));
    values.collect()
}

/// Looks at a header before `npyz` does, which multiplies sizes whatever they come to and follows brackets to any depth.
/// Returns the number of bytes behind the header.
fn check_header(bytes: &[u8]) -> Result<usize, ArrayFault> {
    /// What numpy itself reads, by default.
    const LONGEST: usize = 10_000;
    const DEEPEST: usize = 16;
    let length = |from: usize, to: usize| {
        let bytes = bytes.get(from..to)?.iter().rev();
        Some(bytes.fold(0, |length, byte| length << 8 | usize::from(*byte)))
    };
    let (start, length) = match bytes.get(6) {
        Some(1) => (10, length(8, 10)),
        _ => (12, length(8, 12)),
    };
    let length = length.filter(|length| *length <= LONGEST);
    let text = length.and_then(|length| bytes.get(start..start + length));
    let text = text.and_then(|text| std::str::from_utf8(text).ok());
    let text = text.ok_or(ArrayFault::Header)?;
    let brackets = text.chars().filter(|c| "([{".contains(*c)).count();
    // Pickled, which `npyz` does not know.
    if text.contains("'|O'") {
        return Err(ArrayFault::DataType {
            found: "object".to_owned(),
            expected: USABLE,
        });
    }
    // Every size is among the words that begin with a digit; an axis without elements has strides all the same.
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let sizes = words.filter(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let product = sizes
        .map(|word| word.parse().ok())
        .try_fold(1_u64, |product, size| {
            product.checked_mul(size?).map(|product| product.max(1))
        });
    match product {
        Some(_) if brackets <= DEEPEST => Ok(bytes.len() - start - text.len()),
        _ => Err(ArrayFault::Header),
    }
}
