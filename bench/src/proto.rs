//! Protobuf read in place: varints, fields, and the spans of an OTLP trace request.
//!
//! This is a reader of its own, not the one of the product: a judge must not share the code that
//! it judges.

/// The bytes are not valid protobuf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Reads a varint at `*at`; up to ten bytes, overlong forms included.
#[inline]
pub(crate) fn varint(bytes: &[u8], at: &mut usize) -> Result<u64, Malformed> {
    let first = *bytes.get(*at).ok_or(Malformed)?;
    *at += 1;
    if first < 0x80 {
        return Ok(u64::from(first));
    }
    let mut value = u64::from(first & 0x7f);
    for shift in 1..10 {
        let byte = *bytes.get(*at).ok_or(Malformed)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << (7 * shift);
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Malformed)
}

/// One field: its number, and where its payload lies. For a varint the payload is its encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) number: u64,
    pub(crate) wire_type: u8,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// The field at `*at`, which must be before `end`; moves `*at` behind it.
#[inline]
pub(crate) fn field(bytes: &[u8], at: &mut usize, end: usize) -> Result<Field, Malformed> {
    let key = varint(bytes, at)?;
    let wire_type = (key & 7) as u8;
    let mut start = *at;
    match wire_type {
        0 => {
            varint(bytes, at)?;
        }
        1 => *at += 8,
        2 => {
            let len = usize::try_from(varint(bytes, at)?).map_err(|_| Malformed)?;
            start = *at;
            *at = at.checked_add(len).ok_or(Malformed)?;
        }
        5 => *at += 4,
        _ => return Err(Malformed), // Groups: no producer of OTLP writes them.
    }
    if *at > end || key >> 3 == 0 {
        return Err(Malformed);
    }
    Ok(Field { number: key >> 3, wire_type, start, end: *at })
}

/// Appends a varint.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// What is read of one span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ids<'a> {
    /// 16 bytes if valid.
    pub(crate) trace: &'a [u8],
    /// 8 bytes if valid.
    pub(crate) span: &'a [u8],
}

/// Calls `each(first of its scope, span)` for every span of an `ExportTraceServiceRequest`.
///
/// The same walk counts log records and metrics: their messages nest alike (otlp 3.2).
pub(crate) fn spans<'a>(
    request: &'a [u8],
    mut each: impl FnMut(bool, &'a [u8]),
) -> Result<(), Malformed> {
    let mut at = 0;
    while at < request.len() {
        let resource_spans = field(request, &mut at, request.len())?;
        if resource_spans.number != 1 || resource_spans.wire_type != 2 {
            continue;
        }
        let mut at = resource_spans.start;
        while at < resource_spans.end {
            let scope_spans = field(request, &mut at, resource_spans.end)?;
            if scope_spans.number != 2 || scope_spans.wire_type != 2 {
                continue;
            }
            let mut at = scope_spans.start;
            let mut first = true;
            while at < scope_spans.end {
                let span = field(request, &mut at, scope_spans.end)?;
                if span.number == 2 && span.wire_type == 2 {
                    each(first, &request[span.start..span.end]);
                    first = false;
                }
            }
        }
    }
    Ok(())
}

/// The ids of a span.
///
/// Two layouts are read without a walk. Most SDKs begin with both ids. The collector begins with
/// the status and ends with both ids (otlp 3.3); only a span that does both counts as such, since
/// the end of a string may look like an id.
#[inline]
pub(crate) fn ids(span: &[u8]) -> Result<Ids<'_>, Malformed> {
    let n = span.len();
    if n >= 28 {
        if span[0] == 0x0a && span[1] == 16 && span[18] == 0x12 && span[19] == 8 {
            return Ok(Ids { trace: &span[2..18], span: &span[20..28] });
        }
        let tail = &span[n - 28..];
        if span[0] == 0x7a && tail[0] == 0x12 && tail[1] == 8 && tail[10] == 0x0a && tail[11] == 16
        {
            return Ok(Ids { trace: &tail[12..], span: &tail[2..10] });
        }
    }
    walk_ids(span)
}

fn walk_ids(span: &[u8]) -> Result<Ids<'_>, Malformed> {
    let mut found = Ids { trace: &[], span: &[] };
    let mut at = 0;
    while at < span.len() {
        let f = field(span, &mut at, span.len())?;
        match (f.number, f.wire_type) {
            (1, 2) => found.trace = &span[f.start..f.end],
            (2, 2) => found.span = &span[f.start..f.end],
            _ => {}
        }
    }
    Ok(found)
}

/// `end_time_unix_nano` of a span.
pub(crate) fn end_time(span: &[u8]) -> Option<u64> {
    let mut at = 0;
    while at < span.len() {
        let f = field(span, &mut at, span.len()).ok()?;
        if f.number == 8 && f.wire_type == 1 {
            return Some(u64::from_le_bytes(span[f.start..f.end].try_into().ok()?));
        }
    }
    None
}

/// `rejected_spans` and whether there was a message, of an `ExportTraceServiceResponse`.
pub(crate) fn partial_success(reply: &[u8]) -> Result<Option<u64>, Malformed> {
    let mut at = 0;
    let mut rejected = None;
    while at < reply.len() {
        let f = field(reply, &mut at, reply.len())?;
        if f.number != 1 || f.wire_type != 2 {
            continue;
        }
        let mut at = f.start;
        while at < f.end {
            let inner = field(reply, &mut at, f.end)?;
            if inner.number == 1 && inner.wire_type == 0 {
                rejected = Some(varint(reply, &mut inner.start.clone())?);
            } else {
                rejected = rejected.or(Some(0)); // A message alone is a warning.
            }
        }
    }
    Ok(rejected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sdk_span() -> Vec<u8> {
        let mut span = vec![0x0a, 16];
        span.extend([7; 16]);
        span.extend([0x12, 8]);
        span.extend([9; 8]);
        span.extend([0x41, 1, 0, 0, 0, 0, 0, 0, 0]);
        span
    }

    fn wrap(number: u8, inner: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2];
        put_varint(&mut out, inner.len() as u64);
        out.extend_from_slice(inner);
        out
    }

    #[test]
    fn every_span_is_visited_and_the_first_of_a_scope_is_marked() {
        let span = sdk_span();
        let scope = wrap(2, &[wrap(2, &span), wrap(2, &span)].concat());
        let request = [wrap(1, &[scope.clone(), scope].concat()), wrap(1, &[])].concat();
        let mut seen = Vec::new();
        spans(&request, |first, s| seen.push((first, ids(s).map(|i| i.trace.len()))))
            .expect("valid");
        assert_eq!(seen, [(true, Ok(16)), (false, Ok(16)), (true, Ok(16)), (false, Ok(16))]);
    }

    #[test]
    fn ids_are_found_at_the_front_at_the_back_and_in_between() {
        let (trace, id) = ([7; 16], [9; 8]);
        let back = [&[0x7a, 0][..], &wrap(5, b"n"), &wrap(2, &id), &wrap(1, &trace)].concat();
        let middle = [wrap(5, b"n"), wrap(1, &trace), wrap(2, &id), wrap(5, b"m")].concat();
        for span in [sdk_span(), back, middle] {
            assert_eq!(ids(&span), Ok(Ids { trace: &trace, span: &id }));
        }
    }

    #[test]
    fn truncation_is_an_error_or_fewer_spans_and_never_a_panic() {
        let request = wrap(1, &wrap(2, &wrap(2, &sdk_span())));
        for cut in 1..request.len() {
            assert_eq!(spans(&request[..cut], |_, _| {}), Err(Malformed), "{cut}");
        }
        let span = sdk_span();
        for cut in 0..span.len() {
            let _ = ids(&span[..cut]);
            assert_eq!(end_time(&span[..cut]), None);
        }
        assert_eq!(end_time(&span), Some(1));
    }

    #[test]
    fn a_partial_success_is_told_from_a_full_one() {
        assert_eq!(partial_success(&[]), Ok(None));
        assert_eq!(partial_success(&[0x0a, 0]), Ok(None));
        assert_eq!(partial_success(&[0x0a, 2, 0x08, 5]), Ok(Some(5)));
        assert_eq!(partial_success(&[0x0a, 3, 0x12, 1, b'x']), Ok(Some(0)));
        assert_eq!(partial_success(&[0x0a]), Err(Malformed));
    }
}
