//! Signs that nobody sees, which every channel leaves out of what a visitor wrote.

/// Whether a sign is not seen and changes how others are read: marks of direction, which can make a word
/// look like another, and what has no width. The joiners of emoji, Persian and Indic scripts stay.
pub(super) fn is_unseen(sign: char) -> bool {
    matches!(
        sign,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
            | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}
