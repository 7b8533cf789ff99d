//! Hashes of texts: hexadecimal digits, but for FNV.

use md5::Digest as _;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::super::error::EvalError;
use super::super::eval::{Arg, Scene};
use super::super::path::hex;
use super::super::value::Val;
use super::{Function, Kind, Param, f, p};

const TEXT: &[Param] = &[p("Target", Kind::Text)];

pub(super) const FUNCTIONS: &[Function] = &[
    f("FNV", TEXT, |args, scene| {
        let hash = args[0].text(scene)?.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Ok(Val::Int(hash.cast_signed()))
    }),
    f("MD5", TEXT, |args, scene| digits(args, scene, |text| md5::Md5::digest(text).to_vec())),
    f("SHA1", TEXT, |args, scene| digits(args, scene, |text| sha1::Sha1::digest(text).to_vec())),
    f("SHA256", TEXT, |args, scene| {
        digits(args, scene, |text| sha2::Sha256::digest(text).to_vec())
    }),
    f("SHA512", TEXT, |args, scene| {
        digits(args, scene, |text| sha2::Sha512::digest(text).to_vec())
    }),
    f("XXH3", TEXT, |args, scene| digits(args, scene, |text| xxh3_64(text).to_be_bytes().to_vec())),
    f("XXH128", TEXT, |args, scene| {
        digits(args, scene, |text| xxh3_128(text).to_be_bytes().to_vec())
    }),
    f("Murmur3Hash", TEXT, |args, scene| {
        digits(args, scene, |mut text| {
            murmur3::murmur3_32(&mut text, 0).unwrap_or_default().to_le_bytes().to_vec()
        })
    }),
    f("Murmur3Hash128", TEXT, |args, scene| {
        digits(args, scene, |mut text| {
            murmur3::murmur3_x64_128(&mut text, 0).unwrap_or_default().to_le_bytes().to_vec()
        })
    }),
];

fn digits<'a>(
    args: &'a [Arg],
    scene: &Scene<'a>,
    hash: fn(&[u8]) -> Vec<u8>,
) -> Result<Val<'a>, EvalError> {
    Ok(Val::text(hex(&hash(&args[0].text(scene)?))))
}
