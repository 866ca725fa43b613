//! The secret that opens a guest's vsock ports to its owner alone (spec 16.5).

use std::fmt;

/// A machine's secret, 32 random bytes. `AF_VSOCK` knows no users: whoever runs a program on the host can dial any
/// guest, so each vsock stream begins with this, and the guest hangs up on a stream that does not (spec 16.5).
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Secret);

/// The bytes, with the one comparison that they may be put to.
#[derive(Clone, Eq)]
struct Secret([u8; Token::LENGTH]);

/// A text that is no token. It does not repeat the text, which may be nearly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a channel token is 64 hexadecimal digits")]
pub struct BadToken;

impl Token {
    /// Its length in bytes.
    pub const LENGTH: usize = 32;

    /// A new one from the system's random generator.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn random() -> crate::Result<Self> {
        let mut bytes = [0; Self::LENGTH];
        fill_random(&mut bytes)?;
        Ok(Self::from_bytes(bytes))
    }

    /// The token with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LENGTH]) -> Self {
        Self(Secret(bytes))
    }

    /// Its bytes, as they go over the wire.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0.0
    }

    /// Reads the hexadecimal form of [`Token::to_hex`].
    ///
    /// # Errors
    /// When the text is anything but 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Result<Self, BadToken> {
        let digits = text.as_bytes();
        if digits.len() != 2 * Self::LENGTH {
            return Err(BadToken);
        }
        let mut bytes = [0; Self::LENGTH];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let high = char::from(pair[0]).to_digit(16).ok_or(BadToken)?;
            let low = char::from(pair[1]).to_digit(16).ok_or(BadToken)?;
            *byte = u8::try_from(high << 4 | low).map_err(|_| BadToken)?;
        }
        Ok(Self::from_bytes(bytes))
    }

    /// Its form in a boot configuration. A secret: it goes into no log.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex(self.as_bytes())
    }
}

impl std::str::FromStr for Token {
    type Err = BadToken;

    fn from_str(text: &str) -> Result<Self, BadToken> {
        Self::from_hex(text)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(secret)")
    }
}

impl PartialEq for Secret {
    /// Looks at every byte whatever it finds, so that the time taken tells nothing about where the first difference is.
    fn eq(&self, other: &Self) -> bool {
        let difference = self.0.iter().zip(&other.0).fold(0, |sum, (a, b)| sum | (a ^ b));
        std::hint::black_box(difference) == 0
    }
}

/// Fills `bytes` from the system's random generator.
pub(crate) fn fill_random(bytes: &mut [u8]) -> crate::Result<()> {
    getrandom::fill(bytes).map_err(|error| crate::Error::Random(error.into()))
}

/// `bytes` in lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 16.5, 15.5: a token never reaches a log by way of `{:?}`.
    #[test]
    fn debugging_a_token_does_not_print_it() {
        let token = Token::from_bytes([0xab; 32]);
        assert_eq!(format!("{token:?}"), "Token(secret)");
    }

    /// Spec 16.5.
    #[test]
    fn a_token_survives_its_hexadecimal_form_and_nothing_else_is_one() {
        let token = Token::random().unwrap();
        assert_eq!(Token::from_hex(&token.to_hex()), Ok(token.clone()));
        assert_ne!(Token::random().unwrap(), token);
        let hex = token.to_hex();
        for bad in ["", "ab", &hex[1..], &format!("{hex}0"), &format!("g{}", &hex[1..]), &"é".repeat(32)] {
            assert_eq!(bad.parse::<Token>(), Err(BadToken), "{bad}");
        }
    }

    /// Spec 16.5.
    #[test]
    fn tokens_that_differ_in_one_bit_are_different() {
        let bytes = [7; 32];
        for index in 0..32 {
            let mut other = bytes;
            other[index] ^= 1;
            assert_ne!(Token::from_bytes(bytes), Token::from_bytes(other));
        }
        assert_eq!(Token::from_bytes(bytes), Token::from_bytes(bytes));
    }
}
