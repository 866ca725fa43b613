//! What was typed behind `dhow verify`, and what it means.

use clap::Args;
use dhow_model::{Arch, TranslatorName};
use dhow_verify::Gate;

/// What to verify.
#[derive(Debug, Clone, Default, Args)]
pub struct VerifyArgs {
    /// The architecture whose programs are translated, amd64 or arm64 [default: the one that the engine is not]
    #[arg(long, value_parser = arch)]
    pub arch: Option<Arch>,
    /// Only this gate, and A, on which the others stand: a, b or c; may be given again
    #[arg(long = "gate", value_name = "GATE", value_parser = gate)]
    pub gates: Vec<Gate>,
    /// Only this check of gates B and C, by its name in the answer, and gate A; may be given again
    #[arg(long = "check", value_name = "NAME", value_parser = check)]
    pub checks: Vec<String>,
    /// Only if it is this translator that serves; may be given again
    #[arg(long = "translator", value_name = "NAME")]
    pub translators: Vec<TranslatorName>,
    /// Pull the usual public images from this registry and path, such as docker.io/library, instead of making images of packages
    #[arg(long, value_name = "PREFIX")]
    pub registry: Option<String>,
    /// Where packages are, instead of where the host's configuration says
    #[arg(long, value_name = "URL")]
    pub mirror: Option<String>,
    /// Look for newer packages than those that the images were made of last
    #[arg(long)]
    pub refresh: bool,
    /// Leave the images in the engine, for the next time
    #[arg(long)]
    pub keep_images: bool,
}

impl VerifyArgs {
    /// The gates, A among them; all where none was named.
    #[must_use]
    pub fn gates(&self) -> Vec<Gate> {
        if self.gates.is_empty() {
            return vec![Gate::A, Gate::B, Gate::C];
        }
        let mut gates = self.gates.clone();
        gates.push(Gate::A);
        gates.sort_unstable();
        gates.dedup();
        gates
    }
}

fn arch(word: &str) -> Result<Arch, dhow_model::arch::UnknownArch> {
    word.parse()
}

/// One that programs of any architecture have.
fn check(word: &str) -> Result<String, String> {
    let mut names: Vec<&str> = Arch::ALL.into_iter().flat_map(dhow_verify::names).collect();
    if names.contains(&word) {
        return Ok(word.to_owned());
    }
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(*name));
    Err(format!("the checks are {}", names.join(", ")))
}

fn gate(word: &str) -> Result<Gate, String> {
    match word {
        "a" | "A" => Ok(Gate::A),
        "b" | "B" => Ok(Gate::B),
        "c" | "C" => Ok(Gate::C),
        _ => Err("the gates are a, b and c".to_owned()),
    }
}
