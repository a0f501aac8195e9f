//! Metrics of the calls of the API, with the names and labels of go-grpc-prometheus where it has them.
//!
//! Calls of health and reflection are left out, and so are calls of methods that do not exist. Streams have a histogram
//! of their own, because one that follows may last for days.

use std::time::Duration;

use changelog_core::metrics::{Series, durations};
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use tonic::Code;

const SERVICE: &str = "changelog.v1.ChangelogService";
const UNARY: &str = "unary";

/// The methods of the API, with their types.
pub const METHODS: [(&str, &str); 9] = [
    ("Set", UNARY),
    ("Delete", UNARY),
    ("Flush", UNARY),
    ("LoadWorkspace", "server_stream"),
    ("StreamAll", "server_stream"),
    ("Describe", UNARY),
    ("Get", UNARY),
    ("Write", "bidi_stream"),
    ("Watch", "server_stream"),
];

/// The names of gRPC for Go, by their numbers.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// The place of a method in [`METHODS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiMethod(usize);

impl ApiMethod {
    /// `None` if the API has no such method.
    pub fn named(name: &str) -> Option<Self> {
        METHODS.iter().position(|(known, _)| *known == name).map(Self)
    }

    pub fn name(self) -> &'static str {
        METHODS[self.0].0
    }
}

/// What one method counts. An event takes no lock of a family.
#[derive(Debug)]
struct OfMethod {
    started: Counter,
    in_flight: Gauge,
    durations: Histogram,
    handled: [Counter; CODES.len()],
}

#[derive(Debug)]
pub struct CallMetrics {
    started: Series<Counter, 3>,
    handled: Series<Counter, 4>,
    unary: Series<Histogram, 3>,
    streams: Series<Histogram, 3>,
    in_flight: Series<Gauge, 3>,
    methods: Vec<OfMethod>,
}

fn labels((method, kind): (&'static str, &'static str)) -> [(&'static str, &'static str); 3] {
    [("grpc_type", kind), ("grpc_service", SERVICE), ("grpc_method", method)]
}

impl CallMetrics {
    pub fn new() -> Self {
        let all = || METHODS.into_iter().map(labels);
        let started = Series::new(all(), Counter::default);
        let in_flight = Series::new(all(), Gauge::default);
        let with_code =
            |[kind, service, method]: [_; 3]| CODES.map(|code| [kind, service, method, ("grpc_code", code)]);
        let handled = Series::new(all().flat_map(with_code), Counter::default);
        let unary = Series::new(all().filter(|labels| labels[0].1 == UNARY), durations);
        let streams = Series::new(all().filter(|labels| labels[0].1 != UNARY), durations);
        let methods = METHODS.into_iter().map(|(method, kind)| {
            let values = [kind, SERVICE, method];
            let histogram = unary.get(values).or_else(|| streams.get(values));
            OfMethod {
                started: started.get(values).cloned().unwrap_or_default(),
                in_flight: in_flight.get(values).cloned().unwrap_or_default(),
                durations: histogram.cloned().unwrap_or_else(durations),
                handled: CODES.map(|code| handled.get([kind, SERVICE, method, code]).cloned().unwrap_or_default()),
            }
        });
        Self { methods: methods.collect(), started, handled, unary, streams, in_flight }
    }

    /// The registry has no prefix.
    pub fn register(&self, registry: &mut Registry) {
        let server = registry.sub_registry_with_prefix("grpc_server");
        self.started.register(server, "started", "Calls that began");
        self.handled.register(
            server,
            "handled",
            "Calls that ended, by status code. A call whose client left is Canceled",
        );
        self.unary.register_with_unit(
            server,
            "handling",
            "From the arrival of a unary call to the last byte of its answer",
            Unit::Seconds,
        );
    }

    /// Those that go-grpc-prometheus does not have.
    pub fn register_own(&self, registry: &mut Registry) {
        self.streams.register_with_unit(
            registry,
            "stream_duration",
            "From the arrival of a streaming call to its last byte",
            Unit::Seconds,
        );
        self.in_flight.register(registry, "calls_in_flight", "Calls that are being answered");
    }

    pub fn started(&self, method: ApiMethod) {
        let of = &self.methods[method.0];
        of.started.inc();
        of.in_flight.inc();
    }

    /// Also called for a call whose client left.
    pub fn ended(&self, method: ApiMethod, code: Code, duration: Duration) {
        let of = &self.methods[method.0];
        of.in_flight.dec();
        of.handled[code as usize].inc();
        of.durations.observe(duration.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_place_of_their_number() {
        for (number, name) in CODES.into_iter().enumerate().skip(2) {
            let code = Code::from(number as i32);
            assert_eq!((code as usize, format!("{code:?}").as_str()), (number, name));
        }
        assert_eq!((CODES[Code::Ok as usize], CODES[Code::Cancelled as usize]), ("OK", "Canceled"));
    }
}
