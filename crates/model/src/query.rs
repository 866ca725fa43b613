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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn platform(query: &str) -> Result<Option<String>, String> {
        query_value(query, "platform").map_err(|e| e.to_string())
    }

    /// Spec 1.2: percent-decoded, and read as dockerd does (Go's `Request.FormValue`).
    #[test]
    fn the_first_value_of_a_key_counts_decoded() {
        for (query, value) in [
            ("", None),
            ("name=x", None),
            ("platforms=x", None),
            ("platform", Some("")),
            ("platform=", Some("")),
            ("platform=linux/arm64", Some("linux/arm64")),
            ("platform=linux%2Farm64", Some("linux/arm64")),
            ("platform=linux%2farm64%2Fv8&name=x", Some("linux/arm64/v8")),
            ("plat%66orm=a", Some("a")),
            ("platform=a&platform=b", Some("a")),
            ("platform=&platform=b", Some("")),
            ("&&name=x&platform=a=b&", Some("a=b")),
            ("platform=a+b%2B%20", Some("a b+ ")),
            ("platform=%C3%A4", Some("ä")),
            ("platform=%00", Some("\0")),
        ] {
            assert_eq!(platform(query), Ok(value.map(str::to_owned)), "{query}");
        }
    }

    /// Go's `url.ParseQuery`, whose error dockerd answers with 400 whatever key it is about.
    #[test]
    fn a_malformed_pair_is_refused_in_dockerd_s_words() {
        for (query, words) in [
            ("platform=%", "invalid URL escape \"%\""),
            ("platform=%2", "invalid URL escape \"%2\""),
            ("platform=%zz1", "invalid URL escape \"%zz\""),
            ("platform=a&name=%gg", "invalid URL escape \"%gg\""),
            ("%=x", "invalid URL escape \"%\""),
            ("a;b", "invalid semicolon separator in query"),
            ("platform=a;name=b", "invalid semicolon separator in query"),
            ("platform=%ff", "the value of `platform` is not UTF-8"),
        ] {
            assert_eq!(platform(query), Err(words.to_owned()), "{query}");
        }
        assert_eq!(platform("name=%ff&platform=a"), Ok(Some("a".to_owned())), "not this key's");
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_back(value in ".*", other in "[a-z]*") {
            let encoded: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let query = format!("{other}=1&key={encoded}&key=2");
            prop_assume!(other != "key");
            prop_assert_eq!(query_value(&query, "key"), Ok(Some(value)));
        }

        #[test]
        fn no_query_makes_the_reader_panic(query in "([%&=;+a-f0-9]|.)*") {
            if let Err(told) = platform(&query) {
                prop_assert!(told.len() < 200 && !told.chars().any(char::is_control), "{:?}", told);
            }
        }
    }
}
