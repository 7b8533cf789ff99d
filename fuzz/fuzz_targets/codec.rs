//! Bodies in every encoding: within the limit, and back again.
#![no_main]

use tracemill::rpc::codec::HTTP_ENCODINGS;

const BYTES_MAX: usize = 1 << 16;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for (name, codec) in HTTP_ENCODINGS {
        if let Ok(content) = codec.inflate(data, BYTES_MAX) {
            assert!(content.len() <= BYTES_MAX, "{name}");
        }
        let mut packed = Vec::new();
        codec.deflate(data, None, &mut packed);
        assert_eq!(codec.inflate(&packed, data.len()).as_deref(), Ok(data), "{name}");
    }
});
