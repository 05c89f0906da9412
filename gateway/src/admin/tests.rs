//! The table of routes and the document that is written from it.

use super::*;

#[test]
fn paths_fit_their_pattern_and_none_is_given_twice() {
    assert_eq!(fits("/keys/{key}", "/keys/abc"), Some(vec!["abc"]));
    assert_eq!(fits("/keys/{key}", "/keys/"), None);
    assert_eq!(fits("/keys/{key}", "/keys/abc/rotate"), None);
    assert_eq!(fits("/keys/{key}/rotate", "/keys/abc/rotate"), Some(vec!["abc"]));
    for (i, r) in routes::ROUTES.iter().enumerate() {
        assert!(routes::ROUTES[..i].iter().all(|o| (o.method, o.path) != (r.method, r.path)), "{}", r.path);
        assert!(r.method != "GET" || r.takes.is_empty(), "{}", r.path);
    }
}

#[test]
fn a_path_outranks_a_name_in_its_place() {
    let found = |method: Method, path: &'static str| {
        find(&method, path).map(|(r, _)| r.path).map_err(|f| f.status.as_u16())
    };
    assert_eq!(found(Method::POST, "/bundles/rollback"), Ok("/bundles/rollback"));
    assert_eq!(found(Method::GET, "/bundles/rollback"), Err(405));
    assert_eq!(found(Method::GET, "/bundles/roll"), Ok("/bundles/{hash}"));
}

#[test]
fn the_document_names_every_schema_it_refers_to() {
    let document = openapi::document();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let text = document.to_string();
    let mut used: Vec<&str> =
        text.split("#/components/schemas/").skip(1).filter_map(|t| t.split('"').next()).collect();
    used.sort_unstable();
    used.dedup();
    for name in &used {
        assert!(schemas.contains_key(*name), "{name}");
    }
    for name in schemas.keys() {
        assert!(used.contains(&name.as_str()), "{name} is described and never used");
    }
    let operations: usize =
        document["paths"].as_object().unwrap().values().map(|p| p.as_object().unwrap().len()).sum();
    assert_eq!(operations, routes::ROUTES.len());
}

/// What clients are made from: a name for each operation, a meaning for each parameter, and no answer of which nothing is
/// said.
#[test]
fn the_document_names_operations_and_describes_parameters_and_answers() {
    let document = openapi::document();
    let mut names = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, o) in methods.as_object().unwrap() {
            let place = format!("{method} {path}");
            let name = o["operationId"].as_str().unwrap();
            let plain = |b: u8| b.is_ascii_lowercase() || b == b'_';
            assert!(!name.is_empty() && name.bytes().all(plain), "{place} is called `{name}`");
            assert!(o["x-command"].as_str().is_some_and(|c| c.len() > "turnout ".len()), "{place}");
            assert!(o["tags"][0].as_str().is_some_and(|tag| !tag.is_empty()), "{place}");
            names.push(name.to_owned());
            for p in o["parameters"].as_array().unwrap().iter().filter(|p| p["in"] == "query") {
                assert!(p["description"].as_str().is_some_and(|d| !d.is_empty()), "{place}: {p}");
            }
        }
    }
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all, "a name stands for one operation");
    let schemas = &document["components"]["schemas"];
    for route in routes::ROUTES {
        closed(&schemas[route.gives], route.gives);
    }
    closed(&schemas["Error"], "Error");
}

/// That an object with named members says which are always there, and has no others.
fn closed(schema: &Value, at: &str) {
    if let Some(members) = schema["properties"].as_object() {
        assert!(schema["required"].as_array().is_some_and(|r| !r.is_empty()), "{at}: what is required?");
        assert_eq!(schema["additionalProperties"], false, "{at}");
        for (name, member) in members {
            assert!(member.as_object().is_some_and(|m| !m.is_empty()), "{at}/{name}: what is it?");
            closed(member, &format!("{at}/{name}"));
        }
    }
    if schema["items"].is_object() {
        closed(&schema["items"], at);
    }
}
