//! The transport: connections with their limits and drain, health and reflection, and the admin port.
//!
//! Does not: know what an RPC does.

mod activity;
mod admin;
mod call_body;
mod connection;
mod connections;
mod health;
mod listener;
mod metrics_format;
mod observe;
mod open_connections;
mod opening;
mod request_head;
mod request_memory;
mod status_headers;
mod transport_wait;

use tonic::{codec::CompressionEncoding, service::Routes};

pub use admin::admin_router;
pub use connections::{Port, PortEvent};
pub use health::Health;
pub use listener::Listener;
pub use observe::{CallService, CallState};
pub use open_connections::ConnectionCounts;
pub use opening::{Opened, Opening};
pub use request_memory::RequestLimits;

use request_memory::MAX_PROBE_BYTES;

use crate::{
    proto::{self, v1::changelog_service_server::ChangelogServiceServer},
    service::Service,
};

/// The API. It is called without a router, which would cost a twentieth of a small write.
pub type Api = ChangelogServiceServer<Service>;

pub fn api(service: Service, max_request_bytes: usize) -> Api {
    ChangelogServiceServer::new(service)
        .max_decoding_message_size(max_request_bytes)
        .max_encoding_message_size(usize::MAX)
        .accept_compressed(CompressionEncoding::Gzip)
}

/// What the API port serves besides the API.
pub fn health_and_reflection_routes(health: &Health) -> Routes {
    let routes = health_routes(health);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let routes = match reflection().build_v1() {
        Ok(v1) => routes.add_service(v1.max_decoding_message_size(MAX_PROBE_BYTES)),
        Err(error) => unreachable!("the compiled descriptors are good: {error}"),
    };
    match reflection().build_v1alpha() {
        Ok(v1alpha) => routes.add_service(v1alpha.max_decoding_message_size(MAX_PROBE_BYTES)),
        Err(error) => unreachable!("the compiled descriptors are good: {error}"),
    }
}

/// Health only, for a port that can be reachable from outside the pod.
pub fn health_routes(health: &Health) -> Routes {
    Routes::new(health.server().max_decoding_message_size(MAX_PROBE_BYTES))
}
