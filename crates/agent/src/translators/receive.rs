//! A translator's file as it comes from the host: of a length and a digest that were said before, or not kept at all.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dhow_model::Arch;
use dhow_model::translator::{LIMIT, Translator};
use dhow_proto::agent::TranslatorPart;
use dhow_proto::agent::translator_part::What;
use sha2::{Digest as _, Sha256};
use tokio_stream::{Stream, StreamExt as _};

use super::used;
use crate::{Error, Result};

/// Between two parts.
const PART: Duration = Duration::from_secs(20);

/// Where a translator's file stands once it is whole.
pub(super) fn place(files: &Path, translator: &Translator, sha256: &str) -> PathBuf {
    files.join(sha256.get(..16).unwrap_or(sha256)).join(translator.file)
}

/// Keeps the file that `parts` bring.
pub(super) async fn file<E: std::fmt::Display>(
    files: &Path,
    guest: Option<Arch>,
    mut parts: impl Stream<Item = Result<TranslatorPart, E>> + Unpin,
) -> Result<()> {
    let Some(What::File(promised)) = next(&mut parts).await? else {
        return Err(Error::Translator("its description must come first".to_owned()));
    };
    let translator = used::row(guest, &promised)?;
    if promised.size == 0 || promised.size > LIMIT {
        let why = format!("{} has {} bytes, and 1 to {LIMIT} are taken", translator.file, promised.size);
        return Err(Error::Translator(why));
    }
    let place = place(files, translator, &promised.sha256);
    let part = place.with_extension("part");
    if let Some(directory) = place.parent() {
        fs::create_dir_all(directory).map_err(Error::file("make", directory))?;
    }
    let kept = keep(&part, &promised.sha256, promised.size, &mut parts).await;
    if let Err(error) = kept {
        // What came of it is of no use; the directory is cleared with the next change.
        return match fs::remove_file(&part) {
            Ok(()) => Err(error),
            Err(_) if !part.exists() => Err(error),
            Err(left) => Err(Error::file("remove", &part)(left)),
        };
    }
    fs::set_permissions(&part, Permissions::from_mode(0o755))
        .map_err(Error::file("make executable", &part))?;
    fs::rename(&part, &place).map_err(Error::file("rename", &part))
}

async fn keep<E: std::fmt::Display>(
    part: &Path,
    sha256: &str,
    size: u64,
    parts: &mut (impl Stream<Item = Result<TranslatorPart, E>> + Unpin),
) -> Result<()> {
    let mut file = fs::File::create(part).map_err(Error::file("make", part))?;
    let (mut digest, mut length) = (Sha256::new(), 0_u64);
    while let Some(what) = next(parts).await? {
        let What::Content(content) = what else {
            return Err(Error::Translator("a second description came in the middle".to_owned()));
        };
        length += content.len() as u64;
        if length > size {
            return Err(Error::Translator(format!("more than the {size} bytes that were promised came")));
        }
        digest.update(&content);
        file.write_all(&content).map_err(Error::file("write", part))?;
    }
    let found: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if length != size || found != sha256 {
        let why = format!("{size} bytes with digest {sha256} were promised, and {length} with {found} came");
        return Err(Error::Translator(why));
    }
    Ok(())
}

async fn next<E: std::fmt::Display>(
    parts: &mut (impl Stream<Item = Result<TranslatorPart, E>> + Unpin),
) -> Result<Option<What>> {
    match tokio::time::timeout(PART, parts.next()).await {
        Ok(Some(Ok(part))) => match part.what {
            Some(what) => Ok(Some(what)),
            None => Err(Error::Translator("a part of a kind that is not known came".to_owned())),
        },
        Ok(Some(Err(error))) => Err(Error::Translator(format!("its parts ended: {error}"))),
        Ok(None) => Ok(None),
        Err(_) => Err(Error::Translator(format!("no part came for {} s", PART.as_secs()))),
    }
}
