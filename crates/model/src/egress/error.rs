//! Why a rule cannot be used.

/// A rule that is wrong, told by its number, its key and its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// A value that the key cannot have.
    #[error("egress rule {rule}: {key} = {value}: {why}")]
    Value {
        /// Which rule, from 1.
        rule: usize,
        /// Which key.
        key: &'static str,
        /// The value, as it was written.
        value: String,
        /// What is wrong with it, and what it may be.
        why: String,
    },
    /// A key that no rule has.
    #[error("egress rule {rule}: there is no key `{key}`; the keys are {}", super::read::KEYS.join(", "))]
    UnknownKey {
        /// Which rule, from 1.
        rule: usize,
        /// The key.
        key: String,
    },
    /// A key that every rule needs.
    #[error("egress rule {rule}: {key} is missing; {what}")]
    Missing {
        /// Which rule, from 1.
        rule: usize,
        /// The key.
        key: &'static str,
        /// What to write.
        what: &'static str,
    },
    /// Keys that do not go together: the rule could not do what it says.
    #[error("egress rule {rule}: {why}")]
    Senseless {
        /// Which rule, from 1.
        rule: usize,
        /// Why, and what to write instead.
        why: &'static str,
    },
    /// More rules than are looked through for each connection.
    #[error("{0} egress rules are too many: {max} at most", max = super::rule::MAX_RULES)]
    TooMany(usize),
}
