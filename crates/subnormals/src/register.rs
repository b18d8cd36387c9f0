//! The register that holds the mode of floating-point arithmetic.

pub(crate) use platform::{FLUSH, OPERAND, REPORTED, Word, read, write};

#[cfg(target_arch = "x86_64")]
mod platform {
    use std::arch::asm;

    /// MXCSR.
    pub(crate) type Word = u32;

    /// FTZ: subnormal results are zero; DAZ: subnormal operands are. Every x86-64 processor has both.
    pub(crate) const FLUSH: Word = 1 << 15 | 1 << 6;

    /// What operations have reported since somebody cleared it.
    pub(crate) const REPORTED: Word = 0x3f;

    /// DE, among these: an operand was subnormal.
    pub(crate) const OPERAND: Word = 1 << 1;

    #[inline]
    pub(crate) fn read() -> Word {
        let mut word: Word = 0;
        // SAFETY: stores the register to `word`.
        unsafe {
            asm!("stmxcsr [{}]", in(reg) &raw mut word, options(nostack, preserves_flags));
        }
        word
    }

    #[inline]
    pub(crate) fn write(word: Word) {
        // SAFETY: `word` is what `read` gave, with other values of bits that are defined. See the crate's documentation for
        // what other code on this thread may see of it.
        unsafe {
            asm!("ldmxcsr [{}]", in(reg) &raw const word, options(nostack, preserves_flags));
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod platform {
    use std::arch::asm;

    /// FPCR.
    pub(crate) type Word = u64;

    /// FZ: subnormal operands and results of single and double precision are zero.
    pub(crate) const FLUSH: Word = 1 << 24;

    /// Reports are in a register of their own, and of operands that were flushed only.
    pub(crate) const REPORTED: Word = 0;
    pub(crate) const OPERAND: Word = 0;

    #[inline]
    pub(crate) fn read() -> Word {
        let word: Word;
        // SAFETY: reads a register that every program may read.
        unsafe { asm!("mrs {}, fpcr", out(reg) word, options(nostack, preserves_flags)) };
        word
    }

    #[inline]
    pub(crate) fn write(word: Word) {
        // SAFETY: `word` is what `read` gave, with another value of a bit that is defined. See the crate's documentation for
        // what other code on this thread may see of it.
        unsafe { asm!("msr fpcr, {}", in(reg) word, options(nostack, preserves_flags)) };
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod platform {
    pub(crate) type Word = u32;
    pub(crate) const FLUSH: Word = 0;
    pub(crate) const REPORTED: Word = 0;
    pub(crate) const OPERAND: Word = 0;

    pub(crate) fn read() -> Word {
        0
    }

    pub(crate) fn write(_: Word) {}
}
