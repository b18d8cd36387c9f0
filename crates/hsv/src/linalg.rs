//! Matrices: decompositions, equations and functions of them, on faer's storage.

pub(crate) mod bidiagonal;
pub(crate) mod hessenberg;
pub(crate) mod jacobi;
pub(crate) mod largest_singular_value;
pub(crate) mod matrix;
pub(crate) mod matrix_functions;
pub(crate) mod parallel;
pub(crate) mod scalar;
pub(crate) mod schur;
pub(crate) mod singular_vectors;
pub(crate) mod svd;
pub(crate) mod triangular;
