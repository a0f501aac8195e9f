//! The head of a request: whether it is gRPC, which RPC it calls, and its deadline.

use std::time::Duration;

use http::{HeaderMap, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use tokio::time::Instant;

use crate::metrics::ApiMethod;

/// The answer to a request that is not gRPC: another method than POST, or another content type. The specification
/// wants HTTP status 415 for the second.
pub fn not_grpc<B>(request: &Request<B>) -> Option<Response<tonic::body::Body>> {
    let status = if request.method() != Method::POST {
        StatusCode::METHOD_NOT_ALLOWED
    } else if !is_grpc(request.headers()) {
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    } else {
        return None;
    };
    let mut response = Response::new(tonic::body::Body::empty());
    *response.status_mut() = status;
    Some(response)
}

/// Whether the content type is that of gRPC with protocol buffers. gRPC-Web and JSON are something else.
fn is_grpc(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let media_type = value.as_bytes().split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    [&b"application/grpc"[..], b"application/grpc+proto"].iter().any(|known| media_type.eq_ignore_ascii_case(known))
}

/// A method, with a name from a fixed list.
#[derive(Debug, Clone, Copy)]
pub struct Rpc {
    pub name: &'static str,
    /// `None` for health, reflection, and what the API does not have.
    pub method: Option<ApiMethod>,
    /// Of the API, and not health or reflection.
    pub ours: bool,
    /// The `Check` of health, which is answered at once.
    pub is_check: bool,
}

pub fn rpc_name(path: &str) -> Rpc {
    if let Some(name) = path.strip_prefix("/changelog.v1.ChangelogService/") {
        let method = ApiMethod::named(name);
        return Rpc { name: method.map_or("unknown", ApiMethod::name), method, ours: true, is_check: false };
    }
    let name = match path.split('/').nth(1) {
        Some("grpc.health.v1.Health") => "Health",
        Some("grpc.reflection.v1.ServerReflection" | "grpc.reflection.v1alpha.ServerReflection") => "Reflection",
        _ => return Rpc { name: "unknown", method: None, ours: true, is_check: false },
    };
    Rpc { name, method: None, ours: false, is_check: path == "/grpc.health.v1.Health/Check" }
}

/// The deadline from the client's `grpc-timeout`: at most eight digits and a unit. A malformed one is ignored, as the
/// specification allows. The server's own limits apply then.
pub fn deadline(headers: &HeaderMap) -> Option<Instant> {
    let value = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    let timeout = match unit {
        "H" => Duration::from_secs(n * 3600),
        "M" => Duration::from_secs(n * 60),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return None,
    };
    Instant::now().checked_add(timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers B27.
    #[test]
    fn only_posts_with_the_content_type_of_grpc_are_calls() {
        let answer = |method: Method, types: &[&str]| {
            let mut request = Request::builder().method(method);
            for content_type in types {
                request = request.header(CONTENT_TYPE, *content_type);
            }
            not_grpc(&request.body(()).unwrap()).map(|response| response.status().as_u16())
        };
        for good in ["application/grpc", "application/grpc+proto", "Application/GRPC", "application/grpc ; charset=x"] {
            assert_eq!(answer(Method::POST, &[good]), None, "{good}");
        }
        for bad in [
            "",
            "text/plain",
            "application/json",
            "application/grpc-web",
            "application/grpc-web+proto",
            "application/grpc+json",
            "application/grpcx",
            "application/proto",
            "xapplication/grpc",
        ] {
            assert_eq!(answer(Method::POST, &[bad]), Some(415), "{bad}");
        }
        assert_eq!(answer(Method::POST, &[]), Some(415));
        assert_eq!(answer(Method::POST, &["application/grpc", "text/plain"]), Some(415));
        for method in [Method::GET, Method::PUT, Method::HEAD, Method::OPTIONS, Method::DELETE] {
            assert_eq!(answer(method, &["application/grpc"]), Some(405));
        }
    }

    /// Covers B16.
    #[test]
    fn malformed_timeouts_are_ignored_and_valid_ones_are_read() {
        let given = |value: &str| {
            let headers =
                HeaderMap::from_iter([(http::header::HeaderName::from_static("grpc-timeout"), value.parse().unwrap())]);
            deadline(&headers).map(|d| d.saturating_duration_since(Instant::now()).as_secs())
        };
        for bad in ["", "S", "1", "-1S", "1.5S", "123456789S", "1x", "S1", "1 S", "é"] {
            assert_eq!(given(bad), None, "{bad}");
        }
        assert!(given("100S").is_some_and(|s| (98..=100).contains(&s)));
        assert!(given("99999999H").is_some());
    }

    #[test]
    fn unknown_paths_share_one_label() {
        assert_eq!(rpc_name("/changelog.v1.ChangelogService/Set").name, "Set");
        assert_eq!(rpc_name("/changelog.v1.ChangelogService/Nope").name, "unknown");
        assert_eq!(rpc_name("/x").name, "unknown");
        assert_eq!(rpc_name("/grpc.health.v1.Health/Check").name, "Health");
    }
}
