//! The part of Python's pickle format that `torch.save` writes, as plain data: nothing is imported and nothing is run.
//!
//! burn-store reads these files as well, but takes every tensor for contiguous, and fills what is missing with zeros.

use std::collections::HashMap;

use thiserror::Error;

/// A pickle that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PickleError {
    /// It ends in the middle.
    #[error("its pickle ends at byte {offset}, in the middle")]
    Truncated {
        /// Its length.
        offset: usize,
    },
    /// An instruction that `torch.save` does not write.
    #[error(
        "its pickle has the instruction {opcode:#04x} at byte {offset}, which `torch.save` does not write"
    )]
    Opcode {
        /// The instruction.
        opcode: u8,
        /// Where it stands.
        offset: usize,
    },
    /// An instruction has no or other operands than it needs.
    #[error("its pickle is damaged before byte {offset}")]
    Operand {
        /// Behind the instruction.
        offset: usize,
    },
}

/// Position of an object among all of a pickle. Only a dictionary can hold one that was made later than itself.
pub(super) type Id = usize;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Object {
    Integer(i64),
    Text(String),
    /// A class or function, as `module.name`.
    Global(String),
    Tuple(Vec<Id>),
    Dictionary(Vec<(Id, Id)>),
    /// Something outside the pickle, described by an object.
    External(Id),
    /// What a function makes of its arguments.
    Call {
        function: Id,
        arguments: Id,
    },
    /// Nothing that a file of weights is made of: `None`, booleans, lists, ...
    Other,
}

/// All objects of a pickle.
#[derive(Debug)]
pub(super) struct Pickle {
    objects: Vec<Object>,
    root: Id,
}

impl Pickle {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, PickleError> {
        Machine {
            bytes,
            at: 0,
            objects: Vec::new(),
            stack: Vec::new(),
            marked: Vec::new(),
            memo: HashMap::new(),
        }
        .run()
    }

    pub(super) fn root(&self) -> &Object {
        self.get(self.root)
    }

    pub(super) fn get(&self, id: Id) -> &Object {
        &self.objects[id]
    }
}

/// The stack machine that a pickle is a program for.
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    objects: Vec<Object>,
    stack: Vec<Id>,
    /// Stacks that a mark has put aside.
    marked: Vec<Vec<Id>>,
    memo: HashMap<u32, Id>,
}

impl Machine<'_> {
    fn run(mut self) -> Result<Pickle, PickleError> {
        loop {
            let offset = self.at;
            let [opcode] = self.array()?;
            if opcode == b'.' {
                let root = self.pop()?;
                return Ok(Pickle {
                    objects: self.objects,
                    root,
                });
            }
            self.step(opcode, offset)?;
        }
    }

    fn step(&mut self, opcode: u8, offset: usize) -> Result<(), PickleError> {
        match opcode {
            // PROTO, FRAME: nothing to do.
            0x80 => self.take(1).map(drop)?,
            0x95 => self.take(8).map(drop)?,
            b'(' => self.marked.push(std::mem::take(&mut self.stack)),
            // NONE, NEWTRUE, NEWFALSE, EMPTY_LIST, EMPTY_SET, BINFLOAT.
            b'N' | 0x88 | 0x89 | b']' | 0x8f => self.push(Object::Other),
            b'G' => {
                self.take(8)?;
                self.push(Object::Other);
            }
            b'K' | b'M' | b'J' | 0x8a => self.integer(opcode)?,
            b'X' | 0x8c => self.text(opcode)?,
            b'c' | 0x93 => self.global(opcode)?,
            b')' | 0x85..=0x87 | b't' => self.tuple(opcode)?,
            b'}' => self.push(Object::Dictionary(Vec::new())),
            b's' | b'u' => self.set_items(opcode)?,
            // APPEND, APPENDS, BUILD: what is added to a list or said about an object besides its content.
            b'a' | b'b' => self.pop().map(drop)?,
            b'e' => self.pop_marked().map(drop)?,
            b'q' | b'r' | 0x94 => self.memoize(opcode)?,
            b'h' | b'j' => {
                let key = self.count(if opcode == b'h' { 1 } else { 4 })? as u32;
                let id = *self.memo.get(&key).ok_or_else(|| self.bad_operand())?;
                self.stack.push(id);
            }
            b'Q' => {
                let description = self.pop()?;
                self.push(Object::External(description));
            }
            // REDUCE, NEWOBJ.
            b'R' | 0x81 => self.call()?,
            _ => return Err(PickleError::Opcode { opcode, offset }),
        }
        Ok(())
    }

    fn integer(&mut self, opcode: u8) -> Result<(), PickleError> {
        let value = match opcode {
            b'K' => self.count(1)? as i64,
            b'M' => self.count(2)? as i64,
            b'J' => i64::from(i32::from_le_bytes(self.array()?)),
            _ => {
                let length = self.count(1)?;
                let digits = self.take(length)?;
                if length > 8 {
                    // No size of a tensor.
                    self.push(Object::Other);
                    return Ok(());
                }
                let negative = digits.last().is_some_and(|last| last & 0x80 != 0);
                let mut wide = [if negative { 0xff } else { 0 }; 8];
                wide[..length].copy_from_slice(digits);
                i64::from_le_bytes(wide)
            }
        };
        self.push(Object::Integer(value));
        Ok(())
    }

    fn text(&mut self, opcode: u8) -> Result<(), PickleError> {
        let length = self.count(if opcode == b'X' { 4 } else { 1 })?;
        let text = String::from_utf8(self.take(length)?.to_vec());
        let text = text.map_err(|_| self.bad_operand())?;
        self.push(Object::Text(text));
        Ok(())
    }

    fn global(&mut self, opcode: u8) -> Result<(), PickleError> {
        let (module, name) = match opcode {
            b'c' => (self.line()?, self.line()?),
            _ => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (&self.objects[module], &self.objects[name]) {
                    (Object::Text(module), Object::Text(name)) => (module.clone(), name.clone()),
                    _ => return Err(self.bad_operand()),
                }
            }
        };
        self.push(Object::Global(format!("{module}.{name}")));
        Ok(())
    }

    fn tuple(&mut self, opcode: u8) -> Result<(), PickleError> {
        let items = match opcode {
            b')' => Vec::new(),
            b't' => self.pop_marked()?,
            _ => {
                let first = self.stack.len().checked_sub(usize::from(opcode - 0x84));
                let first = first.ok_or_else(|| self.bad_operand())?;
                self.stack.split_off(first)
            }
        };
        self.push(Object::Tuple(items));
        Ok(())
    }

    fn set_items(&mut self, opcode: u8) -> Result<(), PickleError> {
        let items = match opcode {
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                vec![key, value]
            }
            _ => self.pop_marked()?,
        };
        let (pairs, rest) = items.as_chunks();
        let dictionary = self.stack.last().map(|id| &mut self.objects[*id]);
        match (dictionary, rest) {
            (Some(Object::Dictionary(entries)), []) => {
                entries.extend(pairs.iter().map(|[key, value]| (*key, *value)));
                Ok(())
            }
            _ => Err(self.bad_operand()),
        }
    }

    fn memoize(&mut self, opcode: u8) -> Result<(), PickleError> {
        let key = match opcode {
            b'q' => self.count(1)? as u32,
            b'r' => self.count(4)? as u32,
            _ => self.memo.len() as u32,
        };
        let id = *self.stack.last().ok_or_else(|| self.bad_operand())?;
        self.memo.insert(key, id);
        Ok(())
    }

    fn call(&mut self) -> Result<(), PickleError> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let made = match &self.objects[function] {
            Object::Global(name) if name == "collections.OrderedDict" => {
                Object::Dictionary(Vec::new())
            }
            _ => Object::Call {
                function,
                arguments,
            },
        };
        self.push(made);
        Ok(())
    }

    fn push(&mut self, object: Object) {
        self.stack.push(self.objects.len());
        self.objects.push(object);
    }

    fn pop(&mut self) -> Result<Id, PickleError> {
        self.stack.pop().ok_or_else(|| self.bad_operand())
    }

    /// What was put on the stack since the last mark.
    fn pop_marked(&mut self) -> Result<Vec<Id>, PickleError> {
        let before = self.marked.pop().ok_or_else(|| self.bad_operand())?;
        Ok(std::mem::replace(&mut self.stack, before))
    }

    fn bad_operand(&self) -> PickleError {
        PickleError::Operand { offset: self.at }
    }

    fn take(&mut self, length: usize) -> Result<&[u8], PickleError> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..length).ok_or(PickleError::Truncated {
            offset: self.bytes.len(),
        })?;
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let bytes = self.take(N)?;
        Ok(bytes.try_into().expect("as many as were taken"))
    }

    /// An unsigned number of up to four bytes.
    fn count(&mut self, bytes: usize) -> Result<usize, PickleError> {
        let digits = self.take(bytes)?.iter().rev();
        Ok(digits.fold(0, |value, digit| value << 8 | usize::from(*digit)))
    }

    fn line(&mut self) -> Result<String, PickleError> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|byte| *byte == b'\n');
        let length = length.unwrap_or(rest.len());
        let line = std::str::from_utf8(&rest[..length]).map(str::to_owned);
        self.take(length + 1)?;
        line.map_err(|_| self.bad_operand())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// `pickle.dumps({"a": (1, 300, -70000, 2**40, -1 << 40)}, protocol)`.
    const DUMPS: [&[u8]; 2] = [
        b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01(K\x01M,\x01J\x90\xee\xfe\xff\x8a\x06\x00\x00\x00\x00\x00\x01\x8a\x06\x00\x00\x00\x00\x00\xfftq\x02s.",
        b"\x80\x04\x95)\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94(K\x01M,\x01J\x90\xee\xfe\xff\x8a\x06\x00\x00\x00\x00\x00\x01\x8a\x06\x00\x00\x00\x00\x00\xfft\x94s.",
    ];

    #[test]
    fn numbers_of_every_width_come_back() {
        for bytes in DUMPS {
            let pickle = Pickle::read(bytes).unwrap();
            let Object::Dictionary(entries) = pickle.root() else {
                panic!("{pickle:?}")
            };
            let [(key, value)] = entries[..] else {
                panic!("{pickle:?}")
            };
            assert_eq!(*pickle.get(key), Object::Text("a".to_owned()));
            let Object::Tuple(items) = pickle.get(value) else {
                panic!("{pickle:?}")
            };
            let numbers: Vec<&Object> = items.iter().map(|id| pickle.get(*id)).collect();
            let want = [1, 300, -70_000, 1 << 40, -(1 << 40)].map(Object::Integer);
            assert!(numbers.into_iter().eq(&want), "{pickle:?}");
        }
    }

    #[test]
    fn a_pickle_that_is_cut_off_anywhere_is_refused() {
        for bytes in DUMPS {
            for length in 0..bytes.len() {
                let error = Pickle::read(&bytes[..length]).unwrap_err();
                assert_eq!(error, PickleError::Truncated { offset: length });
            }
        }
    }

    #[test]
    fn what_torch_does_not_write_is_named() {
        let error = Pickle::read(b"\x80\x02i").unwrap_err();
        assert!(error.to_string().contains("0x69 at byte 2"), "{error}");
        assert!(matches!(
            Pickle::read(b"s."),
            Err(PickleError::Operand { offset: 1 })
        ));
    }

    #[test]
    fn arbitrary_instructions_never_panic() {
        const INSTRUCTIONS: &[u8] =
            b"(.}]N)RtsuaebQqhXcKMJGj\x01\x00\x80\x81\x85\x87\x8a\x8c\x93\x94\n";
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for _ in 0..20_000 {
            let length = rng.random_range(0..60);
            let instruction = |_| INSTRUCTIONS[rng.random_range(0..INSTRUCTIONS.len())];
            let bytes: Vec<u8> = (0..length).map(instruction).collect();
            let _ = Pickle::read(&bytes);
        }
    }
}
