//! How long a stream that follows waits for brokers that do not answer. Clients that resume would cost them more.

use std::{future::Future, time::Duration};

use tokio::time::{sleep, timeout};

use crate::log::ReadError;

/// Elections and restarts of a broker are over by then. It is the time that a running replay that follows waits, too.
const OUTAGE: Duration = Duration::from_secs(60);
/// The pause before brokers that did not answer are asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// Asks the log until it answers something else than that its brokers do not, for a minute at most.
pub(super) async fn through_outage<T, F>(mut ask: impl FnMut() -> F) -> Result<T, ReadError>
where
    F: Future<Output = Result<T, ReadError>>,
{
    let mut cause = "the log did not answer".to_owned();
    let answered = async {
        loop {
            match ask().await {
                Err(ReadError::Unreachable { cause: why }) => cause = why,
                answer => return answer,
            }
            sleep(PAUSE).await;
        }
    };
    match timeout(OUTAGE, answered).await {
        Ok(answer) => answer,
        Err(_) => Err(ReadError::Unreachable { cause }),
    }
}
