//! A build as one file, to carry to a host without a mirror: a tar archive that begins with the manifest and holds every file
//! under its digest. Nothing of it is used before all of it is verified.

use std::collections::BTreeSet;
use std::fs::{File, Permissions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::NamedTempFile;

use crate::error::{At as _, Error, Result};
use crate::manifest::{Bundle, Manifest, Output};
use crate::progress::{Progress, Report, Step};
use crate::store::Store;

const MANIFEST: &str = "dhow-assets.json";
const BLOBS: &str = "blobs/";
/// A manifest is some 15 kB.
const MANIFEST_LIMIT: u64 = 4 << 20;
/// How long an import waits for a build.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// How a bundle file is compressed, by the end of its name.
#[derive(Clone, Copy)]
enum Compression {
    None,
    Gzip,
    Xz,
}

impl Compression {
    fn of(path: &Path) -> Self {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("gz" | "tgz") => Self::Gzip,
            Some("xz" | "txz") => Self::Xz,
            _ => Self::None,
        }
    }
}

impl Store {
    /// Writes a build to a file, verifying it on the way. A name that ends in `.gz` or `.xz` asks for compression. The file appears
    /// when it is whole.
    ///
    /// # Errors
    /// The store's files are damaged; the destination cannot be written.
    pub fn export(&self, bundle: &Bundle, destination: &Path, report: Report<'_>) -> Result<()> {
        let directory = match destination.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut file = NamedTempFile::new_in(directory).at("create a file in", directory)?;
        self.write_archive(bundle, Compression::of(destination), file.as_file_mut(), destination, report)?;
        file.as_file().set_permissions(Permissions::from_mode(0o644)).at("open to readers", destination)?;
        file.as_file().sync_all().at("sync", destination)?;
        file.persist(destination).map_err(|error| error.error).at("place", destination)?;
        Ok(())
    }

    fn write_archive(
        &self,
        bundle: &Bundle,
        compression: Compression,
        file: &mut File,
        destination: &Path,
        report: Report<'_>,
    ) -> Result<()> {
        let file = BufWriter::with_capacity(1 << 20, file);
        match compression {
            Compression::None => {
                let mut file = self.append_all(bundle, file, destination, report)?;
                file.flush().at("write", destination)
            }
            Compression::Gzip => {
                let encoder = flate2::write::GzEncoder::new(file, flate2::Compression::default());
                let encoder = self.append_all(bundle, encoder, destination, report)?;
                encoder.finish().and_then(|mut file| file.flush()).at("write", destination)
            }
            Compression::Xz => {
                let options = lzma_rust2::XzOptions::with_preset(3);
                let encoder = lzma_rust2::XzWriter::new(file, options).at("write", destination)?;
                let encoder = self.append_all(bundle, encoder, destination, report)?;
                encoder.finish().and_then(|mut file| file.flush()).at("write", destination)
            }
        }
    }

    fn append_all<W: Write>(
        &self,
        bundle: &Bundle,
        output: W,
        destination: &Path,
        report: Report<'_>,
    ) -> Result<W> {
        let mut archive = tar::Builder::new(output);
        let text = bundle.manifest.to_json();
        archive
            .append(&header(MANIFEST, text.len() as u64).at("write", destination)?, text.as_slice())
            .at("write", destination)?;
        for (name, output) in distinct(&bundle.manifest) {
            self.check_blob(output, &mut |done| {
                report(Progress::Bytes {
                    step: Step::Verify,
                    detail: name.to_owned(),
                    done,
                    total: output.size,
                });
            })?;
            let path = self.blob(&output.sha256);
            let source = File::open(&path).at("open", &path)?;
            let header =
                header(&format!("{BLOBS}{}", output.sha256), output.size).at("write", destination)?;
            let source = Counting { inner: source, done: 0, total: output.size, name, report };
            archive.append(&header, source).at("write", destination)?;
        }
        archive.into_inner().at("write", destination)
    }

    /// Takes a build from a file (tar, perhaps compressed with gzip, xz or zstd) and makes it what new machines boot.
    ///
    /// # Errors
    /// [`Error::Bundle`] or [`Error::WrongHash`] when anything in it is not what its manifest says; the store is then as before.
    pub fn import(&self, file: &Path, report: Report<'_>) -> Result<Bundle> {
        let _exclusive = self.exclusive(PATIENCE, report)?;
        let refuse = |reason: String| Error::Bundle { path: file.to_path_buf(), reason };
        let source = decompressed(file)?;
        let mut archive = tar::Archive::new(source);
        let mut entries = archive.entries().map_err(|error| refuse(error.to_string()))?;
        let mut next = || match entries.next() {
            None => Ok(None),
            Some(Ok(entry)) => Ok(Some(entry)),
            Some(Err(error)) => Err(refuse(error.to_string())),
        };
        let manifest = match next()? {
            Some(entry) if entry.path_bytes() == MANIFEST.as_bytes() => {
                let mut text = Vec::new();
                entry
                    .take(MANIFEST_LIMIT)
                    .read_to_end(&mut text)
                    .map_err(|error| refuse(error.to_string()))?;
                Manifest::parse(&text).map_err(|reason| refuse(format!("its manifest: {reason}")))?
            }
            _ => return Err(refuse(format!("it does not begin with {MANIFEST}"))),
        };
        let mut missing: BTreeSet<&str> =
            distinct(&manifest).iter().map(|(_, output)| output.sha256.as_str()).collect();
        while let Some(mut entry) = next()? {
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let found = distinct(&manifest)
                .into_iter()
                .find(|(_, output)| path.strip_prefix(BLOBS) == Some(&output.sha256));
            let (name, expected) =
                found.ok_or_else(|| refuse(format!("it holds {path}, which its manifest does not name")))?;
            self.take_in(&mut entry, file, name, expected, report)?;
            missing.remove(expected.sha256.as_str());
        }
        match missing.first() {
            Some(digest) => Err(refuse(format!("it ends before {BLOBS}{digest}"))),
            None => self.publish(manifest),
        }
    }

    fn take_in(
        &self,
        source: &mut impl Read,
        file: &Path,
        name: &str,
        expected: &Output,
        report: Report<'_>,
    ) -> Result<()> {
        let mut damaged = None;
        let limited = source.take(expected.size.saturating_add(1));
        let mut source = Counting { inner: limited, done: 0, total: expected.size, name, report };
        self.put_checked(
            |sink| match io::copy(&mut source, sink) {
                Err(error) if is_damage(&error) => {
                    damaged = Some(error.to_string());
                    Ok(())
                }
                other => other.map(drop),
            },
            &|found| {
                let label = format!("{} in {}", name, file.display());
                if found.size != expected.size {
                    let hint = "; the bundle is cut short or damaged".to_owned();
                    return Err(Error::WrongSize {
                        name: label,
                        expected: expected.size,
                        found: found.size,
                        hint,
                    });
                }
                if found.sha256 != expected.sha256 {
                    let (expected, found) = (expected.sha256.clone(), found.sha256.clone());
                    let hint = "; the bundle is damaged".to_owned();
                    return Err(Error::WrongHash { name: label, expected, found, hint });
                }
                Ok(())
            },
        )
        .map(drop)
        .map_err(|error| match damaged {
            Some(reason) => Error::Bundle { path: PathBuf::from(file), reason },
            None => error,
        })
    }
}

/// Errors that come from the content of what is read rather than from the system.
fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::Other
    )
}

fn distinct(manifest: &Manifest) -> Vec<(&'static str, &Output)> {
    let mut seen = BTreeSet::new();
    let mut blobs = manifest.blobs().to_vec();
    blobs.retain(|(_, output)| seen.insert(&output.sha256));
    blobs
}

fn header(name: &str, size: u64) -> io::Result<tar::Header> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name)?;
    header.set_size(size);
    header.set_mode(0o444);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    Ok(header)
}

/// The content of a file, whichever way it is compressed.
fn decompressed(path: &Path) -> Result<Box<dyn Read>> {
    let refuse = |reason: String| Error::Bundle { path: path.to_path_buf(), reason };
    let mut head = [0; 6];
    let mut file = File::open(path).at("open", path)?;
    let mut length = 0;
    while length < head.len() {
        match file.read(&mut head[length..]).at("read", path)? {
            0 => break,
            count => length += count,
        }
    }
    let source = BufReader::with_capacity(1 << 20, File::open(path).at("open", path)?);
    Ok(match head {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::GzDecoder::new(source)),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Box::new(lzma_rust2::XzReader::new(source, true)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let reader =
                ruzstd::decoding::StreamingDecoder::new(source).map_err(|error| refuse(error.to_string()))?;
            Box::new(reader)
        }
        _ => Box::new(source),
    })
}

/// A reader that reports how far it is.
struct Counting<'a, R> {
    inner: R,
    done: u64,
    total: u64,
    name: &'a str,
    report: Report<'a>,
}

impl<R: Read> Read for Counting<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.done += count as u64;
        let (done, total) = (self.done, self.total);
        (self.report)(Progress::Bytes { step: Step::Copy, detail: self.name.to_owned(), done, total });
        Ok(count)
    }
}
