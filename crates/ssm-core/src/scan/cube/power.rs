//! Powers of a number, to more digits than it has.
//!
//! A constant decay to the power of a chunk's length is what carries the state over every chunk. Rounded to the type of
//! the numbers, it would be wrong in the same direction each time, and a state that lives for many chunks would drift
//! away from that of the plain recurrence, whose rounding errors are different at each step. So it is kept as a sum of
//! two numbers, `head + tail`, with half of the digits in the head: the product of two heads is then exact.

use cubecl::prelude::*;

use super::kernels::Number;

/// A complex number in twice the digits, less a few; the imaginary part is dead in a real scan.
#[derive(CubeType, CubeTypeMut, Clone, Copy)]
pub(super) struct Wide<A: Float> {
    re_head: A,
    re_tail: A,
    im_head: A,
    im_tail: A,
}

/// One part of a [`Wide`].
#[derive(CubeType, Clone, Copy)]
struct Part<A: Float> {
    head: A,
    tail: A,
}

/// What the numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Kind {
    pub(super) complex: bool,
    /// `f64`, else `f32`.
    pub(super) double: bool,
}

/// `base` to the power of `exponent`, by repeated squaring.
#[cube]
pub(super) fn power<A: Float>(base: Number<A>, exponent: usize, #[comptime] kind: Kind) -> Wide<A> {
    let zero = A::new(0.0);
    let re = normalized::<A>(base.re, zero, kind.double);
    let im = normalized::<A>(base.im, zero, kind.double);
    let mut square = Wide::<A> {
        re_head: re.head,
        re_tail: re.tail,
        im_head: im.head,
        im_tail: im.tail,
    };
    let mut result = Wide::<A> {
        re_head: A::new(1.0),
        re_tail: A::new(0.0),
        im_head: A::new(0.0),
        im_tail: A::new(0.0),
    };
    let mut left = exponent;
    while left > 0 {
        if left % 2 == 1 {
            result = product::<A>(result, square, kind);
        }
        square = product::<A>(square, square, kind);
        left /= 2;
    }
    result
}

#[cube]
pub(super) fn head<A: Float>(wide: Wide<A>) -> Number<A> {
    Number::<A> {
        re: wide.re_head,
        im: wide.im_head,
    }
}

#[cube]
pub(super) fn tail<A: Float>(wide: Wide<A>) -> Number<A> {
    Number::<A> {
        re: wide.re_tail,
        im: wide.im_tail,
    }
}

#[cube]
fn product<A: Float>(x: Wide<A>, y: Wide<A>, #[comptime] kind: Kind) -> Wide<A> {
    let re_re = x.re_head * y.re_head;
    let re_re_rest = rest::<A>(x.re_head, x.re_tail, y.re_head, y.re_tail);
    if comptime!(kind.complex) {
        let im_im = x.im_head * y.im_head;
        let im_im_rest = rest::<A>(x.im_head, x.im_tail, y.im_head, y.im_tail);
        let re_im = x.re_head * y.im_head;
        let re_im_rest = rest::<A>(x.re_head, x.re_tail, y.im_head, y.im_tail);
        let im_re = x.im_head * y.re_head;
        let im_re_rest = rest::<A>(x.im_head, x.im_tail, y.re_head, y.re_tail);
        let re = sum::<A>(re_re, -im_im, re_re_rest - im_im_rest, kind.double);
        let im = sum::<A>(re_im, im_re, re_im_rest + im_re_rest, kind.double);
        Wide::<A> {
            re_head: re.head,
            re_tail: re.tail,
            im_head: im.head,
            im_tail: im.tail,
        }
    } else {
        let re = normalized::<A>(re_re, re_re_rest, kind.double);
        Wide::<A> {
            re_head: re.head,
            re_tail: re.tail,
            im_head: x.im_head,
            im_tail: x.im_tail,
        }
    }
}

/// What the product of two sums is beyond the product of their heads.
#[cube]
fn rest<A: Float>(x_head: A, x_tail: A, y_head: A, y_tail: A) -> A {
    x_head * y_tail + x_tail * y_head + x_tail * y_tail
}

/// x + y + rest. Of the larger of x and y, the head of the sum can be taken exactly. Knuth's sum of any two numbers will
/// not do: shader compilers simplify (x + y) - x to y, but see through no head.
#[cube]
fn sum<A: Float>(x: A, y: A, rest: A, #[comptime] double: bool) -> Part<A> {
    let x_is_larger = x * x >= y * y;
    let larger = select(x_is_larger, x, y);
    let smaller = select(x_is_larger, y, x);
    let head = upper::<A>(x + y, double);
    Part::<A> {
        head,
        tail: ((larger - head) + smaller) + rest,
    }
}

/// value + rest.
#[cube]
fn normalized<A: Float>(value: A, rest: A, #[comptime] double: bool) -> Part<A> {
    let head = upper::<A>(value, double);
    Part::<A> {
        head,
        tail: (value - head) + rest,
    }
}

/// The upper half of the digits.
#[cube]
fn upper<A: Float>(value: A, #[comptime] double: bool) -> A {
    if comptime!(double) {
        A::reinterpret(u64::reinterpret(value) & 0xffff_ffff_f800_0000_u64)
    } else {
        A::reinterpret(u32::reinterpret(value) & 0xffff_f000_u32)
    }
}
