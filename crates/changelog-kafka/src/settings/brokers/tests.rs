use super::*;

/// Covers C61.
#[test]
fn hosts_and_addresses_with_and_without_a_port_are_taken() {
    for (text, taken) in [
        ("localhost:9092", "localhost:9092"),
        ("localhost", "localhost:9092"),
        (" a:1 , b:65535\n", "a:1,b:65535"),
        ("kafka-0.kafka_headless.ns.svc.cluster.local.:9092", "kafka-0.kafka_headless.ns.svc.cluster.local.:9092"),
        ("10.0.0.1:9092,[::1]:9093,[2001:db8::1]", "10.0.0.1:9092,[::1]:9093,[2001:db8::1]:9092"),
        ("[fe80::1%eth0]:9092", "[fe80::1%eth0]:9092"),
        ("b-1.x1.kafka.eu-west-1.amazonaws.com:9094", "b-1.x1.kafka.eu-west-1.amazonaws.com:9094"),
        ("a:09092", "a:9092"),
        ("1a.2b:1", "1a.2b:1"),
    ] {
        let brokers = text.parse::<Brokers>().map(|brokers| brokers.to_string());
        assert_eq!(brokers, Ok(taken.to_owned()), "{text}");
        assert_eq!(taken.parse::<Brokers>().unwrap().to_string(), taken);
    }
}

/// Covers B24.
#[test]
fn a_part_that_is_no_broker_is_named_with_the_reason() {
    let long_label = "a".repeat(64);
    for (part, reason) in [
        ("", "is empty"),
        ("\"b:1\"", "quotes"),
        ("'b:1'", "quotes"),
        ("`b`", "quotes"),
        ("\u{201c}b:1\u{201d}", "quotes"),
        ("b:1 c:2", "blank"),
        ("b:1\tc:2", "blank"),
        ("b:1\nc:2", "blank"),
        ("b :1", "blank"),
        ("b:1;c:2", "semicolon"),
        ("b:1\u{ff0c}c:2", "another script"),
        ("b\u{ff1a}1", "another script"),
        ("b:1\u{3001}c:2", "another script"),
        ("b:1\u{ff1b}c:2", "another script"),
        ("http://b:1", "scheme"),
        ("PLAINTEXT://b:1", "scheme"),
        ("SASL_SSL://b:1", "scheme"),
        ("//b:1", "scheme"),
        ("b:1/topic", "path"),
        ("b:1?x", "path"),
        ("b:1:2", "two ports"),
        ("z::1", "two ports"),
        ("[::1]:1:2", "two ports"),
        ("b:", "no port"),
        ("[::1]:", "no port"),
        ("b:0", "from 1 to 65535"),
        ("b:99999", "from 1 to 65535"),
        ("b:-1", "from 1 to 65535"),
        ("b:+1", "from 1 to 65535"),
        ("b:x", "from 1 to 65535"),
        ("b:1x", "from 1 to 65535"),
        ("b:184467440737095516160", "from 1 to 65535"),
        ("b:\u{0661}", "from 1 to 65535"),
        (":9092", "no host"),
        (":", "no host"),
        ("::1", "brackets"),
        ("2001:db8::1", "brackets"),
        ("::1:9092", "brackets"),
        ("2001:db8:0:0:0:0:0:1:9092", "brackets"),
        ("fe80::1%eth0", "brackets"),
        ("fe80::1%eth0:9092", "brackets"),
        ("[::1", "brackets"),
        ("::1]:1", "brackets"),
        ("[b]:1", "brackets"),
        ("[::1]1", "brackets"),
        ("[]:1", "brackets"),
        ("[fe80::1%]:1", "brackets"),
        ("300.0.0.1:1", "IPv4"),
        ("1.2.3:1", "IPv4"),
        ("12345", "IPv4"),
        ("a..b:1", "letters"),
        (".a:1", "letters"),
        (".", "letters"),
        ("b\u{fc}cher:1", "letters"),
        ("\u{200b}b:1", "letters"),
        ("\u{feff}b:1", "letters"),
        ("b\u{1b}[1m:1", "letters"),
        ("b|c", "letters"),
        ("*", "letters"),
        (&long_label, "letters"),
    ] {
        for (list, at) in [(part.to_owned(), 1), (format!("a:1,{part}"), 2), (format!("a:1,{part},c:3"), 2)] {
            if list.is_empty() {
                continue;
            }
            let error = list.parse::<Brokers>().expect_err(&list).to_string();
            assert!(error.starts_with(&format!("part {at}, {part:?}: ")), "{list:?}: {error}");
            assert!(error.contains(reason), "{list:?}: {error}");
        }
    }
    for nothing in ["", " ", "\n\t"] {
        assert!(nothing.parse::<Brokers>().unwrap_err().to_string().contains("no broker is named"));
    }
}

/// Covers S12.
#[test]
fn a_secret_in_a_list_of_brokers_is_not_shown() {
    let token = format!("hunter2{}", ".eyJhbGciOiJIUzI1NiJ9".repeat(20));
    for (text, reason) in [
        ("user:hunter2@b:1", "user name"),
        ("SASL_SSL://user:hunter2@b:1", "user name"),
        ("a:1,\"user:hunter2@b:1\"", "quotes"),
        ("sasl.password=hunter2", "`=`"),
        ("b:9092;sasl.password=hunter2", "`=`"),
        ("b:9092 sasl.pasword = hunter2", "`=`"),
        ("b:9092,x=hunter2", "`=`"),
        ("b:9092\nmy.own=hunter2", "`=`"),
        ("SASL_SSL://b:1?password=hunter2", "scheme"),
        ("b:9092 sasl.password: hunter2", "blank"),
        ("-----BEGIN PRIVATE KEY-----hunter2", "blank"),
        (&token, "letters"),
    ] {
        let error = text.parse::<Brokers>().unwrap_err().to_string();
        assert!(error.starts_with("part ") && error.contains(reason) && !error.contains("hunter2"), "{error}");
    }
}
