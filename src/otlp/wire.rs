//! The protobuf wire format: varints, tags, lengths, skipping. Reads never leave the message.
//!
//! Laxer than prost and as lax as the collector where producers need it: varints may be padded up
//! to 10 bytes (.NET does), and bits of the tenth byte beyond 64 are ignored. Stricter than the
//! collector in two places: a tag of more than 32 bits is refused (the collector takes it modulo
//! 2^32, so that two readers could see different fields), and a group must end with the number
//! it began with. Laxer in one: groups may have contents (the collector refuses those).

use super::Error;

/// Deepest nesting of groups that is skipped.
pub const GROUP_DEPTH_MAX: usize = 32;

/// Longest varint.
pub const VARINT_BYTES_MAX: usize = 10;

/// Wire type: integers and enums.
pub const VARINT: u8 = 0;
/// Wire type: 8 bytes.
pub const I64: u8 = 1;
/// Wire type: a length and so many bytes.
pub const LEN: u8 = 2;
/// Wire type: a group begins.
pub const GROUP: u8 = 3;
/// Wire type: a group ends.
pub const END_GROUP: u8 = 4;
/// Wire type: 4 bytes.
pub const I32: u8 = 5;

/// A stretch of a request's bytes: offsets into the whole body, end excluded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Extent {
    /// Where `part` lies in `whole`, of which it is a slice.
    ///
    /// # Panics
    /// If it begins before, or 4 GiB or more behind where that does.
    #[must_use]
    #[inline(always)]
    pub fn within(whole: &[u8], part: &[u8]) -> Self {
        let start = part.as_ptr().addr() - whole.as_ptr().addr();
        let position = |at: usize| u32::try_from(at).expect("scan refuses bodies of 4 GiB or more");
        Self { start: position(start), end: position(start + part.len()) }
    }

    /// Number of bytes.
    #[must_use]
    #[inline]
    pub const fn len(self) -> u32 {
        self.end - self.start
    }

    /// Whether it has no bytes.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The bytes themselves.
    ///
    /// # Panics
    /// If `body` is shorter than the one the extent was made from.
    #[must_use]
    #[inline]
    pub fn of(self, body: &[u8]) -> &[u8] {
        &body[self.start as usize..self.end as usize]
    }
}

/// Field number and wire type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Field number, 1 or more.
    pub field: u32,
    /// Wire type, 0..=7.
    pub wire: u8,
    /// Offset of the tag's first byte.
    pub at: u32,
}

/// Walks the fields of one message. Offsets count from the start of the whole request.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    /// The request up to the end of this message.
    buf: &'a [u8],
    pos: usize,
}

impl<'a> Reader<'a> {
    /// Reads the message that lies at `message` in `body`.
    ///
    /// # Panics
    /// If `message` does not lie inside `body`.
    #[inline]
    #[must_use]
    pub fn new(body: &'a [u8], message: Extent) -> Self {
        Self { buf: &body[..message.end as usize], pos: message.start as usize }
    }

    /// Whether the message is read.
    #[inline]
    #[must_use]
    pub const fn at_end(&self) -> bool {
        self.pos >= self.buf.len()
    }

    /// Offset of the next byte.
    #[inline]
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "scan refuses bodies of 4 GiB or more")]
    pub const fn pos(&self) -> u32 {
        self.pos as u32
    }

    /// Next byte, not consumed.
    #[inline]
    #[must_use]
    pub fn peek(&self) -> Option<u8> {
        self.buf.get(self.pos).copied()
    }

    /// Consumes `n` bytes.
    ///
    /// # Errors
    /// [`Error::UnexpectedEof`] if the message has fewer.
    #[inline]
    pub fn advance(&mut self, n: usize) -> Result<(), Error> {
        if n > self.buf.len() - self.pos {
            return Err(Error::UnexpectedEof { at: self.pos() });
        }
        self.pos += n;
        Ok(())
    }

    /// A varint of up to 10 bytes.
    ///
    /// # Errors
    /// [`Error::UnexpectedEof`], [`Error::IntegerOverflow`].
    #[inline]
    pub fn varint(&mut self) -> Result<u64, Error> {
        // One and two bytes are nearly all: tags, string lengths, span lengths.
        match self.buf[self.pos..] {
            [a, ..] if a < 0x80 => {
                self.pos += 1;
                Ok(u64::from(a))
            }
            [a, b, ..] if b < 0x80 => {
                self.pos += 2;
                Ok(u64::from(a & 0x7f) | u64::from(b) << 7)
            }
            _ => self.varint_long(),
        }
    }

    #[cold]
    fn varint_long(&mut self) -> Result<u64, Error> {
        let mut value = 0u64;
        for (i, &byte) in self.buf[self.pos..].iter().take(VARINT_BYTES_MAX).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                self.pos += i + 1;
                return Ok(value);
            }
        }
        let at = self.pos();
        if self.buf.len() - self.pos >= VARINT_BYTES_MAX {
            Err(Error::IntegerOverflow { at })
        } else {
            Err(Error::UnexpectedEof { at })
        }
    }

    /// The tag of the next field.
    ///
    /// # Errors
    /// Those of [`Reader::varint`], and [`Error::IllegalField`].
    #[inline]
    pub fn tag(&mut self) -> Result<Tag, Error> {
        let at = self.pos();
        let tag = self.varint()?;
        match u32::try_from(tag) {
            Ok(small) if small >= 8 => Ok(Tag { field: small >> 3, wire: (small & 7) as u8, at }),
            _ => Err(Error::IllegalField { tag, at }),
        }
    }

    /// A length and that many bytes: where they lie.
    ///
    /// # Errors
    /// Those of [`Reader::varint`], [`Error::NegativeLength`], [`Error::UnexpectedEof`].
    #[inline]
    pub fn content(&mut self) -> Result<Extent, Error> {
        let at = self.pos();
        let len = self.varint()?;
        let start = self.pos();
        if len > (self.buf.len() - self.pos) as u64 {
            return Err(if i64::try_from(len).is_err() {
                Error::NegativeLength { at }
            } else {
                Error::UnexpectedEof { at }
            });
        }
        self.pos += usize::try_from(len).expect("not more than the buffer has");
        Ok(Extent { start, end: self.pos() })
    }

    /// [`Reader::content`] of a known field, which must have wire type [`LEN`].
    ///
    /// # Errors
    /// Those of [`Reader::content`], and [`Error::WrongWireType`] with the field's `name`.
    #[inline]
    pub fn content_of(&mut self, tag: Tag, name: &'static str) -> Result<Extent, Error> {
        if tag.wire == LEN {
            self.content()
        } else {
            Err(Error::WrongWireType { field: name, wire: tag.wire, at: tag.at })
        }
    }

    /// Skips the value of the field whose tag was just read, groups with all they hold.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes skipped.
    #[inline]
    pub fn skip(&mut self, tag: Tag) -> Result<(), Error> {
        match tag.wire {
            VARINT => self.varint().map(drop),
            I64 => self.advance(8),
            LEN => self.content().map(drop),
            I32 => self.advance(4),
            GROUP => self.skip_group(tag),
            END_GROUP => Err(Error::UnexpectedEndOfGroup { at: tag.at }),
            wire => Err(Error::IllegalWireType { wire, at: tag.at }),
        }
    }

    #[cold]
    fn skip_group(&mut self, begin: Tag) -> Result<(), Error> {
        let mut open = [0u32; GROUP_DEPTH_MAX];
        open[0] = begin.field;
        let mut depth = 1;
        while depth > 0 {
            if self.at_end() {
                return Err(Error::UnexpectedEof { at: self.pos() });
            }
            let tag = self.tag()?;
            match tag.wire {
                GROUP if depth == GROUP_DEPTH_MAX => {
                    return Err(Error::GroupTooDeep { at: tag.at });
                }
                GROUP => {
                    open[depth] = tag.field;
                    depth += 1;
                }
                END_GROUP if open[depth - 1] == tag.field => depth -= 1,
                _ => self.skip(tag)?,
            }
        }
        Ok(())
    }
}

/// Number of bytes of `value` as a minimal varint.
#[inline]
#[must_use]
pub const fn varint_len(value: u32) -> u32 {
    // 7 bits a byte; 0 takes one byte too.
    (38 - (value | 1).leading_zeros()) / 7
}

/// Appends `value` as a minimal varint.
#[inline]
pub fn push_varint(out: &mut Vec<u8>, value: impl Into<u64>) {
    let mut value = value.into();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(bytes: &[u8]) -> Reader<'_> {
        let end = u32::try_from(bytes.len()).unwrap();
        Reader::new(bytes, Extent { start: 0, end })
    }

    #[test]
    fn a_varint_may_be_padded_up_to_ten_bytes() {
        for (bytes, want, used) in [
            (&[0x05][..], 5, 1),
            (&[0x85, 0x00], 5, 2),
            (&[0x85, 0x80, 0x80, 0x00], 5, 4),
            (&[0x85, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00], 5, 10),
            (&[0xff; 9], 0, 0),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], u64::MAX, 10),
            // The collector drops the bits beyond 64.
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], u64::MAX, 10),
        ] {
            let mut r = reader(bytes);
            if used == 0 {
                assert_eq!(r.varint(), Err(Error::UnexpectedEof { at: 0 }), "{bytes:x?}");
            } else {
                assert_eq!(r.varint(), Ok(want), "{bytes:x?}");
                assert_eq!(r.pos(), used, "{bytes:x?}");
            }
        }
        assert_eq!(reader(&[0x80; 11]).varint(), Err(Error::IntegerOverflow { at: 0 }));
        assert_eq!(reader(&[]).varint(), Err(Error::UnexpectedEof { at: 0 }));
    }

    #[test]
    fn written_varints_are_minimal_and_read_back() {
        for value in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 1 << 28, u32::MAX] {
            let mut out = Vec::new();
            push_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value) as usize, "{value}");
            assert_eq!(reader(&out).varint(), Ok(u64::from(value)));
        }
    }

    #[test]
    fn a_tag_needs_a_field_number_and_32_bits() {
        assert_eq!(reader(&[0x0a]).tag(), Ok(Tag { field: 1, wire: LEN, at: 0 }));
        assert_eq!(reader(&[0xc2, 0x3e]).tag(), Ok(Tag { field: 1000, wire: LEN, at: 0 }));
        assert_eq!(reader(&[0x02]).tag(), Err(Error::IllegalField { tag: 2, at: 0 }));
        let wide = [0x8a, 0x80, 0x80, 0x80, 0x80, 0x01];
        assert!(matches!(reader(&wide).tag(), Err(Error::IllegalField { .. })));
    }

    #[test]
    fn a_length_stays_inside_its_message() {
        let mut r = reader(&[0x03, 1, 2, 3]);
        assert_eq!(r.content(), Ok(Extent { start: 1, end: 4 }));
        assert_eq!(reader(&[0x04, 1, 2, 3]).content(), Err(Error::UnexpectedEof { at: 0 }));
        let negative = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(reader(&negative).content(), Err(Error::NegativeLength { at: 0 }));
    }

    #[test]
    fn groups_are_skipped_with_their_contents_to_a_bounded_depth() {
        let skip = |bytes: &[u8]| {
            let mut r = reader(bytes);
            let tag = r.tag()?;
            r.skip(tag).map(|()| r.pos())
        };
        // Field 1: group { 2: varint, 3: group { 4: "x" } }
        assert_eq!(skip(&[0x0b, 0x10, 0x07, 0x1b, 0x22, 0x01, b'x', 0x1c, 0x0c, 0xff]), Ok(9));
        assert_eq!(skip(&[0x0b, 0x14]), Err(Error::UnexpectedEndOfGroup { at: 1 }));
        assert_eq!(skip(&[0x0c]), Err(Error::UnexpectedEndOfGroup { at: 0 }));
        assert_eq!(skip(&[0x0b]), Err(Error::UnexpectedEof { at: 1 }));
        assert_eq!(skip(&[0x0e]), Err(Error::IllegalWireType { wire: 6, at: 0 }));
        let nested = |depth: usize| {
            let mut bytes = vec![0x0b; depth];
            bytes.extend(std::iter::repeat_n(0x0c, depth));
            bytes
        };
        assert_eq!(skip(&nested(GROUP_DEPTH_MAX)), Ok(64));
        assert!(matches!(skip(&nested(GROUP_DEPTH_MAX + 1)), Err(Error::GroupTooDeep { .. })));
    }
}
