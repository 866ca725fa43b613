//! A process for the tests to start: it probes KVM, holds a machine until it is killed, or prints the doctor's report.
//!
//! `helper probe-kvm` · `helper hold KERNEL DIRECTORY` · `helper` alone prints the report.

use std::path::Path;
use std::process::ExitCode;

use dhow_hypervisor::{Hypervisor as _, Origin, Qemu, doctor, probe};

#[path = "../tests/common/mod.rs"]
mod common;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if words == [probe::SUBCOMMAND] {
        return probe::run_probe_child();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    match words[..] {
        ["hold", directory] => runtime.block_on(hold(Path::new(directory))),
        _ => runtime.block_on(report()),
    }
}

/// Starts an idle machine from a task on a worker thread, prints its process ID, and waits for its end.
async fn hold(directory: &Path) -> ExitCode {
    let hardware = common::hardware(directory, common::IDLE);
    let output = common::logs(directory);
    let holding = tokio::spawn(async move {
        let qemu = Qemu::find(hardware.arch)?;
        let mut machine = qemu.start(&hardware, output, Vec::new(), None, Origin::Boot).await?;
        println!("{}", machine.pid());
        Ok::<_, dhow_hypervisor::Error>(machine.wait().await)
    });
    eprintln!("{:?}", holding.await);
    ExitCode::FAILURE
}

async fn report() -> ExitCode {
    for check in doctor::checks().await {
        println!("{:?}\t{}: {}", check.verdict, check.name, check.found);
        if let Some(advice) = check.advice {
            println!("\t{advice}");
        }
    }
    ExitCode::SUCCESS
}
