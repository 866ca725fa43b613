//! The process that serves one machine's shares: `dhow serve-shares MODE PATH …`, started by its supervisor with a listening socket as
//! standard input and one end of a pair of sockets as standard output. On that it says a line when it is ready, and when the
//! other end is closed, because the supervisor is done or dead, it ends.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use dhow_home::Code;
use rustix::net::{AddressFamily, sockopt};

use crate::fs::{self, Server};
use crate::{Error, Result, sandbox, vhost};

/// Before a path that the guest may write to.
pub(crate) const READ_WRITE: &str = "read-write";
/// Before a path that it may only read.
pub(crate) const READ_ONLY: &str = "read-only";
/// Before a directory that is not there for the guest.
pub(crate) const HIDDEN: &str = "hidden";

/// Serves until the supervisor is gone. `words` are what follows the verb.
///
/// # Errors
/// When it was not started as a supervisor does, a directory cannot be opened, or it cannot be confined.
pub(crate) fn run(words: impl Iterator<Item = OsString>) -> Result<()> {
    let Asked { shares, hidden } = parse(words)?;
    let listener = UnixListener::from(socket(rustix::stdio::stdin())?);
    let mut life = UnixStream::from(socket(rustix::stdio::stdout())?);
    let descriptors = sandbox::descriptors();
    let each = || shares.iter().map(|(path, writable)| (path.as_path(), *writable));
    let server = Server::new(each(), descriptors);
    let mut server = server.map_err(|(path, errno)| Error::Top { path, source: errno.into() })?;
    if let Some(path) = hidden {
        server.hide(&path).map_err(|errno| Error::Top { path, source: errno.into() })?;
    }
    server.watch_changes(fs::watches());
    // Nothing can be looked up once it is confined.
    let code = Code::find();
    if let Some(missing) = sandbox::confine(each())? {
        tracing::warn!("{missing}");
    }
    life.write_all(b"ready\n")?;
    Ok(vhost::serve(&listener, &life, server, &code)?)
}

/// What it is started with.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    /// Paths, and whether the guest may write to them.
    shares: Vec<(PathBuf, bool)>,
    hidden: Option<PathBuf>,
}

fn parse(mut words: impl Iterator<Item = OsString>) -> Result<Asked> {
    let mut asked = Asked::default();
    while let Some(word) = words.next() {
        let path = words.next().map(PathBuf::from).filter(|path| path.is_absolute());
        let path = path.ok_or(Error::BadStart("no absolute path"))?;
        match word.to_str() {
            Some(READ_WRITE) => asked.shares.push((path, true)),
            Some(READ_ONLY) => asked.shares.push((path, false)),
            Some(HIDDEN) if asked.hidden.is_none() => asked.hidden = Some(path),
            _ => {
                return Err(Error::BadStart("neither read-write, read-only nor hidden stands before a path"));
            }
        }
    }
    if asked.shares.is_empty() { Err(Error::BadStart("nothing to share")) } else { Ok(asked) }
}

fn socket(fd: impl AsFd) -> Result<OwnedFd> {
    if sockopt::socket_domain(&fd) != Ok(AddressFamily::UNIX) {
        return Err(Error::BadStart("standard input and output are no Unix sockets"));
    }
    Ok(fd.as_fd().try_clone_to_owned()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_shared_is_said_word_by_word() {
        let parse = |words: &[&str]| parse(words.iter().map(OsString::from));
        let asked =
            parse(&["read-write", "/home/u", "read-only", "/data", "hidden", "/home/u/.dhow"]).unwrap();
        assert_eq!(asked.shares, [(PathBuf::from("/home/u"), true), (PathBuf::from("/data"), false)]);
        assert_eq!(asked.hidden, Some("/home/u/.dhow".into()));
        for bad in [
            &[][..],
            &["hidden", "/home"],
            &["/home"],
            &["read-write"],
            &["read-write", "home"],
            &["rw", "/home"],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
