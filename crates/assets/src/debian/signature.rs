//! Verification of a signed index with the system's `gpgv`. What is parsed afterwards is what gpgv wrote out as covered by
//! the signature, never the file that was downloaded.

use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::error::{At as _, Error, Result};

/// Where Debian's `debian-archive-keyring` puts its keys.
pub(crate) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const LIMIT: Duration = Duration::from_secs(60);

/// The text of a clear-signed file, if a key of the keyring signed it.
pub(crate) fn verified_text(signed: &[u8], url: &str, keyring: &Path, scratch: &Path) -> Result<String> {
    if !keyring.is_file() {
        return Err(Error::MissingKeyring { path: keyring.to_path_buf() });
    }
    let directory = tempfile::tempdir_in(scratch).at("create a directory in", scratch)?;
    let [input, output, status, errors] =
        ["input", "output", "status", "errors"].map(|name| directory.path().join(name));
    dhow_home::atomic::write(&input, signed, 0o600).at("write", &input)?;
    let create = |path: &Path| std::fs::File::create(path).at("create", path);
    let mut command = Command::new("gpgv");
    command.arg("--homedir").arg(directory.path()).arg("--keyring").arg(keyring);
    command.args(["--status-fd", "1", "--output"]).arg(&output).arg(&input);
    command.stdin(Stdio::null()).stdout(create(&status)?).stderr(create(&errors)?).env("LC_ALL", "C");
    run(command)?;
    let read = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    judge(&read(&status)).map_err(|reason| Error::Signature {
        url: url.to_owned(),
        keyring: keyring.to_path_buf(),
        detail: reason.unwrap_or_else(|| read(&errors).trim().replace('\n', "; ")),
    })?;
    let text = std::fs::read(&output).at("read", &output)?;
    String::from_utf8(text).map_err(|error| Error::malformed(url, "Release file", error))
}

/// A release is signed with several keys, and a keyring may lack the newest: one good signature is enough, one bad is too many.
/// The exit status cannot tell these apart; the status lines (doc/DETAILS of GnuPG) can.
fn judge(status: &str) -> Result<(), Option<String>> {
    let has = |word: &str| status.lines().find(|line| line.split_whitespace().nth(1) == Some(word));
    if let Some(line) = has("BADSIG") {
        return Err(Some(line.trim_start_matches("[GNUPG:] ").to_owned()));
    }
    if has("GOODSIG").is_some() && has("VALIDSIG").is_some() { Ok(()) } else { Err(None) }
}

fn run(mut command: Command) -> Result<ExitStatus> {
    let mut child = command.spawn().map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::MissingProgram { program: "gpgv", package: "gpgv" },
        _ => Error::Io { action: "run", path: "gpgv".into(), source },
    })?;
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(status) = child.try_wait().at("wait for", "gpgv")? {
            return Ok(status);
        }
        if Instant::now() > deadline {
            child.kill().at("stop", "gpgv")?;
            child.wait().at("wait for", "gpgv")?;
            let source = std::io::Error::from(std::io::ErrorKind::TimedOut);
            return Err(Error::Io { action: "run", path: "gpgv".into(), source });
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_good_signature_is_enough_and_one_bad_is_too_many() {
        let good = "[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG ABC Debian\n[GNUPG:] VALIDSIG DEF\n";
        let unknown = "[GNUPG:] ERRSIG 123 1 8 01 1 9\n[GNUPG:] NO_PUBKEY 123\n";
        let expired = "[GNUPG:] EXPKEYSIG ABC Debian\n[GNUPG:] VALIDSIG DEF\n";
        let table = [
            (good.to_owned(), true),
            (format!("{good}{unknown}"), true),
            (unknown.to_owned(), false),
            (expired.to_owned(), false),
            (format!("{good}[GNUPG:] BADSIG 123 Debian\n"), false),
            (String::new(), false),
        ];
        for (status, accepted) in table {
            assert_eq!(judge(&status).is_ok(), accepted, "{status}");
        }
    }
}
