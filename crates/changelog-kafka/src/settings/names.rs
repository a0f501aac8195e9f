//! The names of librdkafka's properties, and whether each may be set.
//!
//! Promises that each name is in exactly one list, and that the lists have every name of the librdkafka that is
//! linked. A test compares them with `rd_kafka_conf_properties_show`. Does not: know values, except those that this
//! build lacks.

/// Properties that would break a promise, with the reason.
const REFUSED: [(&str, &str); 46] = [
    ("acks", "it is all: an acknowledged write is durable"),
    ("allow.auto.create.topics", "it is false: a misspelt topic must not come into being"),
    ("api.version.fallback.ms", "the protocol of an old broker has no read_committed and no idempotence"),
    ("api.version.request", "the protocol of an old broker has no read_committed and no idempotence"),
    ("auto.commit.enable", "it is false: nothing commits"),
    ("auto.offset.reset", "it is error: a load must not jump over what it can't read"),
    ("batch.size", "it follows the topic's max.message.bytes"),
    ("bootstrap.servers", "it is set by --brokers"),
    ("broker.version.fallback", "the protocol of an old broker has no read_committed and no idempotence"),
    ("check.crcs", "it is true: a damaged record must not be loaded"),
    ("client.rack", "loads are read from leaders: a follower may say its end too early"),
    ("delivery.report.only.error", "it is false: a write is acknowledged by its report"),
    ("delivery.timeout.ms", "it is set by --write-timeout"),
    ("enable.auto.commit", "it is false: nothing commits"),
    ("enable.auto.offset.store", "it is false: nothing commits"),
    ("enable.gapless.guarantee", "it would stop a producer for good at the first failed write"),
    ("enable.idempotence", "it is true: a retry must neither double nor reorder writes"),
    ("enable.partition.eof", "it is true: it tells a load its end"),
    ("enabled_events", "the events are those that this program handles"),
    ("group.id", "it is set by --group-id"),
    ("group.instance.id", "nothing joins a group here"),
    ("group.protocol", "nothing joins a group here"),
    ("group.protocol.type", "nothing joins a group here"),
    ("group.remote.assignor", "nothing joins a group here"),
    ("internal.termination.signal", "the signal would end the process without a drain"),
    ("isolation.level", "it is read_committed: what was aborted must not be loaded"),
    ("log.queue", "librdkafka's log lines go to ours"),
    ("log_level", "it is set by --log, with the target librdkafka"),
    ("max.in.flight", "it is 5: order needs at most that"),
    ("max.in.flight.requests.per.connection", "it is 5: order needs at most that"),
    ("message.max.bytes", "it follows the topic's max.message.bytes"),
    ("message.timeout.ms", "it is set by --write-timeout"),
    ("metadata.broker.list", "it is set by --brokers"),
    ("offset.store.method", "nothing stores offsets"),
    ("offset.store.path", "nothing stores offsets"),
    ("offset.store.sync.interval.ms", "nothing stores offsets"),
    ("partition.assignment.strategy", "nothing subscribes"),
    ("partitioner", "the partition is murmur2 of the workspace ID, and is given with each record"),
    ("plugin.library.paths", "it loads code"),
    ("queued.max.messages.kbytes", "it follows --replay-memory"),
    ("request.required.acks", "it is all: an acknowledged write is durable"),
    ("ssl.engine.id", "it loads code"),
    ("ssl.engine.location", "it loads code"),
    ("ssl.providers", "it loads code"),
    ("topic.blacklist", "a topic that it hides looks like one that is missing"),
    ("transactional.id", "writes are not transactions"),
];

const INTERNAL: &str = "it is internal to librdkafka";

/// Names that librdkafka's documentation does not have: its hidden ones, and those of the Java client.
const NOT_LISTED: [(&str, &str); 16] = [
    ("client.software.name", INTERNAL),
    ("client.software.version", INTERNAL),
    ("enable.sparse.connections", INTERNAL),
    ("enable_sasl_queue", INTERNAL),
    ("metadata.request.timeout.ms", INTERNAL),
    ("test.mock.broker.rtt", "it is for tests of librdkafka itself"),
    ("test.mock.num.brokers", "it would write to a pretended cluster in memory"),
    ("ut_handle_produceresponse", "it is for tests of librdkafka itself"),
    ("sasl.jaas.config", "it is of Java clients: set sasl.username and sasl.password"),
    ("ssl.keystore.certificate.chain", "it is of Java clients: set ssl.certificate.pem"),
    ("ssl.keystore.key", "it is of Java clients: set ssl.key.pem"),
    ("ssl.keystore.type", "it is of Java clients: PKCS#12 is ssl.keystore.location, PEM is ssl.key.location"),
    ("ssl.truststore.certificates", "it is of Java clients: set ssl.ca.pem"),
    ("ssl.truststore.location", "it is of Java clients: set ssl.ca.location to a file of PEM certificates"),
    ("ssl.truststore.password", "it is of Java clients: ssl.ca.location needs no password"),
    ("ssl.truststore.type", "it is of Java clients: ssl.ca.location is a file of PEM certificates"),
];

/// Properties that are functions or objects of a program.
const NO_TEXT: [&str; 26] = [
    "background_event_cb",
    "closesocket_cb",
    "connect_cb",
    "consume_cb",
    "default_topic_conf",
    "dr_cb",
    "dr_msg_cb",
    "error_cb",
    "interceptors",
    "log_cb",
    "msg_order_cmp",
    "oauthbearer_token_refresh_cb",
    "offset_commit_cb",
    "opaque",
    "open_cb",
    "partitioner_cb",
    "rebalance_cb",
    "resolve_cb",
    "socket_cb",
    "ssl.certificate.verify_cb",
    "ssl_ca",
    "ssl_certificate",
    "ssl_engine_callback_data",
    "ssl_key",
    "stats_cb",
    "throttle_cb",
];

const KERBEROS: &str = "GSSAPI (Kerberos) is not in this build: use PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER";
const ASSERTION: &str =
    "a signed assertion (JWT bearer grant) is not in this build: use client credentials or --kafka-oauth-token-file";
const AZURE: &str = "Azure's metadata service is not asked by this build: use --kafka-oauth-token-file";

/// What this build lacks: a property, the value that it is about (`None` = every value), and why.
const LACKING: [(&str, Option<&str>, &str); 20] = [
    ("sasl.mechanism", Some("GSSAPI"), KERBEROS),
    ("sasl.kerberos.keytab", None, KERBEROS),
    ("sasl.kerberos.kinit.cmd", None, KERBEROS),
    ("sasl.kerberos.min.time.before.relogin", None, KERBEROS),
    ("sasl.kerberos.principal", None, KERBEROS),
    ("sasl.kerberos.service.name", None, KERBEROS),
    ("sasl.oauthbearer.assertion.algorithm", None, ASSERTION),
    ("sasl.oauthbearer.assertion.claim.aud", None, ASSERTION),
    ("sasl.oauthbearer.assertion.claim.exp.seconds", None, ASSERTION),
    ("sasl.oauthbearer.assertion.claim.iss", None, ASSERTION),
    ("sasl.oauthbearer.assertion.claim.jti.include", None, ASSERTION),
    ("sasl.oauthbearer.assertion.claim.nbf.seconds", None, ASSERTION),
    ("sasl.oauthbearer.assertion.claim.sub", None, ASSERTION),
    ("sasl.oauthbearer.assertion.file", None, ASSERTION),
    ("sasl.oauthbearer.assertion.jwt.template.file", None, ASSERTION),
    ("sasl.oauthbearer.assertion.private.key.file", None, ASSERTION),
    ("sasl.oauthbearer.assertion.private.key.passphrase", None, ASSERTION),
    ("sasl.oauthbearer.assertion.private.key.pem", None, ASSERTION),
    ("sasl.oauthbearer.grant.type", Some("urn:ietf:params:oauth:grant-type:jwt-bearer"), ASSERTION),
    ("sasl.oauthbearer.metadata.authentication.type", Some("azure_imds"), AZURE),
];

/// Properties that may be set, and that this program acts on itself. They are not given to librdkafka, which is built
/// without its HTTPS client and refuses them: it would ask for a token for each client, so for each load.
const OURS: [&str; 10] = [
    "https.ca.location",
    "https.ca.pem",
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.extensions",
    "sasl.oauthbearer.grant.type",
    "sasl.oauthbearer.metadata.authentication.type",
    "sasl.oauthbearer.method",
    "sasl.oauthbearer.scope",
    "sasl.oauthbearer.token.endpoint.url",
];

/// Properties that may be set.
const ALLOWED: [&str; 84] = [
    "api.version.request.timeout.ms",
    "auto.commit.interval.ms",
    "batch.num.messages",
    "broker.address.family",
    "broker.address.ttl",
    "builtin.features",
    "client.dns.lookup",
    "client.id",
    "compression.level",
    "compression.type",
    "connections.max.idle.ms",
    "consume.callback.max.messages",
    "coordinator.query.interval.ms",
    "debug",
    "enable.metrics.push",
    "enable.random.seed",
    "enable.sasl.oauthbearer.unsecure.jwt",
    "enable.ssl.certificate.verification",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "heartbeat.interval.ms",
    "linger.ms",
    "log.connection.close",
    "log.thread.name",
    "max.poll.interval.ms",
    "message.copy.max.bytes",
    "metadata.max.age.ms",
    "metadata.recovery.rebootstrap.trigger.ms",
    "metadata.recovery.strategy",
    "produce.offset.report",
    "queue.buffering.backpressure.threshold",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queued.min.messages",
    "queuing.strategy",
    "receive.message.max.bytes",
    "reconnect.backoff.jitter.ms",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "request.timeout.ms",
    "retries",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "sasl.mechanism",
    "sasl.oauthbearer.config",
    "sasl.password",
    "sasl.username",
    "security.protocol",
    "session.timeout.ms",
    "socket.blocking.max.ms",
    "socket.connection.setup.timeout.ms",
    "socket.keepalive.enable",
    "socket.max.fails",
    "socket.nagle.disable",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "socket.timeout.ms",
    "ssl.ca.certificate.stores",
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.cipher.suites",
    "ssl.crl.location",
    "ssl.curves.list",
    "ssl.endpoint.identification.algorithm",
    "ssl.key.location",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.sigalgs.list",
    "statistics.interval.ms",
    "sticky.partitioning.linger.ms",
    "topic.metadata.propagation.max.ms",
    "topic.metadata.refresh.fast.cnt",
    "topic.metadata.refresh.fast.interval.ms",
    "topic.metadata.refresh.interval.ms",
    "topic.metadata.refresh.sparse",
    "transaction.timeout.ms",
];

/// Other names of a property, and the name that this program gives to librdkafka. Two names with two values would
/// otherwise win over each other by chance.
const ALIASES: [(&str, &str); 7] = [
    ("compression.codec", "compression.type"),
    ("max.partition.fetch.bytes", "fetch.message.max.bytes"),
    ("message.send.max.retries", "retries"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("sasl.mechanisms", "sasl.mechanism"),
    ("sasl.oauthbearer.client.credentials.client.id", "sasl.oauthbearer.client.id"),
    ("sasl.oauthbearer.client.credentials.client.secret", "sasl.oauthbearer.client.secret"),
];

/// The properties of a topic. librdkafka takes each of them also with `topic.` before its name.
const OF_A_TOPIC: [&str; 22] = [
    "acks",
    "auto.commit.enable",
    "auto.commit.interval.ms",
    "auto.offset.reset",
    "compression.codec",
    "compression.level",
    "compression.type",
    "consume.callback.max.messages",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "message.timeout.ms",
    "msg_order_cmp",
    "offset.store.method",
    "offset.store.path",
    "offset.store.sync.interval.ms",
    "opaque",
    "partitioner",
    "partitioner_cb",
    "produce.offset.report",
    "queuing.strategy",
    "request.required.acks",
    "request.timeout.ms",
];

/// The values of properties of [`OURS`] that have few, whatever their case.
const VALUES: [(&str, &[&str]); 3] = [
    ("sasl.oauthbearer.grant.type", &["client_credentials"]),
    ("sasl.oauthbearer.metadata.authentication.type", &["none"]),
    ("sasl.oauthbearer.method", &["default", "oidc"]),
];

/// The mechanisms of SASL that this build has.
const MECHANISMS: [&str; 4] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"];
/// librdkafka's default for sasl.mechanism.
pub const DEFAULT_MECHANISM: &str = "GSSAPI";

/// A property that librdkafka, or the Java client, has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Property(&'static str);

impl Property {
    /// The property with this name, whatever its case, and also with `topic.` before it if it is one of a topic.
    pub fn named(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let of_a_topic = || name.strip_prefix("topic.").filter(|rest| OF_A_TOPIC.contains(rest));
        let find = |name: &str| all().find(|known| *known == name);
        let found = find(&name).or_else(|| of_a_topic().and_then(find))?;
        let alias = ALIASES.iter().find(|(alias, _)| *alias == found);
        Some(Self(alias.map_or(found, |(_, name)| name)))
    }

    /// The name that is given to librdkafka: the same for all names of a property.
    pub fn name(self) -> &'static str {
        self.0
    }

    /// Whether this program acts on it, and librdkafka does not get it.
    pub fn is_ours(self) -> bool {
        OURS.contains(&self.0)
    }

    /// Why the property can't have this value, or any.
    pub fn refused(self, value: &str) -> Option<String> {
        if let Some((_, reason)) = REFUSED.iter().chain(&NOT_LISTED).find(|(name, _)| *name == self.0) {
            return Some(format!("is refused: {reason}"));
        }
        if NO_TEXT.contains(&self.0) {
            return Some("is refused: it is a function or an object of a program, and no text".to_owned());
        }
        let lacks = |of: Option<&str>| of.is_none_or(|of| of.eq_ignore_ascii_case(value.trim()));
        if let Some((.., why)) = LACKING.iter().find(|(name, of, _)| *name == self.0 && lacks(*of)) {
            return Some((*why).to_owned());
        }
        if let Some((_, values)) = VALUES.iter().find(|(name, _)| *name == self.0) {
            let is_one = values.iter().any(|one| one.eq_ignore_ascii_case(value.trim()));
            return (!is_one).then(|| format!("must be one of {}", values.join(", ")));
        }
        let is_mechanism = self.0 == "sasl.mechanism";
        (is_mechanism && !MECHANISMS.contains(&value)).then(|| format!("must be one of {}", MECHANISMS.join(", ")))
    }

    /// The property whose name is the nearest to a misspelt one, if one is near.
    pub fn nearest(name: &str) -> Option<&'static str> {
        /// As in clap: below this, names have little in common.
        const LEAST: f64 = 0.8;
        let name = name.to_ascii_lowercase();
        let without_prefix = name.trim_start_matches("topic.");
        let rate = |known| strsim::jaro(&name, known).max(strsim::jaro(without_prefix, known));
        let rated = all().map(|known| (rate(known), known)).filter(|(rate, _)| *rate >= LEAST);
        rated.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, known)| known)
    }

    /// The first property that a message of librdkafka names.
    pub fn in_message(message: &str) -> Option<&'static str> {
        let places = all().filter_map(|name| Some((message.find(name)?, name)));
        // Some names begin with another one.
        places.min_by_key(|(at, name)| (*at, std::cmp::Reverse(name.len()))).map(|(_, name)| name)
    }
}

/// Whether both are names of one property.
pub fn is_same_property(a: &str, b: &str) -> bool {
    Property::named(a).is_some_and(|property| Property::named(b) == Some(property))
}

/// Every name, once.
pub fn all() -> impl Iterator<Item = &'static str> {
    let refused = REFUSED.iter().chain(&NOT_LISTED).map(|(name, _)| *name);
    let lacking = LACKING.iter().filter(|(_, of, _)| of.is_none()).map(|(name, ..)| *name);
    let aliases = ALIASES.iter().map(|(alias, _)| *alias);
    refused.chain(NO_TEXT).chain(lacking).chain(OURS).chain(ALLOWED).chain(aliases)
}

#[cfg(test)]
mod tests;
