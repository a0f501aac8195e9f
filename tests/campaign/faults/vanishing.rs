//! F24: a client vanishes, or stops reading. Also the status that a client sees whose connection is cut after it has
//! sent its request.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use changelogd::proto::v1;
use changelogd_testkit::{Mode, Proxy};
use tokio::time::{sleep, timeout};
use tonic::Code;

use crate::{
    clients::nothing_was_written,
    fault::{Fault, Stage},
    sidecar::{self, Sidecar, limited, reason, said},
};

use super::calls::{fill, timed_load, timed_set};

/// Covers R24, S4, F24.
pub struct Client;

const RELEASED_WITHIN: Duration = Duration::from_secs(2);

#[async_trait]
impl Fault for Client {
    fn id(&self) -> &'static str {
        "F24"
    }

    fn title(&self) -> &'static str {
        "a client vanishes in mid-stream; another stops reading"
    }

    fn expected(&self) -> &'static str {
        "the only permit is free within 2 s; the stream of the idle reader is reset"
    }

    async fn inject(&self, stage: &mut Stage<'_>) -> Result<String, String> {
        let topic = stage.own_topic(1, &[])?;
        let more = ["--max-replays=1", "--replay-queue-timeout=0ms", "--client-stall-timeout=3s"];
        let sidecar = stage.own_sidecar(&topic, 1, &more).await?;
        // More than all buffers on the way hold.
        fill(&sidecar.client(), "big", if stage.short { 8_000 } else { 20_000 }).await?;
        let proxy = Proxy::start(&sidecar.api);

        let mut events = open(sidecar::client(proxy.address())).await?;
        events.message().await.map_err(|status| said(&status))?;
        busy(&sidecar).await?;
        let cut = Instant::now();
        proxy.set(Mode::Cut);
        free(&sidecar, RELEASED_WITHIN).await?;
        let released = cut.elapsed();
        drop(events);

        let mut events = open(sidecar.client()).await?;
        events.message().await.map_err(|status| said(&status))?;
        busy(&sidecar).await?;
        let stopped = Instant::now();
        free(&sidecar, Duration::from_secs(3) + RELEASED_WITHIN).await?;
        let cut_off = stopped.elapsed();
        let told = loop {
            match events.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Err("a stream that was cut off ended as OK".to_owned()),
                Err(status) => break status,
            }
        };
        if told.code() != Code::Cancelled {
            return Err(format!("the idle reader was answered {}: {}", said(&told), told.message()));
        }
        Ok(format!(
            "vanished: free after {:.2} s; idle, with --client-stall-timeout=3s: free after {:.2} s, told {}",
            released.as_secs_f64(),
            cut_off.as_secs_f64(),
            said(&told)
        ))
    }
}

async fn open(mut client: sidecar::Client) -> Result<tonic::Streaming<v1::StreamAllResponse>, String> {
    let request = v1::StreamAllRequest { content: v1::Content::Records.into(), ..Default::default() };
    let answer = client.stream_all(limited(request, 60)).await;
    answer.map(tonic::Response::into_inner).map_err(|status| format!("the stream was answered {}", said(&status)))
}

/// The permit is held: a load is refused.
async fn busy(sidecar: &Sidecar) -> Result<(), String> {
    match timed_load(sidecar.client(), "nothing".to_owned(), 5).await.0 {
        Err(status) if reason(&status).as_deref() == Some("TOO_MANY_REPLAYS") => Ok(()),
        other => Err(format!("while a stream was open, a load was answered {other:?}")),
    }
}

/// The permit is given back: a load is answered.
async fn free(sidecar: &Sidecar, within: Duration) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        match timed_load(sidecar.client(), "nothing".to_owned(), 5).await.0 {
            Ok(_) => return Ok(()),
            Err(status) if begun.elapsed() > within => {
                return Err(format!("not released after {within:?}: a load was answered {}", said(&status)));
            }
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Covers C43, C56.
pub struct Answer;

#[async_trait]
impl Fault for Answer {
    fn id(&self) -> &'static str {
        "status"
    }

    fn title(&self) -> &'static str {
        "a client's connection is cut after its request has left"
    }

    fn expected(&self) -> &'static str {
        "no ErrorInfo of ours, so the write's outcome is unknown: and it was written; a load is not called whole"
    }

    async fn inject(&self, stage: &mut Stage<'_>) -> Result<String, String> {
        let sidecar = &stage.sidecars[0];
        let mut told = super::calls::Tally::default();
        for round in 0..5 {
            let proxy = Proxy::start(&sidecar.api);
            let (client, key) = (sidecar::client(proxy.address()), format!("cut-{round}/t/e"));
            // The connection is made before answers are dropped.
            let first = timed_set(client.clone(), key.clone(), "0").await.0;
            first.map_err(|status| format!("before the cut: {}", said(&status)))?;
            proxy.set(Mode::Mute);
            let set = tokio::spawn(timed_set(client, key.clone(), "1"));
            let begun = Instant::now();
            loop {
                let state = timed_load(sidecar.client(), format!("cut-{round}"), 15).await.0;
                if state.is_ok_and(|state| state.get(&key).is_some_and(|(value, _)| value == "1")) {
                    break;
                }
                if begun.elapsed() > Duration::from_secs(15) {
                    return Err("the write never came".to_owned());
                }
            }
            proxy.set(Mode::Cut);
            let (answer, _) =
                timeout(Duration::from_secs(10), set).await.map_err(|_| "no answer")?.map_err(|e| e.to_string())?;
            let Err(status) = answer else { return Err("a swallowed answer was heard".to_owned()) };
            if nothing_was_written(&status) || reason(&status).is_some() {
                return Err(format!("a write that was written was answered {}: {}", said(&status), status.message()));
            }
            told.add(&said(&status));

            // The same for a load: its request leaves, and no answer comes.
            let proxy = Proxy::start(&sidecar.api);
            let client = sidecar::client(proxy.address());
            timed_load(client.clone(), format!("cut-{round}"), 15)
                .await
                .0
                .map_err(|s| format!("before the cut: {}", said(&s)))?;
            proxy.set(Mode::Mute);
            let load = tokio::spawn(timed_load(client, format!("cut-{round}"), 15));
            sleep(Duration::from_millis(200)).await;
            proxy.set(Mode::Cut);
            let (answer, _) =
                timeout(Duration::from_secs(20), load).await.map_err(|_| "no answer")?.map_err(|e| e.to_string())?;
            let Err(status) = answer else { return Err("a load without an answer was called whole".to_owned()) };
            if reason(&status).is_some() {
                return Err(format!("a load that was cut was answered {}", said(&status)));
            }
            told.add(&format!("load: {}", said(&status)));
        }
        stage.hold().await;
        Ok(format!("{told}; every write was in the next load"))
    }
}
