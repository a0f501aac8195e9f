use proptest::prelude::*;

use super::*;

fn part(workspace: &str, changelog: &str) -> KeyPart {
    Key::from_request(workspace, changelog).expect_err("must be refused").part()
}

/// Covers C4.
#[test]
fn a_relative_changelog_id_is_appended_to_its_workspace() {
    let key = Key::from_request("ws-123", "/deployment/dep-456").unwrap();
    assert_eq!(key.as_str(), "ws-123/deployment/dep-456");
    assert_eq!(key.workspace().as_str(), "ws-123");
}

/// Covers C5.
#[test]
fn a_full_key_needs_no_workspace_or_the_same() {
    let full = "ws-123/deployment/dep-456";
    assert_eq!(Key::from_request("", full).unwrap().as_str(), full);
    assert_eq!(Key::from_request("ws-123", full).unwrap().as_str(), full);
    assert!(matches!(Key::from_request("ws-1", full), Err(KeyError::WorkspaceMismatch { .. })));
}

/// Covers C6.
#[test]
fn an_id_without_its_leading_slash_is_refused_with_the_probable_form() {
    let error = Key::from_request("ws-123", "deployment/dep-456").unwrap_err();
    assert!(error.to_string().contains("was \"/deployment/dep-456\" meant?"), "{error}");
}

/// Covers C1, B3.
#[test]
fn an_entity_id_may_contain_slashes_but_no_empty_segment() {
    assert_eq!(KeyRef::parse(b"w/t/a/b/c").unwrap().entity_id(), "a/b/c");
    for bad in ["w/t//a", "w/t/a/", "w/t/a//b", "w/t/"] {
        assert!(KeyRef::parse(bad.as_bytes()).is_err(), "{bad}");
    }
}

/// Covers C1, C3, B1, B2, B3, B5.
#[test]
fn each_refusal_names_its_part() {
    assert_eq!(part("", "/t/i"), KeyPart::Workspace);
    assert_eq!(part("  \u{3000}", "/t/i"), KeyPart::Workspace);
    assert_eq!(part("a/b", "/t/i"), KeyPart::Workspace);
    assert_eq!(part(&"w".repeat(256), "/t/i"), KeyPart::Workspace);
    assert_eq!(part("w", "//i"), KeyPart::EntityType);
    assert_eq!(part("w", "/t/"), KeyPart::EntityId);
    assert_eq!(part("w", "/t/i\u{7f}"), KeyPart::EntityId);
    assert_eq!(part("w", "/t\n/i"), KeyPart::EntityType);
    assert_eq!(part("w\u{9f}", "/t/i"), KeyPart::Workspace);
    assert_eq!(part("w", "/t"), KeyPart::Whole);
    assert_eq!(part("w", ""), KeyPart::Whole);
    assert_eq!(part("", ""), KeyPart::Whole);
}

/// Covers C1, B4.
#[test]
fn a_key_of_1024_bytes_is_accepted_and_one_more_is_refused() {
    let id = "x".repeat(MAX_KEY_BYTES - "w/t/".len());
    assert!(Key::parse(&format!("w/t/{id}")).is_ok());
    assert_eq!(Key::parse(&format!("w/t/{id}x")), Err(KeyError::TooLong { got: 1025 }));
    assert!(WorkspaceId::parse(&"w".repeat(255)).is_ok());
}

/// Covers C1, B1.
#[test]
fn a_workspace_of_invisible_characters_only_is_refused_and_named() {
    for blank in [
        "\u{200b}",
        "\u{feff}",
        "\u{2800}",
        "\u{16fe4}",
        "\u{ffff}",
        "\u{fdd0}\u{10fffe}",
        "\u{3164}",
        "\u{ad}",
        "\u{34f}",
        "\u{115f}",
        "\u{ffa0}",
        "\u{fe0f}",
        "\u{e0020}",
        "\u{200d}\u{200c}",
        " \u{200b}\u{3000}\u{2060}",
    ] {
        let error = Key::from_request(blank, "/t/i").unwrap_err();
        assert!(matches!(error, KeyError::BlankWorkspace { .. }), "{blank:?}: {error}");
        assert!(error.to_string().contains("\\u{"), "{blank:?}: {error}");
        assert_eq!(WorkspaceId::parse(blank), Err(error));
        assert!(KeyRef::parse(format!("{blank}/t/i").as_bytes()).is_err(), "{blank:?}");
        let with_a_letter = format!("{blank}a{blank}");
        assert!(WorkspaceId::parse(&with_a_letter).is_ok(), "{blank:?}");
        // Only the workspace ID must be seen: it names who owns the data.
        assert!(Key::parse(&format!("w/{blank}/{blank}")).is_ok(), "{blank:?}");
    }
    // These have a form: a sign for years, a combining mark, a symbol, a letter of private use.
    for shown in ["\u{6dd}", "\u{301}", "\u{fffc}", "\u{e000}", "\u{fffd}"] {
        assert!(WorkspaceId::parse(shown).is_ok(), "{shown:?}");
    }
}

/// Covers C2, C3, B7.
#[test]
fn workspaces_are_compared_byte_by_byte() {
    let (composed, decomposed) = ("caf\u{e9}", "cafe\u{301}");
    assert_ne!(WorkspaceId::parse(composed).unwrap(), WorkspaceId::parse(decomposed).unwrap());
    assert!(WorkspaceId::parse("🦀🦀").is_ok());
    assert!(WorkspaceId::parse("a\u{202e}b").is_ok(), "format characters are allowed");
}

fn text_of(chars: impl Strategy<Value = char>, len: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = String> {
    prop::collection::vec(chars, len).prop_map(String::from_iter)
}

fn printable() -> impl Strategy<Value = char> {
    any::<char>().prop_filter("not a control character", |c| !c.is_control())
}

fn segment() -> impl Strategy<Value = String> {
    let chars = printable().prop_filter("no separator", |c| *c != '/');
    text_of(chars, 1..=12).prop_filter("not blank", |s| !s.chars().all(|c| c.is_whitespace() || is_invisible(c)))
}

proptest! {
    /// Covers C1.
    #[test]
    fn the_grammar_round_trips(w in segment(), t in segment(), ids in prop::collection::vec(segment(), 1..4)) {
        let id = ids.join("/");
        let text = format!("{w}/{t}/{id}");
        let key = KeyRef::parse(text.as_bytes()).unwrap();
        prop_assert_eq!((key.workspace(), key.entity_type(), key.entity_id()), (&*w, &*t, &*id));
        let relative = Key::from_request(&w, &format!("/{t}/{id}")).unwrap();
        prop_assert_eq!(relative.as_str(), key.as_str());
        prop_assert_eq!(relative.workspace_bytes(), w.as_bytes());
    }

    /// Covers S15.
    #[test]
    fn any_bytes_are_a_key_or_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(key) = KeyRef::parse(&bytes) {
            let joined = [key.workspace(), key.entity_type(), key.entity_id()].join("/");
            prop_assert_eq!(joined.into_bytes(), bytes);
        }
    }

    /// Covers C1, C3.
    #[test]
    fn accepted_keys_obey_the_grammar(
        w in text_of(printable(), 0..=6),
        c in text_of(prop::sample::select(vec!['/', 'a', '\u{1}', ' ']), 0..=8),
    ) {
        if let Ok(key) = Key::from_request(&w, &c) {
            let text = key.as_str();
            prop_assert!(text.split('/').count() >= 3 && !text.split('/').any(str::is_empty));
            prop_assert!(!text.chars().any(char::is_control));
        }
    }
}
