//! Bytes as text.

use std::fmt::Write;

/// Lower-case hex, as payloads, manifests and the ledger name a hash.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_written_in_lower_case_hex() {
        assert_eq!(hex(&[0, 10, 255]), "000aff");
    }
}
