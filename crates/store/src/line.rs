//! Files of one line: words, and a checksum behind them, so that a bit that flips never makes another number of one.
//!
//! ```text
//! WORDS crc=<CRC-32C of the words, 8 hex digits>
//! ```
//! Lines of the first releases have no checksum and are taken as they are. No bit that flips in a line makes one of those of
//! it: what is left of the checksum is a word too many, or no number.

use base::checksum::crc32c;

const CRC: &str = " crc=";

/// The line for these words.
pub(crate) fn sealed(words: &str) -> String {
    format!("{words}{CRC}{:08x}\n", crc32c(words.as_bytes()))
}

/// The words of a line; None when it is not what was written.
pub(crate) fn unsealed(content: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(content).ok()?.strip_suffix('\n')?;
    let Some((words, crc)) = text.rsplit_once(CRC) else { return Some(text) };
    (crc == format!("{:08x}", crc32c(words.as_bytes()))).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bit_that_flips_makes_other_words_of_a_line() {
        let line = sealed("5 100 1");
        assert_eq!(line, "5 100 1 crc=ec165d52\n");
        assert_eq!(unsealed(line.as_bytes()), Some("5 100 1"));
        assert_eq!(unsealed(b"5 100 1\n"), Some("5 100 1"));
        for bit in 0..line.len() * 8 {
            let mut rotten = line.clone().into_bytes();
            rotten[bit / 8] ^= 1 << (bit % 8);
            let read = unsealed(&rotten).map(|words| words.split_ascii_whitespace().collect::<Vec<_>>());
            let believed = read.is_some_and(|w| w.len() == 3 && w.iter().all(|w| w.parse::<u64>().is_ok()));
            assert!(!believed, "{}", rotten.escape_ascii());
        }
    }
}
