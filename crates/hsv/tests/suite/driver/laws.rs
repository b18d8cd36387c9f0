//! What holds of every system that its constructor takes.

use std::f64::consts::SQRT_2;

use hsv::{
    DenseSystem, DiagonalForm, DiagonalSystem, HankelDecomposition, LinearSystem, LyapunovError,
    LyapunovSolution, Mat, ModalNorm, ModeSplit, OrderCriterion, Scalar, Selection, SystemError,
    TimeDomain, Truncation, TruncationError, c64, h_infinity_norm, h2_norm,
};

/// The entries a fuzzed system can have.
pub(crate) trait Entry: Scalar {
    const REAL: bool;
    fn of(z: c64) -> Self;
    fn parts(self) -> [f64; 2];
}

impl Entry for f64 {
    const REAL: bool = true;
    fn of(z: c64) -> Self {
        z.re
    }
    fn parts(self) -> [f64; 2] {
        [self, 0.0]
    }
}

impl Entry for c64 {
    const REAL: bool = false;
    fn of(z: c64) -> Self {
        z
    }
    fn parts(self) -> [f64; 2] {
        [self.re, self.im]
    }
}

/// How far what was computed of a system may be from the truth, for frequency responses.
///
/// Everything is computed as if each entry of A, B and C had been off by a few ε of a size: its own for the systems
/// that are handled mode by mode, and that of the whole matrix for dense ones. To first order such a change moves
/// `C (z I - A)⁻¹ B` by `|C R| ΔA |R B| + ΔC |R B| + |C R| ΔB`, with the resolvent R.
struct Sensitivity {
    state: Mat<f64>,
    input: Mat<f64>,
    output: Mat<f64>,
}

/// Roundings that a number goes through, generously: hundreds of operations for each of up to 16 states.
const ROUNDINGS: f64 = 1e5 * f64::EPSILON;

fn moduli<T: Entry>(matrix: &Mat<T>) -> Mat<f64> {
    Mat::from_fn(matrix.nrows(), matrix.ncols(), |i, j| {
        let [re, im] = matrix[(i, j)].parts();
        re.hypot(im)
    })
}

fn first_not_finite<T: Entry>(matrix: &Mat<T>) -> Option<(usize, usize)> {
    let mut positions = (0..matrix.ncols()).flat_map(|j| (0..matrix.nrows()).map(move |i| (i, j)));
    positions.find(|&position| !matrix[position].parts().iter().all(|part| part.is_finite()))
}

fn finite<T: Entry>(matrix: &Mat<T>, what: &str) {
    let found = first_not_finite(matrix).map(|position| (position, matrix[position]));
    assert!(found.is_none(), "{what}: {found:?}");
}

fn no_nan<T: Entry>(matrix: &Mat<T>, what: &str) {
    for j in 0..matrix.ncols() {
        for i in 0..matrix.nrows() {
            let parts = matrix[(i, j)].parts();
            assert!(
                !parts.iter().any(|part| part.is_nan()),
                "{what} at ({i}, {j}): {parts:?}"
            );
        }
    }
}

/// Largest length of a column: a lower bound of the gain that is safe from overflow.
fn gain_at_least(matrix: &Mat<c64>) -> f64 {
    let lengths = (0..matrix.ncols())
        .map(|j| (0..matrix.nrows()).fold(0.0f64, |length, i| length.hypot(matrix[(i, j)].norm())));
    lengths.fold(0.0, f64::max)
}

/// Every number of an answer that is a system is finite.
pub(crate) fn valid<S: LinearSystem<Scalar: Entry>>(system: &S) {
    let dense = system.to_dense();
    finite(dense.state_matrix(), "state matrix");
    finite(dense.input_matrix(), "input matrix");
    finite(dense.output_matrix(), "output matrix");
    if let Some(direct) = dense.feedthrough() {
        finite(direct, "feed-through matrix");
    }
}

/// Stability decided exactly, by the constructor of diagonal systems.
fn stable<D: TimeDomain>(poles: &[c64]) {
    let ones = |rows, columns| Mat::from_fn(rows, columns, |_, _| c64::ONE);
    let system =
        DiagonalSystem::<D>::new(poles.to_vec(), ones(poles.len(), 1), ones(1, poles.len()));
    assert!(
        !matches!(
            system,
            Err(SystemError::Unstable { .. } | SystemError::NotFinite { .. })
        ),
        "{system:?}"
    );
}

fn is_discrete<D: TimeDomain>() -> bool {
    D::boundary_point(0.0) == c64::ONE
}

/// Distance of a pole to the boundary.
fn distance<D: TimeDomain>(pole: c64) -> f64 {
    if is_discrete::<D>() {
        (1.0 - pole.norm()).max(f64::EPSILON / 2.0)
    } else {
        -pole.re
    }
}

/// Distance of a pole to the boundary relative to its size.
fn relative_margin<D: TimeDomain>(pole: c64) -> f64 {
    if is_discrete::<D>() {
        distance::<D>(pole)
    } else {
        distance::<D>(pole) / pole.norm()
    }
}

/// A few frequencies everywhere, and those at which poles peak.
fn frequencies<D: TimeDomain>(poles: &[c64]) -> Vec<f64> {
    let peaks = poles.iter().map(|&pole| {
        if is_discrete::<D>() {
            pole.arg()
        } else {
            pole.im
        }
    });
    let mut all: Vec<f64> = [0.0, 1.0, -2.5].into_iter().chain(peaks).collect();
    all.sort_by(f64::total_cmp);
    all.dedup();
    all
}

/// Laws of a diagonal system.
pub(crate) fn diagonal<D: TimeDomain>(system: &DiagonalSystem<D>) {
    valid(system);
    no_nan(&system.controllability_gramian(), "controllability Gramian");
    no_nan(&system.observability_gramian(), "observability Gramian");
    for norm in [ModalNorm::HInfinity, ModalNorm::H2] {
        let scores = system.modal_scores(norm);
        assert!(scores.iter().all(|&score| score >= 0.0), "{scores:?}");
        for order in 0..=system.state_dim() + 1 {
            let Ok(cut) = system.modal_truncation(norm, order) else {
                continue;
            };
            assert_eq!(cut.system.state_dim(), order);
            assert!(cut.h_infinity_bound >= 0.0, "{}", cut.h_infinity_bound);
            assert!(
                (0.0..=1.0).contains(&cut.discarded_share),
                "{}",
                cut.discarded_share
            );
        }
    }
    let analysis = Analysis::of(system, modal_sizes(system));
    if let Some(analysis) = analysis {
        analysis.reductions(|truncation, analysis| {
            let diagonal = truncation.diagonalize();
            diagonal
                .iter()
                .for_each(|form| analysis.same_as(truncation, form));
        });
    }
}

/// Laws of the real part of a diagonal system, and of the dense system that it is.
pub(crate) fn real_part<D: TimeDomain>(complex: &DiagonalSystem<D>) {
    let system = complex.real_part();
    // The two real states of a mode share what rounding does to the complex one.
    let (modes, complex_sizes) = (complex.state_dim(), modal_sizes(complex));
    let sizes = Sensitivity {
        state: Mat::from_fn(2 * modes, 2 * modes, |i, j| {
            complex_sizes.state[(i % modes, j % modes)]
        }),
        input: Mat::from_fn(2 * modes, complex.inputs(), |i, j| {
            SQRT_2 * complex_sizes.input[(i % modes, j)]
        }),
        output: Mat::from_fn(complex.outputs(), 2 * modes, |i, j| {
            complex_sizes.output[(i, j % modes)]
        }),
    };
    if let Some(analysis) = Analysis::of(&system, sizes) {
        analysis.reductions(|truncation, _| {
            let Ok(form) = truncation.diagonalize() else {
                return;
            };
            valid(&form.system);
            for (what, map) in [
                ("R", &form.right),
                ("R~", &form.right_conjugate),
                ("L", &form.left),
                ("L~", &form.left_conjugate),
            ] {
                finite(map, what);
            }
        });
    }
}

/// Laws of a dense system, stable or not.
pub(crate) fn dense<T: Entry, D: TimeDomain>(system: &DenseSystem<T, D>) {
    if let Ok(split) = system.split_stable() {
        let states =
            |part: &Option<DenseSystem<T, D>>| part.as_ref().map_or(0, LinearSystem::state_dim);
        assert_eq!(
            states(&split.stable) + states(&split.unstable),
            system.state_dim()
        );
        split.stable.iter().chain(&split.unstable).for_each(valid);
    }
    if let Ok(form) = system.diagonalize() {
        valid(&form.system);
        finite(&form.right, "right projection");
        finite(&form.left, "left projection");
    }
    if let Ok(difference) = system.minus(system) {
        valid(&difference);
    }
    if let Some(analysis) = Analysis::of(system, norms(system)) {
        analysis.reductions(|_, _| {});
    }
}

/// Laws of a split of modes.
pub(crate) fn mode_split<D: TimeDomain>(split: &ModeSplit<D>, lambda: &[c64]) {
    let mut modes = [split.stable_modes.clone(), split.unstable_modes.clone()].concat();
    modes.sort_unstable();
    assert!(modes.iter().copied().eq(0..lambda.len()), "{modes:?}");
    if let Some(stable) = &split.stable {
        assert_eq!(stable.state_dim(), split.stable_modes.len());
    }
}

type Solver = dyn Fn(&Mat<c64>, &Mat<c64>) -> Result<LyapunovSolution, LyapunovError>;

/// The equation of the controllability Gramian, where `B Bᴴ` is representable.
pub(crate) fn solved<T: Entry, D: TimeDomain>(solve: &Solver, system: &DenseSystem<T, D>) {
    let complex = system.to_complex();
    let right = complex.input_matrix() * complex.input_matrix().adjoint();
    if let Ok(LyapunovSolution { solution, residual }) = solve(complex.state_matrix(), &right) {
        finite(&solution, "solution");
        assert!(residual >= 0.0 && residual.is_finite(), "{residual}");
    }
}

/// A stable system with its Hankel singular values, its responses and what may be wrong with them.
struct Analysis<'a, S: LinearSystem> {
    system: &'a S,
    hankel: HankelDecomposition<S>,
    sizes: Sensitivity,
    omegas: Vec<f64>,
    responses: Vec<Mat<c64>>,
    system_is_finite: bool,
    /// Whether the fastest pole leaves digits of the slowest: both projections are off by ε, and where ε² of the
    /// fastest outweighs ε of the slowest, a truncated pole is noise.
    comparable: bool,
    /// Size of the feed-through.
    direct: f64,
    /// Rounding of the response at any frequency, and of the Hankel singular values.
    uncertain: f64,
}

fn modal_sizes<D: TimeDomain>(system: &DiagonalSystem<D>) -> Sensitivity {
    Sensitivity {
        state: moduli(system.to_dense().state_matrix()),
        input: moduli(system.input_matrix()),
        output: moduli(system.output_matrix()),
    }
}

/// A dense system is handled as a whole.
fn norms<T: Entry, D: TimeDomain>(system: &DenseSystem<T, D>) -> Sensitivity {
    let whole = |matrix: &Mat<T>| {
        let size = moduli(matrix).norm_l2();
        Mat::from_fn(matrix.nrows(), matrix.ncols(), |_, _| size)
    };
    Sensitivity {
        state: whole(system.state_matrix()),
        input: whole(system.input_matrix()),
        output: whole(system.output_matrix()),
    }
}

impl Sensitivity {
    /// First-order change of a response per rounding, its largest entry times the root of the number of entries.
    fn at<S: LinearSystem<Scalar: Entry>>(
        &self,
        system: &DenseSystem<S::Scalar, S::Domain>,
        omega: f64,
    ) -> f64 {
        let complex = system.to_complex();
        let n = complex.state_dim();
        let (a, b, c) = (
            complex.state_matrix(),
            complex.input_matrix(),
            complex.output_matrix(),
        );
        let z = S::Domain::boundary_point(omega);
        let response = |b: &Mat<c64>, c: &Mat<c64>| {
            let part = DenseSystem::<c64, S::Domain>::new(a.clone(), b.clone(), c.clone());
            moduli(&part.expect("an answer is valid").transfer(omega))
        };
        let identity = Mat::<c64>::identity(n, n);
        let (driven, seen) = (response(b, &identity), response(&identity, c));
        // The rounding of z is one more of A.
        let state = Mat::from_fn(n, n, |i, j| {
            self.state[(i, j)] + if i == j { z.norm() } else { 0.0 }
        });
        (&seen * state * &driven).norm_l2()
            + (&self.output * &driven).norm_l2()
            + (&seen * &self.input).norm_l2()
    }
}

impl<'a, S: LinearSystem<Scalar: Entry>> Analysis<'a, S> {
    /// Laws of spectrum, norms and responses; nothing more to say of a system that is refused.
    fn of(system: &'a S, sizes: Sensitivity) -> Option<Self> {
        if let Ok(norm) = h2_norm(system) {
            assert!(norm >= 0.0, "H2 norm {norm}");
        }
        let norm = h_infinity_norm(system).ok();
        let hankel = system.hankel().ok()?;
        let poles = system.poles().expect("a system with a spectrum has poles");
        stable::<S::Domain>(&poles);

        let hsv = hankel.singular_values();
        assert_eq!(hsv.len(), system.state_dim());
        assert!(
            hsv.iter().all(|sigma| sigma.is_finite() && *sigma >= 0.0),
            "{hsv:?}"
        );
        assert!(hsv.windows(2).all(|pair| pair[0] >= pair[1]), "{hsv:?}");
        assert!(hankel.numerical_rank() <= hsv.len());
        orders(hsv);

        let omegas = frequencies::<S::Domain>(&poles);
        let responses = system.frequency_response(&omegas);
        responses
            .iter()
            .for_each(|response| no_nan(response, "response"));
        let dense = system.to_dense();
        // The real part of a mode is √2 times as large as the mode.
        let system_is_finite = first_not_finite(dense.input_matrix()).is_none();
        let uncertain = omegas.iter().map(|&omega| {
            if system_is_finite {
                sizes.at::<S>(&dense, omega)
            } else {
                f64::INFINITY
            }
        });
        // A comparison, not `max`, which would pass over NaN.
        let uncertain = uncertain.fold(0.0, |most, one| if one <= most { most } else { one });
        let fastest = poles.iter().map(|pole| pole.norm()).fold(0.0, f64::max);
        let slowest = poles
            .iter()
            .map(|&pole| distance::<S::Domain>(pole))
            .fold(f64::INFINITY, f64::min);
        let direct = system
            .feedthrough()
            .map_or(0.0, |direct| moduli(direct).norm_l2());
        let analysis = Self {
            system,
            hankel,
            sizes,
            omegas,
            responses,
            system_is_finite,
            comparable: fastest * f64::EPSILON < slowest,
            direct,
            uncertain: ROUNDINGS * (uncertain + direct),
        };
        if let Some(peak) = norm {
            // Its frequency need not be among the others.
            let there = if system_is_finite && peak.omega.is_finite() {
                ROUNDINGS * analysis.sizes.at::<S>(&dense, peak.omega)
            } else {
                0.0
            };
            analysis.norm(peak.gain, there);
        }
        Some(analysis)
    }

    /// `‖G - D‖∞ <= 2 Σσ`, for a gain that is uncertain by `there`.
    fn norm(&self, gain: f64, there: f64) {
        assert!(gain >= 0.0, "H-infinity norm {gain}");
        let hsv = self.hankel.singular_values();
        let bound = hsv::h_infinity_bound(hsv, 0) + self.direct;
        let slack = self.uncertain + there + ROUNDINGS * bound;
        if slack.is_finite() && gain.is_finite() {
            assert!(
                gain <= bound + slack,
                "gain {gain:e} of {hsv:?}, slack {slack:e}"
            );
        }
    }

    /// Every reduction to every order, in range or out of it.
    fn reductions(&self, further: impl Fn(&Truncation<S>, &Self)) {
        for order in 0..=self.system.state_dim() + 1 {
            let balanced = self.hankel.balanced_truncation(order);
            self.refusal(order, balanced.as_ref().err());
            let free = self.hankel.balancing_free_truncation(order);
            self.refusal(order, free.as_ref().err());
            for truncation in balanced.iter().chain(&free) {
                self.truncation(order, truncation);
                further(truncation, self);
            }
            for selection in [
                Selection::Smallest,
                Selection::Random { seed: order as u64 },
            ] {
                let selected = self.hankel.selected_truncation(selection, order);
                self.refusal(order, selected.as_ref().err());
                selected
                    .iter()
                    .for_each(|truncation| self.truncation(order, truncation));
            }
            let perturbed = self.hankel.singular_perturbation(order);
            self.refusal(order, perturbed.as_ref().err());
            if let Ok(reduced) = perturbed {
                assert_eq!(reduced.system.state_dim(), order);
                assert!(
                    (0.0..=1.0).contains(&reduced.discarded_share),
                    "{}",
                    reduced.discarded_share
                );
                valid(&reduced.system);
                stable::<S::Domain>(&reduced.poles);
            }
        }
    }

    /// Orders are refused where they have to be, and all states can always be kept.
    fn refusal(&self, order: usize, error: Option<&TruncationError>) {
        let (states, rank) = (self.system.state_dim(), self.hankel.numerical_rank());
        let expected = match order {
            0 => matches!(error, Some(TruncationError::OrderZero)),
            _ if order > states => {
                matches!(error, Some(TruncationError::OrderAboveStateDim { .. }))
            }
            _ if order == states => {
                let range = matches!(error, Some(TruncationError::OutOfRange { .. }));
                error.is_none() || range && !self.system_is_finite
            }
            _ if order > rank => matches!(error, Some(TruncationError::OrderAboveRank { .. })),
            _ => !matches!(
                error,
                Some(
                    TruncationError::OrderZero
                        | TruncationError::OrderAboveStateDim { .. }
                        | TruncationError::OrderAboveRank { .. }
                )
            ),
        };
        assert!(
            expected,
            "order {order} of {states}, rank {rank}: {error:?}"
        );
    }

    fn truncation(&self, order: usize, truncation: &Truncation<S>) {
        assert_eq!(truncation.order(), order);
        assert_eq!(truncation.poles().len(), order);
        valid(truncation.system());
        finite(truncation.right_projection(), "right projection");
        finite(truncation.left_projection(), "left projection");
        stable::<S::Domain>(truncation.poles());
        let (bound, share) = (truncation.h_infinity_bound(), truncation.discarded_share());
        assert!(bound >= 0.0 && bound.is_finite(), "bound {bound}");
        assert!((0.0..=1.0).contains(&share), "share {share}");

        let (sizes, spectrum) = (self.projected_sizes(truncation), self.slack(truncation));
        let responses = truncation.system().frequency_response(&self.omegas);
        for ((full, reduced), &omega) in self.responses.iter().zip(&responses).zip(&self.omegas) {
            let slack = spectrum + ROUNDINGS * sizes.at::<S>(truncation.system(), omega);
            // A slack that no longer is a number says that rounding may have done anything.
            no_nan(reduced, "reduced response");
            if self.comparable && slack.is_finite() && first_not_finite(full).is_none() {
                let error = gain_at_least(&(full - reduced));
                assert!(
                    error <= bound + slack,
                    "order {order} at {omega}: {error:e} above {bound:e}, slack {slack:e}"
                );
            }
        }
    }

    /// What rounding of the spectrum and of its directions does to a truncation: ε of the spectrum, and for poles that
    /// come out close to the boundary as much more as they are close.
    fn slack(&self, truncation: &Truncation<S>) -> f64 {
        let margins = truncation
            .poles()
            .iter()
            .map(|&pole| relative_margin::<S::Domain>(pole));
        let closest = margins.fold(1.0, f64::min);
        let spectrum = self.system.state_dim() as f64 * self.hankel.singular_values()[0];
        (self.uncertain + ROUNDINGS * spectrum) / closest
    }

    /// Sizes that the entries of a truncated system are sums of, `|Wᴴ| |A| |T|` and so on, and its own as a dense one.
    fn projected_sizes(&self, truncation: &Truncation<S>) -> Sensitivity {
        let (left, right) = (
            moduli(truncation.left_projection()),
            moduli(truncation.right_projection()),
        );
        let own = norms(truncation.system());
        Sensitivity {
            state: &left * &self.sizes.state * &right + own.state,
            input: &left * &self.sizes.input + own.input,
            output: &self.sizes.output * &right + own.output,
        }
    }
}

impl<D: TimeDomain> Analysis<'_, DiagonalSystem<D>> {
    /// The diagonal form of a truncation, within the condition number that it came with.
    fn same_as(&self, truncation: &Truncation<DiagonalSystem<D>>, form: &DiagonalForm<D>) {
        valid(&form.system);
        finite(&form.right, "right vectors");
        finite(&form.left, "left vectors");
        let sizes = self.projected_sizes(truncation);
        for &omega in &self.omegas {
            let dense = truncation.system().transfer(omega);
            let diagonal = form.system.transfer(omega);
            no_nan(&diagonal, "diagonal response");
            let own =
                modal_sizes(&form.system).at::<DiagonalSystem<D>>(&form.system.to_dense(), omega);
            let rounding =
                ROUNDINGS * (sizes.at::<DiagonalSystem<D>>(truncation.system(), omega) + own);
            let slack = (self.slack(truncation) + rounding) * form.eigenvector_condition;
            if slack.is_finite() && first_not_finite(&dense).is_none() {
                let error = gain_at_least(&(&dense - &diagonal));
                assert!(
                    error <= slack,
                    "diagonal form of order {} at {omega}: {error:e}, slack {slack:e}",
                    truncation.order()
                );
            }
        }
    }
}

/// Every criterion keeps between one and all of the states of a system.
fn orders(hsv: &[f64]) {
    for share in [0.0, 1e-12, 0.05, 0.5, 1.0] {
        for criterion in [
            OrderCriterion::Tolerance { tau: share },
            OrderCriterion::Energy { tau: share },
            OrderCriterion::Fraction { keep: share },
            OrderCriterion::HInfinityBudget { bound: share },
        ] {
            let order = criterion.order(hsv);
            assert!(
                (1..=hsv.len()).contains(&order),
                "{criterion:?} keeps {order} of {hsv:?}"
            );
        }
    }
}
