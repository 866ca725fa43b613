//! Docker's framing of two streams in one (API: "Attach to a container", stream format): a byte that tells which, three of nothing, a
//! length of four bytes, big-endian, and so many bytes.

/// Standard output and standard error, apart; `None` for what does not follow the format.
pub(super) fn apart(mut framed: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some((head, rest)) = framed.split_first_chunk::<8>() {
        let length = usize::try_from(u32::from_be_bytes([head[4], head[5], head[6], head[7]])).ok()?;
        let (piece, rest) = rest.split_at_checked(length)?;
        match head[0] {
            0 | 1 => stdout.extend_from_slice(piece),
            2 => stderr.extend_from_slice(piece),
            _ => return None,
        }
        framed = rest;
    }
    framed.is_empty().then_some((stdout, stderr))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 10.2: standard error is captured apart.
    #[test]
    fn two_streams_come_apart_and_a_torn_one_is_told() {
        let framed = b"\x01\0\0\0\0\0\0\x02ou\x02\0\0\0\0\0\0\x03err\x01\0\0\0\0\0\0\x01t";
        assert_eq!(apart(framed), Some((b"out".to_vec(), b"err".to_vec())));
        assert_eq!(apart(b""), Some((Vec::new(), Vec::new())));
        for end in 1..framed.len() {
            let whole = [10, 21].contains(&end);
            assert_eq!(apart(&framed[..end]).is_some(), whole, "{end}");
        }
        assert_eq!(apart(b"\x07\0\0\0\0\0\0\0"), None);
    }
}
