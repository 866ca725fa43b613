//! Translators as a person reads them.

use super::{Row, Translators};
use crate::house::TranslatorRow;
use crate::output::Style;
use crate::text;

/// One block for each translator, and the summary below.
pub(super) fn render(told: &Translators, quiet: bool, style: Style) -> String {
    let mut out = String::new();
    for row in &told.translators {
        block(&mut out, row, style);
    }
    if !quiet && !told.summary.is_empty() {
        out.push_str(&format!("{}\n", told.summary));
    }
    out
}

fn block(out: &mut String, row: &Row, style: Style) {
    let TranslatorRow { name, serves, guest, .. } = &row.host;
    let head = format!("{} for {serves} in {guest} guests", style.bold(name.as_str()));
    out.push_str(&format!("{head}: {}\n", state(row, style)));
    let mut line = |key: &str, words: &str| out.push_str(&format!("  {key:<9}{words}\n"));
    line("file", &row.host.file.display().to_string());
    if !row.host.reason.is_empty() {
        line("why", &text::harmless(&row.host.reason));
    }
    if let Some(probe) = &row.host.probe {
        line("probe", &text::harmless(&probe.words));
    }
    for machine in row.machines.iter().filter(|machine| row.host.chosen || !machine.interpreter.is_empty()) {
        let words = if machine.serves {
            let version = if machine.version.is_empty() { "version unknown" } else { &machine.version };
            format!("{} ({version}, flags {})", style.good("serves"), machine.flags)
        } else if machine.problem.is_empty() {
            "not given to it".to_owned()
        } else {
            style.bad(&machine.problem)
        };
        line(&machine.machine, &words);
    }
    if !row.host.gaps.is_empty() && row.host.provisioned {
        line("gaps", &row.host.gaps.join("; "));
    }
}

fn state(row: &Row, style: Style) -> String {
    let TranslatorRow { listed, chosen, provisioned, hint, .. } = &row.host;
    match (*provisioned, *listed) {
        (true, _) if *chosen => style.good("provisioned"),
        (true, true) => "provisioned, after another on the list".to_owned(),
        (true, false) => style.warning("provisioned, and on no list of the configuration"),
        (false, true) => format!("{}; {hint}", style.warning("not provisioned")),
        (false, false) => style.dim("not provisioned, not on the list"),
    }
}
