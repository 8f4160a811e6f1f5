//! Errors in patterns, and the bounds on patterns.

use serde_json::{Map, Value as Json, json};

use crate::compile::compile;

fn errors_of(pattern: Json) -> Vec<String> {
    compile(1, &pattern).err().into_iter().flatten().map(|error| error.to_string()).collect()
}

#[test]
fn errors_name_their_place_and_what_is_allowed() {
    let check = |pattern: Json, expected: &[&str]| {
        let found = errors_of(pattern.clone());
        assert_eq!(found.len(), expected.len(), "{pattern}: {found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{pattern}: {found:?} lacks {expected:?}");
        }
    };
    check(json!([]), &["$: a pattern must be a JSON object, found an array"]);
    check(json!({}), &["$: an empty object is not allowed"]);
    check(json!({"data": {"Vm": {}}}), &["$.data.Vm: an empty object"]);
    check(json!({"a": []}), &["$.a: an empty array"]);
    check(json!({"a": "x"}), &["$.a: expected an array of values or an object, found a string"]);
    check(json!({"a": [["x"]]}), &["$.a[0]: expected a string, a number"]);
    check(
        json!({"a": [{"prefx": "x"}]}),
        &["$.a[0].prefx: unknown operator `prefx`; did you mean `prefix`?; allowed: prefix, suffix"],
    );
    check(json!({"a": [{"equal-ignore-case": "x"}]}), &["did you mean `equals-ignore-case`?"]);
    check(json!({"a": [{"anythingbut": "x"}]}), &["did you mean `anything-but`?"]);
    check(json!({"a": [{"qqq": "x"}]}), &["unknown operator `qqq`; allowed:"]);
    check(
        json!({"a": [{"prefix": "x", "suffix": "y"}]}),
        &["$.a[0]: an operator object must have exactly one key, found 2"],
    );
    check(json!({"a": [{}]}), &["$.a[0]: an operator object must have exactly one key, found 0"]);
    check(
        json!({"a": [{"prefix": 1}]}),
        &["$.a[0].prefix: `prefix` needs a string or `equals-ignore-case`, found a number"],
    );
    check(
        json!({"a": [{"prefix": {"suffix": "x"}}]}),
        &["$.a[0].prefix.suffix: unknown operator `suffix`; allowed: equals-ignore-case"],
    );
    check(json!({"a": [{"exists": "yes"}]}), &["`exists` needs true or false, found a string"]);
    check(
        json!({"a": [{"cidr": "10.0.0.0/32"}]}),
        &["`10.0.0.0/32` is not a CIDR block: an IPv4 block has 0 to 31 bits"],
    );
    check(json!({"a": [{"wildcard": "a**"}]}), &["`wildcard` has two `*` in a row at byte 1"]);
    check(json!({"a": [{"wildcard": "a\\x"}]}), &["`wildcard` has a backslash at byte 1"]);
    check(json!({"a": [{"shellstyle": "**"}]}), &["`shellstyle` has two `*` in a row at byte 0"]);
    check(json!({"a": [{"anything-but": []}]}), &["$.a[0].anything-but: an empty array"]);
    check(
        json!({"a": [{"anything-but": [null]}]}),
        &["$.a[0].anything-but[0]: `anything-but` needs strings and numbers, found null"],
    );
    check(json!({"a": [{"anything-but": {"prefix": ""}}]}), &["`prefix` must not be empty"]);
    check(
        json!({"a": [{"anything-but": {"suffix": ["x", 1]}}]}),
        &["$.a[0].anything-but.suffix[1]: `suffix` needs a string, found a number"],
    );
    check(
        json!({"a": [{"anything-but": {"numeric": [">", 1]}}]}),
        &["unknown operator `numeric`; allowed: prefix, suffix, equals-ignore-case, wildcard"],
    );
    check(json!({"a": [{"numeric": ">"}]}), &["`numeric` needs an array"]);
    check(json!({"a": [{"numeric": []}]}), &["`numeric` needs at least one"]);
    check(json!({"a": [{"numeric": ["!=", 1]}]}), &["write `{\"anything-but\": NUMBER}`"]);
    check(json!({"a": [{"numeric": [">"]}]}), &["`numeric` needs pairs"]);
    check(json!({"a": [{"numeric": ["~", 1]}]}), &["supports only the comparisons"]);
    check(json!({"a": [{"numeric": ["<", 1, ">", 0]}]}), &["needs `>` or `>=` first"]);
    check(json!({"a": [{"numeric": [">", 5, "<", 5]}]}), &["needs a lower limit below the upper limit"]);
    check(json!({"a": [{"numeric": ["=", 5, "<", 6]}]}), &["needs `>` or `>=` first"]);
    check(
        json!({"$or": {"a": ["x"]}}),
        &["$.$or: `$or` needs an array of two or more objects, found an object"],
    );
    check(json!({"$or": [{"a": ["x"]}]}), &["found an array of 1"]);
    check(
        json!({"$or": [{"a": ["x"]}, 5]}),
        &["$.$or[1]: `$or` needs an array of two or more objects, found an array with a number"],
    );
    check(
        json!({"$or": [{"numeric": ["x"]}, {"b": ["y"]}]}),
        &["$.$or[0].numeric: `numeric` is the name of an operator"],
    );
    check(json!({"$or": [{"a": ["x"]}, {"b": ["y"]}], "a": ["z"]}), &["$.a: `a` is constrained twice"]);
    check(json!({"a": {"b": ["x"]}, "a.b": ["y"]}), &["`a.b` is constrained twice"]);
    check(json!({"odd name": [{"nope": 1}]}), &["$[\"odd name\"][0].nope"]);
    // All errors are reported at once.
    check(json!({"a": [], "b": [{"prefx": 1}], "c": {"d": 1}}), &["$.a", "$.b[0].prefx", "$.c.d"]);
}

#[test]
fn combinations_of_or_are_bounded() {
    let or = |name: &str, count: usize| {
        Json::Array((0..count).map(|branch| json!({ name: [branch.to_string()] })).collect())
    };
    let count = |pattern: Json| compile(1, &pattern).map(|alternatives| alternatives.len());
    assert_eq!(count(json!({"$or": or("a", 1_000)})).unwrap(), 1_000);
    assert!(errors_of(json!({"$or": or("a", 1_001)}))[0].contains("more than 1000 combinations"));
    assert_eq!(
        count(json!({"x": {"$or": or("a", 10)}, "y": {"$or": or("b", 10)}, "z": {"$or": or("c", 10)}}))
            .unwrap(),
        1_000
    );
    assert!(
        !errors_of(json!({"x": {"$or": or("a", 10)}, "y": {"$or": or("b", 10)}, "z": {"$or": or("c", 11)}}))
            .is_empty()
    );
    // A nested `$or` multiplies only its own branch.
    assert_eq!(count(json!({"$or": [{"a": ["x"]}, {"b": ["y"], "$or": or("c", 3)}]})).unwrap(), 4);
    // Each level adds one alternative.
    let nested = (0..200)
        .fold(json!({"a": ["x"]}), |inner, level| json!({"$or": [inner, {format!("f{level}"): ["x"]}]}));
    assert!(errors_of(nested).iter().any(|error| error.contains("nested deeper")));
}

#[test]
fn depth_is_bounded() {
    let deep =
        (0..1_000).fold(json!(["x"]), |inner, _| Json::Object(Map::from_iter([("a".to_string(), inner)])));
    let found = errors_of(deep);
    assert_eq!(found.len(), 1);
    assert!(found[0].ends_with("nested deeper than 64 levels"), "{found:?}");
}
