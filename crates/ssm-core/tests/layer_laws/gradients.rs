//! Gradients of every parameter.

use ssm_core::Layer;

use crate::{
    differences,
    subject::{HIDDEN, Subject},
};

pub(crate) fn gradients_are_central_differences(subject: &Subject) {
    for (name, layer) in subject.forms() {
        differences::check(&name, HIDDEN, &layer, Layer::forward);
    }
}
