//! F13: an unclean election truncates a log.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use changelogd::proto::v1;
use changelogd_testkit::{BROKERS, Isolation, Watched, shared_oracle};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

use crate::{
    clients::{self, State},
    fault::{Fault, Stage},
    sidecar::{Client, limited, reason, said},
};

use super::{
    calls::{fill, retried, retried_load},
    own_watch::OwnWatch,
};

/// Covers C49, R14, F13.
pub struct Unclean;

#[async_trait]
impl Fault for Unclean {
    fn id(&self) -> &'static str {
        "F13"
    }

    fn title(&self) -> &'static str {
        "an unclean election truncates another topic (min.insync.replicas 1, unclean elections on)"
    }

    fn expected(&self) -> &'static str {
        "readers and watches over the truncation: ABORTED, or OUT_OF_RANGE RESYNC_REQUIRED; tokens from before: \
         RESYNC_REQUIRED, also once the log is longer than before; later loads consistent; the clients' topic \
         unaffected"
    }

    async fn inject(&self, stage: &mut Stage<'_>) -> Result<String, String> {
        let configs = [("min.insync.replicas", "1"), ("unclean.leader.election.enable", "true")];
        let topic = stage.own_topic(1, &configs)?;
        let sidecar = stage.own_sidecar(&topic, 1, &[]).await?;
        let client = sidecar.client();
        fill(&client, "kept", 100).await?;
        let leader = stage.blocking(|cluster| cluster.leader_of(&topic, 0));
        let followers: Vec<_> = BROKERS.into_iter().filter(|id| *id != leader).collect();
        stage.blocking(|cluster| followers.iter().for_each(|id| cluster.kill(*id)));
        wait("the followers stay in sync", || stage.blocking(|cluster| cluster.in_sync(&topic)) == [1]).await?;
        // Only the leader has these records.
        fill(&client, "gone", 300).await?;
        let request = v1::StreamAllRequest { content: v1::Content::Records.into(), ..Default::default() };
        let at_end = || async { clients::stream(&mut client.clone(), request.clone(), State::new(), 15).await };
        let (before, _, token) = retried("the stream before", at_end).await?;
        let followed = tokio::spawn(follow(client.clone(), token.clone()));
        let watched = OwnWatch::start(&sidecar.api, "gone", Watched::of_a_log_that_may_lose()).await?;

        stage.blocking(|cluster| {
            cluster.kill(leader);
            followers.iter().for_each(|id| cluster.restart(*id));
        });
        let elected = wait("no leader is elected", || {
            let now = stage.blocking(|cluster| cluster.leader_of(&topic, 0));
            now != leader && now != -1
        });
        elected.await?;
        stage.blocking(|cluster| cluster.restart(leader));
        sidecar.answers(Duration::from_secs(45)).await?;

        let resumed = v1::StreamAllRequest { resume_token: token, ..request.clone() };
        let resume = || async {
            // Refusals are expected here.
            match clients::stream(&mut client.clone(), resumed.clone(), before.clone(), 15).await {
                Err(status) if status.code() == Code::Unavailable => Err(status),
                other => Ok(other),
            }
        };
        let refused = |answer: Result<_, Status>| match answer {
            Err(status) if matches!(status.code(), Code::OutOfRange | Code::Aborted) && reason(&status).is_some() => {
                Ok(said(&status))
            }
            Err(status) => Err(format!("the token from before was answered {}: {}", said(&status), status.message())),
            Ok(_) => Err("a token from before the truncation was resumed as if nothing had happened".to_owned()),
        };
        let resumed = refused(retried("the token from before", resume).await?)?;
        // Once the log is longer than before, only the leader epoch of the token tells that its offset is of a log that
        // is gone.
        fill(&client, "later", 500).await?;
        let resumed_in_longer_log = refused(retried("the token from before, in a longer log", resume).await?)?;
        let followed = timeout(Duration::from_secs(70), followed).await.map_err(|_| "the follower got no answer")?;
        let followed = followed.map_err(|error| error.to_string())?;
        let answers = [Code::Aborted, Code::OutOfRange];
        if !answers.contains(&followed.code()) {
            return Err(format!("the follower was answered {}: {}", said(&followed), followed.message()));
        }

        // Later loads agree with each other and with Java.
        let first = retried_load(&client, "kept").await?;
        let second = retried_load(&client, "kept").await?;
        let gone = retried_load(&client, "gone").await?;
        let direct = stage.cluster.direct();
        let dump = stage
            .blocking(|_| shared_oracle().dump(&direct, &topic, Isolation::ReadCommitted))
            .map_err(|e| e.to_string())?;
        let of = |workspace: &str| -> State {
            let mut state = State::new();
            for record in &dump.records {
                let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
                if let (true, Some(value)) = (key.starts_with(workspace), &record.value) {
                    state.insert(key, (String::from_utf8_lossy(value).into_owned(), record.offset));
                }
            }
            state
        };
        if first != second || first != of("kept/") || gone != of("gone/") || first.len() != 100 {
            return Err(format!(
                "{}, {} and {} keys; Java has {} and {}",
                first.len(),
                second.len(),
                gone.len(),
                of("kept/").len(),
                of("gone/").len()
            ));
        }
        if gone.len() == 300 {
            return Err("nothing was truncated".to_owned());
        }
        // A watch never goes on over what was lost. It is told to start again, also if it resumes.
        let watched = watched.ended(&["LOG_TRUNCATED", "RESYNC_REQUIRED"], Duration::from_secs(70)).await?;
        watched.is_refused(&sidecar.api, "gone", "RESYNC_REQUIRED").await?;
        let mut again = OwnWatch::start(&sidecar.api, "gone", Watched::new()).await?;
        again.has(&gone, Duration::from_secs(30)).await?;
        Ok(format!(
            "{} of 300 writes gone with their leader; token {resumed}, {resumed_in_longer_log} when the log was longer \
             than before; follower {}; watch {}, and started again with what Java reads; loads as Java reads it",
            300 - gone.len(),
            said(&followed),
            said(&watched.status)
        ))
    }
}

/// Follows until an answer says that it must start again. It retries answers that are safe to retry, from the newest
/// token, as a client should.
async fn follow(mut client: Client, mut token: bytes::Bytes) -> Status {
    use v1::stream_all_response::Event;
    loop {
        let request = v1::StreamAllRequest {
            content: v1::Content::Records.into(),
            resume_token: token.clone(),
            follow: true,
            ..Default::default()
        };
        let told = match client.stream_all(limited(request, 120)).await {
            Err(status) => status,
            Ok(events) => {
                let mut events = events.into_inner();
                loop {
                    match events.message().await {
                        Ok(Some(message)) => match message.event {
                            Some(Event::Bookmark(bookmark)) => token = bookmark.resume_token,
                            Some(Event::Snapshot(snapshot)) => token = snapshot.resume_token,
                            _ => {}
                        },
                        Ok(None) => break Status::ok("a stream that follows ended as OK"),
                        Err(status) => break status,
                    }
                }
            }
        };
        if told.code() != Code::Unavailable {
            return told;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

async fn wait(otherwise: &str, mut until: impl FnMut() -> bool) -> Result<(), String> {
    let begun = Instant::now();
    while !until() {
        if begun.elapsed() > Duration::from_secs(60) {
            return Err(format!("{otherwise}, after a minute"));
        }
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}
