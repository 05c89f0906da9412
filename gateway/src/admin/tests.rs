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
