use dhow_proto::agent::Orphaned;
use dhow_proto::agent::translator_part::What;
use sha2::{Digest as _, Sha256};

use super::*;

const GUEST: Option<Arch> = Some(Arch::Amd64);

fn digest(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn promise(content: &[u8]) -> TranslatorFile {
    TranslatorFile {
        name: "qemu".to_owned(),
        serves: "arm64".to_owned(),
        sha256: digest(content),
        size: content.len() as u64,
    }
}

fn part(what: What) -> Result<TranslatorPart, String> {
    Ok(TranslatorPart { what: Some(what) })
}

async fn put(directory: &Path, parts: Vec<Result<TranslatorPart, String>>) -> Result<()> {
    let translators = Translators::at(directory.to_path_buf(), Binfmt::default(), GUEST);
    translators.open();
    translators.put(tokio_stream::iter(parts)).await
}

/// Spec 8.4: what the host sends is kept only whole and with the digest that it promised.
#[tokio::test]
async fn a_file_is_kept_when_it_is_what_was_promised() {
    let directory = tempfile::tempdir().unwrap();
    let content = [7_u8; 3000];
    let halves = content.chunks(1500).map(|half| part(What::Content(half.to_vec())));
    let parts = std::iter::once(part(What::File(promise(&content)))).chain(halves).collect();
    put(directory.path(), parts).await.unwrap();
    let place = directory.path().join(&digest(&content)[..16]).join("qemu-aarch64");
    assert_eq!(std::fs::read(&place).unwrap(), content);
    let mode = std::os::unix::fs::MetadataExt::mode(&place.metadata().unwrap());
    assert_eq!(mode & 0o777, 0o755);
}

/// Spec 8.4.
#[tokio::test]
async fn whatever_is_not_what_was_promised_is_refused_and_not_kept() {
    let content = [7_u8; 100];
    let good = || promise(&content);
    let whole = || part(What::Content(content.to_vec()));
    let table = [
        ("no description", vec![whole()], "description must come first"),
        ("nothing", Vec::new(), "description must come first"),
        ("too short", vec![part(What::File(good())), part(What::Content(vec![7; 99]))], "were promised"),
        (
            "too long",
            vec![part(What::File(good())), whole(), part(What::Content(vec![7]))],
            "more than the 100",
        ),
        ("other content", vec![part(What::File(good())), part(What::Content(vec![8; 100]))], "were promised"),
        ("twice", vec![part(What::File(good())), part(What::File(good()))], "second description"),
        ("broken off", vec![part(What::File(good())), whole(), Err("reset".to_owned())], "reset"),
        ("unknown part", vec![part(What::File(good())), Ok(TranslatorPart { what: None })], "not known"),
        (
            "no such translator",
            vec![part(What::File(TranslatorFile { name: "fex".to_owned(), ..good() }))],
            "fex for arm64 is not known",
        ),
        (
            "a path for a digest",
            vec![part(What::File(TranslatorFile { sha256: "../../etc".to_owned(), ..good() }))],
            "is no digest",
        ),
        ("huge", vec![part(What::File(TranslatorFile { size: 1 << 40, ..good() }))], "bytes, and 1 to"),
    ];
    for (name, parts, words) in table {
        let directory = tempfile::tempdir().unwrap();
        let error = put(directory.path(), parts).await.unwrap_err().to_string();
        assert!(error.contains(words), "{name}: {error}");
        let left = std::fs::read_dir(directory.path()).unwrap().flatten();
        let left: Vec<_> = left.flat_map(|dir| std::fs::read_dir(dir.path()).unwrap().flatten()).collect();
        assert!(left.is_empty(), "{name}: {left:?}");
    }
}

/// Spec 1.3: one translator serves an architecture, and only one of the table.
#[test]
fn what_cannot_be_used_is_refused_before_anything_changes() {
    let asked = |files: Vec<TranslatorFile>| used::understood(Path::new("/f"), GUEST, files);
    assert_eq!(asked(vec![promise(b"a")]).unwrap()[0].path.file_name().unwrap(), "qemu-aarch64");
    assert!(asked(vec![promise(b"a"), promise(b"b")]).unwrap_err().to_string().contains("two translators"));
    let own = TranslatorFile { serves: "amd64".to_owned(), ..promise(b"a") };
    assert!(asked(vec![own]).is_err());
}

/// Spec 1.9: labels name what serves, and nothing that does not.
#[test]
fn labels_name_only_what_serves() {
    let given = |serves: &str, problem: &str, version: &str| proto::Translator {
        file: Some(TranslatorFile { serves: serves.to_owned(), ..promise(b"a") }),
        problem: problem.to_owned(),
        version: version.to_owned(),
        ..proto::Translator::default()
    };
    let all = |given| labels::of(&proto::Translators { given, orphaned: Vec::<Orphaned>::new() });
    assert_eq!(all(vec![given("arm64", "", "10.0.2")]), ["dhow.translator.arm64=qemu 10.0.2"]);
    assert_eq!(all(vec![given("arm64", "", "")]), ["dhow.translator.arm64=qemu"]);
    assert_eq!(all(vec![given("arm64", "the kernel refused it", "10.0.2")]), [""; 0]);
}

/// Spec 1.8, issue 6: containers whose translator is gone are counted by container, and not when another serves them.
#[test]
fn containers_of_a_withdrawn_translator_are_counted() {
    let directory = tempfile::tempdir().unwrap();
    let interpreter = directory.path().join("qemu-aarch64");
    crate::settings::write(&interpreter, "x").unwrap();
    let proc = directory.path().join("proc");
    for (pid, group) in [("10", "0::/docker/aa\n"), ("11", "0::/docker/aa\n"), ("12", "0::/docker/bb\n")] {
        std::fs::create_dir_all(proc.join(pid)).unwrap();
        std::os::unix::fs::symlink(&interpreter, proc.join(pid).join("exe")).unwrap();
        crate::settings::write(&proc.join(pid).join("cgroup"), group).unwrap();
    }
    std::fs::create_dir_all(proc.join("13")).unwrap();
    let of = || Withdrawn::of(&interpreter, dhow_model::TranslatorName::Qemu, Arch::Arm64).unwrap();
    let mut withdrawn = vec![of()];
    let seen = orphans::count(&proc, &mut withdrawn, |_| false);
    assert_eq!((seen[0].containers, seen[0].name.as_str(), seen[0].serves.as_str()), (2, "qemu", "arm64"));
    assert!(orphans::count(&proc, &mut withdrawn, |_| true).is_empty());
    for pid in ["10", "11", "12"] {
        std::fs::remove_dir_all(proc.join(pid)).unwrap();
    }
    assert!(orphans::count(&proc, &mut withdrawn, |_| false).is_empty());
    assert!(withdrawn.is_empty());
}

/// Spec 1.6: a host that says nothing holds nothing up for long.
#[tokio::test]
async fn the_wait_for_the_host_has_a_limit() {
    let translators = Translators::at("/f".into(), Binfmt::default(), GUEST);
    assert!(translators.settled(Duration::from_millis(10)).await.contains("did not say"));
    assert_eq!(translators.report(), None);
}
