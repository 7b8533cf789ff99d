//! Fields as lists, cut the slow way.

use std::collections::BTreeMap;

use tracemill::route::Ring;

/// A field: number, wire type, its bytes as they came, and its content if it has a length.
pub(crate) struct Field<'a> {
    pub(crate) number: u64,
    pub(crate) wire: u64,
    pub(crate) raw: &'a [u8],
    pub(crate) content: &'a [u8],
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte < 0x80 {
            return value;
        }
    }
    panic!("a varint of more than 10 bytes");
}

pub(crate) fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A length-delimited field with minimal varints.
pub(crate) fn field(number: u64, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    push_varint(&mut out, number << 3 | 2);
    push_varint(&mut out, content.len() as u64);
    out.extend(content);
    out
}

/// All fields of a well-formed message.
pub(crate) fn fields(message: &[u8]) -> Vec<Field<'_>> {
    let mut rest = message;
    let mut fields = Vec::new();
    while !rest.is_empty() {
        fields.push(next(&mut rest));
    }
    fields
}

fn next<'a>(rest: &mut &'a [u8]) -> Field<'a> {
    let whole = *rest;
    let tag = varint(rest);
    let mut content = &[][..];
    match tag & 7 {
        0 => drop(varint(rest)),
        1 => *rest = &rest[8..],
        5 => *rest = &rest[4..],
        2 => {
            let len = varint(rest) as usize;
            (content, *rest) = rest.split_at(len);
        }
        3 => while next(rest).wire != 4 {},
        _ => {}
    }
    let raw = &whole[..whole.len() - rest.len()];
    Field { number: tag >> 3, wire: tag & 7, raw, content }
}

/// One well-formed request in, the exact bytes of each endpoint's part out.
pub(crate) fn split(body: &[u8], ring: &Ring) -> BTreeMap<u16, Vec<u8>> {
    let mut parts: BTreeMap<u16, Vec<u8>> = BTreeMap::new();
    let request = fields(body);
    for endpoint in (0..).take(ring.endpoints().len()) {
        let mut part = Vec::new();
        for resource in request.iter().filter(|f| f.number == 1) {
            part.extend(cut_resource(resource.content, ring, endpoint));
        }
        if !part.is_empty() {
            let strays = request.iter().filter(|f| f.number != 1);
            let mut strays: Vec<u8> = strays.flat_map(|f| f.raw).copied().collect();
            strays.extend(part);
            parts.insert(endpoint, strays);
        }
    }
    parts
}

fn cut_resource(resource: &[u8], ring: &Ring, endpoint: u16) -> Vec<u8> {
    let fields = fields(resource);
    let scopes = if fields.iter().any(|f| f.number == 2) { 2 } else { 1000 };
    let others = fields.iter().filter(|f| f.number != 2 && f.number != 1000);
    let mut out: Vec<u8> = others.flat_map(|f| f.raw).copied().collect();
    let before = out.len();
    for scope in fields.iter().filter(|f| f.number == scopes) {
        let scope = self::fields(scope.content);
        let mine = |f: &&Field<'_>| f.number == 2 && owner(f.content, ring) == endpoint;
        if scope.iter().any(|f| mine(&f)) {
            let others = scope.iter().filter(|f| f.number != 2);
            let spans = scope.iter().filter(mine);
            let content: Vec<u8> = others.chain(spans).flat_map(|f| f.raw).copied().collect();
            out.extend(field(2, &content));
        }
    }
    if out.len() == before { Vec::new() } else { field(1, &out) }
}

fn owner(span: &[u8], ring: &Ring) -> u16 {
    let last = fields(span).into_iter().rfind(|f| f.number == 1);
    let id = last.map_or([0; 16], |f| f.content.try_into().unwrap_or([0; 16]));
    ring.owner(&id).unwrap()
}
