//! Files and answers as the programs see and print them.

use serde_json::json;
use tempfile::TempDir;

use super::*;

const STEP: &str = r#"[{"name": "a set", "servers": ["EMBEDDED", "ON_KAFKA"], "call": "Set",
    "requests": [{"key": "$id"}],
    "expect": {"code": "OK", "message": "", "responses": [{"position": {"offset": "*"}}]}}]"#;

fn servers() -> [(&'static str, String); 2] {
    [("CHANGELOGD_TEST_EMBEDDED", "127.0.0.1:1".to_owned()), ("CHANGELOGD_TEST_ON_KAFKA", "127.0.0.1:2".to_owned())]
}

fn scenario(steps: &str) -> (TempDir, Result<Scenario, String>) {
    let directory = tempfile::tempdir().unwrap();
    let steps = read(steps, "7");
    let scenario = steps.and_then(|steps| Scenario::in_directory(directory.path(), "go", steps, &servers()));
    (directory, scenario)
}

/// What is wrong with an answer to a step that expects this.
fn judged(expect: &Value, answer: &Value) -> Vec<String> {
    let step = json!([{"name": "it", "servers": ["EMBEDDED"], "call": "Set", "requests": [], "expect": expect}]);
    let mut line = json!({"name": "it on EMBEDDED", "code": 0, "message": "", "error": null, "responses": []});
    for (name, value) in answer.as_object().unwrap() {
        line[name] = value.clone();
    }
    let (_directory, scenario) = scenario(&step.to_string());
    scenario.unwrap().differences(&[serde_json::from_value(line).unwrap()])
}

#[test]
fn the_files_have_calls_for_known_servers() {
    let directory = tempfile::tempdir().unwrap();
    let names = ["EMBEDDED", "ON_KAFKA", "OPAQUE", "OPAQUE_ON_KAFKA", "SCRIPTED"];
    let servers = names.map(|name| (format!("CHANGELOGD_TEST_{name}"), "127.0.0.1:1".to_owned()));
    let servers = servers.each_ref().map(|(name, address)| (name.as_str(), address.clone()));
    let steps = steps_of_all_files("7").unwrap();
    let scenario = Scenario::in_directory(directory.path(), "go", steps, &servers).unwrap();
    let mut names: Vec<_> = scenario.steps.iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), scenario.len(), "a name stands for two steps");
    // Nothing is expected of no answer.
    assert_eq!(scenario.differences(&[]).len(), scenario.len());
}

#[test]
fn each_server_gets_the_calls() {
    let (_directory, scenario) = scenario(STEP);
    let scenario = scenario.unwrap();
    let calls = fs::read_to_string(&scenario.calls).unwrap();
    let calls: Vec<Value> = calls.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let call = |server, address| {
        json!({
            "name": format!("a set on {server}"), "address": address, "call": "Set", "requests": [{"key": "7"}],
            "timeoutMs": TIMEOUT_MS, "gzip": false,
        })
    };
    assert_eq!(calls, [call("EMBEDDED", "127.0.0.1:1"), call("ON_KAFKA", "127.0.0.1:2")]);
}

#[test]
fn answers_are_read_from_the_file() {
    let (_directory, scenario) = scenario(STEP);
    let scenario = scenario.unwrap();
    assert!(scenario.judge().unwrap_err().starts_with("no answers: "));
    let line = |server, code| {
        let responses = json!([{"position": {"offset": "3"}}]);
        let name = format!("a set on {server}");
        json!({"name": name, "code": code, "message": "", "error": null, "responses": responses}).to_string()
    };
    let write = |lines: [String; 2]| fs::write(&scenario.answers, lines.join("\n")).unwrap();
    write([line("EMBEDDED", 0), line("ON_KAFKA", 0)]);
    scenario.judge().unwrap();
    write([line("EMBEDDED", 0), line("ON_KAFKA", 14)]);
    let error = scenario.judge().unwrap_err();
    assert!(error.starts_with("1 differences") && error.contains("a set on ON_KAFKA: expected the code"), "{error}");
    write([line("EMBEDDED", 0), line("OTHER", 0)]);
    assert!(scenario.judge().unwrap_err().contains("answered as a set on OTHER"));
    write([line("EMBEDDED", 0), String::new()]);
    assert!(scenario.judge().is_err());
}

#[test]
fn a_step_must_be_written_as_one() {
    for wrong in [
        "{}",
        r#"[{"name": "it"}]"#,
        &STEP.replace("ON_KAFKA", "NOWHERE"),
        &STEP.replace("\"call\"", "\"cal\""),
        &STEP.replace("$id", "$other").replace("\"key\"", "\"$key\""),
        &STEP.replace("\"OK\"", "\"FINE\""),
        &STEP.replace("\"OK\"", "\"17\""),
        &STEP.replace("\"OK\"", "[]"),
        &STEP.replace("\"OK\"", r#"{"*": "OK", "cobol": "OK"}"#),
        &STEP.replace("\"OK\"", r#"{"*": "OK", "go": "FINE"}"#),
        &STEP.replace("\"OK\"", r#"{"go": "OK"}"#),
    ] {
        assert!(scenario(wrong).1.is_err(), "{wrong}");
    }
}

#[test]
fn codes_have_names_or_numbers() {
    for (expected, got) in [
        (json!("OK"), 0),
        (json!("CANCELLED"), 1),
        (json!("RESOURCE_EXHAUSTED"), 8),
        (json!("14"), 14),
        (json!(["INTERNAL", "UNAVAILABLE"]), 14),
        (json!({"*": "OK", "go": "UNAVAILABLE"}), 14),
        (json!({"*": "UNAVAILABLE", "java": "OK"}), 14),
    ] {
        assert_eq!(judged(&json!({"code": expected}), &json!({"code": got})), [""; 0], "{expected}");
        let other = judged(&json!({"code": expected}), &json!({"code": 9}));
        assert!(other[0].contains("got FailedPrecondition"), "{other:?}");
    }
}

#[test]
fn messages_details_and_responses_are_compared() {
    let expect = json!({
        "code": "OK", "message": "m", "error": {"field": "f", "retryMs": 1}, "responses": [{"a": "*"}],
    });
    let good = json!({"message": "m", "error": {"field": "f", "retryMs": 1.0}, "responses": [{"a": [1]}]});
    assert_eq!(judged(&expect, &good), [""; 0]);
    for (name, wrong, difference) in [
        ("message", json!("n"), "it on EMBEDDED: message: expected \"m\", got \"n\""),
        ("error", json!(null), "it on EMBEDDED: error: expected {\"field\":\"f\",\"retryMs\":1}, got null"),
        ("error", json!({"field": "f"}), "it on EMBEDDED: error.retryMs: expected 1, got nothing"),
        ("responses", json!([]), "it on EMBEDDED: responses: expected [{\"a\":\"*\"}], got []"),
        ("responses", json!([{"b": 1}]), "it on EMBEDDED: responses[0].a: expected \"*\", got nothing"),
        ("responses", json!([{"a": 1, "b": 1}]), "it on EMBEDDED: responses[0].b: expected nothing, got 1"),
    ] {
        let mut bad = good.clone();
        bad[name] = wrong;
        assert_eq!(judged(&expect, &bad), [difference]);
    }
    // A value must be there.
    assert_eq!(judged(&json!({"code": "OK", "responses": [{"a": "*"}]}), &json!({"responses": [{}]})).len(), 1);
    for got in [json!([{}]), json!([{"a": 1}])] {
        assert_eq!(judged(&json!({"code": "OK", "responses": [{"a": "?"}]}), &json!({"responses": got})), [""; 0]);
    }
    let open = json!({"code": "OK", "error": {"field": "f", "…": "*"}});
    assert_eq!(judged(&open, &json!({"error": {"field": "f", "more": 1}})), [""; 0]);
    let more = json!({"code": "OK", "responses": [1, "…"]});
    assert_eq!(judged(&more, &json!({"responses": [1]})), [""; 0]);
    assert_eq!(judged(&more, &json!({"responses": [1, 2]})), [""; 0]);
    for wrong in [json!([]), json!([2, 1])] {
        assert_eq!(judged(&more, &json!({"responses": wrong})).len(), 1);
    }
    let counted = json!({"code": ["OK", "CANCELLED"], "responses": "*", "verdictsIfOk": 3});
    let verdicts = json!([{"verdicts": [1, 2]}, {"verdicts": [3]}]);
    assert_eq!(judged(&counted, &json!({"responses": verdicts})), [""; 0]);
    assert_eq!(judged(&counted, &json!({"responses": [], "code": 1})), [""; 0]);
    assert_eq!(
        judged(&counted, &json!({"responses": [{"verdicts": [1]}]})),
        ["it on EMBEDDED: expected 3 verdicts, got 1"]
    );
    // Unless a step says so, no call has details or responses.
    assert_eq!(judged(&json!({"code": "OK"}), &json!({"error": {}, "responses": [1]})).len(), 2);
    let long = judged(&json!({"code": "OK", "message": ""}), &json!({"message": "ü".repeat(1_000)}));
    assert!(long[0].len() < 500, "{long:?}");
}

#[test]
fn the_sizes_of_messages_do_not_count() {
    let responses = json!([{"batch": {"entries": [1, 2]}}, {"snapshot": 3}, {"batch": {"entries": [4]}}]);
    let split = json!([{"batch": {"entries": [1]}}, {"batch": {"entries": [2]}}, {"snapshot": 3},
        {"batch": {"entries": [4]}}]);
    let expect = json!({"code": "OK", "responses": responses});
    assert_eq!(judged(&expect, &json!({"responses": split})), [""; 0]);
    // Verdicts come in any order.
    let sorted = json!([{"verdicts": [{"written": 1}, {"id": "9", "written": 2}, {"id": "10", "written": 3}]}]);
    let other = json!([{"verdicts": [{"id": "10", "written": 3}]}, {"verdicts": [{"id": "9", "written": 2},
        {"written": 1}]}]);
    let expect = json!({"code": "OK", "responses": sorted});
    assert_eq!(judged(&expect, &json!({"responses": other})), [""; 0]);
}
