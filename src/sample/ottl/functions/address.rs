//! Functions on network addresses.

use core::net::IpAddr;

use super::super::error::EvalError;
use super::super::eval::{Arg, Scene};
use super::super::value::Val;
use super::{Function, Kind, f, p, prepared};

pub(super) const FUNCTIONS: &[Function] = &[prepared(
    f("IsInCIDR", &[p("Target", Kind::Text), p("Networks", Kind::Texts)], is_in_cidr),
    |args| {
        let literal = |arg: &Arg| match arg {
            Arg::Literal(Val::Str(text)) => Some(String::from_utf8_lossy(text).into_owned()),
            _ => None,
        };
        for text in args[1].args().iter().map_while(literal) {
            if network(text.as_bytes()).is_none() {
                return Err(format!("invalid CIDR address: {text}"));
            }
        }
        Ok(())
    },
)];

fn is_in_cidr<'a>(args: &'a [Arg], scene: &Scene<'a>) -> Result<Val<'a>, EvalError> {
    let Some(address) = address(&args[0].text(scene)?) else { return Ok(Val::Bool(false)) };
    for arg in args[1].args() {
        let network =
            network(&arg.text(scene)?).ok_or(EvalError::Failed("invalid CIDR address"))?;
        if contains(network, address) {
            return Ok(Val::Bool(true));
        }
    }
    Ok(Val::Bool(false))
}

/// An address; one of version 4 in the dress of version 6 is of version 4.
fn address(text: &[u8]) -> Option<IpAddr> {
    let address: IpAddr = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some(address.to_canonical())
}

/// A network and the length of its prefix in bits.
fn network(text: &[u8]) -> Option<(IpAddr, u32)> {
    let (address, bits) = std::str::from_utf8(text).ok()?.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let plain = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
    let bits: u32 = bits.parse().ok().filter(|_| plain)?;
    let bits_max = if address.is_ipv4() { 32 } else { 128 };
    (bits <= bits_max).then_some((address, bits))
}

fn contains((network, bits): (IpAddr, u32), address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let differ = network.to_bits() ^ address.to_bits();
            differ.leading_zeros() >= bits
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let differ = network.to_bits() ^ address.to_bits();
            differ.leading_zeros() >= bits
        }
        _ => false,
    }
}
