//! The error of a mutation, or of a buffered write: a message of the API, with the facts of a status.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::{DOMAIN, v1};

impl From<&Status> for v1::Error {
    fn from(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == DOMAIN).cloned();
        let (reason, metadata) = info.map(|info| (info.reason, info.metadata)).unwrap_or_default();
        let field = details.bad_request().and_then(|bad| bad.field_violations.first());
        let delay = details.retry_info().and_then(|info| info.retry_delay);
        Self {
            code: status.code() as i32,
            message: status.message().to_owned(),
            reason,
            field: field.map(|violation| violation.field.clone()).unwrap_or_default(),
            retry_after: delay.and_then(|delay| delay.try_into().ok()),
            metadata,
        }
    }
}

impl From<v1::Error> for Status {
    fn from(error: v1::Error) -> Self {
        let mut details = ErrorDetails::new();
        if !error.reason.is_empty() {
            details.set_error_info(error.reason, DOMAIN, error.metadata);
        }
        if !error.field.is_empty() {
            details.add_bad_request_violation(error.field, error.message.clone());
        }
        if let Some(delay) = error.retry_after.and_then(|delay| Duration::try_from(delay).ok()) {
            details.set_retry_info(Some(delay));
        }
        let code = match Code::from(error.code) {
            // An error is never OK: a sender without a code does not say which error it is.
            Code::Ok => Code::Unknown,
            code => code,
        };
        Self::with_error_details(code, error.message, details)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::hash_map, option, prelude::*};
    use prost::Message;
    use tonic_types::pb;

    use super::*;
    use crate::proto::code_name;

    /// Covers C53.
    #[test]
    fn the_codes_of_the_api_have_the_numbers_and_names_of_grpc() {
        assert_eq!(v1::Code::try_from(0), Ok(v1::Code::Unspecified));
        for number in 1..=16 {
            let code = v1::Code::try_from(number).unwrap();
            assert_eq!(code.as_str_name(), format!("CODE_{}", code_name(Code::from(number))));
        }
        assert!(v1::Code::try_from(17).is_err());
        for number in [0, -1, 17] {
            let status = Status::from(v1::Error { code: number, ..Default::default() });
            assert_eq!(status.code(), Code::Unknown, "{number} is an error too");
        }
    }

    prop_compose! {
        fn an_error()(
            code in 1..=16,
            message in ".{0,40}",
            info in option::of(("[A-Z][A-Z_]{0,20}", hash_map("[a-zA-Z]{1,9}", ".{0,20}", 0..4))),
            field in option::of("[a-z_.]{1,20}"),
            retry_after in option::of((0..1_000_i64, 0..1_000_000_000_i32)),
        ) -> v1::Error {
            let (reason, metadata) = info.unwrap_or_default();
            let retry_after = retry_after.map(|(seconds, nanos)| prost_types::Duration { seconds, nanos });
            v1::Error { code, message, reason, field: field.unwrap_or_default(), retry_after, metadata }
        }
    }

    proptest! {
        /// Covers C53, C77.
        #[test]
        fn an_error_has_every_fact_of_its_status(error in an_error()) {
            let status = Status::from(error.clone());
            prop_assert_eq!(status.code(), Code::from(error.code));
            prop_assert_eq!(&v1::Error::from(&status), &error);
            // A client that takes the message for a google.rpc.Status reads these two.
            let older = pb::Status::decode(&*error.encode_to_vec()).unwrap();
            prop_assert_eq!((older.code, older.message, older.details), (error.code, error.message, vec![]));
        }
    }

    /// Covers C56.
    #[test]
    fn details_of_another_origin_are_no_reason_of_ours() {
        let details = ErrorDetails::with_error_info("QUOTA", "example.com", [("limit".to_owned(), "1".to_owned())]);
        let error = v1::Error::from(&Status::with_error_details(Code::Unavailable, "a proxy", details));
        assert_eq!((&*error.reason, error.metadata.len()), ("", 0));
        let garbage = Status::with_details(Code::Internal, "m", vec![0xff; 9].into());
        let expected = v1::Error { code: Code::Internal as i32, message: "m".to_owned(), ..Default::default() };
        assert_eq!(v1::Error::from(&garbage), expected);
    }
}
