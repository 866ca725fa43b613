//! Every spelling of a platform, and what is none.

use proptest::prelude::*;

use crate::Arch;
use crate::platform::{BadPlatform, Platform};

fn shown(text: &str) -> Result<String, String> {
    Platform::parse(text, Arch::Arm64).map(|p| p.to_string()).map_err(|e| e.to_string())
}

/// Spec 1.2, and the normal forms that containerd's `platforms` documents.
#[test]
fn aliases_and_variants_become_containerd_s_normal_form() {
    for (text, normal) in [
        ("linux/amd64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v2", "linux/amd64/v2"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/x86_64", "linux/amd64"),
        ("linux/x86-64", "linux/amd64"),
        ("x86_64", "linux/amd64"),
        ("amd64", "linux/amd64"),
        ("linux/arm64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm64/v9", "linux/arm64/v9"),
        ("linux/aarch64", "linux/arm64"),
        ("aarch64", "linux/arm64"),
        ("arm64", "linux/arm64"),
        ("Linux/ARM64/V8", "linux/arm64"),
        ("LINUX/Amd64", "linux/amd64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/7", "linux/arm/v7"),
        ("linux/arm/v7", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("linux/arm/5", "linux/arm/v5"),
        ("arm", "linux/arm/v7"),
        ("armhf", "linux/arm/v7"),
        ("linux/armhf", "linux/arm/v7"),
        ("armel", "linux/arm/v6"),
        ("linux/386", "linux/386"),
        ("386", "linux/386"),
        ("i386", "linux/386"),
        ("linux/i386", "linux/386"),
        ("linux", "linux/arm64"),
        ("riscv64", "linux/riscv64"),
        ("linux/s390x", "linux/s390x"),
        ("linux/never-heard-of", "linux/never-heard-of"),
    ] {
        assert_eq!(shown(text), Ok(normal.to_owned()), "{text}");
    }
}

/// Spec 1.2: a platform that is not Linux or cannot be parsed is an error that says so.
#[test]
fn what_is_no_linux_platform_is_told_with_what_is_wrong() {
    for (text, words) in [
        ("", "is empty"),
        ("/", "empty part"),
        ("linux/", "empty part"),
        ("/amd64", "empty part"),
        ("linux//v7", "empty part"),
        ("linux/arm/v7/x", "more than three parts"),
        ("linux/amd64\n", r"has the character '\n'"),
        ("linux/\u{0}", r"has the character '\0'"),
        ("linux amd64", "has the character ' '"),
        ("linux/amd64,linux/arm64", "has the character ','"),
        ("linux/arm*", "has the character '*'"),
        ("linux/ärm", "has the character 'ä'"),
        ("windows(10.0.17763)/amd64", "has the character '('"),
        ("windows/amd64", "is for the operating system windows: Dhow runs Linux containers only"),
        ("Windows", "is for the operating system windows"),
        ("darwin/arm64", "is for the operating system darwin"),
        ("macos", "is for the operating system macos"),
        ("wasi/wasm", "is for the operating system wasi"),
        ("unknown/unknown", "is for the operating system unknown"),
        ("amd65", "neither an operating system nor a processor"),
        (&"a".repeat(200), "200 bytes long"),
    ] {
        let error = shown(text).unwrap_err();
        assert!(error.contains(words), "{text:?}: {error}");
        assert!(!error.chars().any(char::is_control), "{error:?}");
    }
}

/// Spec 1.2: a build names a list.
#[test]
fn a_list_has_each_platform_once_and_an_empty_one_has_none() {
    let list = |text: &str| Platform::parse_list(text, Arch::Amd64);
    let names = |text: &str| list(text).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(""), Vec::<String>::new());
    assert_eq!(names("linux/arm64,amd64,aarch64,linux"), ["linux/arm64", "linux/amd64"]);
    for text in [",", "linux/amd64,", "linux/amd64, linux/arm64", "linux/amd64,windows/amd64"] {
        assert!(list(text).is_err(), "{text}");
    }
    let long: Vec<String> = (0..100).map(|n| format!("linux/cpu{n}")).collect();
    assert_eq!(list(&long.join(",")), Err(BadPlatform::TooMany));
    assert_eq!(names(&["linux/arm64"; 100].join(",")), ["linux/arm64"]);
}

/// Spec 1.2: what an image's configuration says.
#[test]
fn an_image_s_fields_are_read_as_a_specifier_is() {
    let of = |os, cpu, variant| Platform::of_image(os, cpu, variant).map(|p| p.to_string());
    assert_eq!(of("linux", "arm64", "v8").unwrap(), "linux/arm64");
    assert_eq!(of("linux", "arm", "").unwrap(), "linux/arm/v7");
    assert_eq!(of("linux", "amd64", "").unwrap(), "linux/amd64");
    assert!(of("windows", "amd64", "").is_err());
    assert!(of("", "", "").is_err());
}

#[test]
fn an_architecture_s_platform_is_that_of_its_name() {
    for arch in Arch::ALL {
        assert_eq!(Platform::parse(arch.debian(), Arch::Amd64), Ok(Platform::of(arch)));
        assert_eq!(Platform::parse("linux", arch), Ok(Platform::of(arch)));
        assert_eq!(Platform::of(arch).cpu().arch(), Some(arch));
    }
}

proptest! {
    #[test]
    fn what_is_printed_parses_back(text in "[lL]inux/[a-zA-Z0-9_.-]{1,8}(/[a-zA-Z0-9_.-]{1,8})?") {
        let platform: Platform = text.parse().unwrap();
        prop_assert_eq!(platform.to_string().parse(), Ok(platform));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in ".*", bytes: Vec<u8>) {
        let lossy = String::from_utf8_lossy(&bytes).into_owned();
        for text in [text, lossy] {
            for answer in [shown(&text), Platform::parse_list(&text, Arch::Amd64).map(|_| String::new()).map_err(|e| e.to_string())] {
                if let Err(told) = answer {
                    prop_assert!(told.len() < 1000 && !told.chars().any(char::is_control), "{:?}", told);
                }
            }
        }
    }
}
