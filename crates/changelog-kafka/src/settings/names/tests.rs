use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::ffi::documented_properties;

/// A row of librdkafka's tables: the section, the name, and the name that it is an alias of.
struct Row {
    is_of_a_topic: bool,
    name: String,
    alias_of: Option<String>,
}

fn documented() -> Vec<Row> {
    let (text, mut is_of_a_topic, mut rows) = (documented_properties(), false, Vec::new());
    for line in text.lines() {
        if line.starts_with("## ") {
            is_of_a_topic = line.contains("Topic");
        }
        let Some((name, rest)) = line.split_once('|') else { continue };
        let name = name.trim().to_owned();
        if name == "Property" || name.starts_with('-') {
            continue;
        }
        let alias_of = rest.split_once("Alias for `").and_then(|(_, rest)| rest.split_once('`'));
        rows.push(Row { is_of_a_topic, name, alias_of: alias_of.map(|(name, _)| name.to_owned()) });
    }
    assert!(rows.len() > 150, "{text}");
    rows
}

/// Covers S11.
#[test]
fn the_lists_have_each_property_of_the_linked_librdkafka_once_and_no_other() {
    let expected: BTreeSet<_> = documented().into_iter().map(|row| row.name).collect();
    let is_listed = |name: &&str| NOT_LISTED.iter().all(|(other, _)| other != name);
    let ours: BTreeSet<_> = all().filter(is_listed).map(ToOwned::to_owned).collect();
    let difference: Vec<_> = ours.symmetric_difference(&expected).collect();
    assert!(difference.is_empty(), "{difference:?}");
    let mut times = BTreeMap::<_, usize>::new();
    for name in all() {
        *times.entry(name).or_default() += 1;
        assert_eq!(name, name.to_ascii_lowercase());
    }
    times.retain(|_, times| *times > 1);
    assert!(times.is_empty(), "{times:?}");
}

/// Covers S11.
#[test]
fn the_list_of_topic_properties_is_that_of_the_linked_librdkafka() {
    let expected: BTreeSet<_> = documented().into_iter().filter(|row| row.is_of_a_topic).map(|row| row.name).collect();
    assert_eq!(OF_A_TOPIC.map(ToOwned::to_owned).into_iter().collect::<BTreeSet<_>>(), expected);
}

/// Covers S11.
#[test]
fn an_alias_and_its_property_are_the_same_or_refused_alike() {
    for row in documented() {
        let Some(alias_of) = row.alias_of else { continue };
        let (alias, property) = (Property::named(&row.name).unwrap(), Property::named(&alias_of).unwrap());
        let (refused, also) = (alias.refused("1"), property.refused("1"));
        assert!(alias == property || refused.is_some() && also.is_some(), "{} and {alias_of}", row.name);
        assert_eq!(refused.is_some(), also.is_some(), "{} and {alias_of}", row.name);
    }
}

/// Covers S11.
#[test]
fn names_are_compared_in_lower_case_and_without_one_prefix() {
    for name in ["acks", "ACKS", "topic.acks", "Topic.Acks", "request.required.acks", "topic.request.required.acks"] {
        assert!(Property::named(name).unwrap().refused("1").unwrap().contains("durable"), "{name}");
    }
    assert_eq!(Property::named("LINGER.MS"), Property::named("queue.buffering.max.ms"));
    assert_eq!(Property::named("topic.compression.codec").unwrap().name(), "compression.type");
    assert_eq!(Property::named("topic.metadata.refresh.sparse").unwrap().name(), "topic.metadata.refresh.sparse");
    for name in ["topic.topic.acks", "topic.client.id", "metadata.refresh.sparse", "acks ", "acks.", "", "topic."] {
        assert_eq!(Property::named(name), None, "{name:?}");
    }
}

/// Covers S11.
#[test]
fn what_the_build_lacks_is_refused_with_a_way_out() {
    let refused = |name: &str, value: &str| Property::named(name).unwrap().refused(value);
    for name in ["sasl.mechanism", "sasl.mechanisms", "SASL.MECHANISM"] {
        for value in ["GSSAPI", "gssapi", " GSSAPI"] {
            let reason = refused(name, value).unwrap();
            assert!(reason.contains("not in this build") && reason.contains("SCRAM-SHA-512"), "{reason}");
        }
        for value in ["KERBEROS", "plain", "PLAIN,GSSAPI", "SCRAM-SHA-1"] {
            assert!(refused(name, value).unwrap().contains("must be one of PLAIN"), "{value}");
        }
        for value in MECHANISMS {
            assert_eq!(refused(name, value), None);
        }
    }
    for name in ["sasl.kerberos.service.name", "sasl.oauthbearer.assertion.file"] {
        assert!(refused(name, "x").unwrap().contains("not in this build"), "{name}");
    }
    for (name, value, words) in [
        ("sasl.oauthbearer.grant.type", "urn:ietf:params:oauth:grant-type:jwt-bearer", "not in this build"),
        ("sasl.oauthbearer.metadata.authentication.type", "azure_imds", "--kafka-oauth-token-file"),
        ("sasl.oauthbearer.method", "x", "must be one of default, oidc"),
    ] {
        assert!(refused(name, value).unwrap().contains(words), "{name}");
    }
    // The rest of the table of codecs is built in.
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let mut config = rdkafka::ClientConfig::new();
        config.set("compression.type", codec);
        assert!(refused("compression.type", codec).is_none() && config.create_native_config().is_ok(), "{codec}");
    }
}

/// Covers S11, B24.
#[test]
fn a_misspelt_name_has_a_nearest_one() {
    for (wrong, right) in [
        ("sasl.pasword", "sasl.password"),
        ("SASL.PASSWORT", "sasl.password"),
        ("security.protocoll", "security.protocol"),
        ("ssl.ca.locaton", "ssl.ca.location"),
        ("linger_ms", "linger.ms"),
        ("topic.topic.acks", "acks"),
        ("topic.linger.mss", "linger.ms"),
        ("topic.metadata.refresh.spars", "topic.metadata.refresh.sparse"),
    ] {
        assert_eq!(Property::nearest(wrong), Some(right));
    }
    for nothing in ["", "zzz", "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"] {
        assert_eq!(Property::nearest(nothing), None);
    }
}

/// Covers S11.
#[test]
fn librdkafka_is_not_given_what_it_is_built_without() {
    for name in OURS {
        assert!(Property::named(name).is_some_and(Property::is_ours), "{name}");
        // It refuses them, so a test notices if one was given.
        let value = VALUES.iter().find(|(of, _)| *of == name).map_or("x", |(_, values)| values[0]);
        let mut config = rdkafka::ClientConfig::new();
        config.set(name, value);
        assert!(config.create_native_config().is_err(), "{name}");
    }
}

#[test]
fn the_first_and_longest_name_of_a_message_is_found() {
    let message = "`sasl.username` and `sasl.password` must be set";
    assert_eq!(Property::in_message(message), Some("sasl.username"));
    assert_eq!(Property::in_message("`reconnect.backoff.max.ms` must be"), Some("reconnect.backoff.max.ms"));
    assert_eq!(Property::in_message("nothing"), None);
}
