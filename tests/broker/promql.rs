//! What must be there for an expression of Prometheus to mean something: its arms, and the values of labels that it
//! names. An expression with a wrong name is no error: it has no series, and an alert with another arm still fires.
//!
//! It reads what the rules and the dashboard have, and not all of PromQL.

use std::collections::BTreeSet;

/// Between arms. A number on one side is none.
const OPERATORS: [&str; 9] = ["or", "and", "unless", "==", "!=", "<", ">", "<=", ">="];
/// What follows an operator or an aggregation, with labels in parentheses.
const WITH_LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// Pieces between white space. What is in brackets, braces, parentheses or quotes is not cut.
fn tokens(expression: &str) -> Vec<String> {
    let (mut tokens, mut token, mut depth, mut is_quoted) = (Vec::new(), String::new(), 0, false);
    for c in expression.chars() {
        match c {
            '"' => is_quoted = !is_quoted,
            '(' | '[' | '{' if !is_quoted => depth += 1,
            ')' | ']' | '}' if !is_quoted => depth -= 1,
            _ => {}
        }
        if c.is_whitespace() && depth == 0 && !is_quoted {
            tokens.extend(Some(std::mem::take(&mut token)).filter(|token| !token.is_empty()));
        } else {
            token.push(c);
        }
    }
    tokens.extend(Some(token).filter(|token| !token.is_empty()));
    tokens
}

/// The sides of `or`, `and`, `unless` and of comparisons that name a metric. Each has to have a series.
pub fn arms(expression: &str) -> Vec<String> {
    let all = tokens(expression);
    let sides = all.split(|token| OPERATORS.contains(&&**token)).map(|side| {
        let is_matching = |token: &String| WITH_LABELS.contains(&token.split('(').next().unwrap_or_default());
        let mut side = side;
        while let Some((first, rest)) = side.split_first().filter(|(first, _)| is_matching(first)) {
            side = if first.contains('(') { rest } else { rest.get(1..).unwrap_or_default() };
        }
        side.join(" ")
    });
    sides.filter(|side| !metrics(side).is_empty()).collect()
}

/// A name at the beginning of the text, and what follows it.
fn name(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len()))
}

/// The names of metrics, each with its matchers, which may be none.
fn selectors(expression: &str) -> Vec<(&str, &str)> {
    let (mut found, mut rest) = (Vec::new(), expression);
    while let Some(c) = rest.chars().next() {
        let (word, after) = name(rest);
        let next = after.trim_start();
        if word.is_empty() {
            rest = if c == '[' { &rest[rest.find(']').unwrap_or(0) + 1..] } else { &rest[c.len_utf8()..] };
        } else if WITH_LABELS.contains(&word) {
            rest = next.split_once(')').map_or("", |(_, rest)| rest);
        } else if next.starts_with('(')
            || WITH_LABELS.contains(&name(next).0)
            || OPERATORS.contains(&word)
            || !word.starts_with(char::is_alphabetic)
        {
            rest = after;
        } else {
            let matchers = after.strip_prefix('{').and_then(|inner| inner.split_once('}')).map_or("", |(it, _)| it);
            found.push((word, matchers));
            rest = after.strip_prefix('{').map_or(after, |_| &after[matchers.len() + 2..]);
        }
    }
    found
}

pub fn metrics(expression: &str) -> BTreeSet<&str> {
    selectors(expression).into_iter().map(|(metric, _)| metric).collect()
}

/// A selector for each value that a matcher names, also those that it excludes.
pub fn values(expression: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (metric, matchers) in selectors(expression) {
        for matcher in matchers.split("\",") {
            let (label, rest) = name(matcher.trim());
            let text = rest.trim_start_matches(['=', '!', '~', '"']).trim_end_matches('"');
            let is_plain = |value: &str| value.chars().all(|c| c.is_ascii_alphanumeric() || "_/ ".contains(c));
            let plain = text.split('|').filter(|value| !value.is_empty() && is_plain(value));
            found.extend(plain.map(|value| format!("{metric}{{{label}=\"{value}\"}}")));
        }
    }
    found
}

#[test]
fn the_arms_of_an_expression_are_what_operators_separate() {
    for (expression, expected) in [
        ("avg_over_time(a_b[5m]) < 0.5 unless c_d == 1", &["avg_over_time(a_b[5m])", "c_d"][..]),
        (
            "changes(a_b[30m]) > 2\n and on (job, instance) max_over_time(c_d[30m])",
            &["changes(a_b[30m])", "max_over_time(c_d[30m])"],
        ),
        (
            "sum without (reason) (rate(a_b{x=\"or > 1\"}[5m])) > 0",
            &["sum without (reason) (rate(a_b{x=\"or > 1\"}[5m]))"],
        ),
        ("a_b - time() < 14 * 86400", &["a_b - time()"]),
        ("increase(a_b[5m]) >= on(job) increase(c_d[5m])", &["increase(a_b[5m])", "increase(c_d[5m])"]),
        ("a_b / (c_d > 0) > 0.9 or e_f > 0", &["a_b / (c_d > 0)", "e_f"]),
    ] {
        assert_eq!(arms(expression), expected, "{expression}");
    }
}

#[test]
fn metrics_and_values_of_labels_are_found() {
    let expression = "sum by (le, part) (rate(a_b{part!~\"x|y\",of=\"z\"}[5m])) / (c_d > 0) - time()";
    assert_eq!(metrics(expression), BTreeSet::from(["a_b", "c_d"]));
    let expected = ["a_b{of=\"z\"}", "a_b{part=\"x\"}", "a_b{part=\"y\"}"].map(str::to_owned);
    assert_eq!(values(expression), BTreeSet::from(expected));
    assert!(values("a_b{pod=~\".*\"}").is_empty());
}
