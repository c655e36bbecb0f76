//! The API's own document, made from the table of what is served and from the types that requests are read as.
//!
//! Source: <https://spec.openapis.org/oas/v3.1.1.html>.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::dialect::Dialect;
use crate::endpoint::{Endpoint, Method};

/// Where it is served.
pub(crate) const PATH: &str = "/openapi.json";

/// The document.
pub(crate) fn document(endpoints: &[Endpoint]) -> Value {
    // The schemas of version 3.1 are those of JSON Schema 2020-12, at another place.
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = SchemaGenerator::new(settings);
    let mut paths = Map::new();
    for endpoint in endpoints {
        let (method, operation) = operation(endpoint, &mut generator);
        paths.insert(endpoint.path.to_owned(), json!({ method: operation }));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "CDI gateway",
            "description": "The interfaces of OpenAI, Anthropic and Ollama, answered by the swarm.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        // A key is asked for where the operator has set some.
        "security": [{}, { "bearer": [] }, { "key": [] }],
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "key": { "type": "apiKey", "in": "header", "name": "x-api-key" },
            },
        },
    })
}

fn operation(endpoint: &Endpoint, generator: &mut SchemaGenerator) -> (&'static str, Value) {
    let dialect = Dialect::of(endpoint.path);
    let object = json!({ "schema": { "type": "object" } });
    let mut content = json!({ "application/json": object });
    let (method, body) = match endpoint.method {
        Method::Get => ("get", None),
        Method::Post(schema) => ("post", Some(schema(generator).to_value())),
    };
    if body.as_ref().is_some_and(|body| can_stream(body, generator)) {
        let (kind, schema) = match dialect {
            Dialect::Ollama => ("application/x-ndjson", object.clone()),
            Dialect::OpenAi | Dialect::Anthropic => ("text/event-stream", json!({ "schema": { "type": "string" } })),
        };
        content[kind] = schema;
    }
    let mut operation = json!({
        "summary": endpoint.summary,
        "tags": [dialect.name()],
        "parameters": parameters(endpoint.path),
        "responses": {
            "200": { "description": "The answer.", "content": content },
            "default": {
                "description": "A problem in the interface's shape; 429 and 503 with Retry-After.",
                "content": { "application/json": object },
            },
        },
    });
    if let Some(schema) = body {
        operation["requestBody"] = json!({ "required": true, "content": { "application/json": { "schema": schema } } });
    }
    (method, operation)
}

/// Whether a body has the field that asks for a stream.
fn can_stream(body: &Value, generator: &SchemaGenerator) -> bool {
    let name = body["$ref"].as_str().and_then(|place| place.rsplit('/').next());
    let schema = name.and_then(|name| generator.definitions().get(name)).unwrap_or(body);
    schema["properties"].get("stream").is_some()
}

/// Those that stand in the path.
fn parameters(path: &str) -> Vec<Value> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    names.map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> Value {
        document(&crate::endpoints())
    }

    #[test]
    fn every_path_is_in_it_and_in_the_documentation() {
        let (document, text) = (written(), include_str!("../../../docs/api.md"));
        for Endpoint { path, .. } in crate::endpoints() {
            assert!(document["paths"][path].is_object(), "{path}");
            assert!(text.contains(path), "docs/api.md does not name {path}");
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_no_name_is_taken_twice() {
        let document = written();
        let mut open = vec![&document];
        let mut references = 0;
        while let Some(value) = open.pop() {
            if let Some(place) = value.get("$ref").and_then(Value::as_str) {
                references += 1;
                let pointer = place.strip_prefix('#').expect("a local reference");
                assert!(document.pointer(pointer).is_some(), "{place}");
            }
            match value {
                Value::Object(fields) => open.extend(fields.values()),
                Value::Array(items) => open.extend(items),
                _ => {}
            }
        }
        assert!(references > 10, "only {references}");
        let schema = |path: &str| {
            document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"].clone()
        };
        assert_ne!(schema("/v1/chat/completions"), schema("/v1/completions"));
        let chat = schema("/v1/chat/completions");
        let chat = document.pointer(&chat.as_str().expect("a reference")[1..]).expect("a schema");
        for field in ["model", "messages", "temperature", "stop", "stream"] {
            assert!(chat["properties"].get(field).is_some(), "{field} is not in {chat:#}");
        }
        assert_eq!(chat["required"], json!(["model", "messages"]));
        let content = &document["paths"]["/v1/messages"]["post"]["responses"]["200"]["content"];
        assert!(content["text/event-stream"].is_object(), "{content}");
    }
}
