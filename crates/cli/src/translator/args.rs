//! What was typed behind `dhow translator`, and what it means.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};
use dhow_model::{Arch, TranslatorName};

use crate::args::ForArch;
use crate::error::Result;
use crate::house::{TranslatorCommand, TranslatorFrom};

/// A command about translators.
#[derive(Debug, Subcommand)]
pub enum TranslatorVerb {
    /// List translators, whether each is provisioned, and what the running machine says of it
    List {
        #[command(flatten)]
        arch: ForArch,
    },
    /// Get a translator's file and check it; a machine that runs uses it at once
    Provision {
        /// fex, rosetta, box64 or qemu
        name: TranslatorName,
        #[command(flatten)]
        origin: Origin,
        #[command(flatten)]
        arch: ForArch,
    },
    /// Take a translator's file away; a machine that runs stops using it at once
    Remove {
        /// fex, rosetta, box64 or qemu
        name: TranslatorName,
        #[command(flatten)]
        arch: ForArch,
    },
    /// Have translators run a test program
    Probe {
        /// Only this one: fex, rosetta, box64 or qemu
        name: Option<TranslatorName>,
        #[command(flatten)]
        arch: ForArch,
    },
}

/// Where a translator's file comes from.
#[derive(Debug, Clone, Default, Args)]
pub struct Origin {
    /// A static build on this computer, instead of the distribution's package
    #[arg(long, alias = "file", value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = ["url", "mirror", "refresh"])]
    pub from: Option<PathBuf>,
    /// A static build at an address; needs --sha256
    #[arg(long, value_name = "ADDRESS", value_hint = ValueHint::Url, requires = "sha256", conflicts_with_all = ["mirror", "refresh"])]
    pub url: Option<String>,
    /// Digest of what is at the address, 64 hexadecimal digits
    #[arg(long, value_name = "DIGEST", requires = "url", value_parser = digest)]
    pub sha256: Option<String>,
    /// Where packages are, instead of where the host's configuration says
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub mirror: Option<String>,
    /// Look for a newer package than the one that was used last
    #[arg(long)]
    pub refresh: bool,
}

fn digest(word: &str) -> std::result::Result<String, String> {
    let word = word.to_ascii_lowercase();
    if word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Ok(word)
    } else {
        Err("a SHA-256 has 64 hexadecimal digits".to_owned())
    }
}

/// What was typed, with architectures and paths in place.
///
/// # Errors
/// When this computer's processor is needed and not supported.
pub fn understood(
    verb: TranslatorVerb,
    ours: impl Fn(ForArch) -> Result<Arch>,
    absolute: impl Fn(PathBuf) -> Result<PathBuf>,
) -> Result<TranslatorCommand> {
    Ok(match verb {
        TranslatorVerb::List { arch } => TranslatorCommand::List { guest: ours(arch)? },
        TranslatorVerb::Remove { name, arch } => TranslatorCommand::Remove { guest: ours(arch)?, name },
        TranslatorVerb::Probe { name, arch } => TranslatorCommand::Probe { guest: ours(arch)?, name },
        TranslatorVerb::Provision { name, origin, arch } => {
            let from = match origin {
                Origin { from: Some(path), .. } => TranslatorFrom::File(absolute(path)?),
                Origin { url: Some(url), sha256: Some(sha256), .. } => {
                    TranslatorFrom::Address { url, sha256 }
                }
                Origin { mirror, refresh, .. } => TranslatorFrom::Package { mirror, refresh },
            };
            TranslatorCommand::Provision { guest: ours(arch)?, name, from }
        }
    })
}
