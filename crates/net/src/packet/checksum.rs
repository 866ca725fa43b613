//! The Internet checksum (RFC 1071): the one's-complement sum of 16-bit words.

/// The sum of bytes as 16-bit words in the network's order, folded; not yet complemented. An odd last byte counts as if a
/// zero followed.
pub(crate) fn sum(bytes: &[u8]) -> u16 {
    // Eight bytes a step, in the host's order: the sum of swapped words is the swapped sum (RFC 1071, 2.B). The accumulator
    // cannot overflow before 2^32 steps.
    let (steps, rest) = bytes.as_chunks::<8>();
    let mut total: u64 = 0;
    for step in steps {
        let step = u64::from_ne_bytes(*step);
        total += (step & 0xffff_ffff) + (step >> 32);
    }
    let (words, last) = rest.as_chunks::<2>();
    for word in words {
        total += u64::from(u16::from_ne_bytes(*word));
    }
    if let [last] = last {
        total += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    u16::from_be(fold(total))
}

/// The sum of sums, folded.
pub(crate) fn combine(sums: &[u16]) -> u16 {
    fold(sums.iter().map(|sum| u64::from(*sum)).sum())
}

fn fold(mut total: u64) -> u16 {
    while total > 0xffff {
        total = (total >> 16) + (total & 0xffff);
    }
    total as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1071, 3: the example's own numbers.
    #[test]
    fn the_example_of_the_standard_sums_up() {
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
    }

    proptest::proptest! {
        #[test]
        fn every_length_agrees_with_the_plain_sum(bytes: Vec<u8>) {
            let mut plain = 0_u64;
            for pair in bytes.chunks(2) {
                plain += u64::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
            }
            proptest::prop_assert_eq!(sum(&bytes), fold(plain));
        }
    }
}
