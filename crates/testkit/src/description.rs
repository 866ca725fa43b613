//! The published description of Docker's API, of the engine's own version, read from the Debian package that carries it
//! (`api/swagger.yaml` of moby). What claims to hold for every endpoint takes its list from here.

use serde_json::Value;

use crate::{Error, Result, debian};

const PACKAGE: &str = "golang-github-docker-docker-dev";
const FILE: &str = "usr/share/gocode/src/github.com/docker/docker/api/swagger.yaml";

/// Every operation of the API.
#[derive(Debug)]
pub struct Description {
    /// The version that it describes: "1.45".
    pub version: String,
    /// In the order of the file.
    pub operations: Vec<Operation>,
}

/// A method on a path.
#[derive(Debug, Clone)]
pub struct Operation {
    /// In capitals.
    pub method: String,
    /// With names in braces: `/containers/{id}/json`.
    pub path: String,
    /// Those of the path included.
    pub parameters: Vec<Parameter>,
    /// The properties of a JSON body, all of one level.
    pub properties: Vec<Property>,
}

/// One documented parameter.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// As it is written in a request.
    pub name: String,
    /// `path`, `query`, `header` or `body`.
    pub place: String,
    /// `boolean`, `integer`, `string`, `array`; of a body `json` or `bytes`.
    pub kind: String,
    /// A request without it is in error.
    pub required: bool,
}

/// A field of a JSON body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// Its key.
    pub name: String,
    /// `boolean`, `integer`, `string`, `array`, `object`.
    pub kind: String,
}

impl Operation {
    /// `GET /containers/{id}/json`
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// The parameters of one place.
    pub fn of<'a>(&'a self, place: &'a str) -> impl Iterator<Item = &'a Parameter> {
        self.parameters.iter().filter(move |parameter| parameter.place == place)
    }
}

impl Description {
    /// The engine's, fetched on first use.
    ///
    /// # Errors
    /// What [`debian::files`] says, or that the file is not what it was.
    pub fn of_the_engine() -> Result<Self> {
        let file = debian::files("api", &[PACKAGE])?.join(FILE);
        let text = std::fs::read_to_string(&file).map_err(Error::io("read", &file))?;
        Self::read(&text)
    }

    fn read(text: &str) -> Result<Self> {
        let unexpected = |said: String| Error::Unexpected { what: FILE.to_owned(), said };
        let root: Value = serde_norway::from_str(text).map_err(|error| unexpected(error.to_string()))?;
        let version = root["info"]["version"].as_str().unwrap_or_default().to_owned();
        let mut operations = Vec::new();
        for (path, methods) in root["paths"].as_object().into_iter().flatten() {
            for (method, operation) in methods.as_object().into_iter().flatten() {
                if method != "parameters" {
                    let common = &methods["parameters"];
                    operations.push(self::operation(&root, path, method, common, operation));
                }
            }
        }
        if version.is_empty() || operations.is_empty() {
            return Err(unexpected(format!("version {version:?}, {} operations", operations.len())));
        }
        Ok(Self { version, operations })
    }
}

fn operation(root: &Value, path: &str, method: &str, common: &Value, operation: &Value) -> Operation {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (mut parameters, mut properties) = (Vec::new(), Vec::new());
    let own = operation["parameters"].as_array().into_iter().flatten();
    for parameter in common.as_array().into_iter().flatten().chain(own) {
        let parameter = followed(root, parameter);
        let schema = followed(root, &parameter["schema"]);
        let is_json = schema["type"].as_str() != Some("string");
        let kind = match text(&parameter["type"]) {
            kind if !kind.is_empty() => kind,
            _ if is_json => "json".to_owned(),
            _ => "bytes".to_owned(),
        };
        if kind == "json" {
            gather(root, schema, &mut properties);
        }
        let required = parameter["required"].as_bool().unwrap_or(false);
        parameters.push(Parameter {
            name: text(&parameter["name"]),
            place: text(&parameter["in"]),
            kind,
            required,
        });
    }
    Operation { method: method.to_uppercase(), path: path.to_owned(), parameters, properties }
}

/// The properties of a schema and of all that it is made of.
fn gather(root: &Value, schema: &Value, properties: &mut Vec<Property>) {
    for part in schema["allOf"].as_array().into_iter().flatten() {
        gather(root, followed(root, part), properties);
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let property = followed(root, property);
        let kind = property["type"].as_str().unwrap_or("object").to_owned();
        let known = properties.iter().any(|known| known.name == *name);
        if !known {
            properties.push(Property { name: name.clone(), kind });
        }
    }
}

/// What a `$ref` points to, or the thing itself.
fn followed<'a>(root: &'a Value, mut value: &'a Value) -> &'a Value {
    while let Some(target) = value["$ref"].as_str() {
        let names = target.trim_start_matches("#/").split('/');
        value = names.fold(root, |place, name| &place[name]);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "
info: {version: '1.45'}
paths:
  /things/{id}:
    parameters: [{name: id, in: path, type: string, required: true}]
    put:
      parameters:
        - {name: force, in: query, type: boolean}
        - {name: body, in: body, schema: {allOf: [{$ref: '#/definitions/Base'}, {properties: {Size: {type: integer}}}]}}
    get: {}
definitions:
  Base: {type: object, properties: {Name: {$ref: '#/definitions/Name'}}}
  Name: {type: string}
";

    /// Issue 4: the endpoints are read from the description, with the parameters of the path and of the method.
    #[test]
    fn operations_are_read_with_all_their_parameters() {
        let read = Description::read(SMALL).unwrap();
        let names: Vec<String> = read.operations.iter().map(Operation::name).collect();
        assert_eq!(
            (read.version.as_str(), names),
            ("1.45", vec!["PUT /things/{id}".into(), "GET /things/{id}".into()])
        );
        let put: Vec<_> =
            read.operations[0].parameters.iter().map(|p| (&*p.name, &*p.place, &*p.kind)).collect();
        assert_eq!(put, [("id", "path", "string"), ("force", "query", "boolean"), ("body", "body", "json")]);
        let property = |name: &str, kind: &str| Property { name: name.into(), kind: kind.into() };
        assert_eq!(read.operations[0].properties, [property("Name", "string"), property("Size", "integer")]);
    }

    /// Issue 4: the package that carries the description is there, and it is the description.
    #[test]
    #[ignore = "fetches packages: ./dev test face"]
    fn the_engines_description_is_had_from_its_package() {
        let description = Description::of_the_engine().unwrap();
        assert!(description.operations.len() > 100, "{}", description.operations.len());
        let create = description.operations.iter().find(|it| it.name() == "POST /containers/create").unwrap();
        assert!(create.properties.iter().any(|property| property.name == "HostConfig"));
    }
}
