//! What a translator's file says of itself, against the name that it was given: a name is claimed only for what answers to it (spec 1.9).

use super::{TABLE, Translator, TranslatorName};

/// Stands where a version would, of a file that does not say what it is.
pub const UNIDENTIFIED: &str = "unidentified";

/// A translator's answer to `--version`, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It is what it is called, and of this version; empty where it tells none.
    Itself(String),
    /// It is another one of the table.
    Another(TranslatorName),
    /// It does not say. It may be anything that keeps the translator's contract.
    Nothing,
}

impl Said {
    /// Understands what the file of `translator` said.
    #[must_use]
    pub fn of(translator: &Translator, said: &str) -> Self {
        let marked = |row: &&Translator| !row.mark.is_empty() && said.contains(row.mark);
        if translator.mark.is_empty() || marked(&translator) {
            return Self::Itself(number(said));
        }
        TABLE.iter().find(marked).map_or(Self::Nothing, |row| Self::Another(row.name))
    }
}

/// The first word that has a number in it and looks like a version: `10.0.2`, `FEX-2511`.
fn number(said: &str) -> String {
    let words = || {
        said.split(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | ',')).map(|word| {
            let word = word.trim_start_matches('v');
            word.strip_prefix("FEX-").unwrap_or(word).split('-').next().unwrap_or_default()
        })
    };
    let version = |word: &&str| {
        word.starts_with(|c: char| c.is_ascii_digit())
            && word.len() <= 32
            && word
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+' | b'~' | b':'))
    };
    let dotted = words().filter(|word| word.contains('.')).find(version);
    // Versions that are a year and a month, or nothing.
    dotted.or_else(|| words().filter(|word| word.len() == 4).find(version)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 1.9: never claim one and run another.
    #[test]
    fn a_name_is_claimed_only_for_what_answers_to_it() {
        let row = |name| TABLE.iter().find(|row| row.name == name).unwrap();
        let itself = |version: &str| Said::Itself(version.to_owned());
        use TranslatorName::{Box64, Fex, Qemu, Rosetta};
        let qemu = "qemu-aarch64 version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1)\nCopyright (c) 2003-2025";
        let table = [
            (Qemu, qemu, itself("10.0.2")),
            (Fex, qemu, Said::Another(Qemu)),
            (Box64, qemu, Said::Another(Qemu)),
            (Box64, "Box64 with Dynarec v0.3.4 96d4a08 built on Feb  1 2025", itself("0.3.4")),
            (Fex, "FEX-Emu (FEX-2511)", itself("2511")),
            (Fex, "FEX-Emu (FEX-2511-12-gabcdef0)", itself("2511")),
            (Qemu, "FEX-Emu (FEX-2511)", Said::Another(Fex)),
            (Fex, "standin-x86_64 version 10.0.2", Said::Nothing),
            (Qemu, "", Said::Nothing),
            (Rosetta, "whatever 1.2", itself("1.2")),
            (Box64, "Box64", itself("")),
        ];
        for (name, said, expected) in table {
            assert_eq!(Said::of(row(name), said), expected, "{name}: {said}");
        }
    }
}
