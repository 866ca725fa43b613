//! The rules of the house that the compiler does not know: which crate may import which, what may be depended on, what
//! may be written down. `ARCHITECTURE.md` describes the floors; this table is what holds them up.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use dhow_testkit::{Run, place};
use serde_json::Value;

/// Who lives where. An import points to a lower floor, or is one of [`BESIDE`]; tests may use a neighbour, too.
const FLOORS: &[(u8, &[&str])] = &[
    (0, &["dhow-model", "dhow-proto"]),
    (1, &["dhow-home", "dhow-route-helper", "dhow-vhost"]),
    (2, &["dhow-channel", "dhow-assets", "dhow-hypervisor", "dhow-net", "dhow-share"]),
    (3, &["dhow-supervisor", "dhow-engine"]),
    (4, &["dhow-docker", "dhow-verify"]),
    (5, &["dhow-daemon", "dhow-cli"]),
    (6, &["dhow"]),
];
/// Imports between neighbours that are meant: (from, to).
const BESIDE: &[(&str, &str)] = &[("dhow-proto", "dhow-model")];
/// Imports that point down and are still wrong: the CLI asks the daemon, and knows no engine.
const NEVER: &[(&str, &str)] = &[
    ("dhow-cli", "dhow-engine"),
    ("dhow-cli", "dhow-docker"),
    ("dhow-cli", "dhow-supervisor"),
    ("dhow-cli", "dhow-hypervisor"),
    // It judges the engine through its public socket, as anybody could.
    ("dhow-verify", "dhow-engine"),
    ("dhow-verify", "dhow-supervisor"),
];
/// The guest's program knows only these; the host never imports it.
const GUEST: (&str, &[&str]) = ("dhow-agent", &["dhow-proto", "dhow-channel", "dhow-model"]);
/// Fixtures know everybody; only tests know them.
const FIXTURES: &str = "dhow-testkit";

/// What may be used in a work under `Apache-2.0 OR MIT` without further conditions on it. `deny.toml` has the same list.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Issue 2: a test enforces the direction of imports between floors.
#[test]
fn imports_point_down_only() {
    let floors: BTreeMap<&str, u8> =
        FLOORS.iter().flat_map(|(floor, names)| names.iter().map(|name| (*name, *floor))).collect();
    let mut wrong = Vec::new();
    for (from, to, kind) in arrows() {
        if !allowed(&floors, &from, &to, &kind) {
            wrong.push(format!("{from} imports {to} ({kind})"));
        }
    }
    assert!(wrong.is_empty(), "not a way down; see ARCHITECTURE.md:\n{}", wrong.join("\n"));
}

/// A crate that is in no table could import anything.
#[test]
fn every_crate_has_its_floor() {
    let known: BTreeSet<&str> =
        FLOORS.iter().flat_map(|(_, names)| names.iter().copied()).chain([GUEST.0, FIXTURES]).collect();
    let homeless: Vec<String> =
        members().into_iter().map(|(name, _)| name).filter(|name| !known.contains(&**name)).collect();
    assert!(homeless.is_empty(), "give these a floor in {}: {homeless:?}", file!());
}

/// Issue 2: Apache-2.0 OR MIT, with dependencies that allow it.
#[test]
fn every_dependency_is_freely_usable() {
    let metadata = metadata(&[]);
    let ours: BTreeSet<String> = members().into_iter().map(|(name, _)| name).collect();
    let mut wrong = Vec::new();
    for package in array(&metadata["packages"]) {
        let (name, version) = (text(&package["name"]), text(&package["version"]));
        if ours.contains(name) {
            continue;
        }
        let licence = text(&package["license"]);
        if !free(licence) {
            wrong.push(format!("{name} {version}: {licence:?}"));
        }
    }
    assert!(wrong.is_empty(), "not in the list of licences:\n{}", wrong.join("\n"));
}

/// `deny.toml` and this file cannot drift apart.
#[test]
fn both_lists_of_licences_are_one() {
    let deny = fs::read_to_string(place::root().join("deny.toml")).unwrap();
    let (_, list) = deny.split_once("allow = [").unwrap();
    let (list, _) = list.split_once(']').unwrap();
    let listed: Vec<&str> = list
        .lines()
        .map(|line| line.trim().trim_matches([',', '"']))
        .filter(|line| !line.is_empty())
        .collect();
    assert_eq!(listed, LICENCES);
}

/// Mirrors and registries are read from the host's own configuration; nobody's machine is named.
#[test]
fn no_file_names_a_registry_or_a_workplace() {
    // In pieces, so that this file does not name them either.
    let hosts =
        ["deb.debian", "security.debian", "snapshot.debian", "ftp.debian"].map(|name| format!("{name}.org"));
    let others =
        ["index.crates", "static.crates", "registry.npmjs", "pypi", "proxy.golang", "archive.ubuntu"]
            .iter()
            .zip([".io", ".io", ".org", ".org", ".org", ".com"])
            .map(|(name, end)| format!("{name}{end}"));
    let places = [["/wo", "rk/"].concat(), ["/tmp", "/h/"].concat()];
    let wrong: Vec<String> = hosts
        .into_iter()
        .chain(others)
        .chain(places)
        .flat_map(|word| files().into_iter().filter_map(move |(name, content)| named(&name, &content, &word)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The workspace's lints hold in every crate.
#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    for (name, dir) in members() {
        let manifest = fs::read_to_string(dir.join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true"), "{name}: add `[lints] workspace = true`");
    }
}

/// Style rule 9: unsafe code stands in one module `sys`, or is forbidden.
#[test]
fn unsafe_code_is_forbidden_or_in_one_module() {
    for (name, dir) in members() {
        let (_, root) = crate_root(&dir);
        let sys = files_below(&dir.join("src")).iter().any(|path| {
            path.file_stem().is_some_and(|stem| stem == "sys")
                || path.parent().is_some_and(|dir| dir.ends_with("sys"))
        });
        assert!(
            root.contains("#![forbid(unsafe_code)]") || sys,
            "{name}: forbid unsafe code, or keep it in a module `sys`"
        );
    }
}

/// Style rule 11 and 12: a crate says what lives in it, to readers of its code and of its manifest.
#[test]
fn every_crate_says_what_lives_in_it() {
    for (name, dir) in members() {
        let (path, root) = crate_root(&dir);
        let said: usize = root.lines().take_while(|line| line.starts_with("//!")).map(str::len).sum();
        assert!(said > 60, "{name}: {} begins with a paragraph that says what lives there", path.display());
        let manifest = fs::read_to_string(dir.join("Cargo.toml")).unwrap();
        assert!(!manifest.contains("\"to be written\""), "{name}: its description is still to be written");
    }
}

fn allowed(floors: &BTreeMap<&str, u8>, from: &str, to: &str, kind: &str) -> bool {
    if from == FIXTURES || (to == FIXTURES && kind == "dev") {
        return true;
    }
    if from == GUEST.0 {
        return GUEST.1.contains(&to);
    }
    if NEVER.contains(&(from, to)) {
        return false;
    }
    let (Some(here), Some(there)) = (floors.get(from), floors.get(to)) else { return false };
    there < here || (there == here && kind == "dev") || BESIDE.contains(&(from, to))
}

/// (from, to, kind) between our own crates; kind is `normal`, `dev` or `build`.
fn arrows() -> Vec<(String, String, String)> {
    let metadata = metadata(&["--no-deps"]);
    let mut arrows = Vec::new();
    for package in array(&metadata["packages"]) {
        for dependency in array(&package["dependencies"]) {
            let to = text(&dependency["name"]);
            if dependency["path"].is_string() {
                let kind = dependency["kind"].as_str().unwrap_or("normal");
                arrows.push((text(&package["name"]).to_owned(), to.to_owned(), kind.to_owned()));
            }
        }
    }
    arrows
}

fn members() -> Vec<(String, PathBuf)> {
    let metadata = metadata(&["--no-deps"]);
    let place = |package: &Value| {
        let manifest = Path::new(text(&package["manifest_path"])).to_path_buf();
        (text(&package["name"]).to_owned(), manifest.parent().unwrap().to_path_buf())
    };
    array(&metadata["packages"]).iter().map(place).collect()
}

fn metadata(more: &[&str]) -> Value {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let said = Run::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(more)
        .dir(place::root())
        .ok();
    serde_json::from_slice(&said.unwrap().stdout).unwrap()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Whether a licence expression leaves us a choice from [`LICENCES`]: one side of an OR, both of an AND.
fn free(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let answer = any(&mut words);
    answer && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any(words: &mut Words<'_>) -> bool {
    let mut answer = all(words);
    while words.next_if_eq(&"OR").is_some() {
        answer |= all(words);
    }
    answer
}

fn all(words: &mut Words<'_>) -> bool {
    let mut answer = one(words);
    while words.next_if_eq(&"AND").is_some() {
        answer &= one(words);
    }
    answer
}

fn one(words: &mut Words<'_>) -> bool {
    let Some(word) = words.next() else { return false };
    if word == "(" {
        let answer = any(words);
        return answer && words.next() == Some(")");
    }
    let mut licence = word.to_owned();
    if words.next_if_eq(&"WITH").is_some() {
        licence = format!("{licence} WITH {}", words.next().unwrap_or_default());
    }
    LICENCES.contains(&&*licence)
}

#[test]
fn a_licence_is_free_when_a_choice_of_it_is() {
    for good in ["MIT", "MIT/Apache-2.0", "GPL-2.0-only OR MIT", "(MIT OR Apache-2.0) AND Unicode-3.0"] {
        assert!(free(good), "{good}");
    }
    for bad in ["", "GPL-3.0-only", "MIT AND LGPL-2.1-only", "(MIT", "MIT GPL-2.0-only"] {
        assert!(!free(bad), "{bad}");
    }
}

/// All text files that git knows or would add: (name, content).
fn files() -> Vec<(String, String)> {
    let listed = Run::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .dir(place::root())
        .ok()
        .unwrap()
        .text();
    let read = |name: &str| Some((name.to_owned(), fs::read_to_string(place::root().join(name)).ok()?));
    listed.lines().filter(|name| *name != "Cargo.lock").filter_map(read).collect()
}

fn named(name: &str, content: &str, word: &str) -> Option<String> {
    let number = content.lines().position(|line| line.contains(word))?;
    Some(format!("{name}:{} names {word}", number + 1))
}

fn crate_root(dir: &Path) -> (PathBuf, String) {
    let path =
        ["src/lib.rs", "src/main.rs"].map(|name| dir.join(name)).into_iter().find(|path| path.is_file());
    let path = path.unwrap_or_else(|| panic!("{} has neither lib.rs nor main.rs", dir.display()));
    let content = fs::read_to_string(&path).unwrap();
    (path, content)
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}
