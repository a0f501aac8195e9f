// changelogd keeps the state of workspaces (tenants) in a partitioned, log-compacted changelog.
// The changelog is a Kafka topic, or an embedded store on disk.
// Services write entities with Set and Delete, and rebuild their state with LoadWorkspace and StreamAll.
// A load returns the whole state, or an error that says why it cannot.
//
// KEYS
//   A key is `{workspaceID}/{entityType}/{entityID}`. It is UTF-8, and at most 1,024 bytes long.
//   These bytes are the key of the Kafka record.
//     workspace ID   1 to 255 bytes, no `/`, not only white space and invisible characters (U+200B, U+2800 …).
//                    It is compared byte by byte, without Unicode normalisation
//     entity type    not empty, no `/`
//     entity ID      not empty; may contain `/`, but no empty segment
//   No part contains control characters (U+0000 to U+001F, U+007F to U+009F).
//   A request names an entity by two strings, workspace_id and changelog_id:
//     changelog_id with a leading `/` is relative, and workspace_id is required:
//       workspace_id "ws-123" + changelog_id "/deployment/dep-456" = key "ws-123/deployment/dep-456"
//     changelog_id without a leading `/` is the full key, and workspace_id is empty or equal to its first segment
//   Anything else is INVALID_ARGUMENT, KEY_INVALID.
//
// PARTITIONS
//   partition = (murmur2(workspace ID) & 0x7fffffff) % partition count
//   murmur2 is the one of Apache Kafka's Java client. All keys of a workspace are in one partition.
//
// STATUS CODES
//   The error of a call carries google.rpc.ErrorInfo with the domain "changelogd" and one of the reasons below.
//   It carries BadRequest if a field is wrong, and RetryInfo if waiting helps.
//   The error of a mutation or of a buffered write is a message of this file, Error, with the same facts.
//
//   code                 meaning                                       reasons
//   INVALID_ARGUMENT     The request can never succeed.                KEY_INVALID VALUE_TOO_LARGE VALUE_NOT_JSON
//                                                                      TOKEN_INVALID ARGUMENT_INVALID
//   FAILED_PRECONDITION  The topic or the deployment is wrong.         TOPIC_NOT_FOUND TOPIC_NOT_COMPACTED
//                        Retrying does not help until it is fixed.     PARTITION_COUNT_CHANGED TOPIC_RECREATED
//                                                                      NOT_AUTHORIZED_BY_BROKER STORE_READ_ONLY
//                                                                      STORE_GONE CLOCK_SKEW RETENTION_TOO_SHORT
//   UNAVAILABLE          With ErrorInfo: NOTHING was written, or the   BROKERS_UNREACHABLE NOT_ENOUGH_REPLICAS
//                        log cannot be read now. Safe to retry.        OPEN_TRANSACTION STARTING DRAINING
//                                                                      OUT_OF_FILES
//   DEADLINE_EXCEEDED    A write timed out. Its outcome is NOT KNOWN,  OUTCOME_UNKNOWN
//                        and it may still be written.
//   DEADLINE_EXCEEDED    The deadline of the call, or a limit of the   DEADLINE
//                        server, passed. Of a Set or Delete: the
//                        request arrived too late, and NOTHING was
//                        written.
//   UNKNOWN              A write failed, and its outcome is NOT        OUTCOME_UNKNOWN
//                        KNOWN.
//   RESOURCE_EXHAUSTED   Back off; RetryInfo says for how long.        PRODUCER_QUEUE_FULL TOO_MANY_REPLAYS
//                                                                      TOO_MANY_FOLLOWS REPLAY_TOO_LARGE MEMORY_LIMIT
//                                                                      DISK_FULL
//   ABORTED              The log changed during this read. Start       LOG_TRUNCATED LOG_MOVED
//                        again.
//   OUT_OF_RANGE         The resume token is too old, of another log,  RESYNC_REQUIRED
//                        of another version of changelogd, or more
//                        than a minute in the future. Start again
//                        without it.
//   OUT_OF_RANGE         A message is over Limits.max_request_bytes,   MESSAGE_TOO_LARGE
//                        or becomes so when it is decompressed. NOTHING
//                        of it was written.
//   NOT_FOUND            Get only: the entity is absent or deleted.    KEY_NOT_FOUND
//   NOT_FOUND            Health has no such service, or reflection no  NAME_UNKNOWN
//                        such symbol or file.
//   DATA_LOSS            The embedded store is corrupt.                STORE_CORRUPT
//   INTERNAL             A fault of changelogd ended a read. Of a      INTERNAL_FAULT
//                        write: NOTHING was written.
//   INTERNAL             The request is not framed as gRPC says.       REQUEST_MALFORMED
//                        NOTHING of this message was written.
//   UNIMPLEMENTED        Reflection has no extensions.                 NOT_IMPLEMENTED
//   UNIMPLEMENTED        The server has no such method, or not the     UNKNOWN_METHOD ENCODING_UNSUPPORTED
//                        compression of the request. NOTHING was
//                        written.
//
//   A status WITHOUT our ErrorInfo comes from the client's library or from a proxy. For a write, the outcome is then
//   unknown.
//   ErrorInfo.metadata has facts, such as `limit`, `got`, `key`, `partition` and offsets: see docs/operations.md.
//   A retry after an unknown outcome may overwrite a newer write of the same key.
//   Every RPC has these errors, whether its list below names them or not:
//   - UNAVAILABLE: STARTING. The store is not open yet, and nothing was done.
//   - UNAVAILABLE: OUT_OF_FILES. The system gave no file, thread or memory, or the connection gave its place to another
//     one. Nothing was written.
//   - RESOURCE_EXHAUSTED: MEMORY_LIMIT. --memory-limit has no room for the call. Nothing was written.
//   - DEADLINE_EXCEEDED: DEADLINE. Its request did not arrive within 60 s, or before the client's deadline, and nothing
//     was done.
//   - OUT_OF_RANGE: MESSAGE_TOO_LARGE. A message is over the limit. Nothing of it was written.
//   - INTERNAL: REQUEST_MALFORMED. The request is cut off, has a wrong flag, or has no message or more than one.
//     Nothing of this message was written.
//   - UNIMPLEMENTED: UNKNOWN_METHOD, ENCODING_UNSUPPORTED. Nothing was written. grpc-accept-encoding names the
//     compressions that the server has.
//   - NOT_FOUND: NAME_UNKNOWN. Of the services health and reflection only.
//   - INTERNAL: INTERNAL_FAULT. A task of the server panicked. For a write that may have been done, the answer is
//     UNKNOWN, OUTCOME_UNKNOWN instead.
//
// COMPATIBILITY
//   Clients must ignore unknown fields, and events whose oneof arm they do not know.

// Code generated by protoc-gen-go-grpc. DO NOT EDIT.
// versions:
// - protoc-gen-go-grpc v1.6.2
// - protoc             (unknown)
// source: changelogd/v1/changelog.proto

package changelogv1

import (
	context "context"
	grpc "google.golang.org/grpc"
	codes "google.golang.org/grpc/codes"
	status "google.golang.org/grpc/status"
)

// This is a compile-time assertion to ensure that this generated file
// is compatible with the grpc package it is being compiled against.
// Requires gRPC-Go v1.64.0 or later.
const _ = grpc.SupportPackageIsVersion9

const (
	ChangelogService_Set_FullMethodName           = "/changelog.v1.ChangelogService/Set"
	ChangelogService_Delete_FullMethodName        = "/changelog.v1.ChangelogService/Delete"
	ChangelogService_Flush_FullMethodName         = "/changelog.v1.ChangelogService/Flush"
	ChangelogService_LoadWorkspace_FullMethodName = "/changelog.v1.ChangelogService/LoadWorkspace"
	ChangelogService_StreamAll_FullMethodName     = "/changelog.v1.ChangelogService/StreamAll"
	ChangelogService_Describe_FullMethodName      = "/changelog.v1.ChangelogService/Describe"
	ChangelogService_Get_FullMethodName           = "/changelog.v1.ChangelogService/Get"
	ChangelogService_Write_FullMethodName         = "/changelog.v1.ChangelogService/Write"
	ChangelogService_Watch_FullMethodName         = "/changelog.v1.ChangelogService/Watch"
)

// ChangelogServiceClient is the client API for ChangelogService service.
//
// For semantics around ctx use and closing/ending streaming RPCs, please refer to https://pkg.go.dev/google.golang.org/grpc/?tab=doc#ClientConn.NewStream.
//
// Writes entities of workspaces to the changelog, and replays them.
type ChangelogServiceClient interface {
	// Writes one entity's value.
	//
	// Promises:
	//
	//   - ACK_DURABLE (the default): OK means that the store has acknowledged the record. On Kafka that is the delivery
	//     report of an idempotent producer with acks=all. On the embedded store it is an fsync.
	//   - ACK_BUFFERED: OK means that the write is queued. If it fails later, Flush names it.
	//   - A write that starts after another write was answered is applied after it, over any connections of one sidecar.
	//     After an unknown outcome no order is promised.
	//
	// Limits: a durable write is answered within --write-timeout (default 10 s) plus 5 s. If the client's deadline passes
	// first, the answer is OUTCOME_UNKNOWN, and the record stays queued.
	//
	// Errors. Nothing was written, except with OUTCOME_UNKNOWN:
	//
	//   - INVALID_ARGUMENT: KEY_INVALID, VALUE_TOO_LARGE, VALUE_NOT_JSON, ARGUMENT_INVALID
	//   - FAILED_PRECONDITION: TOPIC_NOT_FOUND, TOPIC_NOT_COMPACTED, PARTITION_COUNT_CHANGED, TOPIC_RECREATED,
	//     NOT_AUTHORIZED_BY_BROKER, STORE_READ_ONLY, STORE_GONE
	//   - FAILED_PRECONDITION: CLOCK_SKEW. The broker rejects the timestamp of the record, so this clock or the broker's is
	//     wrong, by more than the topic's message.timestamp.after.max.ms (default 1 h) or message.timestamp.before.max.ms.
	//   - UNAVAILABLE: BROKERS_UNREACHABLE, NOT_ENOUGH_REPLICAS, STARTING, DRAINING, OUT_OF_FILES
	//   - RESOURCE_EXHAUSTED: PRODUCER_QUEUE_FULL, MEMORY_LIMIT, DISK_FULL
	//   - DATA_LOSS: STORE_CORRUPT
	//   - INTERNAL: INTERNAL_FAULT. The write came after a fault of the embedded store's writer, which lasts until a
	//     restart.
	//   - DEADLINE_EXCEEDED: DEADLINE. The request did not arrive in time.
	//   - DEADLINE_EXCEEDED or UNKNOWN: OUTCOME_UNKNOWN. The record may be in the log, or may still be written.
	Set(ctx context.Context, in *SetRequest, opts ...grpc.CallOption) (*SetResponse, error)
	// Deletes one entity by writing a tombstone, a record with a null value. Deleting an absent entity is OK.
	//
	// Promises, limits and errors are those of Set, without the reasons for values.
	Delete(ctx context.Context, in *DeleteRequest, opts ...grpc.CallOption) (*DeleteResponse, error)
	// Waits for every write that this process accepted before the call, and lists the ACK_BUFFERED writes that failed.
	//
	// Promises:
	//
	//   - The call is OK even if writes failed or are still in flight. The response says so.
	//   - `remaining` = 0 and no `failures` mean that every ACK_BUFFERED write among them is in the log, except for the
	//     failures up to `failures_after`.
	//
	// Limits: it waits for at most `timeout_ms`.
	//
	// Errors. It is served during a drain, so DRAINING is none of them:
	//
	// - UNAVAILABLE: STARTING, OUT_OF_FILES
	// - RESOURCE_EXHAUSTED: MEMORY_LIMIT
	// - DEADLINE_EXCEEDED: DEADLINE. The request did not arrive in time.
	// - INTERNAL: INTERNAL_FAULT
	Flush(ctx context.Context, in *FlushRequest, opts ...grpc.CallOption) (*FlushResponse, error)
	// Streams the latest value of every entity of one workspace, in the order of their last change, then one Snapshot.
	//
	// Promises:
	//
	//   - The Snapshot proves that the load is complete. A stream that ends without it is incomplete.
	//   - The load contains every write that was acknowledged before the call began. That holds for all clients of the
	//     topic that wait for acks=all.
	//   - A workspace without entities is OK: the Snapshot comes alone, with `entries` = 0.
	//
	// Cost: on Kafka one replay of the workspace's partition, on the embedded store one index scan. On Kafka, loads and
	// Gets of a partition that arrive during a replay share the next one. With --share-replays=false each has its own.
	//
	// Limits: --read-timeout (default 5 min), or the client's deadline if it is shorter. On Kafka also half of
	// delete.retention.ms.
	//
	// Errors:
	//
	//   - INVALID_ARGUMENT: KEY_INVALID, ARGUMENT_INVALID
	//   - FAILED_PRECONDITION: TOPIC_NOT_FOUND, TOPIC_NOT_COMPACTED, PARTITION_COUNT_CHANGED, TOPIC_RECREATED,
	//     NOT_AUTHORIZED_BY_BROKER, STORE_GONE
	//   - FAILED_PRECONDITION: RETENTION_TOO_SHORT. On Kafka: the topic's delete.retention.ms is below 1 s, and the read
	//     took half of it or longer.
	//   - UNAVAILABLE: BROKERS_UNREACHABLE (also if reading makes no progress for 10 s), STARTING, DRAINING, OUT_OF_FILES
	//   - UNAVAILABLE: OPEN_TRANSACTION. For 5 s, the open transaction of a producer has hidden acknowledged records.
	//   - DEADLINE_EXCEEDED: DEADLINE. A limit above has passed.
	//   - CANCELLED, without ErrorInfo: the client took nothing for --client-stall-timeout, and the stream was reset.
	//   - RESOURCE_EXHAUSTED: TOO_MANY_REPLAYS (of all clients, or of this one)
	//   - RESOURCE_EXHAUSTED: REPLAY_TOO_LARGE (memory of this load, or of all replays together)
	//   - RESOURCE_EXHAUSTED: MEMORY_LIMIT (requests, kept lists, or answers that clients do not take)
	//   - ABORTED: LOG_TRUNCATED. The log lost records that were to be read. Start again.
	//   - ABORTED: LOG_MOVED. Compaction may have removed records before they were read. Start again.
	//   - DATA_LOSS: STORE_CORRUPT
	//   - INTERNAL: INTERNAL_FAULT. A fault of changelogd ended the read.
	LoadWorkspace(ctx context.Context, in *LoadWorkspaceRequest, opts ...grpc.CallOption) (grpc.ServerStreamingClient[LoadWorkspaceResponse], error)
	// Streams the records, or the latest values, of the selected partitions, and one Snapshot for each partition.
	//
	// Promises:
	//
	// - The end offsets of all partitions are read after the request arrives and before the first record is sent.
	// - A partition's Snapshot comes when its end offset is reached. Without it, the partition is incomplete.
	// - Without `follow` the stream ends after the last Snapshot. With `follow` it continues with every new record.
	// - A batch holds entries of one partition. Batches of several partitions may interleave.
	// - Within a partition, entries are in offset order. With CONTENT_LATEST that is the order of their last change.
	//
	// Limits: those of LoadWorkspace, until the last Snapshot. After it, `follow` has no deadline but the client's.
	//
	// Errors are those of LoadWorkspace, and:
	//
	// - INVALID_ARGUMENT: TOKEN_INVALID
	// - OUT_OF_RANGE: RESYNC_REQUIRED
	// - RESOURCE_EXHAUSTED: TOO_MANY_FOLLOWS (of all clients, or of this one)
	//
	// With `follow`, more errors can come after a Snapshot. After UNAVAILABLE, resume with the newest token:
	//
	//   - UNAVAILABLE: OPEN_TRANSACTION. The last stable offset has not moved for 60 s, below the high watermark.
	//   - UNAVAILABLE: BROKERS_UNREACHABLE. For 60 s no record has come although the log has more, or the leaders have not
	//     answered.
	//   - UNAVAILABLE: DRAINING
	//   - ABORTED: LOG_MOVED. The stream has not caught up for half of delete.retention.ms. Without Kafka that is
	//     --delete-retention.
	//   - FAILED_PRECONDITION: RETENTION_TOO_SHORT. The same, and that time is below 1 s.
	StreamAll(ctx context.Context, in *StreamAllRequest, opts ...grpc.CallOption) (grpc.ServerStreamingClient[StreamAllResponse], error)
	// Describes what this sidecar serves: the store, the topic, its partitions with their offsets, limits, and findings.
	//
	// The call is OK, with findings, also if the topic is missing or wrong, or if the brokers are unreachable. The
	// partitions are absent if their offsets are not known.
	//
	// Errors. It is served during a drain, so DRAINING is none of them:
	//
	// - INVALID_ARGUMENT: KEY_INVALID (`workspace_id`)
	// - UNAVAILABLE: STARTING, OUT_OF_FILES
	// - RESOURCE_EXHAUSTED: MEMORY_LIMIT
	// - DEADLINE_EXCEEDED: DEADLINE
	// - INTERNAL: INTERNAL_FAULT
	Describe(ctx context.Context, in *DescribeRequest, opts ...grpc.CallOption) (*DescribeResponse, error)
	// Reads one entity.
	//
	// The result contains every write that was acknowledged before the call began, as with LoadWorkspace.
	//
	// Cost: Kafka has no index, so a Get replays the whole partition of the workspace. Do not call it in a loop: use
	// LoadWorkspace. On the embedded store it is a point read.
	//
	// Limits are those of LoadWorkspace. Errors are those of LoadWorkspace, and:
	//
	// - NOT_FOUND: KEY_NOT_FOUND (absent or deleted)
	Get(ctx context.Context, in *GetRequest, opts ...grpc.CallOption) (*GetResponse, error)
	// Writes a stream of mutations, and answers each of them with a verdict, as Set and Delete with ACK_DURABLE do.
	//
	// Promises:
	//
	//   - Mutations of one workspace are applied in the order sent. If a key comes twice, both mutations are applied.
	//   - A bad mutation gets an INVALID_ARGUMENT verdict, and the stream continues.
	//   - Verdicts of several workspaces can come in any order, and a refused mutation can be answered early. Use the ids.
	//   - After the client half-closes, all verdicts come, and then OK.
	//   - If the stream ends with an error, a mutation without a verdict may have been written. With DRAINING,
	//     INVALID_ARGUMENT and MEMORY_LIMIT every accepted mutation gets its verdict first, if the client reads on.
	//
	// Limits:
	//
	//   - Read verdicts while you write. The server stops reading the stream while 16,384 units are outstanding. A mutation
	//     is 1 unit, plus 1 for each full KiB of its value and each full 256 bytes of its key, until its verdict is written
	//     to the client's socket. A unit counts 256 bytes as a request (--memory-limit).
	//   - HTTP/2 flow control then holds 256 KiB of the stream, of the 4 MiB that all calls of the connection share.
	//   - An open stream counts 264 KiB as a request. A message without room waits for 10 s. Verdicts always have room.
	//   - A message that has begun must arrive completely within 60 s. Else the stream ends with DEADLINE.
	//   - If a producer's queue is full, the server waits for at most --write-timeout plus 5 s. Then the verdict is
	//     RESOURCE_EXHAUSTED.
	//   - A stream has no deadline but the client's.
	//
	// Errors of the stream. Verdicts carry the errors of Set:
	//
	// - INVALID_ARGUMENT: ARGUMENT_INVALID. A message had more than 1,000 mutations; none of them was written.
	// - RESOURCE_EXHAUSTED: MEMORY_LIMIT. No room for the stream, or for its next message; nothing of it was written.
	// - UNAVAILABLE: STARTING, DRAINING, OUT_OF_FILES
	// - DEADLINE_EXCEEDED: DEADLINE. The rest of a message did not come; nothing of it was written.
	// - DEADLINE_EXCEEDED: OUTCOME_UNKNOWN. The client's deadline passed.
	// - UNKNOWN: OUTCOME_UNKNOWN. A fault of changelogd ended the stream before all verdicts were sent.
	// - CANCELLED, without ErrorInfo: the client took no verdict for --client-stall-timeout, and the stream was reset.
	Write(ctx context.Context, opts ...grpc.CallOption) (grpc.BidiStreamingClient[WriteRequest, WriteResponse], error)
	// Streams the state of one workspace, then Synced, then its changes.
	//
	// Promises:
	//
	//   - Without `resume_token` the state is that of LoadWorkspace: the latest value of every entity, each once, in the
	//     order of its last change. Synced has the Snapshot that proves that it is complete.
	//   - With `resume_token` each entity that has changed since then comes once, as a tombstone if it was deleted. A
	//     tombstone can be of an entity that the client has never seen.
	//   - After Synced come the changes, in the order of the log. Their offsets increase, and none is below the end offset
	//     of Synced. Within a call nothing comes twice. What a client received after a token comes again when it resumes.
	//   - The last change of every entity comes. An earlier one may be missing, if compaction has removed it.
	//   - After Synced a Bookmark comes at least every 10 s to a client that takes what comes, also when nothing changes.
	//     All that is below its place came before it.
	//   - The newest token, of Synced or of a Bookmark, replaces all earlier ones. It survives a restart, and serves every
	//     sidecar of the topic.
	//
	// Cost: that of LoadWorkspace. Then on Kafka a replay that follows the partition until the call ends.
	//
	// Limits: those of LoadWorkspace, until the client has taken Synced. After it there is no deadline but the client's.
	// A state that is taken for longer than half of delete.retention.ms ends with RESYNC_REQUIRED.
	// A watch is one of --max-following-streams (default 64), of which one client may have three quarters.
	//
	// Errors are those of StreamAll with `follow`. After ABORTED or OUT_OF_RANGE drop what was received, and start again
	// without a token. After UNAVAILABLE resume with the newest token.
	Watch(ctx context.Context, in *WatchRequest, opts ...grpc.CallOption) (grpc.ServerStreamingClient[WatchResponse], error)
}

type changelogServiceClient struct {
	cc grpc.ClientConnInterface
}

func NewChangelogServiceClient(cc grpc.ClientConnInterface) ChangelogServiceClient {
	return &changelogServiceClient{cc}
}

func (c *changelogServiceClient) Set(ctx context.Context, in *SetRequest, opts ...grpc.CallOption) (*SetResponse, error) {
	cOpts := append([]grpc.CallOption{grpc.StaticMethod()}, opts...)
	out := new(SetResponse)
	err := c.cc.Invoke(ctx, ChangelogService_Set_FullMethodName, in, out, cOpts...)
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (c *changelogServiceClient) Delete(ctx context.Context, in *DeleteRequest, opts ...grpc.CallOption) (*DeleteResponse, error) {
	cOpts := append([]grpc.CallOption{grpc.StaticMethod()}, opts...)
	out := new(DeleteResponse)
	err := c.cc.Invoke(ctx, ChangelogService_Delete_FullMethodName, in, out, cOpts...)
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (c *changelogServiceClient) Flush(ctx context.Context, in *FlushRequest, opts ...grpc.CallOption) (*FlushResponse, error) {
	cOpts := append([]grpc.CallOption{grpc.StaticMethod()}, opts...)
	out := new(FlushResponse)
	err := c.cc.Invoke(ctx, ChangelogService_Flush_FullMethodName, in, out, cOpts...)
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (c *changelogServiceClient) LoadWorkspace(ctx context.Context, in *LoadWorkspaceRequest, opts ...grpc.CallOption) (grpc.ServerStreamingClient[LoadWorkspaceResponse], error) {
	cOpts := append([]grpc.CallOption{grpc.StaticMethod()}, opts...)
	stream, err := c.cc.NewStream(ctx, &ChangelogService_ServiceDesc.Streams[0], ChangelogService_LoadWorkspace_FullMethodName, cOpts...)
	if err != nil {
		return nil, err
	}
	x := &grpc.GenericClientStream[LoadWorkspaceRequest, LoadWorkspaceResponse]{ClientStream: stream}
	if err := x.ClientStream.SendMsg(in); err != nil {
		return nil, err
	}
	if err := x.ClientStream.CloseSend(); err != nil {
		return nil, err
	}
	return x, nil
}

// This type alias is provided for backwards compatibility with existing code that references the prior non-generic stream type by name.
type ChangelogService_LoadWorkspaceClient = grpc.ServerStreamingClient[LoadWorkspaceResponse]

func (c *changelogServiceClient) StreamAll(ctx context.Context, in *StreamAllRequest, opts ...grpc.CallOption) (grpc.ServerStreamingClient[StreamAllResponse], error) {
	cOpts := append([]grpc.CallOption{grpc.StaticMethod()}, opts...)
	stream, err := c.cc.NewStream(ctx, &ChangelogService_ServiceDesc.Streams[1], ChangelogService_StreamAll_FullMethodName, cOpts...)
	if err != nil {
		return nil, err
	}
	x := &grpc.GenericClientStream[StreamAllRequest, StreamAllResponse]{ClientStream: stream}
	if err := x.ClientStream.SendMsg(in); err != nil {
		return nil, err
	}
	if err := x.ClientStream.CloseSend(); err != nil {
		return nil, err
	}
	return x, nil
}

// This type alias is provided for backwards compatibility with existing code that references the prior non-generic stream type by name.
type ChangelogService_StreamAllClient = grpc.ServerStreamingClient[StreamAllResponse]

func (c *changelogServiceClient) Describe(ctx context.Context, in *DescribeRequest, opts ...grpc.CallOption) (*DescribeResponse, error) {
	cOpts := append([]grpc.CallOption{grpc.StaticMethod()}, opts...)
	out := new(DescribeResponse)
	err := c.cc.Invoke(ctx, ChangelogService_Describe_FullMethodName, in, out, cOpts...)
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (c *changelogServiceClient) Get(ctx context.Context, in *GetRequest, opts ...grpc.CallOption) (*GetResponse, error) {
	cOpts := append([]grpc.CallOption{grpc.StaticMethod()}, opts...)
	out := new(GetResponse)
	err := c.cc.Invoke(ctx, ChangelogService_Get_FullMethodName, in, out, cOpts...)
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (c *changelogServiceClient) Write(ctx context.Context, opts ...grpc.CallOption) (grpc.BidiStreamingClient[WriteRequest, WriteResponse], error) {
	cOpts := append([]grpc.CallOption{grpc.StaticMethod()}, opts...)
	stream, err := c.cc.NewStream(ctx, &ChangelogService_ServiceDesc.Streams[2], ChangelogService_Write_FullMethodName, cOpts...)
	if err != nil {
		return nil, err
	}
	x := &grpc.GenericClientStream[WriteRequest, WriteResponse]{ClientStream: stream}
	return x, nil
}

// This type alias is provided for backwards compatibility with existing code that references the prior non-generic stream type by name.
type ChangelogService_WriteClient = grpc.BidiStreamingClient[WriteRequest, WriteResponse]

func (c *changelogServiceClient) Watch(ctx context.Context, in *WatchRequest, opts ...grpc.CallOption) (grpc.ServerStreamingClient[WatchResponse], error) {
	cOpts := append([]grpc.CallOption{grpc.StaticMethod()}, opts...)
	stream, err := c.cc.NewStream(ctx, &ChangelogService_ServiceDesc.Streams[3], ChangelogService_Watch_FullMethodName, cOpts...)
	if err != nil {
		return nil, err
	}
	x := &grpc.GenericClientStream[WatchRequest, WatchResponse]{ClientStream: stream}
	if err := x.ClientStream.SendMsg(in); err != nil {
		return nil, err
	}
	if err := x.ClientStream.CloseSend(); err != nil {
		return nil, err
	}
	return x, nil
}

// This type alias is provided for backwards compatibility with existing code that references the prior non-generic stream type by name.
type ChangelogService_WatchClient = grpc.ServerStreamingClient[WatchResponse]

// ChangelogServiceServer is the server API for ChangelogService service.
// All implementations must embed UnimplementedChangelogServiceServer
// for forward compatibility.
//
// Writes entities of workspaces to the changelog, and replays them.
type ChangelogServiceServer interface {
	// Writes one entity's value.
	//
	// Promises:
	//
	//   - ACK_DURABLE (the default): OK means that the store has acknowledged the record. On Kafka that is the delivery
	//     report of an idempotent producer with acks=all. On the embedded store it is an fsync.
	//   - ACK_BUFFERED: OK means that the write is queued. If it fails later, Flush names it.
	//   - A write that starts after another write was answered is applied after it, over any connections of one sidecar.
	//     After an unknown outcome no order is promised.
	//
	// Limits: a durable write is answered within --write-timeout (default 10 s) plus 5 s. If the client's deadline passes
	// first, the answer is OUTCOME_UNKNOWN, and the record stays queued.
	//
	// Errors. Nothing was written, except with OUTCOME_UNKNOWN:
	//
	//   - INVALID_ARGUMENT: KEY_INVALID, VALUE_TOO_LARGE, VALUE_NOT_JSON, ARGUMENT_INVALID
	//   - FAILED_PRECONDITION: TOPIC_NOT_FOUND, TOPIC_NOT_COMPACTED, PARTITION_COUNT_CHANGED, TOPIC_RECREATED,
	//     NOT_AUTHORIZED_BY_BROKER, STORE_READ_ONLY, STORE_GONE
	//   - FAILED_PRECONDITION: CLOCK_SKEW. The broker rejects the timestamp of the record, so this clock or the broker's is
	//     wrong, by more than the topic's message.timestamp.after.max.ms (default 1 h) or message.timestamp.before.max.ms.
	//   - UNAVAILABLE: BROKERS_UNREACHABLE, NOT_ENOUGH_REPLICAS, STARTING, DRAINING, OUT_OF_FILES
	//   - RESOURCE_EXHAUSTED: PRODUCER_QUEUE_FULL, MEMORY_LIMIT, DISK_FULL
	//   - DATA_LOSS: STORE_CORRUPT
	//   - INTERNAL: INTERNAL_FAULT. The write came after a fault of the embedded store's writer, which lasts until a
	//     restart.
	//   - DEADLINE_EXCEEDED: DEADLINE. The request did not arrive in time.
	//   - DEADLINE_EXCEEDED or UNKNOWN: OUTCOME_UNKNOWN. The record may be in the log, or may still be written.
	Set(context.Context, *SetRequest) (*SetResponse, error)
	// Deletes one entity by writing a tombstone, a record with a null value. Deleting an absent entity is OK.
	//
	// Promises, limits and errors are those of Set, without the reasons for values.
	Delete(context.Context, *DeleteRequest) (*DeleteResponse, error)
	// Waits for every write that this process accepted before the call, and lists the ACK_BUFFERED writes that failed.
	//
	// Promises:
	//
	//   - The call is OK even if writes failed or are still in flight. The response says so.
	//   - `remaining` = 0 and no `failures` mean that every ACK_BUFFERED write among them is in the log, except for the
	//     failures up to `failures_after`.
	//
	// Limits: it waits for at most `timeout_ms`.
	//
	// Errors. It is served during a drain, so DRAINING is none of them:
	//
	// - UNAVAILABLE: STARTING, OUT_OF_FILES
	// - RESOURCE_EXHAUSTED: MEMORY_LIMIT
	// - DEADLINE_EXCEEDED: DEADLINE. The request did not arrive in time.
	// - INTERNAL: INTERNAL_FAULT
	Flush(context.Context, *FlushRequest) (*FlushResponse, error)
	// Streams the latest value of every entity of one workspace, in the order of their last change, then one Snapshot.
	//
	// Promises:
	//
	//   - The Snapshot proves that the load is complete. A stream that ends without it is incomplete.
	//   - The load contains every write that was acknowledged before the call began. That holds for all clients of the
	//     topic that wait for acks=all.
	//   - A workspace without entities is OK: the Snapshot comes alone, with `entries` = 0.
	//
	// Cost: on Kafka one replay of the workspace's partition, on the embedded store one index scan. On Kafka, loads and
	// Gets of a partition that arrive during a replay share the next one. With --share-replays=false each has its own.
	//
	// Limits: --read-timeout (default 5 min), or the client's deadline if it is shorter. On Kafka also half of
	// delete.retention.ms.
	//
	// Errors:
	//
	//   - INVALID_ARGUMENT: KEY_INVALID, ARGUMENT_INVALID
	//   - FAILED_PRECONDITION: TOPIC_NOT_FOUND, TOPIC_NOT_COMPACTED, PARTITION_COUNT_CHANGED, TOPIC_RECREATED,
	//     NOT_AUTHORIZED_BY_BROKER, STORE_GONE
	//   - FAILED_PRECONDITION: RETENTION_TOO_SHORT. On Kafka: the topic's delete.retention.ms is below 1 s, and the read
	//     took half of it or longer.
	//   - UNAVAILABLE: BROKERS_UNREACHABLE (also if reading makes no progress for 10 s), STARTING, DRAINING, OUT_OF_FILES
	//   - UNAVAILABLE: OPEN_TRANSACTION. For 5 s, the open transaction of a producer has hidden acknowledged records.
	//   - DEADLINE_EXCEEDED: DEADLINE. A limit above has passed.
	//   - CANCELLED, without ErrorInfo: the client took nothing for --client-stall-timeout, and the stream was reset.
	//   - RESOURCE_EXHAUSTED: TOO_MANY_REPLAYS (of all clients, or of this one)
	//   - RESOURCE_EXHAUSTED: REPLAY_TOO_LARGE (memory of this load, or of all replays together)
	//   - RESOURCE_EXHAUSTED: MEMORY_LIMIT (requests, kept lists, or answers that clients do not take)
	//   - ABORTED: LOG_TRUNCATED. The log lost records that were to be read. Start again.
	//   - ABORTED: LOG_MOVED. Compaction may have removed records before they were read. Start again.
	//   - DATA_LOSS: STORE_CORRUPT
	//   - INTERNAL: INTERNAL_FAULT. A fault of changelogd ended the read.
	LoadWorkspace(*LoadWorkspaceRequest, grpc.ServerStreamingServer[LoadWorkspaceResponse]) error
	// Streams the records, or the latest values, of the selected partitions, and one Snapshot for each partition.
	//
	// Promises:
	//
	// - The end offsets of all partitions are read after the request arrives and before the first record is sent.
	// - A partition's Snapshot comes when its end offset is reached. Without it, the partition is incomplete.
	// - Without `follow` the stream ends after the last Snapshot. With `follow` it continues with every new record.
	// - A batch holds entries of one partition. Batches of several partitions may interleave.
	// - Within a partition, entries are in offset order. With CONTENT_LATEST that is the order of their last change.
	//
	// Limits: those of LoadWorkspace, until the last Snapshot. After it, `follow` has no deadline but the client's.
	//
	// Errors are those of LoadWorkspace, and:
	//
	// - INVALID_ARGUMENT: TOKEN_INVALID
	// - OUT_OF_RANGE: RESYNC_REQUIRED
	// - RESOURCE_EXHAUSTED: TOO_MANY_FOLLOWS (of all clients, or of this one)
	//
	// With `follow`, more errors can come after a Snapshot. After UNAVAILABLE, resume with the newest token:
	//
	//   - UNAVAILABLE: OPEN_TRANSACTION. The last stable offset has not moved for 60 s, below the high watermark.
	//   - UNAVAILABLE: BROKERS_UNREACHABLE. For 60 s no record has come although the log has more, or the leaders have not
	//     answered.
	//   - UNAVAILABLE: DRAINING
	//   - ABORTED: LOG_MOVED. The stream has not caught up for half of delete.retention.ms. Without Kafka that is
	//     --delete-retention.
	//   - FAILED_PRECONDITION: RETENTION_TOO_SHORT. The same, and that time is below 1 s.
	StreamAll(*StreamAllRequest, grpc.ServerStreamingServer[StreamAllResponse]) error
	// Describes what this sidecar serves: the store, the topic, its partitions with their offsets, limits, and findings.
	//
	// The call is OK, with findings, also if the topic is missing or wrong, or if the brokers are unreachable. The
	// partitions are absent if their offsets are not known.
	//
	// Errors. It is served during a drain, so DRAINING is none of them:
	//
	// - INVALID_ARGUMENT: KEY_INVALID (`workspace_id`)
	// - UNAVAILABLE: STARTING, OUT_OF_FILES
	// - RESOURCE_EXHAUSTED: MEMORY_LIMIT
	// - DEADLINE_EXCEEDED: DEADLINE
	// - INTERNAL: INTERNAL_FAULT
	Describe(context.Context, *DescribeRequest) (*DescribeResponse, error)
	// Reads one entity.
	//
	// The result contains every write that was acknowledged before the call began, as with LoadWorkspace.
	//
	// Cost: Kafka has no index, so a Get replays the whole partition of the workspace. Do not call it in a loop: use
	// LoadWorkspace. On the embedded store it is a point read.
	//
	// Limits are those of LoadWorkspace. Errors are those of LoadWorkspace, and:
	//
	// - NOT_FOUND: KEY_NOT_FOUND (absent or deleted)
	Get(context.Context, *GetRequest) (*GetResponse, error)
	// Writes a stream of mutations, and answers each of them with a verdict, as Set and Delete with ACK_DURABLE do.
	//
	// Promises:
	//
	//   - Mutations of one workspace are applied in the order sent. If a key comes twice, both mutations are applied.
	//   - A bad mutation gets an INVALID_ARGUMENT verdict, and the stream continues.
	//   - Verdicts of several workspaces can come in any order, and a refused mutation can be answered early. Use the ids.
	//   - After the client half-closes, all verdicts come, and then OK.
	//   - If the stream ends with an error, a mutation without a verdict may have been written. With DRAINING,
	//     INVALID_ARGUMENT and MEMORY_LIMIT every accepted mutation gets its verdict first, if the client reads on.
	//
	// Limits:
	//
	//   - Read verdicts while you write. The server stops reading the stream while 16,384 units are outstanding. A mutation
	//     is 1 unit, plus 1 for each full KiB of its value and each full 256 bytes of its key, until its verdict is written
	//     to the client's socket. A unit counts 256 bytes as a request (--memory-limit).
	//   - HTTP/2 flow control then holds 256 KiB of the stream, of the 4 MiB that all calls of the connection share.
	//   - An open stream counts 264 KiB as a request. A message without room waits for 10 s. Verdicts always have room.
	//   - A message that has begun must arrive completely within 60 s. Else the stream ends with DEADLINE.
	//   - If a producer's queue is full, the server waits for at most --write-timeout plus 5 s. Then the verdict is
	//     RESOURCE_EXHAUSTED.
	//   - A stream has no deadline but the client's.
	//
	// Errors of the stream. Verdicts carry the errors of Set:
	//
	// - INVALID_ARGUMENT: ARGUMENT_INVALID. A message had more than 1,000 mutations; none of them was written.
	// - RESOURCE_EXHAUSTED: MEMORY_LIMIT. No room for the stream, or for its next message; nothing of it was written.
	// - UNAVAILABLE: STARTING, DRAINING, OUT_OF_FILES
	// - DEADLINE_EXCEEDED: DEADLINE. The rest of a message did not come; nothing of it was written.
	// - DEADLINE_EXCEEDED: OUTCOME_UNKNOWN. The client's deadline passed.
	// - UNKNOWN: OUTCOME_UNKNOWN. A fault of changelogd ended the stream before all verdicts were sent.
	// - CANCELLED, without ErrorInfo: the client took no verdict for --client-stall-timeout, and the stream was reset.
	Write(grpc.BidiStreamingServer[WriteRequest, WriteResponse]) error
	// Streams the state of one workspace, then Synced, then its changes.
	//
	// Promises:
	//
	//   - Without `resume_token` the state is that of LoadWorkspace: the latest value of every entity, each once, in the
	//     order of its last change. Synced has the Snapshot that proves that it is complete.
	//   - With `resume_token` each entity that has changed since then comes once, as a tombstone if it was deleted. A
	//     tombstone can be of an entity that the client has never seen.
	//   - After Synced come the changes, in the order of the log. Their offsets increase, and none is below the end offset
	//     of Synced. Within a call nothing comes twice. What a client received after a token comes again when it resumes.
	//   - The last change of every entity comes. An earlier one may be missing, if compaction has removed it.
	//   - After Synced a Bookmark comes at least every 10 s to a client that takes what comes, also when nothing changes.
	//     All that is below its place came before it.
	//   - The newest token, of Synced or of a Bookmark, replaces all earlier ones. It survives a restart, and serves every
	//     sidecar of the topic.
	//
	// Cost: that of LoadWorkspace. Then on Kafka a replay that follows the partition until the call ends.
	//
	// Limits: those of LoadWorkspace, until the client has taken Synced. After it there is no deadline but the client's.
	// A state that is taken for longer than half of delete.retention.ms ends with RESYNC_REQUIRED.
	// A watch is one of --max-following-streams (default 64), of which one client may have three quarters.
	//
	// Errors are those of StreamAll with `follow`. After ABORTED or OUT_OF_RANGE drop what was received, and start again
	// without a token. After UNAVAILABLE resume with the newest token.
	Watch(*WatchRequest, grpc.ServerStreamingServer[WatchResponse]) error
	mustEmbedUnimplementedChangelogServiceServer()
}

// UnimplementedChangelogServiceServer must be embedded to have
// forward compatible implementations.
//
// NOTE: this should be embedded by value instead of pointer to avoid a nil
// pointer dereference when methods are called.
type UnimplementedChangelogServiceServer struct{}

func (UnimplementedChangelogServiceServer) Set(context.Context, *SetRequest) (*SetResponse, error) {
	return nil, status.Error(codes.Unimplemented, "method Set not implemented")
}
func (UnimplementedChangelogServiceServer) Delete(context.Context, *DeleteRequest) (*DeleteResponse, error) {
	return nil, status.Error(codes.Unimplemented, "method Delete not implemented")
}
func (UnimplementedChangelogServiceServer) Flush(context.Context, *FlushRequest) (*FlushResponse, error) {
	return nil, status.Error(codes.Unimplemented, "method Flush not implemented")
}
func (UnimplementedChangelogServiceServer) LoadWorkspace(*LoadWorkspaceRequest, grpc.ServerStreamingServer[LoadWorkspaceResponse]) error {
	return status.Error(codes.Unimplemented, "method LoadWorkspace not implemented")
}
func (UnimplementedChangelogServiceServer) StreamAll(*StreamAllRequest, grpc.ServerStreamingServer[StreamAllResponse]) error {
	return status.Error(codes.Unimplemented, "method StreamAll not implemented")
}
func (UnimplementedChangelogServiceServer) Describe(context.Context, *DescribeRequest) (*DescribeResponse, error) {
	return nil, status.Error(codes.Unimplemented, "method Describe not implemented")
}
func (UnimplementedChangelogServiceServer) Get(context.Context, *GetRequest) (*GetResponse, error) {
	return nil, status.Error(codes.Unimplemented, "method Get not implemented")
}
func (UnimplementedChangelogServiceServer) Write(grpc.BidiStreamingServer[WriteRequest, WriteResponse]) error {
	return status.Error(codes.Unimplemented, "method Write not implemented")
}
func (UnimplementedChangelogServiceServer) Watch(*WatchRequest, grpc.ServerStreamingServer[WatchResponse]) error {
	return status.Error(codes.Unimplemented, "method Watch not implemented")
}
func (UnimplementedChangelogServiceServer) mustEmbedUnimplementedChangelogServiceServer() {}
func (UnimplementedChangelogServiceServer) testEmbeddedByValue()                          {}

// UnsafeChangelogServiceServer may be embedded to opt out of forward compatibility for this service.
// Use of this interface is not recommended, as added methods to ChangelogServiceServer will
// result in compilation errors.
type UnsafeChangelogServiceServer interface {
	mustEmbedUnimplementedChangelogServiceServer()
}

func RegisterChangelogServiceServer(s grpc.ServiceRegistrar, srv ChangelogServiceServer) {
	// If the following call panics, it indicates UnimplementedChangelogServiceServer was
	// embedded by pointer and is nil.  This will cause panics if an
	// unimplemented method is ever invoked, so we test this at initialization
	// time to prevent it from happening at runtime later due to I/O.
	if t, ok := srv.(interface{ testEmbeddedByValue() }); ok {
		t.testEmbeddedByValue()
	}
	s.RegisterService(&ChangelogService_ServiceDesc, srv)
}

func _ChangelogService_Set_Handler(srv interface{}, ctx context.Context, dec func(interface{}) error, interceptor grpc.UnaryServerInterceptor) (interface{}, error) {
	in := new(SetRequest)
	if err := dec(in); err != nil {
		return nil, err
	}
	if interceptor == nil {
		return srv.(ChangelogServiceServer).Set(ctx, in)
	}
	info := &grpc.UnaryServerInfo{
		Server:     srv,
		FullMethod: ChangelogService_Set_FullMethodName,
	}
	handler := func(ctx context.Context, req interface{}) (interface{}, error) {
		return srv.(ChangelogServiceServer).Set(ctx, req.(*SetRequest))
	}
	return interceptor(ctx, in, info, handler)
}

func _ChangelogService_Delete_Handler(srv interface{}, ctx context.Context, dec func(interface{}) error, interceptor grpc.UnaryServerInterceptor) (interface{}, error) {
	in := new(DeleteRequest)
	if err := dec(in); err != nil {
		return nil, err
	}
	if interceptor == nil {
		return srv.(ChangelogServiceServer).Delete(ctx, in)
	}
	info := &grpc.UnaryServerInfo{
		Server:     srv,
		FullMethod: ChangelogService_Delete_FullMethodName,
	}
	handler := func(ctx context.Context, req interface{}) (interface{}, error) {
		return srv.(ChangelogServiceServer).Delete(ctx, req.(*DeleteRequest))
	}
	return interceptor(ctx, in, info, handler)
}

func _ChangelogService_Flush_Handler(srv interface{}, ctx context.Context, dec func(interface{}) error, interceptor grpc.UnaryServerInterceptor) (interface{}, error) {
	in := new(FlushRequest)
	if err := dec(in); err != nil {
		return nil, err
	}
	if interceptor == nil {
		return srv.(ChangelogServiceServer).Flush(ctx, in)
	}
	info := &grpc.UnaryServerInfo{
		Server:     srv,
		FullMethod: ChangelogService_Flush_FullMethodName,
	}
	handler := func(ctx context.Context, req interface{}) (interface{}, error) {
		return srv.(ChangelogServiceServer).Flush(ctx, req.(*FlushRequest))
	}
	return interceptor(ctx, in, info, handler)
}

func _ChangelogService_LoadWorkspace_Handler(srv interface{}, stream grpc.ServerStream) error {
	m := new(LoadWorkspaceRequest)
	if err := stream.RecvMsg(m); err != nil {
		return err
	}
	return srv.(ChangelogServiceServer).LoadWorkspace(m, &grpc.GenericServerStream[LoadWorkspaceRequest, LoadWorkspaceResponse]{ServerStream: stream})
}

// This type alias is provided for backwards compatibility with existing code that references the prior non-generic stream type by name.
type ChangelogService_LoadWorkspaceServer = grpc.ServerStreamingServer[LoadWorkspaceResponse]

func _ChangelogService_StreamAll_Handler(srv interface{}, stream grpc.ServerStream) error {
	m := new(StreamAllRequest)
	if err := stream.RecvMsg(m); err != nil {
		return err
	}
	return srv.(ChangelogServiceServer).StreamAll(m, &grpc.GenericServerStream[StreamAllRequest, StreamAllResponse]{ServerStream: stream})
}

// This type alias is provided for backwards compatibility with existing code that references the prior non-generic stream type by name.
type ChangelogService_StreamAllServer = grpc.ServerStreamingServer[StreamAllResponse]

func _ChangelogService_Describe_Handler(srv interface{}, ctx context.Context, dec func(interface{}) error, interceptor grpc.UnaryServerInterceptor) (interface{}, error) {
	in := new(DescribeRequest)
	if err := dec(in); err != nil {
		return nil, err
	}
	if interceptor == nil {
		return srv.(ChangelogServiceServer).Describe(ctx, in)
	}
	info := &grpc.UnaryServerInfo{
		Server:     srv,
		FullMethod: ChangelogService_Describe_FullMethodName,
	}
	handler := func(ctx context.Context, req interface{}) (interface{}, error) {
		return srv.(ChangelogServiceServer).Describe(ctx, req.(*DescribeRequest))
	}
	return interceptor(ctx, in, info, handler)
}

func _ChangelogService_Get_Handler(srv interface{}, ctx context.Context, dec func(interface{}) error, interceptor grpc.UnaryServerInterceptor) (interface{}, error) {
	in := new(GetRequest)
	if err := dec(in); err != nil {
		return nil, err
	}
	if interceptor == nil {
		return srv.(ChangelogServiceServer).Get(ctx, in)
	}
	info := &grpc.UnaryServerInfo{
		Server:     srv,
		FullMethod: ChangelogService_Get_FullMethodName,
	}
	handler := func(ctx context.Context, req interface{}) (interface{}, error) {
		return srv.(ChangelogServiceServer).Get(ctx, req.(*GetRequest))
	}
	return interceptor(ctx, in, info, handler)
}

func _ChangelogService_Write_Handler(srv interface{}, stream grpc.ServerStream) error {
	return srv.(ChangelogServiceServer).Write(&grpc.GenericServerStream[WriteRequest, WriteResponse]{ServerStream: stream})
}

// This type alias is provided for backwards compatibility with existing code that references the prior non-generic stream type by name.
type ChangelogService_WriteServer = grpc.BidiStreamingServer[WriteRequest, WriteResponse]

func _ChangelogService_Watch_Handler(srv interface{}, stream grpc.ServerStream) error {
	m := new(WatchRequest)
	if err := stream.RecvMsg(m); err != nil {
		return err
	}
	return srv.(ChangelogServiceServer).Watch(m, &grpc.GenericServerStream[WatchRequest, WatchResponse]{ServerStream: stream})
}

// This type alias is provided for backwards compatibility with existing code that references the prior non-generic stream type by name.
type ChangelogService_WatchServer = grpc.ServerStreamingServer[WatchResponse]

// ChangelogService_ServiceDesc is the grpc.ServiceDesc for ChangelogService service.
// It's only intended for direct use with grpc.RegisterService,
// and not to be introspected or modified (even as a copy)
var ChangelogService_ServiceDesc = grpc.ServiceDesc{
	ServiceName: "changelog.v1.ChangelogService",
	HandlerType: (*ChangelogServiceServer)(nil),
	Methods: []grpc.MethodDesc{
		{
			MethodName: "Set",
			Handler:    _ChangelogService_Set_Handler,
		},
		{
			MethodName: "Delete",
			Handler:    _ChangelogService_Delete_Handler,
		},
		{
			MethodName: "Flush",
			Handler:    _ChangelogService_Flush_Handler,
		},
		{
			MethodName: "Describe",
			Handler:    _ChangelogService_Describe_Handler,
		},
		{
			MethodName: "Get",
			Handler:    _ChangelogService_Get_Handler,
		},
	},
	Streams: []grpc.StreamDesc{
		{
			StreamName:    "LoadWorkspace",
			Handler:       _ChangelogService_LoadWorkspace_Handler,
			ServerStreams: true,
		},
		{
			StreamName:    "StreamAll",
			Handler:       _ChangelogService_StreamAll_Handler,
			ServerStreams: true,
		},
		{
			StreamName:    "Write",
			Handler:       _ChangelogService_Write_Handler,
			ServerStreams: true,
			ClientStreams: true,
		},
		{
			StreamName:    "Watch",
			Handler:       _ChangelogService_Watch_Handler,
			ServerStreams: true,
		},
	},
	Metadata: "changelogd/v1/changelog.proto",
}
