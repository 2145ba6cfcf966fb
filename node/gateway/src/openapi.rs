//! The OpenAPI document of the gateway.

/// OpenAPI 3.1, as served at `/openapi.json`.
pub const DOCUMENT: &str = include_str!("openapi.json");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use cocoon_openai::Endpoint;
    use http::Method;
    use serde_json::Value;

    use super::DOCUMENT;
    use crate::route::Route;

    fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(object) => {
                for (name, value) in object {
                    match value.as_str() {
                        Some(target) if name == "$ref" => drop(found.insert(target)),
                        _ => references(value, found),
                    }
                }
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn the_document_and_the_routes_tell_the_same() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let paths = document["paths"].as_object().unwrap();
        for (path, operations) in paths {
            for method in operations.as_object().unwrap().keys() {
                let method: Method = method.to_uppercase().parse().unwrap();
                let route = Route::of(&method, &path.replace("{model}", "m").replace("{id}", "i"));
                let known = matches!(route, Route::Inference(_) | Route::Page(_) | Route::Batch(_));
                assert!(known, "{method} {path}");
            }
        }
        for endpoint in Endpoint::ALL {
            assert!(paths.contains_key(endpoint.path()), "{endpoint:?} is not documented");
        }
        for path in [
            "/v1/models",
            "/health",
            "/ready",
            "/metrics",
            "/openapi.json",
            "/jsonstats",
            "/stats",
            "/verify",
        ] {
            assert!(paths.contains_key(path), "{path} is not documented");
        }
    }

    #[test]
    fn every_reference_has_a_target() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 20);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn every_header_wish_is_documented() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let parameters = document["components"]["parameters"].as_object().unwrap();
        let documented: BTreeSet<&str> = parameters
            .values()
            .filter_map(|parameter| parameter["name"].as_str()?.strip_prefix("x-cocoon-"))
            .collect();
        let known: BTreeSet<&str> = crate::order::HEADER_WISHES.into_iter().collect();
        assert_eq!(documented, known);
    }
}
