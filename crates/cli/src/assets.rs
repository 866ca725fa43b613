//! `dhow assets`: asks the executable and prints what came of it.

use crate::command::Caller;
use crate::config;
use crate::error::{Error, Result};
use crate::exit;
use crate::house::{AssetsCommand, AssetsDone, House};
use crate::output::Style;
use crate::progress::Progress;
use crate::text;

/// How much of a digest is shown to people.
const DIGEST: usize = 12;

/// Works on boot assets.
///
/// # Errors
/// When it could not be done.
pub fn assets(house: &dyn House, caller: &Caller, command: &AssetsCommand) -> Result<u8> {
    let config = config::load(&caller.home)?;
    let mut progress = Progress::new(&caller.output);
    let done = house.assets(&caller.home, &config, command, &mut progress).map_err(Error::Failed)?;
    progress.finish();
    drop(progress);
    caller.output.answer(&render(&done, caller.output.quiet, caller.output.stdout), &done)?;
    Ok(if done.problems.is_empty() { exit::OK } else { exit::FAILED })
}

fn render(done: &AssetsDone, quiet: bool, style: Style) -> String {
    let mut out = String::new();
    if !done.assets.is_empty() {
        let rows = done.assets.iter().map(|a| {
            let digest = a.sha256.get(..DIGEST).unwrap_or(&a.sha256);
            let set = a.set.get(..DIGEST).unwrap_or(&a.set);
            [set, &a.arch.to_string(), &a.name, &a.version, &text::bytes(a.bytes), digest, &a.state]
                .map(str::to_owned)
        });
        out.push_str(&columns(
            ["SET", "ARCH", "NAME", "VERSION", "SIZE", "SHA-256", "STATE"],
            rows.collect(),
            style,
        ));
    }
    for problem in &done.problems {
        let words = text::harmless(&problem.message).replace('\n', "\n  ");
        out.push_str(&format!("{} {}: {words}\n", style.bad("bad:"), problem.path.display()));
        if !problem.hint.is_empty() {
            out.push_str(&format!("  {} {}\n", style.bold("try:"), problem.hint));
        }
    }
    if !quiet && !done.summary.is_empty() {
        out.push_str(&format!("{}\n", done.summary));
    }
    out
}

/// Text in columns as wide as their widest cell.
fn columns<const N: usize>(head: [&str; N], rows: Vec<[String; N]>, style: Style) -> String {
    let width =
        |n: usize| rows.iter().map(|row| row[n].chars().count()).chain([head[n].len()]).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: [&str; N]| {
        let cells = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut out = format!("{}\n", style.bold(&line(head)));
    for row in &rows {
        out.push_str(&format!("{}\n", line(std::array::from_fn(|n| row[n].as_str()))));
    }
    out
}

#[cfg(test)]
mod tests {
    use dhow_model::Arch;

    use super::*;
    use crate::house::{Asset, Problem};

    #[test]
    fn assets_are_listed_in_columns_and_problems_below() {
        let asset = |name: &str, bytes, state: &str| Asset {
            set: "6f1c".repeat(16),
            name: name.to_owned(),
            version: "6.12.48".to_owned(),
            arch: Arch::Amd64,
            path: format!("/assets/6f1c/{name}").into(),
            bytes,
            sha256: "0123456789abcdef".repeat(4),
            state: state.to_owned(),
        };
        let done = AssetsDone {
            summary: "1 of 2 files is damaged.".to_owned(),
            assets: vec![asset("kernel", 31 << 20, "ready"), asset("root", 140 << 20, "damaged")],
            problems: vec![Problem {
                path: "/assets/6f1c/root".into(),
                message: "block 7 differs\nexpected aa, found ab".to_owned(),
                hint: "dhow assets build".to_owned(),
            }],
        };
        insta::assert_snapshot!(render(&done, false, Style::PLAIN), @r#"
        SET           ARCH   NAME    VERSION  SIZE     SHA-256       STATE
        6f1c6f1c6f1c  amd64  kernel  6.12.48  31 MiB   0123456789ab  ready
        6f1c6f1c6f1c  amd64  root    6.12.48  140 MiB  0123456789ab  damaged
        bad: /assets/6f1c/root: block 7 differs
          expected aa, found ab
          try: dhow assets build
        1 of 2 files is damaged.
        "#);
    }
}
