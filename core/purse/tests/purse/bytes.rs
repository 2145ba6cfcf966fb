//! Bytes of a damaged file do no harm.

use cocoon_purse::decode_kept;
use proptest::prelude::*;

proptest! {
    #[test]
    fn any_bytes_are_refused_or_read(mut bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = decode_kept(&bytes);
        if let Some(first) = bytes.first_mut() {
            *first = 1;
        }
        let _ = decode_kept(&bytes);
    }
}
