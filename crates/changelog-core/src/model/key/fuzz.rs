//! Fuzz target: the grammar of keys, next to a second definition of it.

use std::{collections::HashSet, sync::LazyLock};

use changelogd_testkit::fuzz::{config, corpus, mutated, mutations};
use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
};
use regex_syntax::hir::{Class, HirKind};

use super::*;

/// Invisible characters as the API file has them, from other tables than the parser's.
static INVISIBLE: LazyLock<HashSet<char>> = LazyLock::new(|| {
    let pattern = r"[[\p{Cf}\p{Zl}\p{Zp}\p{DI}\p{NChar}\u2800\U00016FE4\U0001D159]--\p{Prepended_Concatenation_Mark}]";
    let parsed = regex_syntax::parse(pattern).expect("a pattern");
    let HirKind::Class(Class::Unicode(class)) = parsed.kind() else { panic!("{pattern} is no class") };
    class.ranges().iter().flat_map(|range| range.start()..=range.end()).collect()
});

/// The grammar as the API file has it, written again without the parser's code: workspace, entity type and entity ID.
fn parts(bytes: &[u8]) -> Option<(&str, &str, &str)> {
    let text = str::from_utf8(bytes).ok().filter(|text| text.len() <= 1_024)?;
    let segments: Vec<_> = text.split('/').collect();
    let [workspace, entity_type, _, ..] = segments[..] else { return None };
    let control = |c| matches!(c, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}');
    // Unicode's White_Space without its control characters.
    let space = |c| {
        matches!(
            c,
            ' ' | '\u{a0}' | '\u{1680}' | '\u{2000}'
                ..='\u{200a}' | '\u{2028}' | '\u{2029}' | '\u{202f}' | '\u{205f}' | '\u{3000}'
        )
    };
    let blank = |c| space(c) || INVISIBLE.contains(&c);
    if text.contains(control) || segments.contains(&"") || workspace.len() > 255 || workspace.chars().all(blank) {
        return None;
    }
    Some((workspace, entity_type, &text[workspace.len() + entity_type.len() + 2..]))
}

/// The key that a request names, by the API file.
fn named(workspace_id: &str, changelog_id: &str) -> Option<String> {
    let key = if changelog_id.starts_with('/') {
        // A separator in the workspace ID would name another workspace.
        (!workspace_id.contains('/')).then(|| format!("{workspace_id}{changelog_id}"))?
    } else {
        changelog_id.to_owned()
    };
    let (workspace, ..) = parts(key.as_bytes())?;
    let is_relative = changelog_id.starts_with('/');
    (workspace == workspace_id || (workspace_id.is_empty() && !is_relative)).then_some(key)
}

/// Parts of keys: characters at the edges of the grammar, and lengths near its limits.
const PIECES: [&str; 36] = [
    "a",
    "b",
    "ws",
    "type",
    "id",
    "7",
    "/",
    "//",
    " ",
    "\t",
    "\0",
    "\u{1f}",
    "\u{7e}",
    "\u{7f}",
    "\u{80}",
    "\u{85}",
    "\u{9f}",
    "\u{a0}",
    "\u{2028}",
    "\u{200b}",
    "\u{ad}",
    "\u{2800}",
    "\u{3164}",
    "\u{6dd}",
    "\u{fe0f}",
    "\u{e0020}",
    "\u{3000}",
    "\u{202e}",
    "\u{e9}",
    "e\u{301}",
    "\u{1f980}",
    "\u{fffd}",
    "%2F",
    "\\",
    LONG.split_at(128).0,
    LONG,
];
const LONG: &str = "wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww\
                    wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww\
                    wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww";

/// Pieces of one kind are chosen often, so that many texts are valid.
fn segment() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![3 => select(&PIECES[..6]), 1 => select(&PIECES[..])];
    vec(pieces, 0..4).prop_map(|pieces| pieces.concat())
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => vec(segment(), 1..5).prop_map(|segments| segments.join("/")),
        1 => vec(segment(), 1..10).prop_map(|segments| segments.concat()),
    ]
}

proptest! {
    #![proptest_config(config())]

    /// Covers C1, C3, C7, S15, B1, B2, B3, B4, B5, B6, B7.
    #[test]
    fn a_key_is_accepted_exactly_if_the_grammar_has_it(
        (one, other) in (text(), text()),
        changes in prop_oneof![Just(Vec::new()), mutations()],
    ) {
        let bytes = mutated(one.as_bytes(), other.as_bytes(), &changes);
        let parsed = KeyRef::parse(&bytes).ok();
        let found = parsed.map(|key| (key.workspace(), key.entity_type(), key.entity_id()));
        prop_assert_eq!(found, parts(&bytes));
        if let Some(key) = parsed {
            prop_assert_eq!(key.as_str().as_bytes(), &*bytes);
            prop_assert!(WorkspaceId::parse(key.workspace()).is_ok());
        }
    }

    /// Covers C1, C2, C4, C5, C6.
    #[test]
    fn two_strings_name_the_key_that_the_grammar_says_or_none(
        (key, workspace, relative) in (text(), segment(), any::<bool>()),
        (own, prefix, cut) in (any::<bool>(), prop::bool::weighted(0.2), any::<Index>()),
    ) {
        // Most pairs belong together. Others nearly do: the workspace ID is the beginning of one.
        let mut first = key.split('/').next().unwrap_or_default().to_owned();
        if prefix {
            first.pop();
        }
        let workspace_id = if own { first } else { workspace };
        let rest = key.char_indices().map(|(at, _)| at).nth(cut.index(key.len().max(1))).unwrap_or(0);
        let changelog_id = match (relative, own) {
            (true, true) => &key[key.find('/').unwrap_or(0)..],
            (true, false) => &key[rest..],
            (false, _) => &key,
        };
        for workspace_id in [&*workspace_id, ""] {
            let parsed = Key::from_request(workspace_id, changelog_id).ok();
            let found = parsed.as_ref().map(|key| key.as_str().to_owned());
            prop_assert_eq!(&found, &named(workspace_id, changelog_id));
            if let Some(key) = parsed {
                let again = KeyRef::parse(key.bytes()).map(|key| key.workspace());
                prop_assert_eq!(again.map(str::as_bytes), Ok(key.workspace_bytes()));
                prop_assert!(key.workspace().as_str().as_bytes() == key.workspace_bytes());
                prop_assert_eq!(Key::parse(key.as_str()), Ok(key));
            }
        }
    }
}

/// Covers C1, C2, C3, C7, S15, B1, B2, B3, B4, B5, B6, B7.
#[test]
fn the_corpus_of_keys_is_answered_as_it_says() {
    for input in corpus(include_str!("../../../tests/corpus/keys.txt")) {
        let (bytes, split) = input.parts.split_first().expect("a key");
        let parsed = KeyRef::parse(bytes);
        let outcome = parsed.as_ref().map_or_else(|error| error.part().to_string().replace(' ', "-"), |_| "ok".into());
        assert_eq!(outcome, input.expected, "line {}: {parsed:?}", input.line);
        if let Ok(key) = parsed {
            let found = [key.workspace(), key.entity_type(), key.entity_id()].map(str::as_bytes);
            assert_eq!(split, found, "line {}", input.line);
        }
        assert_eq!(parts(bytes).is_some(), input.expected == "ok", "line {}: the second definition", input.line);
    }
}
