//! F26: the sidecar's wall clock jumps by an hour, and back, with the help of `clock.c`.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant, SystemTime},
};

use async_trait::async_trait;
use changelogd::proto::v1;
use changelogd_testkit::shared_oracle;
use tempfile::TempDir;
use tonic::Code;

use super::{
    own::{Clients, Content, workspace},
    process::Process,
    tombstones::{CLEANER, gone, shorten},
};
use crate::{
    clients::{READ, stream},
    fault::{Fault, PARTITIONS, Stage, WRITE_TIMEOUT},
    sidecar::{Client, limited, raw, reason, said},
};

pub fn all() -> Vec<Box<dyn Fault>> {
    vec![Box::new(Jumps)]
}

/// In seconds.
pub const HOUR: i64 = 3600;
const PATIENCE: Duration = Duration::from_secs(30);
const PLAIN: [&str; 3] = ["sh", "-c", r#"exec "$@""#];

/// The clock of a process, which can be moved.
pub struct Clock {
    library: PathBuf,
    file: PathBuf,
    shift: File,
    _dir: TempDir,
}

impl Clock {
    pub fn make() -> Result<Self, String> {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let (library, file) = (dir.path().join("clock.so"), dir.path().join("shift"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("faults/clock.c");
        let made =
            Command::new("cc").args(["-O2", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl").output();
        let made = made.map_err(|error| format!("cannot run cc: {error}"))?;
        if !made.status.success() {
            return Err(format!("clock.c was not compiled: {}", String::from_utf8_lossy(&made.stderr)));
        }
        fs::write(&file, 0_i64.to_ne_bytes()).map_err(|error| error.to_string())?;
        let shift = File::options().write(true).open(&file).map_err(|error| error.to_string())?;
        Ok(Self { library, file, shift, _dir: dir })
    }

    /// Moves the clock this many seconds from the true time.
    pub fn set(&self, seconds: i64) -> Result<(), String> {
        self.shift.write_all_at(&seconds.to_ne_bytes(), 0).map_err(|error| error.to_string())
    }

    /// A sidecar with this clock.
    pub async fn sidecar(&self, stage: &Stage<'_>, topic: &str, partitions: i32) -> Result<Process, String> {
        let arguments = [
            format!("--brokers={}", stage.cluster.bootstrap()),
            format!("--topic={topic}"),
            format!("--partitions={partitions}"),
            format!("--write-timeout={WRITE_TIMEOUT}s"),
        ];
        let environment = [("LD_PRELOAD", &*self.library), ("CLOCK_SHIFT", &*self.file)];
        Process::start(&PLAIN, &environment, &arguments).await.map_err(|error| error.to_string())
    }
}

/// Covers R9, S3, F26.
struct Jumps;

#[async_trait]
impl Fault for Jumps {
    fn id(&self) -> &'static str {
        "F26"
    }

    fn title(&self) -> &'static str {
        "the sidecar's clock jumps an hour ahead and back, and an hour back"
    }

    fn expected(&self) -> &'static str {
        "deadlines as asked for; loads exact and none refused; a resume token is good, or OUT_OF_RANGE \
         RESYNC_REQUIRED, and never passes over a deletion"
    }

    async fn inject(&self, stage: &mut Stage<'_>) -> Result<String, String> {
        let clock = Clock::make()?;
        let jumps = jumps(stage, &clock).await?;
        clock.set(0)?;
        let tokens = old_token(stage, &clock).await?;
        Ok(format!("{jumps}; {tokens}"))
    }
}

/// Tests calls, deadlines and a token, over all jumps.
async fn jumps(stage: &mut Stage<'_>, clock: &Clock) -> Result<String, String> {
    // As documented: without it, a load that is slower than the writers may have to start again.
    let topic = stage.own_topic(PARTITIONS, &[("min.compaction.lag.ms", "60000")])?;
    let process = clock.sidecar(stage, &topic, PARTITIONS).await?;
    let clients = Clients::start(&process.api, 3, &Content::new(), true);
    clients.served(6, PATIENCE).await?;
    let begun = Instant::now();
    let (mut slowest, mut tokens) = (Duration::ZERO, Vec::new());
    for shift in [HOUR, 0, -HOUR, 0] {
        let mut client = process.client();
        let request = v1::StreamAllRequest { content: v1::Content::Records.into(), ..Default::default() };
        let (state, _, token) = stream(&mut client, request.clone(), Default::default(), READ)
            .await
            .map_err(|s| format!("a stream: {s:?}"))?;
        let waiting = tokio::spawn(deadline(process.client(), 2));
        tokio::time::sleep(Duration::from_millis(500)).await;
        clock.set(shift)?;
        let seen = is_at(&mut client, shift).await?;
        clients.served(6, PATIENCE).await.map_err(|error| format!("at {shift} s: {error}"))?;
        let took = waiting.await.map_err(|error| error.to_string())??;
        slowest = slowest.max(took);
        let resumed = v1::StreamAllRequest { resume_token: token, ..request.clone() };
        tokens.push(match stream(&mut client, resumed, state, READ).await {
            // Compared with a stream from the start. Writes continue, so only the offsets that both have count.
            Ok((resumed, snapshots, _)) => {
                let (fresh, _, _) = stream(&mut client, request, Default::default(), READ)
                    .await
                    .map_err(|s| format!("a stream: {s:?}"))?;
                let older =
                    resumed.iter().find(|(key, (_, at))| fresh.get(*key).is_some_and(|(_, newest)| newest < at));
                if snapshots != PARTITIONS as usize || older.is_some() {
                    return Err(format!("a resumed stream at {shift} s: {snapshots} snapshots, {older:?}"));
                }
                format!("{seen}: resumed")
            }
            Err(status) if reason(&status).as_deref() == Some("RESYNC_REQUIRED") => {
                format!("{seen}: {}", said(&status))
            }
            Err(status) => {
                return Err(format!("a token at {shift} s was answered {}: {}", said(&status), status.message()));
            }
        });
    }
    let refused = clients.told_since(begun).to_string();
    if !refused.is_empty() {
        return Err(format!("own clients were refused while the clock jumped: {refused}"));
    }
    let own = clients.end().await?;
    let direct = stage.cluster.direct();
    let _ = stage.blocking(|_| shared_oracle().delete(&direct, &topic));
    Ok(format!("{own}, none refused; deadlines of 2 s at most {:.1} s; {}", slowest.as_secs_f64(), tokens.join(", ")))
}

/// Proves the jump: the timestamp of a record comes from the sidecar.
async fn is_at(client: &mut Client, shift: i64) -> Result<String, String> {
    let key = format!("{}/clock/1", workspace(9));
    let set = v1::SetRequest { changelog_id: key.clone(), value: raw("1"), ..Default::default() };
    client.set(limited(set, 10)).await.map_err(|s| format!("at {shift} s: {}: {}", said(&s), s.message()))?;
    let get = v1::GetRequest { changelog_id: key, ..Default::default() };
    let entry = client.get(limited(get, 10)).await.map_err(|s| format!("at {shift} s: {s:?}"))?;
    let entry = entry.into_inner().entry;
    let stamp = entry.and_then(|entry| entry.timestamp).ok_or("an entry without a timestamp")?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
    if (stamp.seconds - now - shift).abs() > 60 {
        return Err(format!("the clock is not at {shift} s: a record's time is {} s from ours", stamp.seconds - now));
    }
    Ok(format!("{shift:+} s"))
}

/// The duration of a following stream whose deadline is this many seconds.
async fn deadline(mut client: Client, seconds: u64) -> Result<Duration, String> {
    let request = v1::StreamAllRequest { follow: true, ..Default::default() };
    let asked = Instant::now();
    let ended = async {
        let mut events = client.stream_all(limited(request, seconds)).await?.into_inner();
        while events.message().await?.is_some() {}
        Ok::<_, tonic::Status>(())
    };
    let ended = tokio::time::timeout(Duration::from_secs(seconds + 3), ended).await;
    let took = asked.elapsed();
    match ended {
        Err(_) => Err(format!("a deadline of {seconds} s had not passed after {took:?}")),
        Ok(Err(status)) if matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled) => {
            let early = took + Duration::from_millis(300) < Duration::from_secs(seconds);
            if early { Err(format!("a deadline of {seconds} s passed after {took:?}")) } else { Ok(took) }
        }
        Ok(other) => Err(format!("a stream that follows ended with {other:?}")),
    }
}

/// A token that is too old by the time that has passed, but not by a clock that went back.
async fn old_token(stage: &mut Stage<'_>, clock: &Clock) -> Result<String, String> {
    let topic = stage.own_topic(1, &CLEANER)?;
    let process = clock.sidecar(stage, &topic, 1).await?;
    let mut client = process.client();
    let clients = Clients::start(&process.api, 2, &Content::new(), true);
    clients.served(4, PATIENCE).await?;
    let doomed: Vec<_> = (0..3).map(|n| format!("doomed/t/{n}")).collect();
    for key in &doomed {
        let set = v1::SetRequest { changelog_id: key.clone(), value: raw("1"), ..Default::default() };
        client.set(limited(set, 10)).await.map_err(|s| format!("set: {s:?}"))?;
    }
    let request = v1::StreamAllRequest { content: v1::Content::Records.into(), ..Default::default() };
    let (state, _, token) = super::tombstones::token(&mut client).await?;
    shorten(stage, &topic)?;
    clock.set(-HOUR)?;
    for key in &doomed {
        let delete = v1::DeleteRequest { changelog_id: key.clone(), ..Default::default() };
        client.delete(limited(delete, 10)).await.map_err(|s| format!("delete: {s:?}"))?;
    }
    let cleaned = gone(stage, &topic, &doomed).await?;
    let told = match stream(&mut client, v1::StreamAllRequest { resume_token: token, ..request }, state, READ).await {
        Err(status) if reason(&status).as_deref() == Some("RESYNC_REQUIRED") => said(&status),
        Err(status) => return Err(format!("an old token was answered {}: {}", said(&status), status.message())),
        Ok((state, _, _)) => {
            let kept = doomed.iter().filter(|key| state.contains_key(*key)).count();
            return Err(format!(
                "a token from before the clock went back an hour was resumed from, {:.1} s after \
                 delete.retention.ms = 1 s: {kept} of {} deleted keys are kept",
                cleaned.as_secs_f64() - 1.0,
                doomed.len()
            ));
        }
    };
    drop(clients);
    let direct = stage.cluster.direct();
    let _ = stage.blocking(|_| shared_oracle().delete(&direct, &topic));
    Ok(format!("a token of an hour ahead, its tombstones gone: {told}"))
}
