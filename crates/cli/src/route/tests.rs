use std::path::Path;

use super::place::{beside, default_group, quoted};
use super::*;
use crate::output::Style;

fn installed() -> Status {
    Status {
        supported: true,
        program: Some("/usr/local/libexec/dhow/dhow-route-helper".into()),
        installed: true,
        usable: true,
        trouble: None,
        version: Some("0.1.0".to_owned()),
        group: Some(1000),
        devices: vec![Device {
            name: "dhow0".to_owned(),
            routes: vec!["172.17.0.0/16".to_owned(), "fd00:1::/64".to_owned()],
        }],
        warnings: Vec::new(),
    }
}

/// Issue 3, point 5: whether it is installed and matches, the device, its routes.
#[test]
fn status_says_what_is_installed_and_what_is_up() {
    let mut text = words::status(&installed(), Style::PLAIN);
    let trouble = Some("/usr/local/libexec/dhow/dhow-route-helper: it is not root's".to_owned());
    text += &words::status(&Status { usable: false, trouble, version: None, ..installed() }, Style::PLAIN);
    let absent = Status {
        installed: false,
        usable: false,
        version: None,
        group: None,
        devices: Vec::new(),
        ..installed()
    };
    text += &words::status(&absent, Style::PLAIN);
    text += &words::status(&Status { supported: false, program: None, ..absent }, Style::PLAIN);
    insta::assert_snapshot!(text);
}

#[test]
fn the_json_document_keeps_its_field_names() {
    let mut text = serde_json::to_string_pretty(&installed()).unwrap();
    let done = Installed { program: "/p".into(), version: "0.1.0".to_owned(), group: 1000, dry_run: false };
    text += &serde_json::to_string_pretty(&done).unwrap();
    text += &serde_json::to_string_pretty(&Removed { removed: vec!["/p".into()], dry_run: true }).unwrap();
    insta::assert_snapshot!(text);
}

/// Spec 16.4: what needs root is asked for, with the line to type, and never taken.
#[test]
fn without_root_the_exact_line_is_said() {
    let as_root = "sudo /opt/dhow route install --group 1000";
    let refused = failure(dhow_route_helper::Error::NeedsRoot("/p".into()), as_root);
    assert_eq!((refused.code.as_str(), refused.hint.as_str()), ("route-needs-root", as_root));
    assert_eq!(quoted(Path::new("/opt/it's here/dhow")), r"'/opt/it'\''s here/dhow'");
    assert_eq!(default_group(Some("1234")), 1234);
    assert_eq!(default_group(Some("-1")), default_group(None));
}

#[test]
fn a_missing_program_is_named() {
    let refused = beside(Path::new("/nowhere/dhow")).unwrap_err();
    assert_eq!(refused.code, "route-no-program");
    assert!(refused.message.contains("/nowhere/dhow-route-helper is missing"), "{refused}");
}
