use clap::CommandFactory as _;
use clap_complete::Shell;

use super::*;

fn parse(words: &str) -> Result<Typed, clap::Error> {
    Typed::try_parse_from(words.split_whitespace())
}

/// Every command, with its path: `dhow config set`.
fn commands() -> Vec<(String, clap::Command)> {
    fn walk(command: &clap::Command, path: &str, found: &mut Vec<(String, clap::Command)>) {
        let path = if path.is_empty() { "dhow".to_owned() } else { format!("{path} {}", command.get_name()) };
        for sub in command.get_subcommands() {
            walk(sub, &path, found);
        }
        found.push((path, command.clone()));
    }
    let mut root = Typed::command().term_width(100);
    root.build();
    let mut found = Vec::new();
    walk(&root, "", &mut found);
    found
}

#[test]
fn the_command_line_is_consistent() {
    Typed::command().debug_assert();
}

/// Issue 2, point 9: help says in one line what each command and flag does.
#[test]
fn every_command_and_flag_is_documented_in_one_line() {
    for (path, command) in commands() {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        assert!(!about.is_empty() && !about.contains('\n') && !about.ends_with('.'), "{path}: {about:?}");
        for arg in command.get_arguments() {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(!help.is_empty() && !help.contains('\n'), "{path} {}: {help:?}", arg.get_id());
        }
    }
}

/// Spec 15.1: every command has `--json`.
#[test]
fn every_command_takes_the_flags_of_every_command() {
    for (path, command) in commands() {
        let flags: Vec<_> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
        for flag in ["json", "home", "verbose", "quiet", "no-progress", "time-limit"] {
            assert!(flags.contains(&flag), "{path} has no --{flag}");
        }
    }
}

/// The reference for scripts is complete.
#[test]
fn the_manual_names_every_command_and_flag() {
    let manual = include_str!("../../../docs/cli.md");
    for (path, command) in commands() {
        if command.is_hide_set() || path == "dhow" {
            continue;
        }
        let (section, rest) = path.strip_prefix("dhow ").unwrap().split_once(' ').unwrap_or((&path[5..], ""));
        let from =
            manual.find(&format!("### `dhow {section}")).unwrap_or_else(|| panic!("no section for {path}"));
        let text = manual[from + 3..].split("\n### ").next().unwrap();
        assert!(rest.is_empty() || text.contains(&format!("| `{rest}")), "{path}");
        for flag in command.get_arguments().filter_map(clap::Arg::get_long) {
            assert!(
                text.contains(&format!("--{flag}")) || manual.contains(&format!("`--{flag}")),
                "{path} --{flag}"
            );
        }
    }
}

#[test]
fn every_visible_command_has_examples_in_its_long_help() {
    for (path, command) in commands() {
        if path.split(' ').count() == 2 && !command.is_hide_set() {
            let help = command.clone().render_long_help().to_string();
            assert!(help.contains("Example"), "{path}");
        }
    }
}

fn without_common_flags(help: &str) -> String {
    let (before, after) = help.split_once("\nEverywhere:\n").unwrap();
    let rest = after.lines().skip_while(|line| line.is_empty() || line.starts_with(' '));
    format!("{before}\n{}", rest.collect::<Vec<_>>().join("\n"))
}

#[test]
fn help_reads_well() {
    let mut text = String::new();
    for (path, mut command) in commands() {
        if !command.is_hide_set() {
            let help = command.render_long_help().to_string();
            // The flags of every command are shown once.
            let help = if path == "dhow" { help } else { without_common_flags(&help) };
            text.push_str(&format!("──── {path} --help\n{}\n\n", help.trim_end()));
        }
    }
    insta::assert_snapshot!(text);
}

#[test]
fn what_cannot_be_meant_is_refused_with_a_suggestion() {
    for (words, expected) in [
        ("dhow stauts", "'status'"),
        ("dhow up --jsno", "'--json'"),
        ("dhow logs dokcerd", "'dockerd'"),
        ("dhow logs -n few", "number of lines"),
        ("dhow status --time-limit 0", "1..=86400"),
        ("dhow assets build --arch riscv64", "use amd64 or arm64"),
        ("dhow supervise Native", "cannot name a machine"),
        ("dhow config set machine.cpus", "<VALUE>"),
    ] {
        let error = parse(words).unwrap_err().to_string();
        assert!(error.contains(expected), "{words}: {error}");
    }
}

#[test]
fn words_are_turned_into_values() {
    let typed = parse("dhow logs dockerd -f -n all --json").unwrap();
    assert!(typed.everywhere.json);
    assert!(matches!(
        typed.command,
        Verb::Logs { source: Source::Dockerd, follow: true, lines: Amount::All, .. }
    ));
    assert!(matches!(parse("dhow down --force").unwrap().command, Verb::Down { force: true, .. }));
    assert!(matches!(parse("dhow probe-kvm").unwrap().command, Verb::ProbeKvm));
    assert!(matches!(
        parse("dhow completions fish").unwrap().command,
        Verb::Completions { shell: Shell::Fish }
    ));
    let Verb::Assets { verb: AssetsVerb::Build { arch, .. } } =
        parse("dhow assets build --arch x86_64").unwrap().command
    else {
        panic!("another command");
    };
    assert_eq!(arch.arch, Some(Arch::Amd64));
}

#[test]
fn json_is_asked_for_by_any_word_before_the_end_of_flags() {
    let asks = |words: &str| asks_for_json(words.split_whitespace().map(Into::into));
    assert!(asks("dhow upp --json"));
    assert!(!asks("dhow upp -- --json"));
    assert!(!asks("dhow upp"));
}

/// Issue 2, point 9: completions of each shell parse, where the shell is there to say so.
#[test]
fn completions_are_scripts_that_their_shells_accept() {
    for (shell, check) in [
        (Shell::Bash, vec!["bash", "-n"]),
        (Shell::Zsh, vec!["zsh", "-n"]),
        (Shell::Fish, vec!["fish", "--no-execute"]),
    ] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Typed::command(), "dhow", &mut script);
        let text = String::from_utf8(script.clone()).unwrap();
        assert!(text.contains("completions") && text.contains("doctor"), "{shell}");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("script");
        dhow_home::atomic::write(&file, &script, 0o600).unwrap();
        match std::process::Command::new(check[0]).arg(check[1]).arg(&file).status() {
            Ok(status) => assert!(status.success(), "{shell}"),
            Err(error) => eprintln!("skipped {shell}: {error}"),
        }
    }
}
