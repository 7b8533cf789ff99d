//! CRC-32/IEEE of a trace id: the hash of the collector's ring (loadbalancing 2.1).
//!
//! One table per byte position, so that the 16 look-ups do not wait for each other: a few ns,
//! where a general CRC of so few bytes goes byte by byte. Checked against crc32fast.

/// `TABLES[k][b]`: the remainder of byte `b` with `k` zero bytes behind it.
static TABLES: [[u32; 256]; 16] = tables();

/// CRC-32/IEEE of the 16 bytes.
#[inline]
pub(super) fn crc32_of_id(id: &[u8; 16]) -> u32 {
    let mut crc = 0;
    for (i, &byte) in id.iter().enumerate() {
        // The register starts as all ones: that inverts the first four bytes.
        let byte = if i < 4 { !byte } else { byte };
        crc ^= TABLES[15 - i][byte as usize];
    }
    !crc
}

#[expect(clippy::cast_possible_truncation, reason = "an index below 256")]
const fn tables() -> [[u32; 256]; 16] {
    let mut tables = [[0; 256]; 16];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut behind = 1;
    while behind < 16 {
        byte = 0;
        while byte < 256 {
            let shorter = tables[behind - 1][byte];
            tables[behind][byte] = tables[0][(shorter & 0xff) as usize] ^ shorter >> 8;
            byte += 1;
        }
        behind += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_absent_id_hashes_as_in_the_collector() {
        assert_eq!(crc32_of_id(&[0; 16]), 0xecbb_4b55); // loadbalancing 2.3
    }

    proptest! {
        #[test]
        fn it_is_the_crc32_that_everyone_means(id: [u8; 16]) {
            prop_assert_eq!(crc32_of_id(&id), crc32fast::hash(&id));
        }
    }
}
