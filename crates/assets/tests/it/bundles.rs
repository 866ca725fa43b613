//! Export and import.

use dhow_assets::{Error, Store, build};
use dhow_model::Arch;

use crate::archive::{Archive, flip};

fn quiet(_: dhow_assets::Progress) {}

/// Spec 7.3: what was exported is imported as it was, from each kind of file.
#[test]
fn a_build_survives_export_and_import() {
    let Some(archive) = Archive::start() else { return };
    let store = Store::open(archive.path("store")).unwrap();
    let bundle = build(&store, &archive.options(), &mut quiet).unwrap();
    for name in ["bundle.tar", "bundle.tar.gz", "bundle.tar.xz", "bundle.tar.zst"] {
        let file = archive.path(name);
        if name.ends_with(".zst") {
            let plain = std::fs::read(archive.path("bundle.tar")).unwrap();
            let level = ruzstd::encoding::CompressionLevel::Fastest;
            crate::archive::write(&file, &ruzstd::encoding::compress_to_vec(plain.as_slice(), level));
        } else {
            store.export(&bundle, &file, &mut quiet).unwrap();
        }
        let other = Store::open(archive.path(&format!("{name}.store"))).unwrap();
        let imported = other.import(&file, &mut quiet).unwrap();
        assert_eq!((&imported.id, &imported.manifest), (&bundle.id, &bundle.manifest));
        other.verify(&imported, &mut quiet).unwrap();
        assert_eq!(other.current(Arch::Amd64).unwrap(), Some(imported));
    }
    let again = archive.path("again.tar");
    store.export(&bundle, &again, &mut quiet).unwrap();
    assert_eq!(std::fs::read(again).unwrap(), std::fs::read(archive.path("bundle.tar")).unwrap());
}

/// Spec 7.2: nothing of a bundle is used before it is verified.
#[test]
fn a_bundle_that_was_tampered_with_changes_nothing() {
    let Some(archive) = Archive::start() else { return };
    let store = Store::open(archive.path("store")).unwrap();
    let bundle = build(&store, &archive.options(), &mut quiet).unwrap();
    let file = archive.path("bundle.tar");
    store.export(&bundle, &file, &mut quiet).unwrap();
    let whole = std::fs::read(&file).unwrap();
    let other = Store::open(archive.path("other")).unwrap();
    let import = |content: &[u8]| {
        crate::archive::write(&file, content);
        let error = other.import(&file, &mut quiet).unwrap_err();
        assert_eq!(other.list().unwrap(), [], "{error}");
        assert_eq!(other.current(Arch::Amd64).unwrap(), None);
        error
    };
    let mut flipped = whole.clone();
    flipped[whole.len() - 100_000] ^= 1;
    assert!(matches!(import(&flipped), Error::WrongHash { .. }));
    for part in [2, 3, 5, 10] {
        let error = import(&whole[..whole.len() - whole.len() / part]);
        assert!(matches!(error, Error::Bundle { .. } | Error::WrongSize { .. }), "{error}");
    }
    assert!(matches!(import(b"no archive at all"), Error::Bundle { .. }));
    assert!(matches!(import(b""), Error::Bundle { .. }));
    let text = String::from_utf8_lossy(&whole[..600]).into_owned();
    assert!(text.starts_with("dhow-assets.json"));
    crate::archive::write(&file, &whole);
    flip(&file, 700);
    assert!(other.import(&file, &mut quiet).is_err());
    crate::archive::write(&file, &whole);
    assert_eq!(other.import(&file, &mut quiet).unwrap().id, bundle.id);
}

/// A file that the manifest does not name is refused, wherever its path would lead.
#[test]
fn a_bundle_with_a_foreign_file_is_refused() {
    let Some(archive) = Archive::start() else { return };
    let store = Store::open(archive.path("store")).unwrap();
    let bundle = build(&store, &archive.options(), &mut quiet).unwrap();
    let file = archive.path("bundle.tar");
    store.export(&bundle, &file, &mut quiet).unwrap();
    let content = std::fs::read(&file).unwrap();
    let mut forged = tar::Builder::new(Vec::new());
    for (index, entry) in tar::Archive::new(content.as_slice()).entries().unwrap().enumerate() {
        let entry = entry.unwrap();
        let header = entry.header().clone();
        forged.append(&header, entry).unwrap();
        if index == 0 {
            let mut header = tar::Header::new_gnu();
            header.as_mut_bytes()[..12].copy_from_slice(b"../../escape");
            header.set_size(4);
            header.set_mode(0o755);
            header.set_cksum();
            forged.append(&header, b"evil".as_slice()).unwrap();
        }
    }
    crate::archive::write(&file, &forged.into_inner().unwrap());
    let other = Store::open(archive.path("other")).unwrap();
    let error = other.import(&file, &mut quiet).unwrap_err().to_string();
    assert!(error.contains("it holds ../../escape"), "{error}");
}
