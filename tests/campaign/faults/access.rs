//! F20: a broker with authentication and authorization. Rights are lost, the password is wrong, a certificate has
//! expired or is unknown.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use changelogd::proto::v1;
use changelogd_testkit::{
    guarded::{Guarded, PASSWORD, WRONG_PASSWORD},
    shared_oracle, unique_topic,
};
use tonic::{Code, Status};

use super::own::{Clients, Content};
use crate::{
    clients::{READ, load},
    fault::{Fault, Stage},
    sidecar::{Sidecar, limited, raw, reason, said},
};

pub fn all() -> Vec<Box<dyn Fault>> {
    vec![Box::new(Access)]
}

const PATIENCE: Duration = Duration::from_secs(30);
const RIGHTS: &str = "describe,describe_configs,read,write";
const NOT_AUTHORIZED: (Code, &str) = (Code::FailedPrecondition, "NOT_AUTHORIZED_BY_BROKER");
const UNREACHABLE: (Code, &str) = (Code::Unavailable, "BROKERS_UNREACHABLE");

/// Covers S12, F20.
struct Access;

#[async_trait]
impl Fault for Access {
    fn id(&self) -> &'static str {
        "F20"
    }

    fn title(&self) -> &'static str {
        "the topic's rights are lost; the password is wrong; the broker's certificate has expired, or is unknown"
    }

    fn expected(&self) -> &'static str {
        "FAILED_PRECONDITION NOT_AUTHORIZED_BY_BROKER for the rights, UNAVAILABLE for the others; the cause named, and \
         no secret"
    }

    async fn inject(&self, stage: &mut Stage<'_>) -> Result<String, String> {
        let guarded = stage.blocking(|_| Guarded::start());
        let rights = rights(stage, &guarded).await?;
        let password = guarded.with_sasl(&topic(stage, &guarded)?, WRONG_PASSWORD);
        let password = stranger(stage, "password", password, "Authentication failed").await?;
        let unknown = guarded.with_tls(&guarded.tls, &topic(stage, &guarded)?, "stranger");
        let unknown = stranger(stage, "unknown-certificate", unknown, "certificate verify failed").await?;
        let expired = guarded.with_tls(&guarded.tls_expired, &topic(stage, &guarded)?, "expired");
        let expired = stranger(stage, "expired-certificate", expired, "certificate has expired").await?;
        Ok(format!(
            "{rights}; wrong password: {password}; unknown certificate: {unknown}; expired certificate: {expired}; \
             no secret in answers and logs"
        ))
    }
}

fn topic(stage: &mut Stage<'_>, guarded: &Guarded) -> Result<String, String> {
    let topic = unique_topic("guarded");
    let compacted = [("cleanup.policy", "compact")];
    let created = stage.blocking(|_| shared_oracle().create(guarded.broker.bootstrap(), &topic, 1, 1, &compacted));
    created.map_err(|error| format!("the oracle: {error}")).map(|_| topic)
}

/// Takes rights away and gives them back, while clients write and load.
async fn rights(stage: &mut Stage<'_>, guarded: &Guarded) -> Result<String, String> {
    let (topic, plain) = (topic(stage, guarded)?, guarded.broker.bootstrap().to_owned());
    let may = |stage: &mut Stage<'_>, verb: &str, what: &str| {
        let asked = stage.blocking(|_| shared_oracle().ask(&["acl", &plain, verb, &topic, "service", what]));
        asked.map_err(|error| format!("the oracle: {error}"))
    };
    may(stage, "allow", RIGHTS)?;
    let sidecar = Sidecar::start(&stage.keep.join("rights.log"), guarded.with_sasl(&topic, PASSWORD)).await?;
    sidecar.answers(PATIENCE).await?;
    let clients = Clients::start(&sidecar.api, 2, &Content::new(), true);
    clients.served(4, PATIENCE).await?;
    let mut told = Vec::new();
    for lost in ["read,write", RIGHTS] {
        may(stage, "forbid", lost)?;
        let took = clients.refused(Instant::now(), NOT_AUTHORIZED.1, PATIENCE).await?;
        let words = both(&sidecar).await;
        if let Some(wrong) = words.iter().find(|status| !names(status, NOT_AUTHORIZED, &topic)) {
            return Err(format!("without {lost}: {wrong:?}"));
        }
        told.push(format!("without {lost}: {} after {:.1} s", NOT_AUTHORIZED.1, took.as_secs_f64()));
        may(stage, "allow", lost)?;
        clients.served(4, PATIENCE).await?;
    }
    let own = clients.end().await?;
    no_secret(&sidecar)?;
    Ok(format!("{}; served when they are given back ({own})", told.join(", ")))
}

/// A sidecar that the broker refuses, or that does not trust the broker.
async fn stranger(stage: &Stage<'_>, name: &str, arguments: Vec<String>, cause: &str) -> Result<String, String> {
    let sidecar = Sidecar::start(&stage.keep.join(format!("{name}.log")), arguments).await?;
    let since = Instant::now();
    let told = loop {
        let answers = both(&sidecar).await;
        if answers.iter().any(|answer| answer.is_none()) {
            return Err(format!("{name}: a call was answered OK"));
        }
        if answers.iter().all(|answer| names(answer, UNREACHABLE, cause)) {
            break answers.into_iter().flatten().next().map(|status| said(&status)).unwrap_or_default();
        }
        if since.elapsed() > PATIENCE {
            return Err(format!("{name}: {cause:?} was not said within {PATIENCE:?}: {answers:?}"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let (ready, live) = (sidecar.http("/readyz").await?, sidecar.http("/livez").await?);
    if ready.0 != 503 || live.0 != 200 || has_secret(&ready.1) {
        return Err(format!("{name}: /readyz is {}: {}, /livez {}", ready.0, ready.1, live.0));
    }
    no_secret(&sidecar)?;
    Ok(format!("{told}, {cause:?}"))
}

/// The answers to a write and a load. None if they are OK.
async fn both(sidecar: &Sidecar) -> [Option<Status>; 2] {
    let mut client = sidecar.client();
    let set = v1::SetRequest { changelog_id: "ws/t/a".to_owned(), value: raw("1"), ..Default::default() };
    let set = client.set(limited(set, 15)).await.err();
    let request = v1::LoadWorkspaceRequest { workspace_id: "ws".to_owned(), ..Default::default() };
    [set, load(&mut client, request, READ).await.err()]
}

fn names(status: &Option<Status>, (code, why): (Code, &str), cause: &str) -> bool {
    let so = |s: &Status| {
        s.code() == code && reason(s).as_deref() == Some(why) && s.message().contains(cause) && !has_secret(s.message())
    };
    status.as_ref().is_some_and(so)
}

fn has_secret(text: &str) -> bool {
    text.contains(PASSWORD) || text.contains(WRONG_PASSWORD)
}

fn no_secret(sidecar: &Sidecar) -> Result<(), String> {
    let log = std::fs::read_to_string(&sidecar.log).map_err(|error| error.to_string())?;
    if has_secret(&log) { Err(format!("a password is in {}", sidecar.log.display())) } else { Ok(()) }
}
