//! Runs the gates against any Docker engine, without Dhow: `cargo run -p dhow-verify --example engine -- SOCKET STORE ARCH [GATE…]`. A
//! translator named in `TRANSLATOR` is taken for the one that serves.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use dhow_model::{Arch, TranslatorName};
use dhow_verify::{Docker, Gate, PULL, Request, Serving, Source, Surroundings, table, verify};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [socket, store, arch, gates @ ..] = words.as_slice() else {
        eprintln!("usage: engine SOCKET STORE ARCH [a|b|c ...]");
        return ExitCode::from(2);
    };
    let Ok(arch) = arch.parse::<Arch>() else { return ExitCode::from(2) };
    let gates = gates.iter().map(|gate| match gate.as_str() {
        "b" => Gate::B,
        "c" => Gate::C,
        _ => Gate::A,
    });
    let guest = if arch == Arch::Amd64 { Arch::Arm64 } else { Arch::Amd64 };
    let named = std::env::var("TRANSLATOR").ok().and_then(|name| name.parse::<TranslatorName>().ok());
    let request = Request {
        run: std::process::id().to_string(),
        arch,
        gates: gates.collect(),
        checks: Vec::new(),
        source: Source::Packages {
            store: PathBuf::from(store),
            mirror: std::env::var("DHOW_MIRROR").ok(),
            refresh: false,
        },
        keep: std::env::var_os("KEEP").is_some(),
        at_most: None,
        pull: PULL,
        serving: Serving {
            translator: named.and_then(|name| name.translator(guest, arch)),
            ..Serving::default()
        },
        surroundings: Surroundings::default(),
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return ExitCode::from(2);
    };
    let docker = Docker::new(Path::new(socket));
    let report = runtime.block_on(verify(&docker, &request, &mut |words| eprintln!("{words}")));
    match std::env::var_os("JSON") {
        Some(_) => println!("{}", serde_json::to_string_pretty(&report).unwrap_or_default()),
        None => println!("{}", table(&report, &|_, word| word.to_owned())),
    }
    ExitCode::from(report.exit())
}
