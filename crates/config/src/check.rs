//! Placeholder.
use std::{collections::BTreeSet, time::SystemTime};

use crate::{
    diagnostic::Finding,
    merge::Source,
    model::{Model, Name},
    source::Files,
};

pub(crate) fn check(
    _: &Model,
    _: &[Source],
    _: &BTreeSet<Name>,
    _: &dyn Files,
    _: SystemTime,
) -> Vec<Finding> {
    Vec::new()
}
