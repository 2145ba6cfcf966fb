//! Entry point for fuzzers: segments that are arbitrary bytes, and good ones with damage.

use cocoon_units::Secret;

use crate::frame::{Header, JournalKey, Sealer, decode_segment, push_record};

/// Reads `data` as a segment; then writes a good one, damages it as the first bytes say, and reads
/// that.
///
/// # Panics
/// When damage yields a record that was not written, or hides one without a trace.
pub fn segment(data: &[u8]) {
    let key = JournalKey::new(Secret::new([7; 32]));
    let _ = decode_segment(&key, data);
    let Some(([kind, low, high, flip], text)) = data.split_first_chunk() else { return };
    let (written, mut bytes) = write(&key, text);
    let at = usize::from(u16::from_le_bytes([*low, *high])) % bytes.len();
    match kind % 4 {
        0 => {}
        1 => bytes.truncate(at),
        2 => bytes[at] ^= flip,
        _ => bytes.extend_from_slice(text),
    }
    let Ok(read) = decode_segment(&key, &bytes) else {
        assert!(kind % 4 != 0 && kind % 4 != 3, "a good header is refused");
        return;
    };
    assert!(written.starts_with(&read.records), "a record that was not written");
    // A frame of which only zeros are left looks like room made in advance: nothing of it was written.
    let rest = bytes.get(read.good_len as usize..).unwrap_or_default();
    let is_cut_at_a_border = kind % 4 == 1 && rest.iter().all(|byte| *byte == 0);
    let is_whole = read.records == written;
    assert!(is_whole || read.torn || is_cut_at_a_border, "a record is missing without a trace");
}

/// A segment with a frame for each line, and a record for each word of it.
fn write(key: &JournalKey, text: &[u8]) -> (Vec<Vec<u8>>, Vec<u8>) {
    let header = Header { generation: 3, salt: [1; 16] };
    let sealer = Sealer::new(key, &header);
    let mut bytes = header.encode().to_vec();
    let mut records = Vec::new();
    for (line, sequence) in text.split(|byte| *byte == b'\n').zip(0..) {
        let mut plain = Vec::new();
        for word in line.split(|byte| *byte == b' ') {
            push_record(&mut plain, word);
            records.push(word.to_vec());
        }
        sealer.seal(sequence, &plain, &mut bytes);
    }
    (records, bytes)
}
