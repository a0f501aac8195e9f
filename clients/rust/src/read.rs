//! Loads of a workspace, and streams of records.

use std::{
    collections::{BTreeMap, HashSet},
    vec,
};

use futures_util::{StreamExt, stream, stream::BoxStream};
use tokio::time::{Instant, timeout_at};
use tonic::Streaming;

use crate::{
    Client, Code, Entity, Entry, Error, Snapshot,
    client::within,
    proto::{self, load_workspace_response, stream_all_response},
};

/// What a stream covers. By default it is everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Empty means all partitions.
    pub partitions: Vec<i32>,
    /// Empty means all workspaces.
    pub workspaces: Vec<String>,
    /// Empty means all entity types.
    pub types: Vec<String>,
}

impl Selection {
    /// One workspace, with all its types.
    pub fn workspace(workspace: impl Into<String>) -> Self {
        Self { workspaces: vec![workspace.into()], ..Self::default() }
    }
}

/// An event of [`Client::stream`].
#[derive(Debug, Clone, PartialEq)]
pub enum StreamEvent {
    Record(Entry),
    /// A partition is complete.
    Snapshot(Snapshot),
}

impl Client {
    /// Loads the entities of one workspace and type by their id. The result is the whole state, or an error.
    pub async fn load<T: Entity>(&self, workspace: &str) -> Result<BTreeMap<String, T>, Error> {
        let request = proto::LoadWorkspaceRequest {
            workspace_id: workspace.to_owned(),
            entity_types: vec![T::TYPE.to_owned()],
            ..Default::default()
        };
        let load = self.retried(self.load_timeout, |mut grpc, left| {
            let request = within(request.clone(), left);
            async move {
                let mut events = grpc.load_workspace(request).await?.into_inner();
                let (mut entries, mut snapshot) = (Vec::new(), None);
                while let Some(message) = events.message().await? {
                    match message.event {
                        Some(load_workspace_response::Event::Batch(batch)) => {
                            for entry in batch.entries {
                                entries.push(Entry::try_from(entry)?);
                            }
                        }
                        Some(load_workspace_response::Event::Snapshot(last)) => snapshot = Some(last),
                        // A newer server may send events that this client does not know.
                        None => {}
                    }
                }
                snapshot.map(|_| entries).ok_or_else(Error::incomplete)
            }
        });
        load.await?.into_iter().map(|entry| Ok((entry.key.id.clone(), entry.decode()?))).collect()
    }

    /// Streams the records that are still in the log, deletes too, and a Snapshot for each partition. A stream that
    /// ends without one of its Snapshots ends with an error.
    ///
    /// The Snapshots that must come are known from the selection. If it has no partitions, and not one workspace,
    /// `Describe` is called first.
    pub async fn stream(&self, selection: Selection) -> Result<BoxStream<'static, Result<StreamEvent, Error>>, Error> {
        let end = Instant::now() + self.load_timeout;
        let late = |_| Error::late(self.load_timeout);
        let due = timeout_at(end, self.partitions_of(&selection)).await.map_err(late)??;
        let Selection { partitions, workspaces, types } = selection;
        let request = proto::StreamAllRequest {
            partitions,
            workspace_ids: workspaces,
            entity_types: types,
            ..Default::default()
        };
        let limit = end.saturating_duration_since(Instant::now());
        let messages = self.call(limit, request, |mut grpc, request| async move { grpc.stream_all(request).await });
        let records = Records { messages: messages.await?, batch: Vec::new().into_iter(), due, end };
        Ok(stream::try_unfold(records, Records::next).boxed())
    }

    /// The partitions of a stream. `None` means the only one, of one workspace: its Snapshot names it.
    async fn partitions_of(&self, selection: &Selection) -> Result<Option<HashSet<i32>>, Error> {
        let Selection { partitions, workspaces, .. } = selection;
        if workspaces.len() == 1 {
            return Ok(None);
        }
        if workspaces.is_empty() && !partitions.is_empty() {
            return Ok(Some(partitions.iter().copied().collect()));
        }
        let unknown = || Error::local(Code::Unavailable, "the server does not know its partitions");
        if workspaces.is_empty() {
            let count = self.describe("").await?.partition_count;
            return if count > 0 { Ok(Some((0..count).collect())) } else { Err(unknown()) };
        }
        let mut of_workspaces = HashSet::new();
        for workspace in workspaces {
            of_workspaces.insert(self.describe(workspace).await?.workspace_partition.ok_or_else(unknown)?);
        }
        Ok(Some(of_workspaces))
    }

    async fn describe(&self, workspace: &str) -> Result<proto::DescribeResponse, Error> {
        let request = proto::DescribeRequest { workspace_id: workspace.to_owned() };
        self.call(self.call_timeout, request, |mut grpc, request| async move { grpc.describe(request).await }).await
    }
}

/// A stream that is read.
struct Records {
    messages: Streaming<proto::StreamAllResponse>,
    /// What of the last batch was not delivered yet.
    batch: vec::IntoIter<proto::Entry>,
    /// Partitions whose Snapshot must still come. `None` means one that is not known.
    due: Option<HashSet<i32>>,
    end: Instant,
}

impl Records {
    /// The next event, with the rest of the stream.
    async fn next(mut self) -> Result<Option<(StreamEvent, Self)>, Error> {
        loop {
            if let Some(entry) = self.batch.next() {
                return Ok(Some((StreamEvent::Record(Entry::try_from(entry)?), self)));
            }
            let late = |_| Error::local(Code::DeadlineExceeded, "the stream was not complete at its deadline");
            let Some(message) = timeout_at(self.end, self.messages.message()).await.map_err(late)?? else {
                return if self.due.is_some_and(|due| due.is_empty()) { Ok(None) } else { Err(Error::incomplete()) };
            };
            match message.event {
                Some(stream_all_response::Event::Batch(batch)) => self.batch = batch.entries.into_iter(),
                Some(stream_all_response::Event::Snapshot(snapshot)) => {
                    self.due.get_or_insert_default().remove(&snapshot.partition);
                    return Ok(Some((StreamEvent::Snapshot(snapshot), self)));
                }
                // Bookmarks come only to a stream that follows.
                Some(stream_all_response::Event::Bookmark(_)) | None => {}
            }
        }
    }
}
