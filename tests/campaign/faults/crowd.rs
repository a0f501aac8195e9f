//! F25: a thousand loads at once.

use std::time::Instant;

use async_trait::async_trait;
use futures_util::future::join_all;
use tonic_types::StatusExt;

use crate::{
    fault::{Fault, PARTITIONS, Stage},
    sidecar::{reason, said},
};

use super::calls::{Tally, fill, timed_load};

/// Covers C57, R21, S4, F25.
pub struct Crowd;

const LOADS: usize = 1_000;
const MEBIBYTES: u64 = 256;

#[async_trait]
impl Fault for Crowd {
    fn id(&self) -> &'static str {
        "F25"
    }

    fn title(&self) -> &'static str {
        "1,000 loads at once"
    }

    fn expected(&self) -> &'static str {
        "RESOURCE_EXHAUSTED with RetryInfo for the excess; less than 256 MiB; fair afterwards"
    }

    async fn inject(&self, stage: &mut Stage<'_>) -> Result<String, String> {
        let topic = stage.own_topic(PARTITIONS, &[])?;
        let sidecar = stage.own_sidecar(&topic, PARTITIONS, &[]).await?;
        fill(&sidecar.client(), "w", 1_000).await?;
        let connections: Vec<_> = (0..20).map(|_| sidecar.client()).collect();
        let begun = Instant::now();
        let loads: Vec<_> =
            (0..LOADS).map(|i| tokio::spawn(timed_load(connections[i % 20].clone(), "w".to_owned(), 60))).collect();
        let mut told = Tally::default();
        for answer in join_all(loads).await {
            let (answer, _) = answer.map_err(|error| error.to_string())?;
            match answer {
                Ok(state) if state.len() == 1_000 => told.add("OK"),
                Ok(state) => return Err(format!("a load was answered OK with {} of 1,000 keys", state.len())),
                Err(status) => {
                    let retry = status.get_error_details().retry_info().and_then(|info| info.retry_delay);
                    if reason(&status).as_deref() != Some("TOO_MANY_REPLAYS") || retry.is_none() {
                        return Err(format!(
                            "a load was answered {}, RetryInfo {retry:?}: {}",
                            said(&status),
                            status.message()
                        ));
                    }
                    told.add(&said(&status));
                }
            }
        }
        let (took, peak) = (begun.elapsed(), sidecar.peak_mib());
        // Every connection gets a permit again, at once.
        for client in connections {
            let (answer, _) = timed_load(client, "w".to_owned(), 10).await;
            answer.map_err(|status| format!("afterwards, a load was answered {}", said(&status)))?;
        }
        let seen = format!("{told}, after {:.1} s; at most {peak} MiB; then OK × 20", took.as_secs_f64());
        if told.count("OK") < 16 || peak >= MEBIBYTES { Err(seen) } else { Ok(seen) }
    }
}
