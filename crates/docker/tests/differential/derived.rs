//! Calls derived from the API's description: each documented parameter once good and once bad, names of things that do
//! not exist, bodies that are none, methods that a path does not have.

use dhow_testkit::description::{Operation, Parameter};

use crate::call::Call;
use crate::plans::Plan;

/// One derived call and what it is for.
pub struct Case {
    pub label: String,
    pub call: Call,
    /// dockerd is expected to take it: a good value of this parameter.
    pub good: Option<String>,
}

/// All of one operation; the plan's own call first.
pub fn cases(operation: &Operation, plan: &Plan) -> Vec<Case> {
    let mut cases = vec![good("its plan", plan.call.clone(), "")];
    for parameter in &operation.parameters {
        match parameter.place.as_str() {
            "path" => cases.extend(unknown_names(operation, plan, parameter)),
            "query" | "header" => cases.extend(values(plan, parameter)),
            _ if parameter.kind == "json" => cases.extend(json_bodies(operation, plan)),
            _ => cases.extend(byte_bodies(plan)),
        }
    }
    cases.extend(plan.more.iter().map(|call| other("of the plan", call.clone())));
    cases
}

/// Methods that the description does not have for this path.
pub fn wrong_methods<'a>(operations: &'a [&Operation], plan: &'a Plan) -> impl Iterator<Item = Case> + 'a {
    let methods = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"];
    let described = |method: &str| operations.iter().any(|operation| operation.method == method);
    methods.into_iter().filter(move |method| !described(method)).map(|method| {
        let call = Call { method: method.to_owned(), body: Vec::new(), streams: true, ..plan.call.clone() };
        other("a wrong method", call)
    })
}

fn good(label: &str, call: Call, parameter: &str) -> Case {
    Case { label: label.to_owned(), call, good: Some(parameter.to_owned()) }
}

fn other(label: &str, call: Call) -> Case {
    Case { label: label.to_owned(), call, good: None }
}

fn unknown_names(operation: &Operation, plan: &Plan, parameter: &Parameter) -> Vec<Case> {
    let query = plan.call.target.split_once('?').map(|(_, query)| format!("?{query}")).unwrap_or_default();
    let names = ["no-such-thing", "%2e%2e", "a%00b", "0123456789abcdef", "UPPER%20case"];
    names
        .into_iter()
        .map(|name| {
            let path = operation.path.replace(&format!("{{{}}}", parameter.name), name);
            other("an unknown name", Call { target: format!("{path}{query}"), ..plan.call.clone() })
        })
        .collect()
}

fn values(plan: &Plan, parameter: &Parameter) -> Vec<Case> {
    let name = parameter.name.as_str();
    let planned = plan.values.iter().filter(|(known, _)| *known == name).map(|(_, value)| *value);
    let mut goods: Vec<&str> = planned.collect();
    match parameter.kind.as_str() {
        "boolean" => goods.extend(["1", "true", "0", "false"]),
        "integer" if goods.is_empty() => goods.push("1"),
        _ => {}
    }
    let bads: &[&str] = match (name, parameter.kind.as_str()) {
        ("filters", _) => {
            &["not-json", "%7B%22bogus%22:%5B%22x%22%5D%7D", "%5B1%5D", "%7B%22label%22:7%7D", "%zz"]
        }
        (_, "boolean") => &["perhaps", "", "%zz"],
        (_, "integer") => &["many", "", "-7", "1.5", "99999999999999999999"],
        _ => &["", "%zz", "%00", "a%20b"],
    };
    let refused = plan.refused_values.iter().any(|(known, _)| *known == name);
    let set = |value: &str| match parameter.place.as_str() {
        "header" => plan.call.clone().with_header(name, value),
        _ => with_query(&plan.call, name, Some(value)),
    };
    let mut cases: Vec<Case> = goods
        .iter()
        .map(|value| match refused {
            false => good(&format!("{name}={value}"), set(&encoded(value)), name),
            true => other(&format!("{name}={value}"), set(&encoded(value))),
        })
        .collect();
    cases.extend(bads.iter().map(|value| other(&format!("a bad {name}"), set(value))));
    if parameter.required {
        let without = match parameter.place.as_str() {
            "header" => {
                let mut call = plan.call.clone();
                call.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
                call
            }
            _ => with_query(&plan.call, name, None),
        };
        cases.push(other(&format!("without {name}"), without));
    }
    cases
}

/// The call with this parameter, or without it.
fn with_query(call: &Call, name: &str, value: Option<&str>) -> Call {
    let (path, query) = call.target.split_once('?').unwrap_or((&call.target, ""));
    let of_others = |pair: &&str| !pair.is_empty() && pair.split('=').next() != Some(name);
    let mut pairs: Vec<String> = query.split('&').filter(of_others).map(str::to_owned).collect();
    pairs.extend(value.map(|value| format!("{name}={value}")));
    let separator = if pairs.is_empty() { "" } else { "?" };
    Call { target: format!("{path}{separator}{}", pairs.join("&")), ..call.clone() }
}

fn encoded(value: &str) -> String {
    let keeps = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/{},".contains(&byte);
    value
        .bytes()
        .map(|byte| if keeps(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn json_bodies(operation: &Operation, plan: &Plan) -> Vec<Case> {
    let with = |body: &[u8], content_type: &str| {
        let call = Call { body: body.to_vec(), ..plan.call.clone() };
        call.with_header("Content-Type", content_type)
    };
    const JSON: &str = "application/json";
    let own = plan.call.body.as_slice();
    let twice = [own, b" {\"more\":1}"].concat();
    let mut cases = vec![
        other("a body that breaks off", with(b"{\"", JSON)),
        other("a list for a body", with(b"[7]", JSON)),
        other("a text for a body", with(b"\"text\"", JSON)),
        other("null for a body", with(b"null", JSON)),
        other("an empty object", with(b"{}", JSON)),
        other("no body", with(b"", JSON)),
        other("the wrong content type", with(own, "text/plain")),
        other("a content type with parameters", with(own, "application/json; charset=utf-8")),
        other("a malformed content type", with(own, "application/json;;=")),
        other("no content type", Call { headers: Vec::new(), ..plan.call.clone() }),
        other("two bodies in one", with(&twice, JSON)),
        other("bytes that are not text", with(b"{\"Name\":\"\xff\xfe\"}", JSON)),
        other("a deep body", with(&[b"[".repeat(20_000), b"]".repeat(20_000)].concat(), JSON)),
    ];
    let Ok(serde_json::Value::Object(object)) = serde_json::from_slice(own) else { return cases };
    for property in &operation.properties {
        let wrong = match property.kind.as_str() {
            "string" => serde_json::json!({"x": 1}),
            "integer" => serde_json::json!("many"),
            "boolean" => serde_json::json!("perhaps"),
            _ => serde_json::json!(7),
        };
        let mut object = object.clone();
        object.insert(property.name.clone(), wrong);
        let body = serde_json::Value::Object(object).to_string();
        cases.push(other(&format!("a bad {} in the body", property.name), with(body.as_bytes(), JSON)));
    }
    cases
}

fn byte_bodies(plan: &Plan) -> Vec<Case> {
    let own = &plan.call.body;
    let with = |body: &[u8]| Call { body: body.to_vec(), ..plan.call.clone() };
    vec![
        other("a body that is no archive", with(b"this is no archive")),
        other("no body", with(b"")),
        other("half an archive", with(&own[..own.len() / 2])),
        other("the wrong content type", plan.call.clone().with_header("Content-Type", "image/png")),
        other("no content type", Call { headers: Vec::new(), ..plan.call.clone() }),
    ]
}
