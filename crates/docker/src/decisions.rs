//! Why workloads are where they are: told to the client in a header, and remembered for `dhow inspect`.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dhow_model::placement::Decision;

/// The header that tells a decision.
pub const HEADER: &str = "X-Dhow-Placement";

/// Most decisions that are remembered: the latest. Others can be found out again.
const MAX: usize = 4096;

/// The latest decisions, by the container's ID.
#[derive(Debug, Default)]
pub(crate) struct Decisions(Mutex<Latest>);

#[derive(Debug, Default)]
struct Latest {
    by_id: HashMap<String, Decision>,
    in_order: VecDeque<String>,
}

impl Decisions {
    pub(crate) fn remember(&self, id: &str, decision: Decision) {
        let mut latest = self.latest();
        if latest.by_id.insert(id.to_owned(), decision).is_none() {
            latest.in_order.push_back(id.to_owned());
        }
        while latest.in_order.len() > MAX {
            if let Some(oldest) = latest.in_order.pop_front() {
                latest.by_id.remove(&oldest);
            }
        }
    }

    pub(crate) fn of(&self, id: &str) -> Option<Decision> {
        self.latest().by_id.get(id).cloned()
    }

    fn latest(&self) -> MutexGuard<'_, Latest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The header's value: `role=foreign; translator=none; why="platform linux/arm64 was asked for"`.
pub(crate) fn label(decision: &Decision) -> String {
    let translator = decision.translator.map_or_else(|| "none".to_owned(), |name| name.to_string());
    format!("role={}; translator={translator}; why={}", decision.role, quoted(&decision.why))
}

/// The value for a call that was refused: `role=none; translator=none; why="…"`.
pub(crate) fn refused(why: &str) -> String {
    format!("role=none; translator=none; why={}", quoted(why))
}

/// A quoted string (RFC 9110, 5.6.4); what cannot stand in a header becomes a question mark.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            ' '..='~' => out.push(character),
            _ => out.push('?'),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use dhow_model::{Role, TranslatorName};

    use super::*;

    fn decision(why: &str) -> Decision {
        Decision { role: Role::Native, translator: Some(TranslatorName::Qemu), why: why.to_owned() }
    }

    /// 1.9: the header says what really serves, and nothing that a client sent can break out of it.
    #[test]
    fn a_decision_is_one_header_value() {
        assert_eq!(label(&decision("a b")), "role=native; translator=qemu; why=\"a b\"");
        assert_eq!(
            label(&decision("a\"\\\r\nX: é")),
            "role=native; translator=qemu; why=\"a\\\"\\\\??X: ?\""
        );
    }

    /// 2.5: what is remembered cannot grow without bound.
    #[test]
    fn only_the_latest_decisions_are_remembered() {
        let decisions = Decisions::default();
        for n in 0..=MAX {
            decisions.remember(&n.to_string(), decision("x"));
            decisions.remember(&n.to_string(), decision("y"));
        }
        assert_eq!(decisions.of("0"), None);
        assert_eq!(decisions.of("1"), Some(decision("y")));
        assert_eq!(decisions.latest().by_id.len(), MAX);
    }
}
