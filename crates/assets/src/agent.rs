//! The agent as an input: it becomes process 1 of a guest, so it must be a static program of the guest's architecture.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use dhow_model::Arch;

use crate::error::{At as _, Error, Result};
use crate::image::elf::Elf;

/// Reads the agent, or says why it cannot be one.
pub(crate) fn read(path: &Path, arch: Arch) -> Result<Vec<u8>> {
    let refuse = |reason: &str| Error::Agent { path: path.to_path_buf(), arch, reason: reason.to_owned() };
    let metadata = match path.metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(refuse("it does not exist"));
        }
        other => other.at("look at", path)?,
    };
    if !metadata.is_file() {
        return Err(refuse("it is no regular file"));
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(refuse("it is not executable"));
    }
    let content = std::fs::read(path).at("read", path)?;
    check(&content, arch).map_err(|reason| refuse(&reason))?;
    Ok(content)
}

fn check(content: &[u8], arch: Arch) -> Result<(), String> {
    let elf = Elf::parse(content).filter(|elf| elf.is_program()).ok_or("it is no ELF program")?;
    if elf.machine() != arch.elf_machine() {
        let machine = elf.machine();
        let found = Arch::ALL.into_iter().find(|arch| arch.elf_machine() == machine);
        let found = found.map_or_else(|| format!("ELF machine {machine}"), |arch| arch.to_string());
        return Err(format!("it is a program for {found}"));
    }
    if elf.has_interpreter() {
        return Err(
            "it is linked dynamically, and a guest has no libraries before its root is mounted".to_owned()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 7.4: present, regular, executable, right architecture; the error names the file and the command.
    #[test]
    fn a_file_that_cannot_be_process_1_is_refused_with_the_reason() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("script");
        dhow_home::atomic::write(&script, b"#!/bin/sh\n", 0o755).unwrap();
        let plain = directory.path().join("plain");
        dhow_home::atomic::write(&plain, b"\x7fELF", 0o644).unwrap();
        let foreign = directory.path().join("foreign");
        dhow_home::atomic::write(&foreign, &crate::image::elf::tests_support::program(Arch::Arm64), 0o755)
            .unwrap();
        let table = [
            (directory.path().join("absent"), "it does not exist"),
            (directory.path().to_path_buf(), "it is no regular file"),
            (plain, "it is not executable"),
            (script, "it is no ELF program"),
            (foreign, "it is a program for arm64"),
        ];
        for (path, reason) in table {
            let error = read(&path, Arch::Amd64).unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains(path.to_str().unwrap()), "{error}");
            assert!(error.contains("./dev build"), "{error}");
        }
    }
}
