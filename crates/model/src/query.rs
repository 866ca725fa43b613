//! One value of a URL's query, read as dockerd reads it.

/// Why dockerd refuses a query; the text is its own, which is that of Go's `net/url`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadQuery {
    /// A percent sign without two hexadecimal digits behind it.
    #[error("invalid URL escape {0:?}")]
    Escape(String),
    /// A semicolon, which once separated pairs.
    #[error("invalid semicolon separator in query")]
    Semicolon,
    /// The value, decoded, is not text.
    #[error("the value of `{0}` is not UTF-8")]
    NotText(String),
}

/// The value of `key` in `query` (what stands behind the question mark, undecoded): the first, if there are more, as Go's
/// `Request.FormValue` takes it; `None` if there is none.
///
/// # Errors
/// When dockerd would refuse the whole request for its query: any pair of it that is malformed, not only this key's.
pub fn query_value(query: &str, key: &str) -> Result<Option<String>, BadQuery> {
    let mut found = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        if pair.contains(';') {
            return Err(BadQuery::Semicolon);
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (unescape(name)?, unescape(value)?);
        if found.is_none() && name == key.as_bytes() {
            found = Some(value);
        }
    }
    let text = |value| String::from_utf8(value).map_err(|_| BadQuery::NotText(key.to_owned()));
    found.map(text).transpose()
}

/// `+` becomes a space and `%41` a byte.
fn unescape(text: &str) -> Result<Vec<u8>, BadQuery> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, tail @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                bytes.push(digit(*high) << 4 | digit(*low));
                rest = tail;
            }
            (b'%', _) => {
                let shown = [&b"%"[..], tail.get(..2).unwrap_or(tail)].concat();
                return Err(BadQuery::Escape(String::from_utf8_lossy(&shown).into_owned()));
            }
            (b'+', _) => bytes.push(b' '),
            (byte, _) => bytes.push(*byte),
        }
    }
    Ok(bytes)
}

/// The value of a hexadecimal digit.
const fn digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        _ => byte.wrapping_sub(b'A').wrapping_add(10),
    }
}
