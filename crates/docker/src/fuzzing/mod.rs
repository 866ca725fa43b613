//! What clients and engines send goes through these, one entry for each target of `fuzz/`, so that the corpus is replayed by
//! the ordinary tests too. Each entry checks what must hold of every outcome.

mod content;
mod head;

pub use content::{create, lists, news, said, solve, target};
pub use head::{answer, body, request};

/// What a target does with bytes.
pub type Entry = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: &[(&str, Entry)] = &[
    ("request", request),
    ("answer", answer),
    ("body", body),
    ("target", target),
    ("create", create),
    ("solve", solve),
    ("lists", lists),
    ("news", news),
    ("said", said),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Issue 4: "fuzz targets for the request head and for JSON bodies that are read"; what they found is replayed.
    #[test]
    fn the_corpus_does_no_harm() {
        dhow_testkit::corpus::replay(env!("CARGO_MANIFEST_DIR"), TARGETS).unwrap();
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]
        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
            for (_, target) in TARGETS {
                target(&bytes);
            }
        }
    }
}
