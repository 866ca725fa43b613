//! Downloads: with time limits, tried again with growing pauses, resumed where they stopped.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use ureq::tls::{RootCerts, TlsConfig, TlsProvider};

use crate::error::{At as _, Error, Result};
use crate::hash;

const TRIES: u32 = 4;
const CONNECT: Duration = Duration::from_secs(10);
const READ: Duration = Duration::from_secs(30);

/// What a file must be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected<'a> {
    pub(crate) sha256: &'a str,
    pub(crate) size: u64,
}

/// An HTTP client. Proxies come from the environment (`http_proxy`, `https_proxy`, `no_proxy`).
pub(crate) struct Client {
    agent: ureq::Agent,
    first_pause: Duration,
}

/// Why one try failed: for good, or perhaps not.
enum Failure {
    Final(Error),
    Passing(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

impl Client {
    /// A client whose first pause before another try is this long; each further one is twice the last.
    pub(crate) fn new(first_pause: Duration) -> Self {
        // Certificates are the host's own: a mirror inside a company often has one that only the company knows.
        let provider = if cfg!(target_os = "macos") { TlsProvider::NativeTls } else { TlsProvider::Rustls };
        let tls = TlsConfig::builder().provider(provider).root_certs(RootCerts::PlatformVerifier).build();
        let config = ureq::Agent::config_builder()
            .tls_config(tls)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(READ))
            .timeout_per_read(Some(READ))
            .http_status_as_error(false)
            .accept_encoding(ureq::config::AutoHeaderValue::None)
            .user_agent(concat!("dhow/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: config.new_agent(), first_pause }
    }

    /// A small file, whole.
    pub(crate) fn bytes(&self, url: &str, limit: u64) -> Result<Vec<u8>> {
        self.with_retries(url, || {
            let mut response = self.get(url, 0)?;
            let mut content = Vec::new();
            let mut body = response.body_mut().as_reader().take(limit + 1);
            body.read_to_end(&mut content).map_err(|error| Failure::Passing(error.to_string()))?;
            if content.len() as u64 > limit {
                let hint = String::new();
                let found = content.len() as u64;
                return Err(Error::WrongSize { name: url.to_owned(), expected: limit, found, hint }.into());
            }
            Ok(content)
        })
    }

    /// Downloads into `part`, going on where an earlier try stopped, and verifies. On success `part` is whole and synced; on a
    /// wrong digest it is removed.
    pub(crate) fn file(
        &self,
        url: &str,
        part: &Path,
        expected: Expected<'_>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        // A part that an earlier program left may be damaged: then, and only then, the download starts over.
        let resumed = part.metadata().is_ok_and(|metadata| metadata.len() > 0);
        match self.file_once(url, part, expected, progress) {
            Err(Error::WrongHash { .. } | Error::WrongSize { .. }) if resumed => {
                self.file_once(url, part, expected, progress)
            }
            other => other,
        }
    }

    fn file_once(
        &self,
        url: &str,
        part: &Path,
        expected: Expected<'_>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let mut options = OpenOptions::new();
        let mut file =
            options.create(true).truncate(false).read(true).write(true).open(part).at("create", part)?;
        self.with_retries(url, || self.transfer(url, part, &mut file, expected, progress))?;
        file.sync_all().at("sync", part)?;
        let (found, length) = hash::file(part)?;
        if length == expected.size && found == expected.sha256 {
            return Ok(());
        }
        std::fs::remove_file(part).at("remove", part)?;
        let name = url.to_owned();
        let hint = "; the damaged download was removed".to_owned();
        if length != expected.size {
            return Err(Error::WrongSize { name, expected: expected.size, found: length, hint });
        }
        Err(Error::WrongHash { name, expected: expected.sha256.to_owned(), found, hint })
    }

    fn transfer(
        &self,
        url: &str,
        part: &Path,
        file: &mut File,
        expected: Expected<'_>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), Failure> {
        let mut have = file.metadata().at("look at", part)?.len();
        if have > expected.size {
            file.set_len(0).at("truncate", part)?;
            have = 0;
        }
        if have == expected.size {
            return Ok(());
        }
        let mut response = self.get(url, have)?;
        if response.status() == 416 {
            // What is there is longer than what the server has, so it is no part of it.
            file.set_len(0).at("truncate", part)?;
            return Err(Failure::Passing("the server cannot go on where the download stopped".to_owned()));
        }
        if response.status() != 206 && have > 0 {
            file.set_len(0).at("truncate", part)?;
            have = 0;
        }
        file.seek(SeekFrom::Start(have)).at("seek in", part)?;
        let mut body = response.body_mut().as_reader();
        let mut buffer = vec![0; 1 << 18];
        loop {
            let count = body.read(&mut buffer).map_err(|error| Failure::Passing(error.to_string()))?;
            if count == 0 {
                break;
            }
            have += count as u64;
            if have > expected.size {
                let hint = "; the server sends more than the index promises".to_owned();
                let error =
                    Error::WrongSize { name: url.to_owned(), expected: expected.size, found: have, hint };
                return Err(error.into());
            }
            file.write_all(&buffer[..count]).at("write", part)?;
            progress(have);
        }
        if have < expected.size {
            return Err(Failure::Passing(format!(
                "the connection ended after {have} of {} bytes",
                expected.size
            )));
        }
        Ok(())
    }

    fn get(&self, url: &str, from: u64) -> Result<ureq::http::Response<ureq::Body>, Failure> {
        let mut request = self.agent.get(url);
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        let response = request.call().map_err(|error| Failure::Passing(error.to_string()))?;
        match response.status().as_u16() {
            200 | 206 => Ok(response),
            416 if from > 0 => Ok(response),
            status @ (404 | 410) => Err(Error::NotOnMirror { url: url.to_owned(), status }.into()),
            status => Err(Failure::Passing(format!("HTTP {status}"))),
        }
    }

    fn with_retries<T>(&self, url: &str, mut once: impl FnMut() -> Result<T, Failure>) -> Result<T> {
        let mut tries = 1;
        loop {
            match once() {
                Ok(value) => return Ok(value),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(reason)) if tries == TRIES => {
                    return Err(Error::Download { url: url.to_owned(), reason, tries });
                }
                Err(Failure::Passing(reason)) => {
                    tracing::debug!(url, reason, tries, "a download failed and is tried again");
                    pause(self.first_pause * 2_u32.pow(tries - 1));
                }
            }
            tries += 1;
        }
    }
}

fn pause(time: Duration) {
    let deadline = Instant::now() + time;
    while let Some(rest) = deadline.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero()) {
        park_timeout(rest);
    }
}
