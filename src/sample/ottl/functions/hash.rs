//! Hashes of texts.

use super::super::value::Val;
use super::{Function, Kind, f, p};

pub(super) const FUNCTIONS: &[Function] = &[f("FNV", &[p("Target", Kind::Text)], |args, scene| {
    let hash = args[0].text(scene)?.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    Ok(Val::Int(hash.cast_signed()))
})];
