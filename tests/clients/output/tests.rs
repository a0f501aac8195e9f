//! Lines as the runners print them.

use super::*;

/// Whether the test of each of two behaviours passed, and what was skipped.
fn read(output: &str) -> (bool, bool, Vec<String>) {
    let tests = Tests::read(output);
    (tests.has_passed("a_key_is_split"), tests.has_passed("an_absent_entity_is_no_error"), tests.skipped)
}

fn assert_both_passed(output: &str) {
    assert_eq!(read(output), (true, true, vec![]), "{output}");
}

fn assert_second_is_missing(output: &str) {
    assert_eq!(read(output), (true, false, vec![]), "{output}");
}

fn assert_second_is_skipped(output: &str) {
    let (first, second, skipped) = read(output);
    assert!(first && !second && skipped.len() == 1, "{output}: {skipped:?}");
    assert_eq!(plain(&skipped[0]), plain("an_absent_entity_is_no_error"));
}

#[test]
fn go_test() {
    let begin = "=== RUN   TestAKeyIsSplit\n=== RUN   TestAKeyIsSplit/embedded\n--- PASS: TestAKeyIsSplit (0.31s)\n    \
                 --- PASS: TestAKeyIsSplit/embedded (0.01s)\n=== RUN   TestAnAbsentEntityIsNoError\n";
    assert_both_passed(&format!("{begin}--- PASS: TestAnAbsentEntityIsNoError (0.02s)\nPASS\n"));
    assert_second_is_missing(&format!(
        "{begin}    a_test.go:9: no\n--- FAIL: TestAnAbsentEntityIsNoError (0.02s)\nFAIL\n"
    ));
    assert_second_is_skipped(&format!(
        "{begin}    a_test.go:9: no\n--- SKIP: TestAnAbsentEntityIsNoError (0.00s)\nPASS\n"
    ));
    let part = "=== RUN   TestAKeyIsSplit/kafka\n    --- SKIP: TestAKeyIsSplit/kafka (0.00s)\n";
    assert_eq!(read(&format!("{begin}{part}")).2, ["TestAKeyIsSplit/kafka"]);
}

#[test]
fn cargo_test() {
    let begin = "running 2 tests\ntest keys::a_key_is_split ... ok\n";
    let end = "\ntest result: ok. 2 passed; 0 failed; 1 ignored\n";
    assert_both_passed(&format!("{begin}test an_absent_entity_is_no_error ... ok\n{end}"));
    assert_second_is_missing(&format!("{begin}test an_absent_entity_is_no_error ... FAILED\n{end}"));
    assert_second_is_skipped(&format!("{begin}test an_absent_entity_is_no_error ... ignored\n{end}"));
    assert_second_is_skipped(&format!("{begin}test an_absent_entity_is_no_error ... ignored, later\n{end}"));
}

#[test]
fn pytest_verbose() {
    let begin = "tests/test_keys.py::test_a_key_is_split PASSED                         [ 50%]\n";
    let path = "tests/test_values.py::Values::test_an_absent_entity_is_no_error";
    assert_both_passed(&format!("{begin}{path} PASSED [100%]\n"));
    assert_both_passed(&format!("{begin}{path}[embedded] PASSED [100%]\n"));
    assert_second_is_missing(&format!("{begin}{path} FAILED [100%]\nFAILED {path} - assert 1 == 2\n"));
    for outcome in ["SKIPPED (later)", "XFAIL (later)", "XPASS"] {
        assert_second_is_skipped(&format!(
            "{begin}{path} {outcome} [100%]\nSKIPPED [1] tests/test_values.py:7: later\n"
        ));
    }
}

#[test]
fn node_spec() {
    let begin = "▶ keys\n  ✔ a_key_is_split (1.264875ms)\n▶ keys (2.1ms)\n";
    assert_both_passed(&format!("{begin}✔ an absent entity is no error (12.5ms)\nℹ tests 2\nℹ skipped 0\n"));
    assert_second_is_missing(&format!("{begin}✖ an absent entity is no error (12.5ms)\n"));
    assert_second_is_skipped(&format!("{begin}﹣ an absent entity is no error (0.1ms) # SKIP\n"));
    assert_second_is_skipped(&format!("{begin}✔ an absent entity is no error (0.1ms) # TODO\n"));
}

#[test]
fn surefire_plain() {
    let counts =
        "Tests run: 2, Failures: 0, Errors: 0, Skipped: 0, Time elapsed: 1.530 s -- in dev.changelogd.client.A";
    let first = "[INFO] dev.changelogd.client.KeysTest.aKeyIsSplit -- Time elapsed: 0.133 s\n";
    let begin = format!("[INFO] Running dev.changelogd.client.KeysTest\n[INFO] {counts}\n{first}");
    let name = "dev.changelogd.client.KeysTest.anAbsentEntityIsNoError";
    assert_both_passed(&format!("{begin}[INFO] {name} -- Time elapsed: 0.014 s\n"));
    assert_second_is_missing(&format!("{begin}[ERROR] {name} -- Time elapsed: 0.014 s <<< FAILURE!\n"));
    let counts = format!("[WARNING] {}", counts.replace("Skipped: 0", "Skipped: 1"));
    assert_eq!(read(&format!("{counts}\n{first}[WARNING] {name} skipped\n")), (true, false, vec![counts]));
}

#[test]
fn a_name_has_many_spellings() {
    for name in ["TestAKeyIsSplit", "test_a_key_is_split", "aKeyIsSplit()", "a key is split", "a_key_is_split"] {
        assert_eq!(plain(name), "akeyissplit");
    }
    assert_eq!(read("a_key_is_split\n[INFO] aKeyIsSplit\nPASS\nok\n"), (false, false, vec![]));
}
