//! `dhow context`.

use serde_json::json;

use super::{Context, State};
use crate::args::ContextVerb;
use crate::command::Caller;
use crate::config;
use crate::error::Result;
use crate::exit;

/// Does what was asked about the Docker context.
pub fn run(caller: &Caller, verb: &ContextVerb) -> Result<u8> {
    let config = config::load(&caller.home)?;
    let context = Context::of(&caller.home, &config)?;
    let output = &caller.output;
    match verb {
        ContextVerb::Show => {
            let state = context.state()?;
            output.answer(&render(&state), &state)?;
        }
        ContextVerb::Create => {
            caller.home.create()?;
            context.create()?;
            let words = format!("The context {} leads to {}.\n", context.name(), context.host());
            output.answer(&words, &context.state()?)?;
        }
        ContextVerb::Use => {
            caller.home.create()?;
            context.make_current()?;
            output.answer(&format!("The context {} is current.\n", context.name()), &context.state()?)?;
        }
        ContextVerb::Restore => {
            let words = match context.restore()? {
                Some(name) => format!("The context {name} is current again.\n"),
                None => format!("The context {} was not current; nothing changed.\n", context.name()),
            };
            output.answer(&words, &context.state()?)?;
        }
        ContextVerb::Remove => {
            let removed = context.remove()?;
            let words = if removed.is_empty() {
                "There was no context of this engine.\n".to_owned()
            } else {
                format!("Removed the context {}.\n", removed.join(", "))
            };
            let current = context.state()?.current_name;
            output.answer(&words, &json!({ "removed": removed, "current_name": current }))?;
        }
    }
    if let (ContextVerb::Show | ContextVerb::Use, Some(warning)) = (verb, context.overridden()) {
        output.warn(&warning);
    }
    Ok(exit::OK)
}

fn render(state: &State) -> String {
    let exists =
        if state.exists { "" } else { " (does not exist; `dhow up` or `dhow context create` makes it)" };
    let mut words = format!("context   {}{exists}\nendpoint  {}\n", state.name, state.host);
    words.push_str(&format!("current   {}\n", state.current_name));
    if let Some(previous) = &state.previous {
        words.push_str(&format!("previous  {previous}\n"));
    }
    words
}
