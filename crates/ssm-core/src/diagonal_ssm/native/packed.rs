//! Parameters and states in the order the kernel reads them.

use super::{System, plan::Plan};
use crate::cpu::{MatrixRef, Real};

/// Parameters panel by panel; real and imaginary parts of a panel share one product.
pub(super) struct Packed<T> {
    /// Per panel Re λ, then Im λ.
    lambda: Vec<T>,
    /// Per panel `[hidden, 2 * lanes]`: Re Bᵀ, then Im Bᵀ.
    input: Vec<T>,
    /// Per panel `[2 * lanes, hidden]`: the same transposed.
    input_transposed: Vec<T>,
    /// Per panel `[2 * lanes, hidden]`: Re Cᵀ, then -Im Cᵀ.
    output: Vec<T>,
    /// Per panel `[hidden, 2 * lanes]`: the same transposed.
    output_transposed: Vec<T>,
    pub(super) feedthrough: Vec<T>,
}

impl<T: Real> Packed<T> {
    pub(super) fn new(plan: &Plan, system: &System<'_, T>) -> Self {
        let (n, h) = (plan.shape.state, plan.shape.hidden);
        let (width, panels) = (plan.width(), plan.all_panels());
        let zeros = |len: usize| vec![T::ZERO; panels * len];
        let mut packed = Self {
            lambda: zeros(width),
            input: zeros(h * width),
            input_transposed: zeros(width * h),
            output: zeros(width * h),
            output_transposed: zeros(h * width),
            feedthrough: system.feedthrough.to_vec(),
        };
        for i in 0..n {
            let (panel, lane) = (i / plan.lanes, i % plan.lanes);
            let imaginary = lane + plan.lanes;
            packed.lambda[panel * width + lane] = system.lambda_re[i];
            packed.lambda[panel * width + imaginary] = system.lambda_im[i];
            for j in 0..h {
                let parts = [
                    (
                        lane,
                        system.input_re[i * h + j],
                        system.output_re[j * n + i],
                    ),
                    (
                        imaginary,
                        system.input_im[i * h + j],
                        -system.output_im[j * n + i],
                    ),
                ];
                for (lane, b, c) in parts {
                    let by_channel = (panel * h + j) * width + lane;
                    let by_lane = (panel * width + lane) * h + j;
                    packed.input[by_channel] = b;
                    packed.input_transposed[by_lane] = b;
                    packed.output[by_lane] = c;
                    packed.output_transposed[by_channel] = c;
                }
            }
        }
        packed
    }

    /// Re λ, then Im λ.
    pub(super) fn lambda(&self, plan: &Plan, panel: usize) -> &[T] {
        &self.lambda[panel * plan.width()..][..plan.width()]
    }

    fn by_channel<'a>(matrix: &'a [T], plan: &Plan, panel: usize) -> MatrixRef<'a, T> {
        let (rows, cols) = (plan.shape.hidden, plan.width());
        MatrixRef::new(&matrix[panel * rows * cols..], rows, cols)
    }

    fn by_lane<'a>(matrix: &'a [T], plan: &Plan, panel: usize) -> MatrixRef<'a, T> {
        let (rows, cols) = (plan.width(), plan.shape.hidden);
        MatrixRef::new(&matrix[panel * rows * cols..], rows, cols)
    }

    /// u → B u.
    pub(super) fn input(&self, plan: &Plan, panel: usize) -> MatrixRef<'_, T> {
        Self::by_channel(&self.input, plan, panel)
    }

    /// s → Re(B^H s).
    pub(super) fn input_adjoint(&self, plan: &Plan, panel: usize) -> MatrixRef<'_, T> {
        Self::by_lane(&self.input_transposed, plan, panel)
    }

    /// x → Re(C x).
    pub(super) fn output(&self, plan: &Plan, panel: usize) -> MatrixRef<'_, T> {
        Self::by_lane(&self.output, plan, panel)
    }

    /// g → C^H g.
    pub(super) fn output_adjoint(&self, plan: &Plan, panel: usize) -> MatrixRef<'_, T> {
        Self::by_channel(&self.output_transposed, plan, panel)
    }
}

/// States of a batch from planes, `[batch, 2 * state]`, to groups of panels, `[groups, batch, group width]`.
pub(super) fn states_to_panels<T: Real>(plan: &Plan, planes: &[T]) -> Vec<T> {
    let mut panels = vec![T::ZERO; plan.groups * plan.shape.batch * plan.group_width()];
    for_each_state(plan, |plane, panel| panels[panel] = planes[plane]);
    panels
}

/// The way back.
pub(super) fn states_to_planes<T: Real>(plan: &Plan, panels: &[T]) -> Vec<T> {
    let mut planes = vec![T::ZERO; plan.shape.batch * 2 * plan.shape.state];
    for_each_state(plan, |plane, panel| planes[plane] = panels[panel]);
    planes
}

/// Calls `visit` with the two positions of every part of every state.
fn for_each_state(plan: &Plan, mut visit: impl FnMut(usize, usize)) {
    let (batch, n, group_width) = (plan.shape.batch, plan.shape.state, plan.group_width());
    for row in 0..batch {
        for i in 0..n {
            let position = plan.position(i);
            let group = position / group_width;
            let panel = (group * batch + row) * group_width + position % group_width;
            visit(row * 2 * n + i, panel);
            visit(row * 2 * n + n + i, panel + plan.lanes);
        }
    }
}
