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

// Code generated by protoc-gen-go. DO NOT EDIT.
// versions:
// 	protoc-gen-go v1.36.12
// 	protoc        (unknown)
// source: changelogd/v1/changelog.proto

package changelogv1

import (
	protoreflect "google.golang.org/protobuf/reflect/protoreflect"
	protoimpl "google.golang.org/protobuf/runtime/protoimpl"
	durationpb "google.golang.org/protobuf/types/known/durationpb"
	structpb "google.golang.org/protobuf/types/known/structpb"
	timestamppb "google.golang.org/protobuf/types/known/timestamppb"
	reflect "reflect"
	sync "sync"
	unsafe "unsafe"
)

const (
	// Verify that this generated code is sufficiently up-to-date.
	_ = protoimpl.EnforceVersion(20 - protoimpl.MinVersion)
	// Verify that runtime/protoimpl is sufficiently up-to-date.
	_ = protoimpl.EnforceVersion(protoimpl.MaxVersion - 20)
)

// When a write is answered.
type Ack int32

const (
	// ACK_DURABLE.
	Ack_ACK_UNSPECIFIED Ack = 0
	// After the store's acknowledgement.
	Ack_ACK_DURABLE Ack = 1
	// When the write is queued. It is lost if the process is killed before it is sent. Flush lists failures.
	Ack_ACK_BUFFERED Ack = 2
)

// Enum value maps for Ack.
var (
	Ack_name = map[int32]string{
		0: "ACK_UNSPECIFIED",
		1: "ACK_DURABLE",
		2: "ACK_BUFFERED",
	}
	Ack_value = map[string]int32{
		"ACK_UNSPECIFIED": 0,
		"ACK_DURABLE":     1,
		"ACK_BUFFERED":    2,
	}
)

func (x Ack) Enum() *Ack {
	p := new(Ack)
	*p = x
	return p
}

func (x Ack) String() string {
	return protoimpl.X.EnumStringOf(x.Descriptor(), protoreflect.EnumNumber(x))
}

func (Ack) Descriptor() protoreflect.EnumDescriptor {
	return file_changelogd_v1_changelog_proto_enumTypes[0].Descriptor()
}

func (Ack) Type() protoreflect.EnumType {
	return &file_changelogd_v1_changelog_proto_enumTypes[0]
}

func (x Ack) Number() protoreflect.EnumNumber {
	return protoreflect.EnumNumber(x)
}

// Deprecated: Use Ack.Descriptor instead.
func (Ack) EnumDescriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{0}
}

// How values are returned.
type ValueFormat int32

const (
	// VALUE_FORMAT_RAW.
	ValueFormat_VALUE_FORMAT_UNSPECIFIED ValueFormat = 0
	// The stored bytes, in `raw`.
	ValueFormat_VALUE_FORMAT_RAW ValueFormat = 1
	// A JSON value, in `json`; meant for people who use grpcurl.
	// The whole value is in `raw` instead if it is not JSON, nests deeper than 32, or `json` would change it. That is so
	// if a number is not exact as a double, an object has a key twice, or a string has an unpaired surrogate. So is a
	// value whose `json` form has more than 3.5 MiB, because clients take 4 MiB by default. So is a value that is over
	// the limit of this server, if it has no room to be converted.
	ValueFormat_VALUE_FORMAT_JSON ValueFormat = 2
)

// Enum value maps for ValueFormat.
var (
	ValueFormat_name = map[int32]string{
		0: "VALUE_FORMAT_UNSPECIFIED",
		1: "VALUE_FORMAT_RAW",
		2: "VALUE_FORMAT_JSON",
	}
	ValueFormat_value = map[string]int32{
		"VALUE_FORMAT_UNSPECIFIED": 0,
		"VALUE_FORMAT_RAW":         1,
		"VALUE_FORMAT_JSON":        2,
	}
)

func (x ValueFormat) Enum() *ValueFormat {
	p := new(ValueFormat)
	*p = x
	return p
}

func (x ValueFormat) String() string {
	return protoimpl.X.EnumStringOf(x.Descriptor(), protoreflect.EnumNumber(x))
}

func (ValueFormat) Descriptor() protoreflect.EnumDescriptor {
	return file_changelogd_v1_changelog_proto_enumTypes[1].Descriptor()
}

func (ValueFormat) Type() protoreflect.EnumType {
	return &file_changelogd_v1_changelog_proto_enumTypes[1]
}

func (x ValueFormat) Number() protoreflect.EnumNumber {
	return protoreflect.EnumNumber(x)
}

// Deprecated: Use ValueFormat.Descriptor instead.
func (ValueFormat) EnumDescriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{1}
}

// What StreamAll delivers.
type Content int32

const (
	// CONTENT_RECORDS.
	Content_CONTENT_UNSPECIFIED Content = 0
	// Every record that is still in the log, tombstones included.
	Content_CONTENT_RECORDS Content = 1
	// The latest value of each key. Tombstones are left out, except as `resume_token` and `follow` say.
	Content_CONTENT_LATEST Content = 2
)

// Enum value maps for Content.
var (
	Content_name = map[int32]string{
		0: "CONTENT_UNSPECIFIED",
		1: "CONTENT_RECORDS",
		2: "CONTENT_LATEST",
	}
	Content_value = map[string]int32{
		"CONTENT_UNSPECIFIED": 0,
		"CONTENT_RECORDS":     1,
		"CONTENT_LATEST":      2,
	}
)

func (x Content) Enum() *Content {
	p := new(Content)
	*p = x
	return p
}

func (x Content) String() string {
	return protoimpl.X.EnumStringOf(x.Descriptor(), protoreflect.EnumNumber(x))
}

func (Content) Descriptor() protoreflect.EnumDescriptor {
	return file_changelogd_v1_changelog_proto_enumTypes[2].Descriptor()
}

func (Content) Type() protoreflect.EnumType {
	return &file_changelogd_v1_changelog_proto_enumTypes[2]
}

func (x Content) Number() protoreflect.EnumNumber {
	return protoreflect.EnumNumber(x)
}

// Deprecated: Use Content.Descriptor instead.
func (Content) EnumDescriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{2}
}

// The status codes of gRPC, with gRPC's numbers, so that google.rpc.Code can be read in its place.
type Code int32

const (
	// Never sent: an error has a code.
	Code_CODE_UNSPECIFIED Code = 0
	// The call was cancelled.
	Code_CODE_CANCELLED Code = 1
	// As UNKNOWN in STATUS CODES.
	Code_CODE_UNKNOWN Code = 2
	// As INVALID_ARGUMENT in STATUS CODES.
	Code_CODE_INVALID_ARGUMENT Code = 3
	// As DEADLINE_EXCEEDED in STATUS CODES.
	Code_CODE_DEADLINE_EXCEEDED Code = 4
	// As NOT_FOUND in STATUS CODES.
	Code_CODE_NOT_FOUND Code = 5
	// Not sent by this version.
	Code_CODE_ALREADY_EXISTS Code = 6
	// Not sent by this version.
	Code_CODE_PERMISSION_DENIED Code = 7
	// As RESOURCE_EXHAUSTED in STATUS CODES.
	Code_CODE_RESOURCE_EXHAUSTED Code = 8
	// As FAILED_PRECONDITION in STATUS CODES.
	Code_CODE_FAILED_PRECONDITION Code = 9
	// As ABORTED in STATUS CODES.
	Code_CODE_ABORTED Code = 10
	// As OUT_OF_RANGE in STATUS CODES.
	Code_CODE_OUT_OF_RANGE Code = 11
	// As UNIMPLEMENTED in STATUS CODES.
	Code_CODE_UNIMPLEMENTED Code = 12
	// As INTERNAL in STATUS CODES.
	Code_CODE_INTERNAL Code = 13
	// As UNAVAILABLE in STATUS CODES.
	Code_CODE_UNAVAILABLE Code = 14
	// As DATA_LOSS in STATUS CODES.
	Code_CODE_DATA_LOSS Code = 15
	// Not sent by this version.
	Code_CODE_UNAUTHENTICATED Code = 16
)

// Enum value maps for Code.
var (
	Code_name = map[int32]string{
		0:  "CODE_UNSPECIFIED",
		1:  "CODE_CANCELLED",
		2:  "CODE_UNKNOWN",
		3:  "CODE_INVALID_ARGUMENT",
		4:  "CODE_DEADLINE_EXCEEDED",
		5:  "CODE_NOT_FOUND",
		6:  "CODE_ALREADY_EXISTS",
		7:  "CODE_PERMISSION_DENIED",
		8:  "CODE_RESOURCE_EXHAUSTED",
		9:  "CODE_FAILED_PRECONDITION",
		10: "CODE_ABORTED",
		11: "CODE_OUT_OF_RANGE",
		12: "CODE_UNIMPLEMENTED",
		13: "CODE_INTERNAL",
		14: "CODE_UNAVAILABLE",
		15: "CODE_DATA_LOSS",
		16: "CODE_UNAUTHENTICATED",
	}
	Code_value = map[string]int32{
		"CODE_UNSPECIFIED":         0,
		"CODE_CANCELLED":           1,
		"CODE_UNKNOWN":             2,
		"CODE_INVALID_ARGUMENT":    3,
		"CODE_DEADLINE_EXCEEDED":   4,
		"CODE_NOT_FOUND":           5,
		"CODE_ALREADY_EXISTS":      6,
		"CODE_PERMISSION_DENIED":   7,
		"CODE_RESOURCE_EXHAUSTED":  8,
		"CODE_FAILED_PRECONDITION": 9,
		"CODE_ABORTED":             10,
		"CODE_OUT_OF_RANGE":        11,
		"CODE_UNIMPLEMENTED":       12,
		"CODE_INTERNAL":            13,
		"CODE_UNAVAILABLE":         14,
		"CODE_DATA_LOSS":           15,
		"CODE_UNAUTHENTICATED":     16,
	}
)

func (x Code) Enum() *Code {
	p := new(Code)
	*p = x
	return p
}

func (x Code) String() string {
	return protoimpl.X.EnumStringOf(x.Descriptor(), protoreflect.EnumNumber(x))
}

func (Code) Descriptor() protoreflect.EnumDescriptor {
	return file_changelogd_v1_changelog_proto_enumTypes[3].Descriptor()
}

func (Code) Type() protoreflect.EnumType {
	return &file_changelogd_v1_changelog_proto_enumTypes[3]
}

func (x Code) Number() protoreflect.EnumNumber {
	return protoreflect.EnumNumber(x)
}

// Deprecated: Use Code.Descriptor instead.
func (Code) EnumDescriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{3}
}

// Where the changelog is kept.
type Store int32

const (
	// This server does not send it.
	Store_STORE_UNSPECIFIED Store = 0
	// On disk, in the sidecar's data directory.
	Store_STORE_EMBEDDED Store = 1
	// In a topic of Apache Kafka.
	Store_STORE_KAFKA Store = 2
	// In memory. The data is lost when the process ends.
	Store_STORE_MEMORY Store = 3
)

// Enum value maps for Store.
var (
	Store_name = map[int32]string{
		0: "STORE_UNSPECIFIED",
		1: "STORE_EMBEDDED",
		2: "STORE_KAFKA",
		3: "STORE_MEMORY",
	}
	Store_value = map[string]int32{
		"STORE_UNSPECIFIED": 0,
		"STORE_EMBEDDED":    1,
		"STORE_KAFKA":       2,
		"STORE_MEMORY":      3,
	}
)

func (x Store) Enum() *Store {
	p := new(Store)
	*p = x
	return p
}

func (x Store) String() string {
	return protoimpl.X.EnumStringOf(x.Descriptor(), protoreflect.EnumNumber(x))
}

func (Store) Descriptor() protoreflect.EnumDescriptor {
	return file_changelogd_v1_changelog_proto_enumTypes[4].Descriptor()
}

func (Store) Type() protoreflect.EnumType {
	return &file_changelogd_v1_changelog_proto_enumTypes[4]
}

func (x Store) Number() protoreflect.EnumNumber {
	return protoreflect.EnumNumber(x)
}

// Deprecated: Use Store.Descriptor instead.
func (Store) EnumDescriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{4}
}

// How bad a finding is.
type Severity int32

const (
	// This server does not send it.
	Severity_SEVERITY_UNSPECIFIED Severity = 0
	// Useful to know. No promise is at risk.
	Severity_SEVERITY_INFO Severity = 1
	// Calls succeed, but a setting, or another writer of the topic, puts a promise at risk.
	Severity_SEVERITY_WARNING Severity = 2
	// Writes, loads or both may fail until it is fixed.
	Severity_SEVERITY_ERROR Severity = 3
)

// Enum value maps for Severity.
var (
	Severity_name = map[int32]string{
		0: "SEVERITY_UNSPECIFIED",
		1: "SEVERITY_INFO",
		2: "SEVERITY_WARNING",
		3: "SEVERITY_ERROR",
	}
	Severity_value = map[string]int32{
		"SEVERITY_UNSPECIFIED": 0,
		"SEVERITY_INFO":        1,
		"SEVERITY_WARNING":     2,
		"SEVERITY_ERROR":       3,
	}
)

func (x Severity) Enum() *Severity {
	p := new(Severity)
	*p = x
	return p
}

func (x Severity) String() string {
	return protoimpl.X.EnumStringOf(x.Descriptor(), protoreflect.EnumNumber(x))
}

func (Severity) Descriptor() protoreflect.EnumDescriptor {
	return file_changelogd_v1_changelog_proto_enumTypes[5].Descriptor()
}

func (Severity) Type() protoreflect.EnumType {
	return &file_changelogd_v1_changelog_proto_enumTypes[5]
}

func (x Severity) Number() protoreflect.EnumNumber {
	return protoreflect.EnumNumber(x)
}

// Deprecated: Use Severity.Descriptor instead.
func (Severity) EnumDescriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{5}
}

// A record header. A record has at most 64, with at most 16,384 bytes of names and values together.
type Header struct {
	state protoimpl.MessageState `protogen:"open.v1"`
	// UTF-8, not empty, without NUL. In a record of another writer, bytes that are not UTF-8 are replaced by U+FFFD.
	Key string `protobuf:"bytes,1,opt,name=key,proto3" json:"key,omitempty"`
	// Absent means null. An empty value is not null.
	Value         []byte `protobuf:"bytes,2,opt,name=value,proto3,oneof" json:"value,omitempty"`
	unknownFields protoimpl.UnknownFields
	sizeCache     protoimpl.SizeCache
}

func (x *Header) Reset() {
	*x = Header{}
	mi := &file_changelogd_v1_changelog_proto_msgTypes[0]
	ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
	ms.StoreMessageInfo(mi)
}

func (x *Header) String() string {
	return protoimpl.X.MessageStringOf(x)
}

func (*Header) ProtoMessage() {}

func (x *Header) ProtoReflect() protoreflect.Message {
	mi := &file_changelogd_v1_changelog_proto_msgTypes[0]
	if x != nil {
		ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
		if ms.LoadMessageInfo() == nil {
			ms.StoreMessageInfo(mi)
		}
		return ms
	}
	return mi.MessageOf(x)
}

// Deprecated: Use Header.ProtoReflect.Descriptor instead.
func (*Header) Descriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{0}
}

func (x *Header) GetKey() string {
	if x != nil {
		return x.Key
	}
	return ""
}

func (x *Header) GetValue() []byte {
	if x != nil {
		return x.Value
	}
	return nil
}

// Where a record is in the log.
type Position struct {
	state protoimpl.MessageState `protogen:"open.v1"`
	// From 0 to the partition count - 1.
	Partition int32 `protobuf:"varint,1,opt,name=partition,proto3" json:"partition,omitempty"`
	// Offset within the partition, from 0.
	Offset        int64 `protobuf:"varint,2,opt,name=offset,proto3" json:"offset,omitempty"`
	unknownFields protoimpl.UnknownFields
	sizeCache     protoimpl.SizeCache
}

func (x *Position) Reset() {
	*x = Position{}
	mi := &file_changelogd_v1_changelog_proto_msgTypes[1]
	ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
	ms.StoreMessageInfo(mi)
}

func (x *Position) String() string {
	return protoimpl.X.MessageStringOf(x)
}

func (*Position) ProtoMessage() {}

func (x *Position) ProtoReflect() protoreflect.Message {
	mi := &file_changelogd_v1_changelog_proto_msgTypes[1]
	if x != nil {
		ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
		if ms.LoadMessageInfo() == nil {
			ms.StoreMessageInfo(mi)
		}
		return ms
	}
	return mi.MessageOf(x)
}

// Deprecated: Use Position.ProtoReflect.Descriptor instead.
func (*Position) Descriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{1}
}

func (x *Position) GetPartition() int32 {
	if x != nil {
		return x.Partition
	}
	return 0
}

func (x *Position) GetOffset() int64 {
	if x != nil {
		return x.Offset
	}
	return 0
}

// One record of the log.
type Entry struct {
	state protoimpl.MessageState `protogen:"open.v1"`
	// The full key, `{workspaceID}/{entityType}/{entityID}`.
	Key string `protobuf:"bytes,1,opt,name=key,proto3" json:"key,omitempty"`
	// The value, in the format that the request chose. Absent in a tombstone.
	//
	// Types that are valid to be assigned to Value:
	//
	//	*Entry_Raw
	//	*Entry_Json
	Value isEntry_Value `protobuf_oneof:"value"`
	// From 0 to the partition count - 1.
	Partition int32 `protobuf:"varint,4,opt,name=partition,proto3" json:"partition,omitempty"`
	// Offset of the record within the partition, from 0.
	Offset int64 `protobuf:"varint,5,opt,name=offset,proto3" json:"offset,omitempty"`
	// The timestamp that the log has for the record, in whole milliseconds. Absent if it has none, or one outside the
	// years 1 to 9999, which a Timestamp can't hold: writers of a topic can give microseconds instead.
	Timestamp *timestamppb.Timestamp `protobuf:"bytes,6,opt,name=timestamp,proto3" json:"timestamp,omitempty"`
	// True if this record deleted the entity, by a null value. An empty value does not delete.
	IsTombstone bool `protobuf:"varint,7,opt,name=is_tombstone,json=isTombstone,proto3" json:"is_tombstone,omitempty"`
	// In the order of the record. Empty if it has none.
	Headers       []*Header `protobuf:"bytes,8,rep,name=headers,proto3" json:"headers,omitempty"`
	unknownFields protoimpl.UnknownFields
	sizeCache     protoimpl.SizeCache
}

func (x *Entry) Reset() {
	*x = Entry{}
	mi := &file_changelogd_v1_changelog_proto_msgTypes[2]
	ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
	ms.StoreMessageInfo(mi)
}

func (x *Entry) String() string {
	return protoimpl.X.MessageStringOf(x)
}

func (*Entry) ProtoMessage() {}

func (x *Entry) ProtoReflect() protoreflect.Message {
	mi := &file_changelogd_v1_changelog_proto_msgTypes[2]
	if x != nil {
		ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
		if ms.LoadMessageInfo() == nil {
			ms.StoreMessageInfo(mi)
		}
		return ms
	}
	return mi.MessageOf(x)
}

// Deprecated: Use Entry.ProtoReflect.Descriptor instead.
func (*Entry) Descriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{2}
}

func (x *Entry) GetKey() string {
	if x != nil {
		return x.Key
	}
	return ""
}

func (x *Entry) GetValue() isEntry_Value {
	if x != nil {
		return x.Value
	}
	return nil
}

func (x *Entry) GetRaw() []byte {
	if x != nil {
		if x, ok := x.Value.(*Entry_Raw); ok {
			return x.Raw
		}
	}
	return nil
}

func (x *Entry) GetJson() *structpb.Value {
	if x != nil {
		if x, ok := x.Value.(*Entry_Json); ok {
			return x.Json
		}
	}
	return nil
}

func (x *Entry) GetPartition() int32 {
	if x != nil {
		return x.Partition
	}
	return 0
}

func (x *Entry) GetOffset() int64 {
	if x != nil {
		return x.Offset
	}
	return 0
}

func (x *Entry) GetTimestamp() *timestamppb.Timestamp {
	if x != nil {
		return x.Timestamp
	}
	return nil
}

func (x *Entry) GetIsTombstone() bool {
	if x != nil {
		return x.IsTombstone
	}
	return false
}

func (x *Entry) GetHeaders() []*Header {
	if x != nil {
		return x.Headers
	}
	return nil
}

type isEntry_Value interface {
	isEntry_Value()
}

type Entry_Raw struct {
	// The stored bytes. By default they are a JSON document: parse it with your language's JSON library.
	Raw []byte `protobuf:"bytes,2,opt,name=raw,proto3,oneof"`
}

type Entry_Json struct {
	// The JSON document, with VALUE_FORMAT_JSON.
	Json *structpb.Value `protobuf:"bytes,3,opt,name=json,proto3,oneof"`
}

func (*Entry_Raw) isEntry_Value() {}

func (*Entry_Json) isEntry_Value() {}

// Entries of one partition: at most 256 KiB, or one entry.
type EntryBatch struct {
	state protoimpl.MessageState `protogen:"open.v1"`
	// Never empty. In offset order; with CONTENT_LATEST and LoadWorkspace that is the order of the last change.
	Entries       []*Entry `protobuf:"bytes,1,rep,name=entries,proto3" json:"entries,omitempty"`
	unknownFields protoimpl.UnknownFields
	sizeCache     protoimpl.SizeCache
}

func (x *EntryBatch) Reset() {
	*x = EntryBatch{}
	mi := &file_changelogd_v1_changelog_proto_msgTypes[3]
	ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
	ms.StoreMessageInfo(mi)
}

func (x *EntryBatch) String() string {
	return protoimpl.X.MessageStringOf(x)
}

func (*EntryBatch) ProtoMessage() {}

func (x *EntryBatch) ProtoReflect() protoreflect.Message {
	mi := &file_changelogd_v1_changelog_proto_msgTypes[3]
	if x != nil {
		ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
		if ms.LoadMessageInfo() == nil {
			ms.StoreMessageInfo(mi)
		}
		return ms
	}
	return mi.MessageOf(x)
}

// Deprecated: Use EntryBatch.ProtoReflect.Descriptor instead.
func (*EntryBatch) Descriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{3}
}

func (x *EntryBatch) GetEntries() []*Entry {
	if x != nil {
		return x.Entries
	}
	return nil
}

// The proof that one partition was read completely, from `start_offset` to `end_offset`.
type Snapshot struct {
	state protoimpl.MessageState `protogen:"open.v1"`
	// From 0 to the partition count - 1.
	Partition int32 `protobuf:"varint,1,opt,name=partition,proto3" json:"partition,omitempty"`
	// The first offset of the range: the low watermark, or the offset in the resume token.
	StartOffset int64 `protobuf:"varint,2,opt,name=start_offset,json=startOffset,proto3" json:"start_offset,omitempty"`
	// The end of the range, exclusive: the leader's high watermark, read after the request arrived. If compaction may
	// have gone beyond it during the read, it is a later high watermark.
	EndOffset int64 `protobuf:"varint,3,opt,name=end_offset,json=endOffset,proto3" json:"end_offset,omitempty"`
	// Records that the log delivered in the range, before filters. This is not `end_offset` - `start_offset`, because
	// offsets of a compacted log have holes. The embedded store may read an index, and then counts only its entries.
	RecordsRead uint64 `protobuf:"varint,4,opt,name=records_read,json=recordsRead,proto3" json:"records_read,omitempty"`
	// The part of `records_read` that has no key, or a key outside the grammar. Such foreign records are not delivered.
	Skipped uint64 `protobuf:"varint,5,opt,name=skipped,proto3" json:"skipped,omitempty"`
	// The part of `records_read` whose workspace belongs to another partition. These records are not delivered.
	Misplaced uint64 `protobuf:"varint,6,opt,name=misplaced,proto3" json:"misplaced,omitempty"`
	// Entries with a value that matched the request's filters and were delivered.
	Entries uint64 `protobuf:"varint,7,opt,name=entries,proto3" json:"entries,omitempty"`
	// Tombstones that matched. CONTENT_RECORDS and resumed streams deliver them. Other loads only apply them, and count
	// the keys whose last record is a tombstone.
	Tombstones uint64 `protobuf:"varint,8,opt,name=tombstones,proto3" json:"tombstones,omitempty"`
	// Resumes after this event; replaces every earlier token of the stream. A token of LoadWorkspace continues with
	// Watch of this workspace and the same entity types, or with StreamAll, if the request selects only these.
	ResumeToken   []byte `protobuf:"bytes,9,opt,name=resume_token,json=resumeToken,proto3" json:"resume_token,omitempty"`
	unknownFields protoimpl.UnknownFields
	sizeCache     protoimpl.SizeCache
}

func (x *Snapshot) Reset() {
	*x = Snapshot{}
	mi := &file_changelogd_v1_changelog_proto_msgTypes[4]
	ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
	ms.StoreMessageInfo(mi)
}

func (x *Snapshot) String() string {
	return protoimpl.X.MessageStringOf(x)
}

func (*Snapshot) ProtoMessage() {}

func (x *Snapshot) ProtoReflect() protoreflect.Message {
	mi := &file_changelogd_v1_changelog_proto_msgTypes[4]
	if x != nil {
		ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
		if ms.LoadMessageInfo() == nil {
			ms.StoreMessageInfo(mi)
		}
		return ms
	}
	return mi.MessageOf(x)
}

// Deprecated: Use Snapshot.ProtoReflect.Descriptor instead.
func (*Snapshot) Descriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{4}
}

func (x *Snapshot) GetPartition() int32 {
	if x != nil {
		return x.Partition
	}
	return 0
}

func (x *Snapshot) GetStartOffset() int64 {
	if x != nil {
		return x.StartOffset
	}
	return 0
}

func (x *Snapshot) GetEndOffset() int64 {
	if x != nil {
		return x.EndOffset
	}
	return 0
}

func (x *Snapshot) GetRecordsRead() uint64 {
	if x != nil {
		return x.RecordsRead
	}
	return 0
}

func (x *Snapshot) GetSkipped() uint64 {
	if x != nil {
		return x.Skipped
	}
	return 0
}

func (x *Snapshot) GetMisplaced() uint64 {
	if x != nil {
		return x.Misplaced
	}
	return 0
}

func (x *Snapshot) GetEntries() uint64 {
	if x != nil {
		return x.Entries
	}
	return 0
}

func (x *Snapshot) GetTombstones() uint64 {
	if x != nil {
		return x.Tombstones
	}
	return 0
}

func (x *Snapshot) GetResumeToken() []byte {
	if x != nil {
		return x.ResumeToken
	}
	return nil
}

// A place to resume a following stream from. It carries no entry.
type Bookmark struct {
	state protoimpl.MessageState `protogen:"open.v1"`
	// Resumes after this event; replaces every earlier token of the stream.
	ResumeToken   []byte `protobuf:"bytes,1,opt,name=resume_token,json=resumeToken,proto3" json:"resume_token,omitempty"`
	unknownFields protoimpl.UnknownFields
	sizeCache     protoimpl.SizeCache
}

func (x *Bookmark) Reset() {
	*x = Bookmark{}
	mi := &file_changelogd_v1_changelog_proto_msgTypes[5]
	ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
	ms.StoreMessageInfo(mi)
}

func (x *Bookmark) String() string {
	return protoimpl.X.MessageStringOf(x)
}

func (*Bookmark) ProtoMessage() {}

func (x *Bookmark) ProtoReflect() protoreflect.Message {
	mi := &file_changelogd_v1_changelog_proto_msgTypes[5]
	if x != nil {
		ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
		if ms.LoadMessageInfo() == nil {
			ms.StoreMessageInfo(mi)
		}
		return ms
	}
	return mi.MessageOf(x)
}

// Deprecated: Use Bookmark.ProtoReflect.Descriptor instead.
func (*Bookmark) Descriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{5}
}

func (x *Bookmark) GetResumeToken() []byte {
	if x != nil {
		return x.ResumeToken
	}
	return nil
}

// Of Watch: the state has been delivered, and changes follow.
type Synced struct {
	state protoimpl.MessageState `protogen:"open.v1"`
	// The proof that the state was complete.
	Snapshot      *Snapshot `protobuf:"bytes,1,opt,name=snapshot,proto3" json:"snapshot,omitempty"`
	unknownFields protoimpl.UnknownFields
	sizeCache     protoimpl.SizeCache
}

func (x *Synced) Reset() {
	*x = Synced{}
	mi := &file_changelogd_v1_changelog_proto_msgTypes[6]
	ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
	ms.StoreMessageInfo(mi)
}

func (x *Synced) String() string {
	return protoimpl.X.MessageStringOf(x)
}

func (*Synced) ProtoMessage() {}

func (x *Synced) ProtoReflect() protoreflect.Message {
	mi := &file_changelogd_v1_changelog_proto_msgTypes[6]
	if x != nil {
		ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
		if ms.LoadMessageInfo() == nil {
			ms.StoreMessageInfo(mi)
		}
		return ms
	}
	return mi.MessageOf(x)
}

// Deprecated: Use Synced.ProtoReflect.Descriptor instead.
func (*Synced) Descriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{6}
}

func (x *Synced) GetSnapshot() *Snapshot {
	if x != nil {
		return x.Snapshot
	}
	return nil
}

// The request of Set.
type SetRequest struct {
	state protoimpl.MessageState `protogen:"open.v1"`
	// 1 to 255 bytes. May be empty if `changelog_id` is a full key. See KEYS.
	WorkspaceId string `protobuf:"bytes,1,opt,name=workspace_id,json=workspaceId,proto3" json:"workspace_id,omitempty"`
	// Required: `/{entityType}/{entityID}`, or the full key. See KEYS.
	ChangelogId string `protobuf:"bytes,2,opt,name=changelog_id,json=changelogId,proto3" json:"changelog_id,omitempty"`
	// Required. At most Limits.max_value_bytes bytes as stored.
	//
	// Types that are valid to be assigned to Value:
	//
	//	*SetRequest_Raw
	//	*SetRequest_Json
	Value isSetRequest_Value `protobuf_oneof:"value"`
	// Stored with the record, in this order. At most 64, with 16,384 bytes of names and values. Default: none.
	Headers []*Header `protobuf:"bytes,5,rep,name=headers,proto3" json:"headers,omitempty"`
	// Default: ACK_DURABLE.
	Ack           Ack `protobuf:"varint,6,opt,name=ack,proto3,enum=changelog.v1.Ack" json:"ack,omitempty"`
	unknownFields protoimpl.UnknownFields
	sizeCache     protoimpl.SizeCache
}

func (x *SetRequest) Reset() {
	*x = SetRequest{}
	mi := &file_changelogd_v1_changelog_proto_msgTypes[7]
	ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
	ms.StoreMessageInfo(mi)
}

func (x *SetRequest) String() string {
	return protoimpl.X.MessageStringOf(x)
}

func (*SetRequest) ProtoMessage() {}

func (x *SetRequest) ProtoReflect() protoreflect.Message {
	mi := &file_changelogd_v1_changelog_proto_msgTypes[7]
	if x != nil {
		ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
		if ms.LoadMessageInfo() == nil {
			ms.StoreMessageInfo(mi)
		}
		return ms
	}
	return mi.MessageOf(x)
}

// Deprecated: Use SetRequest.ProtoReflect.Descriptor instead.
func (*SetRequest) Descriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{7}
}

func (x *SetRequest) GetWorkspaceId() string {
	if x != nil {
		return x.WorkspaceId
	}
	return ""
}

func (x *SetRequest) GetChangelogId() string {
	if x != nil {
		return x.ChangelogId
	}
	return ""
}

func (x *SetRequest) GetValue() isSetRequest_Value {
	if x != nil {
		return x.Value
	}
	return nil
}

func (x *SetRequest) GetRaw() []byte {
	if x != nil {
		if x, ok := x.Value.(*SetRequest_Raw); ok {
			return x.Raw
		}
	}
	return nil
}

func (x *SetRequest) GetJson() *structpb.Value {
	if x != nil {
		if x, ok := x.Value.(*SetRequest_Json); ok {
			return x.Json
		}
	}
	return nil
}

func (x *SetRequest) GetHeaders() []*Header {
	if x != nil {
		return x.Headers
	}
	return nil
}

func (x *SetRequest) GetAck() Ack {
	if x != nil {
		return x.Ack
	}
	return Ack_ACK_UNSPECIFIED
}

type isSetRequest_Value interface {
	isSetRequest_Value()
}

type SetRequest_Raw struct {
	// Stored byte for byte. With --values=json (the default) it must be a JSON document with at most 127 levels of
	// arrays and objects, else VALUE_NOT_JSON. With --values=opaque any bytes are accepted, also none.
	Raw []byte `protobuf:"bytes,3,opt,name=raw,proto3,oneof"`
}

type SetRequest_Json struct {
	// Stored as compact JSON with sorted keys. Integral doubles up to 2^53 get no fraction. NaN, infinities and a Value
	// without a kind are VALUE_NOT_JSON. JSON null is stored as the four bytes `null`; it does not delete.
	// More than 127 levels of lists and objects are VALUE_NOT_JSON. A malformed Value is ARGUMENT_INVALID. Of keys that
	// occur more than once the last one counts. More than a member for each 4 bytes of Limits.max_value_bytes (at least
	// 1,024) are VALUE_TOO_LARGE, repeated ones included.
	Json *structpb.Value `protobuf:"bytes,4,opt,name=json,proto3,oneof"`
}

func (*SetRequest_Raw) isSetRequest_Value() {}

func (*SetRequest_Json) isSetRequest_Value() {}

// With ACK_DURABLE the record is acknowledged, with ACK_BUFFERED it is queued.
type SetResponse struct {
	state protoimpl.MessageState `protogen:"open.v1"`
	// Where the record is. Absent with ACK_BUFFERED.
	Position *Position `protobuf:"bytes,1,opt,name=position,proto3" json:"position,omitempty"`
	// The timestamp that the log gave the record, in whole milliseconds. Absent with ACK_BUFFERED, and outside the years
	// 1 to 9999, which a Timestamp can't hold.
	Timestamp     *timestamppb.Timestamp `protobuf:"bytes,2,opt,name=timestamp,proto3" json:"timestamp,omitempty"`
	unknownFields protoimpl.UnknownFields
	sizeCache     protoimpl.SizeCache
}

func (x *SetResponse) Reset() {
	*x = SetResponse{}
	mi := &file_changelogd_v1_changelog_proto_msgTypes[8]
	ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
	ms.StoreMessageInfo(mi)
}

func (x *SetResponse) String() string {
	return protoimpl.X.MessageStringOf(x)
}

func (*SetResponse) ProtoMessage() {}

func (x *SetResponse) ProtoReflect() protoreflect.Message {
	mi := &file_changelogd_v1_changelog_proto_msgTypes[8]
	if x != nil {
		ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
		if ms.LoadMessageInfo() == nil {
			ms.StoreMessageInfo(mi)
		}
		return ms
	}
	return mi.MessageOf(x)
}

// Deprecated: Use SetResponse.ProtoReflect.Descriptor instead.
func (*SetResponse) Descriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{8}
}

func (x *SetResponse) GetPosition() *Position {
	if x != nil {
		return x.Position
	}
	return nil
}

func (x *SetResponse) GetTimestamp() *timestamppb.Timestamp {
	if x != nil {
		return x.Timestamp
	}
	return nil
}

// The request of Delete.
type DeleteRequest struct {
	state protoimpl.MessageState `protogen:"open.v1"`
	// As in SetRequest.
	WorkspaceId string `protobuf:"bytes,1,opt,name=workspace_id,json=workspaceId,proto3" json:"workspace_id,omitempty"`
	// As in SetRequest.
	ChangelogId string `protobuf:"bytes,2,opt,name=changelog_id,json=changelogId,proto3" json:"changelog_id,omitempty"`
	// Stored with the tombstone, with the limits of SetRequest. Default: none.
	Headers []*Header `protobuf:"bytes,3,rep,name=headers,proto3" json:"headers,omitempty"`
	// Default: ACK_DURABLE.
	Ack           Ack `protobuf:"varint,4,opt,name=ack,proto3,enum=changelog.v1.Ack" json:"ack,omitempty"`
	unknownFields protoimpl.UnknownFields
	sizeCache     protoimpl.SizeCache
}

func (x *DeleteRequest) Reset() {
	*x = DeleteRequest{}
	mi := &file_changelogd_v1_changelog_proto_msgTypes[9]
	ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
	ms.StoreMessageInfo(mi)
}

func (x *DeleteRequest) String() string {
	return protoimpl.X.MessageStringOf(x)
}

func (*DeleteRequest) ProtoMessage() {}

func (x *DeleteRequest) ProtoReflect() protoreflect.Message {
	mi := &file_changelogd_v1_changelog_proto_msgTypes[9]
	if x != nil {
		ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
		if ms.LoadMessageInfo() == nil {
			ms.StoreMessageInfo(mi)
		}
		return ms
	}
	return mi.MessageOf(x)
}

// Deprecated: Use DeleteRequest.ProtoReflect.Descriptor instead.
func (*DeleteRequest) Descriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{9}
}

func (x *DeleteRequest) GetWorkspaceId() string {
	if x != nil {
		return x.WorkspaceId
	}
	return ""
}

func (x *DeleteRequest) GetChangelogId() string {
	if x != nil {
		return x.ChangelogId
	}
	return ""
}

func (x *DeleteRequest) GetHeaders() []*Header {
	if x != nil {
		return x.Headers
	}
	return nil
}

func (x *DeleteRequest) GetAck() Ack {
	if x != nil {
		return x.Ack
	}
	return Ack_ACK_UNSPECIFIED
}

// With ACK_DURABLE the tombstone is acknowledged, with ACK_BUFFERED it is queued.
type DeleteResponse struct {
	state protoimpl.MessageState `protogen:"open.v1"`
	// Where the tombstone is. Absent with ACK_BUFFERED.
	Position *Position `protobuf:"bytes,1,opt,name=position,proto3" json:"position,omitempty"`
	// The timestamp that the log gave the tombstone, in whole milliseconds. Absent with ACK_BUFFERED, and outside the
	// years 1 to 9999, which a Timestamp can't hold.
	Timestamp     *timestamppb.Timestamp `protobuf:"bytes,2,opt,name=timestamp,proto3" json:"timestamp,omitempty"`
	unknownFields protoimpl.UnknownFields
	sizeCache     protoimpl.SizeCache
}

func (x *DeleteResponse) Reset() {
	*x = DeleteResponse{}
	mi := &file_changelogd_v1_changelog_proto_msgTypes[10]
	ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
	ms.StoreMessageInfo(mi)
}

func (x *DeleteResponse) String() string {
	return protoimpl.X.MessageStringOf(x)
}

func (*DeleteResponse) ProtoMessage() {}

func (x *DeleteResponse) ProtoReflect() protoreflect.Message {
	mi := &file_changelogd_v1_changelog_proto_msgTypes[10]
	if x != nil {
		ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
		if ms.LoadMessageInfo() == nil {
			ms.StoreMessageInfo(mi)
		}
		return ms
	}
	return mi.MessageOf(x)
}

// Deprecated: Use DeleteResponse.ProtoReflect.Descriptor instead.
func (*DeleteResponse) Descriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{10}
}

func (x *DeleteResponse) GetPosition() *Position {
	if x != nil {
		return x.Position
	}
	return nil
}

func (x *DeleteResponse) GetTimestamp() *timestamppb.Timestamp {
	if x != nil {
		return x.Timestamp
	}
	return nil
}

// The request of Flush.
type FlushRequest struct {
	state protoimpl.MessageState `protogen:"open.v1"`
	// The longest wait, in milliseconds. 0 means 5,000; values above 60,000 mean 60,000. A shorter deadline of the client
	// ends the wait earlier.
	TimeoutMs uint32 `protobuf:"varint,1,opt,name=timeout_ms,json=timeoutMs,proto3" json:"timeout_ms,omitempty"`
	// Returns failures with a greater id: pass the `last_failure` of the previous answer. 0 (the default) returns all
	// that are kept. An id that this process has not given out is of an earlier process, and means 0.
	FailuresAfter uint64 `protobuf:"varint,2,opt,name=failures_after,json=failuresAfter,proto3" json:"failures_after,omitempty"`
	unknownFields protoimpl.UnknownFields
	sizeCache     protoimpl.SizeCache
}

func (x *FlushRequest) Reset() {
	*x = FlushRequest{}
	mi := &file_changelogd_v1_changelog_proto_msgTypes[11]
	ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
	ms.StoreMessageInfo(mi)
}

func (x *FlushRequest) String() string {
	return protoimpl.X.MessageStringOf(x)
}

func (*FlushRequest) ProtoMessage() {}

func (x *FlushRequest) ProtoReflect() protoreflect.Message {
	mi := &file_changelogd_v1_changelog_proto_msgTypes[11]
	if x != nil {
		ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
		if ms.LoadMessageInfo() == nil {
			ms.StoreMessageInfo(mi)
		}
		return ms
	}
	return mi.MessageOf(x)
}

// Deprecated: Use FlushRequest.ProtoReflect.Descriptor instead.
func (*FlushRequest) Descriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{11}
}

func (x *FlushRequest) GetTimeoutMs() uint32 {
	if x != nil {
		return x.TimeoutMs
	}
	return 0
}

func (x *FlushRequest) GetFailuresAfter() uint64 {
	if x != nil {
		return x.FailuresAfter
	}
	return 0
}

// Why a write failed. It has the facts that the google.rpc details of a call's error have, so that clients need no
// other file to read it. `code` and `message` have the numbers and types that they have in google.rpc.Status.
type Error struct {
	state protoimpl.MessageState `protogen:"open.v1"`
	// Never CODE_UNSPECIFIED.
	Code Code `protobuf:"varint,1,opt,name=code,proto3,enum=changelog.v1.Code" json:"code,omitempty"`
	// For people.
	Message string `protobuf:"bytes,2,opt,name=message,proto3" json:"message,omitempty"`
	// For programs: one of the reasons in STATUS CODES. A client must expect reasons that it does not know.
	Reason string `protobuf:"bytes,4,opt,name=reason,proto3" json:"reason,omitempty"`
	// The wrong field of the request, such as `changelog_id`. Empty if no field is wrong.
	Field string `protobuf:"bytes,5,opt,name=field,proto3" json:"field,omitempty"`
	// How long to wait before the next attempt. Absent if waiting does not help.
	RetryAfter *durationpb.Duration `protobuf:"bytes,6,opt,name=retry_after,json=retryAfter,proto3" json:"retry_after,omitempty"`
	// Facts, such as `limit`, `got`, `key`, `partition` and offsets, as in ErrorInfo.metadata: see docs/operations.md.
	Metadata      map[string]string `protobuf:"bytes,7,rep,name=metadata,proto3" json:"metadata,omitempty" protobuf_key:"bytes,1,opt,name=key" protobuf_val:"bytes,2,opt,name=value"`
	unknownFields protoimpl.UnknownFields
	sizeCache     protoimpl.SizeCache
}

func (x *Error) Reset() {
	*x = Error{}
	mi := &file_changelogd_v1_changelog_proto_msgTypes[12]
	ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
	ms.StoreMessageInfo(mi)
}

func (x *Error) String() string {
	return protoimpl.X.MessageStringOf(x)
}

func (*Error) ProtoMessage() {}

func (x *Error) ProtoReflect() protoreflect.Message {
	mi := &file_changelogd_v1_changelog_proto_msgTypes[12]
	if x != nil {
		ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
		if ms.LoadMessageInfo() == nil {
			ms.StoreMessageInfo(mi)
		}
		return ms
	}
	return mi.MessageOf(x)
}

// Deprecated: Use Error.ProtoReflect.Descriptor instead.
func (*Error) Descriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{12}
}

func (x *Error) GetCode() Code {
	if x != nil {
		return x.Code
	}
	return Code_CODE_UNSPECIFIED
}

func (x *Error) GetMessage() string {
	if x != nil {
		return x.Message
	}
	return ""
}

func (x *Error) GetReason() string {
	if x != nil {
		return x.Reason
	}
	return ""
}

func (x *Error) GetField() string {
	if x != nil {
		return x.Field
	}
	return ""
}

func (x *Error) GetRetryAfter() *durationpb.Duration {
	if x != nil {
		return x.RetryAfter
	}
	return nil
}

func (x *Error) GetMetadata() map[string]string {
	if x != nil {
		return x.Metadata
	}
	return nil
}

// An ACK_BUFFERED write that failed after it was queued.
type WriteFailure struct {
	state protoimpl.MessageState `protogen:"open.v1"`
	// From 1, increasing within this process.
	Id uint64 `protobuf:"varint,1,opt,name=id,proto3" json:"id,omitempty"`
	// The full key of the write.
	Key string `protobuf:"bytes,2,opt,name=key,proto3" json:"key,omitempty"`
	// The error that an ACK_DURABLE write would have been answered with.
	Error         *Error `protobuf:"bytes,3,opt,name=error,proto3" json:"error,omitempty"`
	unknownFields protoimpl.UnknownFields
	sizeCache     protoimpl.SizeCache
}

func (x *WriteFailure) Reset() {
	*x = WriteFailure{}
	mi := &file_changelogd_v1_changelog_proto_msgTypes[13]
	ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
	ms.StoreMessageInfo(mi)
}

func (x *WriteFailure) String() string {
	return protoimpl.X.MessageStringOf(x)
}

func (*WriteFailure) ProtoMessage() {}

func (x *WriteFailure) ProtoReflect() protoreflect.Message {
	mi := &file_changelogd_v1_changelog_proto_msgTypes[13]
	if x != nil {
		ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
		if ms.LoadMessageInfo() == nil {
			ms.StoreMessageInfo(mi)
		}
		return ms
	}
	return mi.MessageOf(x)
}

// Deprecated: Use WriteFailure.ProtoReflect.Descriptor instead.
func (*WriteFailure) Descriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{13}
}

func (x *WriteFailure) GetId() uint64 {
	if x != nil {
		return x.Id
	}
	return 0
}

func (x *WriteFailure) GetKey() string {
	if x != nil {
		return x.Key
	}
	return ""
}

func (x *WriteFailure) GetError() *Error {
	if x != nil {
		return x.Error
	}
	return nil
}

// The outcome of the writes that were accepted before the call.
type FlushResponse struct {
	state protoimpl.MessageState `protogen:"open.v1"`
	// How many of these writes are still in flight. 0 if the wait ended in time.
	Remaining uint64 `protobuf:"varint,1,opt,name=remaining,proto3" json:"remaining,omitempty"`
	// Failures with an id above `failures_after`, in the order of their ids. One answer holds at most 3 MiB of them: ask
	// again with `last_failure` for the rest.
	Failures []*WriteFailure `protobuf:"bytes,2,rep,name=failures,proto3" json:"failures,omitempty"`
	// Pass it as `failures_after` next time. It is the id of the last entry of `failures`. If there is none, it is the
	// request's `failures_after`, or 0 if that id is of an earlier process.
	LastFailure uint64 `protobuf:"varint,3,opt,name=last_failure,json=lastFailure,proto3" json:"last_failure,omitempty"`
	// Failures with an id above `failures_after` that are no longer kept. The process keeps the newest 10,000.
	FailuresOmitted uint64 `protobuf:"varint,4,opt,name=failures_omitted,json=failuresOmitted,proto3" json:"failures_omitted,omitempty"`
	unknownFields   protoimpl.UnknownFields
	sizeCache       protoimpl.SizeCache
}

func (x *FlushResponse) Reset() {
	*x = FlushResponse{}
	mi := &file_changelogd_v1_changelog_proto_msgTypes[14]
	ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
	ms.StoreMessageInfo(mi)
}

func (x *FlushResponse) String() string {
	return protoimpl.X.MessageStringOf(x)
}

func (*FlushResponse) ProtoMessage() {}

func (x *FlushResponse) ProtoReflect() protoreflect.Message {
	mi := &file_changelogd_v1_changelog_proto_msgTypes[14]
	if x != nil {
		ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
		if ms.LoadMessageInfo() == nil {
			ms.StoreMessageInfo(mi)
		}
		return ms
	}
	return mi.MessageOf(x)
}

// Deprecated: Use FlushResponse.ProtoReflect.Descriptor instead.
func (*FlushResponse) Descriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{14}
}

func (x *FlushResponse) GetRemaining() uint64 {
	if x != nil {
		return x.Remaining
	}
	return 0
}

func (x *FlushResponse) GetFailures() []*WriteFailure {
	if x != nil {
		return x.Failures
	}
	return nil
}

func (x *FlushResponse) GetLastFailure() uint64 {
	if x != nil {
		return x.LastFailure
	}
	return 0
}

func (x *FlushResponse) GetFailuresOmitted() uint64 {
	if x != nil {
		return x.FailuresOmitted
	}
	return 0
}

// The request of LoadWorkspace.
type LoadWorkspaceRequest struct {
	state protoimpl.MessageState `protogen:"open.v1"`
	// Required; 1 to 255 bytes. See KEYS.
	WorkspaceId string `protobuf:"bytes,1,opt,name=workspace_id,json=workspaceId,proto3" json:"workspace_id,omitempty"`
	// Loads entities of these types only, at most 10,000. Empty (the default) means all types.
	EntityTypes []string `protobuf:"bytes,2,rep,name=entity_types,json=entityTypes,proto3" json:"entity_types,omitempty"`
	// Default: VALUE_FORMAT_RAW.
	ValueFormat   ValueFormat `protobuf:"varint,3,opt,name=value_format,json=valueFormat,proto3,enum=changelog.v1.ValueFormat" json:"value_format,omitempty"`
	unknownFields protoimpl.UnknownFields
	sizeCache     protoimpl.SizeCache
}

func (x *LoadWorkspaceRequest) Reset() {
	*x = LoadWorkspaceRequest{}
	mi := &file_changelogd_v1_changelog_proto_msgTypes[15]
	ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
	ms.StoreMessageInfo(mi)
}

func (x *LoadWorkspaceRequest) String() string {
	return protoimpl.X.MessageStringOf(x)
}

func (*LoadWorkspaceRequest) ProtoMessage() {}

func (x *LoadWorkspaceRequest) ProtoReflect() protoreflect.Message {
	mi := &file_changelogd_v1_changelog_proto_msgTypes[15]
	if x != nil {
		ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
		if ms.LoadMessageInfo() == nil {
			ms.StoreMessageInfo(mi)
		}
		return ms
	}
	return mi.MessageOf(x)
}

// Deprecated: Use LoadWorkspaceRequest.ProtoReflect.Descriptor instead.
func (*LoadWorkspaceRequest) Descriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{15}
}

func (x *LoadWorkspaceRequest) GetWorkspaceId() string {
	if x != nil {
		return x.WorkspaceId
	}
	return ""
}

func (x *LoadWorkspaceRequest) GetEntityTypes() []string {
	if x != nil {
		return x.EntityTypes
	}
	return nil
}

func (x *LoadWorkspaceRequest) GetValueFormat() ValueFormat {
	if x != nil {
		return x.ValueFormat
	}
	return ValueFormat_VALUE_FORMAT_UNSPECIFIED
}

// An event of a load.
type LoadWorkspaceResponse struct {
	state protoimpl.MessageState `protogen:"open.v1"`
	// Ignore an event whose arm you do not know.
	//
	// Types that are valid to be assigned to Event:
	//
	//	*LoadWorkspaceResponse_Batch
	//	*LoadWorkspaceResponse_Snapshot
	Event         isLoadWorkspaceResponse_Event `protobuf_oneof:"event"`
	unknownFields protoimpl.UnknownFields
	sizeCache     protoimpl.SizeCache
}

func (x *LoadWorkspaceResponse) Reset() {
	*x = LoadWorkspaceResponse{}
	mi := &file_changelogd_v1_changelog_proto_msgTypes[16]
	ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
	ms.StoreMessageInfo(mi)
}

func (x *LoadWorkspaceResponse) String() string {
	return protoimpl.X.MessageStringOf(x)
}

func (*LoadWorkspaceResponse) ProtoMessage() {}

func (x *LoadWorkspaceResponse) ProtoReflect() protoreflect.Message {
	mi := &file_changelogd_v1_changelog_proto_msgTypes[16]
	if x != nil {
		ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
		if ms.LoadMessageInfo() == nil {
			ms.StoreMessageInfo(mi)
		}
		return ms
	}
	return mi.MessageOf(x)
}

// Deprecated: Use LoadWorkspaceResponse.ProtoReflect.Descriptor instead.
func (*LoadWorkspaceResponse) Descriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{16}
}

func (x *LoadWorkspaceResponse) GetEvent() isLoadWorkspaceResponse_Event {
	if x != nil {
		return x.Event
	}
	return nil
}

func (x *LoadWorkspaceResponse) GetBatch() *EntryBatch {
	if x != nil {
		if x, ok := x.Event.(*LoadWorkspaceResponse_Batch); ok {
			return x.Batch
		}
	}
	return nil
}

func (x *LoadWorkspaceResponse) GetSnapshot() *Snapshot {
	if x != nil {
		if x, ok := x.Event.(*LoadWorkspaceResponse_Snapshot); ok {
			return x.Snapshot
		}
	}
	return nil
}

type isLoadWorkspaceResponse_Event interface {
	isLoadWorkspaceResponse_Event()
}

type LoadWorkspaceResponse_Batch struct {
	// Entries with a value. In one load, a key comes at most once.
	Batch *EntryBatch `protobuf:"bytes,1,opt,name=batch,proto3,oneof"`
}

type LoadWorkspaceResponse_Snapshot struct {
	// The last event. The load is complete.
	Snapshot *Snapshot `protobuf:"bytes,2,opt,name=snapshot,proto3,oneof"`
}

func (*LoadWorkspaceResponse_Batch) isLoadWorkspaceResponse_Event() {}

func (*LoadWorkspaceResponse_Snapshot) isLoadWorkspaceResponse_Event() {}

// The request of StreamAll.
type StreamAllRequest struct {
	state protoimpl.MessageState `protogen:"open.v1"`
	// Streams these partitions only, at most 10,000. Empty (the default) means all. A number outside 0 to the partition
	// count - 1 is INVALID_ARGUMENT.
	Partitions []int32 `protobuf:"varint,1,rep,packed,name=partitions,proto3" json:"partitions,omitempty"`
	// Streams these workspaces only, at most 10,000, and reads only their partitions. Empty (the default) means all. If
	// `partitions` is set too, a workspace outside of them is INVALID_ARGUMENT.
	WorkspaceIds []string `protobuf:"bytes,2,rep,name=workspace_ids,json=workspaceIds,proto3" json:"workspace_ids,omitempty"`
	// Streams entities of these types only, at most 10,000. Empty (the default) means all types.
	EntityTypes []string `protobuf:"bytes,3,rep,name=entity_types,json=entityTypes,proto3" json:"entity_types,omitempty"`
	// Default: CONTENT_RECORDS.
	Content Content `protobuf:"varint,4,opt,name=content,proto3,enum=changelog.v1.Content" json:"content,omitempty"`
	// Default: VALUE_FORMAT_RAW.
	ValueFormat ValueFormat `protobuf:"varint,5,opt,name=value_format,json=valueFormat,proto3,enum=changelog.v1.ValueFormat" json:"value_format,omitempty"`
	// Continues after the event that carried the token. Empty (the default) means from the low watermarks. The request
	// must have the scope of that stream: partitions, workspaces, types and content.
	// Drop everything that you received after that event. It is delivered again, as far as it is still in the log.
	// A resumed stream delivers tombstones with CONTENT_LATEST too.
	// A malformed token, or one of another scope, is INVALID_ARGUMENT, TOKEN_INVALID.
	// OUT_OF_RANGE, RESYNC_REQUIRED means: start again without the token. It is of another topic, beyond the end of the
	// log, or in a truncated part of it. Or it is older than delete.retention.ms / 2, or more than a minute in the
	// future. Or another version of changelogd issued it, which has other tokens.
	// A token is not a secret, and gives no rights.
	ResumeToken []byte `protobuf:"bytes,6,opt,name=resume_token,json=resumeToken,proto3" json:"resume_token,omitempty"`
	// True: the stream continues after the Snapshots. It delivers every new record, tombstones included, with either
	// content, and a Bookmark at least every 10 s. Default: false.
	Follow        bool `protobuf:"varint,7,opt,name=follow,proto3" json:"follow,omitempty"`
	unknownFields protoimpl.UnknownFields
	sizeCache     protoimpl.SizeCache
}

func (x *StreamAllRequest) Reset() {
	*x = StreamAllRequest{}
	mi := &file_changelogd_v1_changelog_proto_msgTypes[17]
	ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
	ms.StoreMessageInfo(mi)
}

func (x *StreamAllRequest) String() string {
	return protoimpl.X.MessageStringOf(x)
}

func (*StreamAllRequest) ProtoMessage() {}

func (x *StreamAllRequest) ProtoReflect() protoreflect.Message {
	mi := &file_changelogd_v1_changelog_proto_msgTypes[17]
	if x != nil {
		ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
		if ms.LoadMessageInfo() == nil {
			ms.StoreMessageInfo(mi)
		}
		return ms
	}
	return mi.MessageOf(x)
}

// Deprecated: Use StreamAllRequest.ProtoReflect.Descriptor instead.
func (*StreamAllRequest) Descriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{17}
}

func (x *StreamAllRequest) GetPartitions() []int32 {
	if x != nil {
		return x.Partitions
	}
	return nil
}

func (x *StreamAllRequest) GetWorkspaceIds() []string {
	if x != nil {
		return x.WorkspaceIds
	}
	return nil
}

func (x *StreamAllRequest) GetEntityTypes() []string {
	if x != nil {
		return x.EntityTypes
	}
	return nil
}

func (x *StreamAllRequest) GetContent() Content {
	if x != nil {
		return x.Content
	}
	return Content_CONTENT_UNSPECIFIED
}

func (x *StreamAllRequest) GetValueFormat() ValueFormat {
	if x != nil {
		return x.ValueFormat
	}
	return ValueFormat_VALUE_FORMAT_UNSPECIFIED
}

func (x *StreamAllRequest) GetResumeToken() []byte {
	if x != nil {
		return x.ResumeToken
	}
	return nil
}

func (x *StreamAllRequest) GetFollow() bool {
	if x != nil {
		return x.Follow
	}
	return false
}

// An event of a stream.
type StreamAllResponse struct {
	state protoimpl.MessageState `protogen:"open.v1"`
	// Ignore an event whose arm you do not know.
	//
	// Types that are valid to be assigned to Event:
	//
	//	*StreamAllResponse_Batch
	//	*StreamAllResponse_Snapshot
	//	*StreamAllResponse_Bookmark
	Event         isStreamAllResponse_Event `protobuf_oneof:"event"`
	unknownFields protoimpl.UnknownFields
	sizeCache     protoimpl.SizeCache
}

func (x *StreamAllResponse) Reset() {
	*x = StreamAllResponse{}
	mi := &file_changelogd_v1_changelog_proto_msgTypes[18]
	ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
	ms.StoreMessageInfo(mi)
}

func (x *StreamAllResponse) String() string {
	return protoimpl.X.MessageStringOf(x)
}

func (*StreamAllResponse) ProtoMessage() {}

func (x *StreamAllResponse) ProtoReflect() protoreflect.Message {
	mi := &file_changelogd_v1_changelog_proto_msgTypes[18]
	if x != nil {
		ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
		if ms.LoadMessageInfo() == nil {
			ms.StoreMessageInfo(mi)
		}
		return ms
	}
	return mi.MessageOf(x)
}

// Deprecated: Use StreamAllResponse.ProtoReflect.Descriptor instead.
func (*StreamAllResponse) Descriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{18}
}

func (x *StreamAllResponse) GetEvent() isStreamAllResponse_Event {
	if x != nil {
		return x.Event
	}
	return nil
}

func (x *StreamAllResponse) GetBatch() *EntryBatch {
	if x != nil {
		if x, ok := x.Event.(*StreamAllResponse_Batch); ok {
			return x.Batch
		}
	}
	return nil
}

func (x *StreamAllResponse) GetSnapshot() *Snapshot {
	if x != nil {
		if x, ok := x.Event.(*StreamAllResponse_Snapshot); ok {
			return x.Snapshot
		}
	}
	return nil
}

func (x *StreamAllResponse) GetBookmark() *Bookmark {
	if x != nil {
		if x, ok := x.Event.(*StreamAllResponse_Bookmark); ok {
			return x.Bookmark
		}
	}
	return nil
}

type isStreamAllResponse_Event interface {
	isStreamAllResponse_Event()
}

type StreamAllResponse_Batch struct {
	// Entries of one partition.
	Batch *EntryBatch `protobuf:"bytes,1,opt,name=batch,proto3,oneof"`
}

type StreamAllResponse_Snapshot struct {
	// The end offset of one partition was reached. The partition is complete.
	Snapshot *Snapshot `protobuf:"bytes,2,opt,name=snapshot,proto3,oneof"`
}

type StreamAllResponse_Bookmark struct {
	// With `follow`: a place to resume from. Its token never covers an event that is not sent yet.
	Bookmark *Bookmark `protobuf:"bytes,3,opt,name=bookmark,proto3,oneof"`
}

func (*StreamAllResponse_Batch) isStreamAllResponse_Event() {}

func (*StreamAllResponse_Snapshot) isStreamAllResponse_Event() {}

func (*StreamAllResponse_Bookmark) isStreamAllResponse_Event() {}

// The request of Describe.
type DescribeRequest struct {
	state protoimpl.MessageState `protogen:"open.v1"`
	// If set, the response has `workspace_partition`. Default: empty.
	WorkspaceId   string `protobuf:"bytes,1,opt,name=workspace_id,json=workspaceId,proto3" json:"workspace_id,omitempty"`
	unknownFields protoimpl.UnknownFields
	sizeCache     protoimpl.SizeCache
}

func (x *DescribeRequest) Reset() {
	*x = DescribeRequest{}
	mi := &file_changelogd_v1_changelog_proto_msgTypes[19]
	ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
	ms.StoreMessageInfo(mi)
}

func (x *DescribeRequest) String() string {
	return protoimpl.X.MessageStringOf(x)
}

func (*DescribeRequest) ProtoMessage() {}

func (x *DescribeRequest) ProtoReflect() protoreflect.Message {
	mi := &file_changelogd_v1_changelog_proto_msgTypes[19]
	if x != nil {
		ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
		if ms.LoadMessageInfo() == nil {
			ms.StoreMessageInfo(mi)
		}
		return ms
	}
	return mi.MessageOf(x)
}

// Deprecated: Use DescribeRequest.ProtoReflect.Descriptor instead.
func (*DescribeRequest) Descriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{19}
}

func (x *DescribeRequest) GetWorkspaceId() string {
	if x != nil {
		return x.WorkspaceId
	}
	return ""
}

// One partition of the topic.
type PartitionInfo struct {
	state protoimpl.MessageState `protogen:"open.v1"`
	// From 0 to the partition count - 1.
	Partition int32 `protobuf:"varint,1,opt,name=partition,proto3" json:"partition,omitempty"`
	// The broker id of the leader. -1 means no leader. Always 0 on the embedded and the memory store.
	Leader int32 `protobuf:"varint,2,opt,name=leader,proto3" json:"leader,omitempty"`
	// The low watermark: the first offset that may still be in the log. Always 0 on the embedded and the memory store.
	LowOffset int64 `protobuf:"varint,3,opt,name=low_offset,json=lowOffset,proto3" json:"low_offset,omitempty"`
	// Records from this offset on may belong to an open transaction, and cannot be read yet.
	LastStableOffset int64 `protobuf:"varint,4,opt,name=last_stable_offset,json=lastStableOffset,proto3" json:"last_stable_offset,omitempty"`
	// The high watermark: one above the offset of the last acknowledged record.
	HighOffset    int64 `protobuf:"varint,5,opt,name=high_offset,json=highOffset,proto3" json:"high_offset,omitempty"`
	unknownFields protoimpl.UnknownFields
	sizeCache     protoimpl.SizeCache
}

func (x *PartitionInfo) Reset() {
	*x = PartitionInfo{}
	mi := &file_changelogd_v1_changelog_proto_msgTypes[20]
	ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
	ms.StoreMessageInfo(mi)
}

func (x *PartitionInfo) String() string {
	return protoimpl.X.MessageStringOf(x)
}

func (*PartitionInfo) ProtoMessage() {}

func (x *PartitionInfo) ProtoReflect() protoreflect.Message {
	mi := &file_changelogd_v1_changelog_proto_msgTypes[20]
	if x != nil {
		ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
		if ms.LoadMessageInfo() == nil {
			ms.StoreMessageInfo(mi)
		}
		return ms
	}
	return mi.MessageOf(x)
}

// Deprecated: Use PartitionInfo.ProtoReflect.Descriptor instead.
func (*PartitionInfo) Descriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{20}
}

func (x *PartitionInfo) GetPartition() int32 {
	if x != nil {
		return x.Partition
	}
	return 0
}

func (x *PartitionInfo) GetLeader() int32 {
	if x != nil {
		return x.Leader
	}
	return 0
}

func (x *PartitionInfo) GetLowOffset() int64 {
	if x != nil {
		return x.LowOffset
	}
	return 0
}

func (x *PartitionInfo) GetLastStableOffset() int64 {
	if x != nil {
		return x.LastStableOffset
	}
	return 0
}

func (x *PartitionInfo) GetHighOffset() int64 {
	if x != nil {
		return x.HighOffset
	}
	return 0
}

// An observation about the topic, the store or the log.
type Finding struct {
	state protoimpl.MessageState `protogen:"open.v1"`
	// How bad it is.
	Severity Severity `protobuf:"varint,1,opt,name=severity,proto3,enum=changelog.v1.Severity" json:"severity,omitempty"`
	// For programs: upper case with underscores, and stable.
	Code string `protobuf:"bytes,2,opt,name=code,proto3" json:"code,omitempty"`
	// For people: what was found, why it matters and what to do.
	Message       string `protobuf:"bytes,3,opt,name=message,proto3" json:"message,omitempty"`
	unknownFields protoimpl.UnknownFields
	sizeCache     protoimpl.SizeCache
}

func (x *Finding) Reset() {
	*x = Finding{}
	mi := &file_changelogd_v1_changelog_proto_msgTypes[21]
	ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
	ms.StoreMessageInfo(mi)
}

func (x *Finding) String() string {
	return protoimpl.X.MessageStringOf(x)
}

func (*Finding) ProtoMessage() {}

func (x *Finding) ProtoReflect() protoreflect.Message {
	mi := &file_changelogd_v1_changelog_proto_msgTypes[21]
	if x != nil {
		ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
		if ms.LoadMessageInfo() == nil {
			ms.StoreMessageInfo(mi)
		}
		return ms
	}
	return mi.MessageOf(x)
}

// Deprecated: Use Finding.ProtoReflect.Descriptor instead.
func (*Finding) Descriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{21}
}

func (x *Finding) GetSeverity() Severity {
	if x != nil {
		return x.Severity
	}
	return Severity_SEVERITY_UNSPECIFIED
}

func (x *Finding) GetCode() string {
	if x != nil {
		return x.Code
	}
	return ""
}

func (x *Finding) GetMessage() string {
	if x != nil {
		return x.Message
	}
	return ""
}

// The limits in effect.
type Limits struct {
	state protoimpl.MessageState `protogen:"open.v1"`
	// The longest key, in bytes. Always 1,024.
	MaxKeyBytes uint32 `protobuf:"varint,1,opt,name=max_key_bytes,json=maxKeyBytes,proto3" json:"max_key_bytes,omitempty"`
	// The longest stored value, in bytes: --max-value-bytes (default 1,000,000), or less if the topic's max.message.bytes
	// leaves less.
	MaxValueBytes uint32 `protobuf:"varint,2,opt,name=max_value_bytes,json=maxValueBytes,proto3" json:"max_value_bytes,omitempty"`
	// Headers of one record. Always 64.
	MaxHeaders uint32 `protobuf:"varint,3,opt,name=max_headers,json=maxHeaders,proto3" json:"max_headers,omitempty"`
	// Bytes of all header names and values of one record. Always 16,384.
	MaxHeaderBytes uint32 `protobuf:"varint,4,opt,name=max_header_bytes,json=maxHeaderBytes,proto3" json:"max_header_bytes,omitempty"`
	// The largest request message, in bytes, after decompression: 6 times --max-value-bytes plus 65,536, and at least
	// 4,194,304 (4 MiB). So every value that can be stored can be sent in `json`.
	MaxRequestBytes uint32 `protobuf:"varint,5,opt,name=max_request_bytes,json=maxRequestBytes,proto3" json:"max_request_bytes,omitempty"`
	// Loads, Gets and streams that may replay at the same time: --max-replays (default 16).
	MaxReplays    uint32 `protobuf:"varint,6,opt,name=max_replays,json=maxReplays,proto3" json:"max_replays,omitempty"`
	unknownFields protoimpl.UnknownFields
	sizeCache     protoimpl.SizeCache
}

func (x *Limits) Reset() {
	*x = Limits{}
	mi := &file_changelogd_v1_changelog_proto_msgTypes[22]
	ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
	ms.StoreMessageInfo(mi)
}

func (x *Limits) String() string {
	return protoimpl.X.MessageStringOf(x)
}

func (*Limits) ProtoMessage() {}

func (x *Limits) ProtoReflect() protoreflect.Message {
	mi := &file_changelogd_v1_changelog_proto_msgTypes[22]
	if x != nil {
		ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
		if ms.LoadMessageInfo() == nil {
			ms.StoreMessageInfo(mi)
		}
		return ms
	}
	return mi.MessageOf(x)
}

// Deprecated: Use Limits.ProtoReflect.Descriptor instead.
func (*Limits) Descriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{22}
}

func (x *Limits) GetMaxKeyBytes() uint32 {
	if x != nil {
		return x.MaxKeyBytes
	}
	return 0
}

func (x *Limits) GetMaxValueBytes() uint32 {
	if x != nil {
		return x.MaxValueBytes
	}
	return 0
}

func (x *Limits) GetMaxHeaders() uint32 {
	if x != nil {
		return x.MaxHeaders
	}
	return 0
}

func (x *Limits) GetMaxHeaderBytes() uint32 {
	if x != nil {
		return x.MaxHeaderBytes
	}
	return 0
}

func (x *Limits) GetMaxRequestBytes() uint32 {
	if x != nil {
		return x.MaxRequestBytes
	}
	return 0
}

func (x *Limits) GetMaxReplays() uint32 {
	if x != nil {
		return x.MaxReplays
	}
	return 0
}

// What this sidecar serves.
type DescribeResponse struct {
	state protoimpl.MessageState `protogen:"open.v1"`
	// Where the changelog is kept.
	Store Store `protobuf:"varint,1,opt,name=store,proto3,enum=changelog.v1.Store" json:"store,omitempty"`
	// The topic's name. On the embedded store it is the name of the data directory.
	Topic string `protobuf:"bytes,2,opt,name=topic,proto3" json:"topic,omitempty"`
	// The topic's id in the base64 form that Kafka prints, or the store's id. Empty if it is not known.
	TopicId string `protobuf:"bytes,3,opt,name=topic_id,json=topicId,proto3" json:"topic_id,omitempty"`
	// The number of partitions that the topic has. 0 if it is not known.
	PartitionCount int32 `protobuf:"varint,4,opt,name=partition_count,json=partitionCount,proto3" json:"partition_count,omitempty"`
	// How the partition of a workspace is computed. Always "murmur2".
	Hash string `protobuf:"bytes,5,opt,name=hash,proto3" json:"hash,omitempty"`
	// In the order of their numbers. Empty if the topic or its offsets are not known.
	Partitions []*PartitionInfo `protobuf:"bytes,6,rep,name=partitions,proto3" json:"partitions,omitempty"`
	// The worst first. Empty if nothing was found.
	Findings []*Finding `protobuf:"bytes,7,rep,name=findings,proto3" json:"findings,omitempty"`
	// The limits in effect.
	Limits *Limits `protobuf:"bytes,8,opt,name=limits,proto3" json:"limits,omitempty"`
	// The version of changelogd, such as "0.1.0".
	Version string `protobuf:"bytes,9,opt,name=version,proto3" json:"version,omitempty"`
	// The partition of the request's workspace. Absent if the request has none, or if the partition count is not known.
	WorkspacePartition *int32 `protobuf:"varint,10,opt,name=workspace_partition,json=workspacePartition,proto3,oneof" json:"workspace_partition,omitempty"`
	unknownFields      protoimpl.UnknownFields
	sizeCache          protoimpl.SizeCache
}

func (x *DescribeResponse) Reset() {
	*x = DescribeResponse{}
	mi := &file_changelogd_v1_changelog_proto_msgTypes[23]
	ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
	ms.StoreMessageInfo(mi)
}

func (x *DescribeResponse) String() string {
	return protoimpl.X.MessageStringOf(x)
}

func (*DescribeResponse) ProtoMessage() {}

func (x *DescribeResponse) ProtoReflect() protoreflect.Message {
	mi := &file_changelogd_v1_changelog_proto_msgTypes[23]
	if x != nil {
		ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
		if ms.LoadMessageInfo() == nil {
			ms.StoreMessageInfo(mi)
		}
		return ms
	}
	return mi.MessageOf(x)
}

// Deprecated: Use DescribeResponse.ProtoReflect.Descriptor instead.
func (*DescribeResponse) Descriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{23}
}

func (x *DescribeResponse) GetStore() Store {
	if x != nil {
		return x.Store
	}
	return Store_STORE_UNSPECIFIED
}

func (x *DescribeResponse) GetTopic() string {
	if x != nil {
		return x.Topic
	}
	return ""
}

func (x *DescribeResponse) GetTopicId() string {
	if x != nil {
		return x.TopicId
	}
	return ""
}

func (x *DescribeResponse) GetPartitionCount() int32 {
	if x != nil {
		return x.PartitionCount
	}
	return 0
}

func (x *DescribeResponse) GetHash() string {
	if x != nil {
		return x.Hash
	}
	return ""
}

func (x *DescribeResponse) GetPartitions() []*PartitionInfo {
	if x != nil {
		return x.Partitions
	}
	return nil
}

func (x *DescribeResponse) GetFindings() []*Finding {
	if x != nil {
		return x.Findings
	}
	return nil
}

func (x *DescribeResponse) GetLimits() *Limits {
	if x != nil {
		return x.Limits
	}
	return nil
}

func (x *DescribeResponse) GetVersion() string {
	if x != nil {
		return x.Version
	}
	return ""
}

func (x *DescribeResponse) GetWorkspacePartition() int32 {
	if x != nil && x.WorkspacePartition != nil {
		return *x.WorkspacePartition
	}
	return 0
}

// The request of Get.
type GetRequest struct {
	state protoimpl.MessageState `protogen:"open.v1"`
	// As in SetRequest.
	WorkspaceId string `protobuf:"bytes,1,opt,name=workspace_id,json=workspaceId,proto3" json:"workspace_id,omitempty"`
	// As in SetRequest.
	ChangelogId string `protobuf:"bytes,2,opt,name=changelog_id,json=changelogId,proto3" json:"changelog_id,omitempty"`
	// Default: VALUE_FORMAT_RAW.
	ValueFormat   ValueFormat `protobuf:"varint,3,opt,name=value_format,json=valueFormat,proto3,enum=changelog.v1.ValueFormat" json:"value_format,omitempty"`
	unknownFields protoimpl.UnknownFields
	sizeCache     protoimpl.SizeCache
}

func (x *GetRequest) Reset() {
	*x = GetRequest{}
	mi := &file_changelogd_v1_changelog_proto_msgTypes[24]
	ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
	ms.StoreMessageInfo(mi)
}

func (x *GetRequest) String() string {
	return protoimpl.X.MessageStringOf(x)
}

func (*GetRequest) ProtoMessage() {}

func (x *GetRequest) ProtoReflect() protoreflect.Message {
	mi := &file_changelogd_v1_changelog_proto_msgTypes[24]
	if x != nil {
		ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
		if ms.LoadMessageInfo() == nil {
			ms.StoreMessageInfo(mi)
		}
		return ms
	}
	return mi.MessageOf(x)
}

// Deprecated: Use GetRequest.ProtoReflect.Descriptor instead.
func (*GetRequest) Descriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{24}
}

func (x *GetRequest) GetWorkspaceId() string {
	if x != nil {
		return x.WorkspaceId
	}
	return ""
}

func (x *GetRequest) GetChangelogId() string {
	if x != nil {
		return x.ChangelogId
	}
	return ""
}

func (x *GetRequest) GetValueFormat() ValueFormat {
	if x != nil {
		return x.ValueFormat
	}
	return ValueFormat_VALUE_FORMAT_UNSPECIFIED
}

// The response of Get.
type GetResponse struct {
	state protoimpl.MessageState `protogen:"open.v1"`
	// The latest record of the entity. Never a tombstone.
	Entry         *Entry `protobuf:"bytes,1,opt,name=entry,proto3" json:"entry,omitempty"`
	unknownFields protoimpl.UnknownFields
	sizeCache     protoimpl.SizeCache
}

func (x *GetResponse) Reset() {
	*x = GetResponse{}
	mi := &file_changelogd_v1_changelog_proto_msgTypes[25]
	ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
	ms.StoreMessageInfo(mi)
}

func (x *GetResponse) String() string {
	return protoimpl.X.MessageStringOf(x)
}

func (*GetResponse) ProtoMessage() {}

func (x *GetResponse) ProtoReflect() protoreflect.Message {
	mi := &file_changelogd_v1_changelog_proto_msgTypes[25]
	if x != nil {
		ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
		if ms.LoadMessageInfo() == nil {
			ms.StoreMessageInfo(mi)
		}
		return ms
	}
	return mi.MessageOf(x)
}

// Deprecated: Use GetResponse.ProtoReflect.Descriptor instead.
func (*GetResponse) Descriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{25}
}

func (x *GetResponse) GetEntry() *Entry {
	if x != nil {
		return x.Entry
	}
	return nil
}

// A message of the request stream of Write.
type WriteRequest struct {
	state protoimpl.MessageState `protogen:"open.v1"`
	// At most 1,000. Mutations of one workspace are applied in this order.
	Mutations     []*Mutation `protobuf:"bytes,1,rep,name=mutations,proto3" json:"mutations,omitempty"`
	unknownFields protoimpl.UnknownFields
	sizeCache     protoimpl.SizeCache
}

func (x *WriteRequest) Reset() {
	*x = WriteRequest{}
	mi := &file_changelogd_v1_changelog_proto_msgTypes[26]
	ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
	ms.StoreMessageInfo(mi)
}

func (x *WriteRequest) String() string {
	return protoimpl.X.MessageStringOf(x)
}

func (*WriteRequest) ProtoMessage() {}

func (x *WriteRequest) ProtoReflect() protoreflect.Message {
	mi := &file_changelogd_v1_changelog_proto_msgTypes[26]
	if x != nil {
		ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
		if ms.LoadMessageInfo() == nil {
			ms.StoreMessageInfo(mi)
		}
		return ms
	}
	return mi.MessageOf(x)
}

// Deprecated: Use WriteRequest.ProtoReflect.Descriptor instead.
func (*WriteRequest) Descriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{26}
}

func (x *WriteRequest) GetMutations() []*Mutation {
	if x != nil {
		return x.Mutations
	}
	return nil
}

// Deletes the entity of a Mutation.
type Deletion struct {
	state         protoimpl.MessageState `protogen:"open.v1"`
	unknownFields protoimpl.UnknownFields
	sizeCache     protoimpl.SizeCache
}

func (x *Deletion) Reset() {
	*x = Deletion{}
	mi := &file_changelogd_v1_changelog_proto_msgTypes[27]
	ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
	ms.StoreMessageInfo(mi)
}

func (x *Deletion) String() string {
	return protoimpl.X.MessageStringOf(x)
}

func (*Deletion) ProtoMessage() {}

func (x *Deletion) ProtoReflect() protoreflect.Message {
	mi := &file_changelogd_v1_changelog_proto_msgTypes[27]
	if x != nil {
		ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
		if ms.LoadMessageInfo() == nil {
			ms.StoreMessageInfo(mi)
		}
		return ms
	}
	return mi.MessageOf(x)
}

// Deprecated: Use Deletion.ProtoReflect.Descriptor instead.
func (*Deletion) Descriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{27}
}

// One change of one entity.
type Mutation struct {
	state protoimpl.MessageState `protogen:"open.v1"`
	// Chosen by the client, and returned in the verdict. The server does not check it. Default: 0.
	Id uint64 `protobuf:"varint,1,opt,name=id,proto3" json:"id,omitempty"`
	// As in SetRequest.
	WorkspaceId string `protobuf:"bytes,2,opt,name=workspace_id,json=workspaceId,proto3" json:"workspace_id,omitempty"`
	// As in SetRequest.
	ChangelogId string `protobuf:"bytes,3,opt,name=changelog_id,json=changelogId,proto3" json:"changelog_id,omitempty"`
	// Required.
	//
	// Types that are valid to be assigned to Change:
	//
	//	*Mutation_Raw
	//	*Mutation_Json
	//	*Mutation_Deletion
	Change isMutation_Change `protobuf_oneof:"change"`
	// As in SetRequest.
	Headers       []*Header `protobuf:"bytes,7,rep,name=headers,proto3" json:"headers,omitempty"`
	unknownFields protoimpl.UnknownFields
	sizeCache     protoimpl.SizeCache
}

func (x *Mutation) Reset() {
	*x = Mutation{}
	mi := &file_changelogd_v1_changelog_proto_msgTypes[28]
	ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
	ms.StoreMessageInfo(mi)
}

func (x *Mutation) String() string {
	return protoimpl.X.MessageStringOf(x)
}

func (*Mutation) ProtoMessage() {}

func (x *Mutation) ProtoReflect() protoreflect.Message {
	mi := &file_changelogd_v1_changelog_proto_msgTypes[28]
	if x != nil {
		ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
		if ms.LoadMessageInfo() == nil {
			ms.StoreMessageInfo(mi)
		}
		return ms
	}
	return mi.MessageOf(x)
}

// Deprecated: Use Mutation.ProtoReflect.Descriptor instead.
func (*Mutation) Descriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{28}
}

func (x *Mutation) GetId() uint64 {
	if x != nil {
		return x.Id
	}
	return 0
}

func (x *Mutation) GetWorkspaceId() string {
	if x != nil {
		return x.WorkspaceId
	}
	return ""
}

func (x *Mutation) GetChangelogId() string {
	if x != nil {
		return x.ChangelogId
	}
	return ""
}

func (x *Mutation) GetChange() isMutation_Change {
	if x != nil {
		return x.Change
	}
	return nil
}

func (x *Mutation) GetRaw() []byte {
	if x != nil {
		if x, ok := x.Change.(*Mutation_Raw); ok {
			return x.Raw
		}
	}
	return nil
}

func (x *Mutation) GetJson() *structpb.Value {
	if x != nil {
		if x, ok := x.Change.(*Mutation_Json); ok {
			return x.Json
		}
	}
	return nil
}

func (x *Mutation) GetDeletion() *Deletion {
	if x != nil {
		if x, ok := x.Change.(*Mutation_Deletion); ok {
			return x.Deletion
		}
	}
	return nil
}

func (x *Mutation) GetHeaders() []*Header {
	if x != nil {
		return x.Headers
	}
	return nil
}

type isMutation_Change interface {
	isMutation_Change()
}

type Mutation_Raw struct {
	// As in SetRequest.
	Raw []byte `protobuf:"bytes,4,opt,name=raw,proto3,oneof"`
}

type Mutation_Json struct {
	// As in SetRequest.
	Json *structpb.Value `protobuf:"bytes,5,opt,name=json,proto3,oneof"`
}

type Mutation_Deletion struct {
	// Writes a tombstone.
	Deletion *Deletion `protobuf:"bytes,6,opt,name=deletion,proto3,oneof"`
}

func (*Mutation_Raw) isMutation_Change() {}

func (*Mutation_Json) isMutation_Change() {}

func (*Mutation_Deletion) isMutation_Change() {}

// A message of the response stream of Write.
type WriteResponse struct {
	state protoimpl.MessageState `protogen:"open.v1"`
	// Never empty. Each mutation gets one verdict.
	Verdicts      []*Verdict `protobuf:"bytes,1,rep,name=verdicts,proto3" json:"verdicts,omitempty"`
	unknownFields protoimpl.UnknownFields
	sizeCache     protoimpl.SizeCache
}

func (x *WriteResponse) Reset() {
	*x = WriteResponse{}
	mi := &file_changelogd_v1_changelog_proto_msgTypes[29]
	ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
	ms.StoreMessageInfo(mi)
}

func (x *WriteResponse) String() string {
	return protoimpl.X.MessageStringOf(x)
}

func (*WriteResponse) ProtoMessage() {}

func (x *WriteResponse) ProtoReflect() protoreflect.Message {
	mi := &file_changelogd_v1_changelog_proto_msgTypes[29]
	if x != nil {
		ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
		if ms.LoadMessageInfo() == nil {
			ms.StoreMessageInfo(mi)
		}
		return ms
	}
	return mi.MessageOf(x)
}

// Deprecated: Use WriteResponse.ProtoReflect.Descriptor instead.
func (*WriteResponse) Descriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{29}
}

func (x *WriteResponse) GetVerdicts() []*Verdict {
	if x != nil {
		return x.Verdicts
	}
	return nil
}

// The record of a mutation is acknowledged.
type Written struct {
	state protoimpl.MessageState `protogen:"open.v1"`
	// Where the record is.
	Position *Position `protobuf:"bytes,1,opt,name=position,proto3" json:"position,omitempty"`
	// The timestamp that the log gave the record, in whole milliseconds. Absent outside the years 1 to 9999, which a
	// Timestamp can't hold.
	Timestamp     *timestamppb.Timestamp `protobuf:"bytes,2,opt,name=timestamp,proto3" json:"timestamp,omitempty"`
	unknownFields protoimpl.UnknownFields
	sizeCache     protoimpl.SizeCache
}

func (x *Written) Reset() {
	*x = Written{}
	mi := &file_changelogd_v1_changelog_proto_msgTypes[30]
	ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
	ms.StoreMessageInfo(mi)
}

func (x *Written) String() string {
	return protoimpl.X.MessageStringOf(x)
}

func (*Written) ProtoMessage() {}

func (x *Written) ProtoReflect() protoreflect.Message {
	mi := &file_changelogd_v1_changelog_proto_msgTypes[30]
	if x != nil {
		ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
		if ms.LoadMessageInfo() == nil {
			ms.StoreMessageInfo(mi)
		}
		return ms
	}
	return mi.MessageOf(x)
}

// Deprecated: Use Written.ProtoReflect.Descriptor instead.
func (*Written) Descriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{30}
}

func (x *Written) GetPosition() *Position {
	if x != nil {
		return x.Position
	}
	return nil
}

func (x *Written) GetTimestamp() *timestamppb.Timestamp {
	if x != nil {
		return x.Timestamp
	}
	return nil
}

// The outcome of one mutation.
type Verdict struct {
	state protoimpl.MessageState `protogen:"open.v1"`
	// The id of the mutation.
	Id uint64 `protobuf:"varint,1,opt,name=id,proto3" json:"id,omitempty"`
	// If you do not know the arm, ignore the verdict: the outcome is unknown.
	//
	// Types that are valid to be assigned to Outcome:
	//
	//	*Verdict_Written
	//	*Verdict_Error
	Outcome       isVerdict_Outcome `protobuf_oneof:"outcome"`
	unknownFields protoimpl.UnknownFields
	sizeCache     protoimpl.SizeCache
}

func (x *Verdict) Reset() {
	*x = Verdict{}
	mi := &file_changelogd_v1_changelog_proto_msgTypes[31]
	ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
	ms.StoreMessageInfo(mi)
}

func (x *Verdict) String() string {
	return protoimpl.X.MessageStringOf(x)
}

func (*Verdict) ProtoMessage() {}

func (x *Verdict) ProtoReflect() protoreflect.Message {
	mi := &file_changelogd_v1_changelog_proto_msgTypes[31]
	if x != nil {
		ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
		if ms.LoadMessageInfo() == nil {
			ms.StoreMessageInfo(mi)
		}
		return ms
	}
	return mi.MessageOf(x)
}

// Deprecated: Use Verdict.ProtoReflect.Descriptor instead.
func (*Verdict) Descriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{31}
}

func (x *Verdict) GetId() uint64 {
	if x != nil {
		return x.Id
	}
	return 0
}

func (x *Verdict) GetOutcome() isVerdict_Outcome {
	if x != nil {
		return x.Outcome
	}
	return nil
}

func (x *Verdict) GetWritten() *Written {
	if x != nil {
		if x, ok := x.Outcome.(*Verdict_Written); ok {
			return x.Written
		}
	}
	return nil
}

func (x *Verdict) GetError() *Error {
	if x != nil {
		if x, ok := x.Outcome.(*Verdict_Error); ok {
			return x.Error
		}
	}
	return nil
}

type isVerdict_Outcome interface {
	isVerdict_Outcome()
}

type Verdict_Written struct {
	// The record is in the log.
	Written *Written `protobuf:"bytes,2,opt,name=written,proto3,oneof"`
}

type Verdict_Error struct {
	// The error that Set or Delete would have been answered with.
	Error *Error `protobuf:"bytes,3,opt,name=error,proto3,oneof"`
}

func (*Verdict_Written) isVerdict_Outcome() {}

func (*Verdict_Error) isVerdict_Outcome() {}

// The request of Watch.
type WatchRequest struct {
	state protoimpl.MessageState `protogen:"open.v1"`
	// Required; 1 to 255 bytes. See KEYS.
	WorkspaceId string `protobuf:"bytes,1,opt,name=workspace_id,json=workspaceId,proto3" json:"workspace_id,omitempty"`
	// Watches entities of these types only. Empty (the default) means all types.
	EntityTypes []string `protobuf:"bytes,2,rep,name=entity_types,json=entityTypes,proto3" json:"entity_types,omitempty"`
	// Default: VALUE_FORMAT_RAW.
	ValueFormat ValueFormat `protobuf:"varint,3,opt,name=value_format,json=valueFormat,proto3,enum=changelog.v1.ValueFormat" json:"value_format,omitempty"`
	// Continues after the event that carried the token. Empty (the default) means from the start. It is a token of a
	// Watch or a LoadWorkspace of this workspace and these types, or of a StreamAll with only this in `workspace_ids`.
	// Each entity that you received after that event comes again before Synced, with its last change. An unclean election
	// may have removed changes that you received, and given their offsets to others. So do not skip by the offset alone.
	// An entity that does not come again has lost its changes: start again without the token.
	// A token that does not fit has the errors that StreamAllRequest.resume_token names.
	ResumeToken   []byte `protobuf:"bytes,4,opt,name=resume_token,json=resumeToken,proto3" json:"resume_token,omitempty"`
	unknownFields protoimpl.UnknownFields
	sizeCache     protoimpl.SizeCache
}

func (x *WatchRequest) Reset() {
	*x = WatchRequest{}
	mi := &file_changelogd_v1_changelog_proto_msgTypes[32]
	ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
	ms.StoreMessageInfo(mi)
}

func (x *WatchRequest) String() string {
	return protoimpl.X.MessageStringOf(x)
}

func (*WatchRequest) ProtoMessage() {}

func (x *WatchRequest) ProtoReflect() protoreflect.Message {
	mi := &file_changelogd_v1_changelog_proto_msgTypes[32]
	if x != nil {
		ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
		if ms.LoadMessageInfo() == nil {
			ms.StoreMessageInfo(mi)
		}
		return ms
	}
	return mi.MessageOf(x)
}

// Deprecated: Use WatchRequest.ProtoReflect.Descriptor instead.
func (*WatchRequest) Descriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{32}
}

func (x *WatchRequest) GetWorkspaceId() string {
	if x != nil {
		return x.WorkspaceId
	}
	return ""
}

func (x *WatchRequest) GetEntityTypes() []string {
	if x != nil {
		return x.EntityTypes
	}
	return nil
}

func (x *WatchRequest) GetValueFormat() ValueFormat {
	if x != nil {
		return x.ValueFormat
	}
	return ValueFormat_VALUE_FORMAT_UNSPECIFIED
}

func (x *WatchRequest) GetResumeToken() []byte {
	if x != nil {
		return x.ResumeToken
	}
	return nil
}

// An event of Watch.
type WatchResponse struct {
	state protoimpl.MessageState `protogen:"open.v1"`
	// Ignore an event whose arm you do not know.
	//
	// Types that are valid to be assigned to Event:
	//
	//	*WatchResponse_Batch
	//	*WatchResponse_Synced
	//	*WatchResponse_Bookmark
	Event         isWatchResponse_Event `protobuf_oneof:"event"`
	unknownFields protoimpl.UnknownFields
	sizeCache     protoimpl.SizeCache
}

func (x *WatchResponse) Reset() {
	*x = WatchResponse{}
	mi := &file_changelogd_v1_changelog_proto_msgTypes[33]
	ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
	ms.StoreMessageInfo(mi)
}

func (x *WatchResponse) String() string {
	return protoimpl.X.MessageStringOf(x)
}

func (*WatchResponse) ProtoMessage() {}

func (x *WatchResponse) ProtoReflect() protoreflect.Message {
	mi := &file_changelogd_v1_changelog_proto_msgTypes[33]
	if x != nil {
		ms := protoimpl.X.MessageStateOf(protoimpl.Pointer(x))
		if ms.LoadMessageInfo() == nil {
			ms.StoreMessageInfo(mi)
		}
		return ms
	}
	return mi.MessageOf(x)
}

// Deprecated: Use WatchResponse.ProtoReflect.Descriptor instead.
func (*WatchResponse) Descriptor() ([]byte, []int) {
	return file_changelogd_v1_changelog_proto_rawDescGZIP(), []int{33}
}

func (x *WatchResponse) GetEvent() isWatchResponse_Event {
	if x != nil {
		return x.Event
	}
	return nil
}

func (x *WatchResponse) GetBatch() *EntryBatch {
	if x != nil {
		if x, ok := x.Event.(*WatchResponse_Batch); ok {
			return x.Batch
		}
	}
	return nil
}

func (x *WatchResponse) GetSynced() *Synced {
	if x != nil {
		if x, ok := x.Event.(*WatchResponse_Synced); ok {
			return x.Synced
		}
	}
	return nil
}

func (x *WatchResponse) GetBookmark() *Bookmark {
	if x != nil {
		if x, ok := x.Event.(*WatchResponse_Bookmark); ok {
			return x.Bookmark
		}
	}
	return nil
}

type isWatchResponse_Event interface {
	isWatchResponse_Event()
}

type WatchResponse_Batch struct {
	// Entries of the workspace: of its state before Synced, and changes after it.
	Batch *EntryBatch `protobuf:"bytes,1,opt,name=batch,proto3,oneof"`
}

type WatchResponse_Synced struct {
	// The state has been delivered. Comes once.
	Synced *Synced `protobuf:"bytes,2,opt,name=synced,proto3,oneof"`
}

type WatchResponse_Bookmark struct {
	// A place to resume from. Comes only after Synced.
	Bookmark *Bookmark `protobuf:"bytes,3,opt,name=bookmark,proto3,oneof"`
}

func (*WatchResponse_Batch) isWatchResponse_Event() {}

func (*WatchResponse_Synced) isWatchResponse_Event() {}

func (*WatchResponse_Bookmark) isWatchResponse_Event() {}

var File_changelogd_v1_changelog_proto protoreflect.FileDescriptor

const file_changelogd_v1_changelog_proto_rawDesc = "" +
	"\n" +
	"\x1dchangelogd/v1/changelog.proto\x12\fchangelog.v1\x1a\x1egoogle/protobuf/duration.proto\x1a\x1cgoogle/protobuf/struct.proto\x1a\x1fgoogle/protobuf/timestamp.proto\"?\n" +
	"\x06Header\x12\x10\n" +
	"\x03key\x18\x01 \x01(\tR\x03key\x12\x19\n" +
	"\x05value\x18\x02 \x01(\fH\x00R\x05value\x88\x01\x01B\b\n" +
	"\x06_value\"@\n" +
	"\bPosition\x12\x1c\n" +
	"\tpartition\x18\x01 \x01(\x05R\tpartition\x12\x16\n" +
	"\x06offset\x18\x02 \x01(\x03R\x06offset\"\xa7\x02\n" +
	"\x05Entry\x12\x10\n" +
	"\x03key\x18\x01 \x01(\tR\x03key\x12\x12\n" +
	"\x03raw\x18\x02 \x01(\fH\x00R\x03raw\x12,\n" +
	"\x04json\x18\x03 \x01(\v2\x16.google.protobuf.ValueH\x00R\x04json\x12\x1c\n" +
	"\tpartition\x18\x04 \x01(\x05R\tpartition\x12\x16\n" +
	"\x06offset\x18\x05 \x01(\x03R\x06offset\x128\n" +
	"\ttimestamp\x18\x06 \x01(\v2\x1a.google.protobuf.TimestampR\ttimestamp\x12!\n" +
	"\fis_tombstone\x18\a \x01(\bR\visTombstone\x12.\n" +
	"\aheaders\x18\b \x03(\v2\x14.changelog.v1.HeaderR\aheadersB\a\n" +
	"\x05value\";\n" +
	"\n" +
	"EntryBatch\x12-\n" +
	"\aentries\x18\x01 \x03(\v2\x13.changelog.v1.EntryR\aentries\"\xa2\x02\n" +
	"\bSnapshot\x12\x1c\n" +
	"\tpartition\x18\x01 \x01(\x05R\tpartition\x12!\n" +
	"\fstart_offset\x18\x02 \x01(\x03R\vstartOffset\x12\x1d\n" +
	"\n" +
	"end_offset\x18\x03 \x01(\x03R\tendOffset\x12!\n" +
	"\frecords_read\x18\x04 \x01(\x04R\vrecordsRead\x12\x18\n" +
	"\askipped\x18\x05 \x01(\x04R\askipped\x12\x1c\n" +
	"\tmisplaced\x18\x06 \x01(\x04R\tmisplaced\x12\x18\n" +
	"\aentries\x18\a \x01(\x04R\aentries\x12\x1e\n" +
	"\n" +
	"tombstones\x18\b \x01(\x04R\n" +
	"tombstones\x12!\n" +
	"\fresume_token\x18\t \x01(\fR\vresumeToken\"-\n" +
	"\bBookmark\x12!\n" +
	"\fresume_token\x18\x01 \x01(\fR\vresumeToken\"<\n" +
	"\x06Synced\x122\n" +
	"\bsnapshot\x18\x01 \x01(\v2\x16.changelog.v1.SnapshotR\bsnapshot\"\xf2\x01\n" +
	"\n" +
	"SetRequest\x12!\n" +
	"\fworkspace_id\x18\x01 \x01(\tR\vworkspaceId\x12!\n" +
	"\fchangelog_id\x18\x02 \x01(\tR\vchangelogId\x12\x12\n" +
	"\x03raw\x18\x03 \x01(\fH\x00R\x03raw\x12,\n" +
	"\x04json\x18\x04 \x01(\v2\x16.google.protobuf.ValueH\x00R\x04json\x12.\n" +
	"\aheaders\x18\x05 \x03(\v2\x14.changelog.v1.HeaderR\aheaders\x12#\n" +
	"\x03ack\x18\x06 \x01(\x0e2\x11.changelog.v1.AckR\x03ackB\a\n" +
	"\x05value\"{\n" +
	"\vSetResponse\x122\n" +
	"\bposition\x18\x01 \x01(\v2\x16.changelog.v1.PositionR\bposition\x128\n" +
	"\ttimestamp\x18\x02 \x01(\v2\x1a.google.protobuf.TimestampR\ttimestamp\"\xaa\x01\n" +
	"\rDeleteRequest\x12!\n" +
	"\fworkspace_id\x18\x01 \x01(\tR\vworkspaceId\x12!\n" +
	"\fchangelog_id\x18\x02 \x01(\tR\vchangelogId\x12.\n" +
	"\aheaders\x18\x03 \x03(\v2\x14.changelog.v1.HeaderR\aheaders\x12#\n" +
	"\x03ack\x18\x04 \x01(\x0e2\x11.changelog.v1.AckR\x03ack\"~\n" +
	"\x0eDeleteResponse\x122\n" +
	"\bposition\x18\x01 \x01(\v2\x16.changelog.v1.PositionR\bposition\x128\n" +
	"\ttimestamp\x18\x02 \x01(\v2\x1a.google.protobuf.TimestampR\ttimestamp\"T\n" +
	"\fFlushRequest\x12\x1d\n" +
	"\n" +
	"timeout_ms\x18\x01 \x01(\rR\ttimeoutMs\x12%\n" +
	"\x0efailures_after\x18\x02 \x01(\x04R\rfailuresAfter\"\xb5\x02\n" +
	"\x05Error\x12&\n" +
	"\x04code\x18\x01 \x01(\x0e2\x12.changelog.v1.CodeR\x04code\x12\x18\n" +
	"\amessage\x18\x02 \x01(\tR\amessage\x12\x16\n" +
	"\x06reason\x18\x04 \x01(\tR\x06reason\x12\x14\n" +
	"\x05field\x18\x05 \x01(\tR\x05field\x12:\n" +
	"\vretry_after\x18\x06 \x01(\v2\x19.google.protobuf.DurationR\n" +
	"retryAfter\x12=\n" +
	"\bmetadata\x18\a \x03(\v2!.changelog.v1.Error.MetadataEntryR\bmetadata\x1a;\n" +
	"\rMetadataEntry\x12\x10\n" +
	"\x03key\x18\x01 \x01(\tR\x03key\x12\x14\n" +
	"\x05value\x18\x02 \x01(\tR\x05value:\x028\x01J\x04\b\x03\x10\x04\"[\n" +
	"\fWriteFailure\x12\x0e\n" +
	"\x02id\x18\x01 \x01(\x04R\x02id\x12\x10\n" +
	"\x03key\x18\x02 \x01(\tR\x03key\x12)\n" +
	"\x05error\x18\x03 \x01(\v2\x13.changelog.v1.ErrorR\x05error\"\xb3\x01\n" +
	"\rFlushResponse\x12\x1c\n" +
	"\tremaining\x18\x01 \x01(\x04R\tremaining\x126\n" +
	"\bfailures\x18\x02 \x03(\v2\x1a.changelog.v1.WriteFailureR\bfailures\x12!\n" +
	"\flast_failure\x18\x03 \x01(\x04R\vlastFailure\x12)\n" +
	"\x10failures_omitted\x18\x04 \x01(\x04R\x0ffailuresOmitted\"\x9a\x01\n" +
	"\x14LoadWorkspaceRequest\x12!\n" +
	"\fworkspace_id\x18\x01 \x01(\tR\vworkspaceId\x12!\n" +
	"\fentity_types\x18\x02 \x03(\tR\ventityTypes\x12<\n" +
	"\fvalue_format\x18\x03 \x01(\x0e2\x19.changelog.v1.ValueFormatR\vvalueFormat\"\x88\x01\n" +
	"\x15LoadWorkspaceResponse\x120\n" +
	"\x05batch\x18\x01 \x01(\v2\x18.changelog.v1.EntryBatchH\x00R\x05batch\x124\n" +
	"\bsnapshot\x18\x02 \x01(\v2\x16.changelog.v1.SnapshotH\x00R\bsnapshotB\a\n" +
	"\x05event\"\xa4\x02\n" +
	"\x10StreamAllRequest\x12\x1e\n" +
	"\n" +
	"partitions\x18\x01 \x03(\x05R\n" +
	"partitions\x12#\n" +
	"\rworkspace_ids\x18\x02 \x03(\tR\fworkspaceIds\x12!\n" +
	"\fentity_types\x18\x03 \x03(\tR\ventityTypes\x12/\n" +
	"\acontent\x18\x04 \x01(\x0e2\x15.changelog.v1.ContentR\acontent\x12<\n" +
	"\fvalue_format\x18\x05 \x01(\x0e2\x19.changelog.v1.ValueFormatR\vvalueFormat\x12!\n" +
	"\fresume_token\x18\x06 \x01(\fR\vresumeToken\x12\x16\n" +
	"\x06follow\x18\a \x01(\bR\x06follow\"\xba\x01\n" +
	"\x11StreamAllResponse\x120\n" +
	"\x05batch\x18\x01 \x01(\v2\x18.changelog.v1.EntryBatchH\x00R\x05batch\x124\n" +
	"\bsnapshot\x18\x02 \x01(\v2\x16.changelog.v1.SnapshotH\x00R\bsnapshot\x124\n" +
	"\bbookmark\x18\x03 \x01(\v2\x16.changelog.v1.BookmarkH\x00R\bbookmarkB\a\n" +
	"\x05event\"4\n" +
	"\x0fDescribeRequest\x12!\n" +
	"\fworkspace_id\x18\x01 \x01(\tR\vworkspaceId\"\xb3\x01\n" +
	"\rPartitionInfo\x12\x1c\n" +
	"\tpartition\x18\x01 \x01(\x05R\tpartition\x12\x16\n" +
	"\x06leader\x18\x02 \x01(\x05R\x06leader\x12\x1d\n" +
	"\n" +
	"low_offset\x18\x03 \x01(\x03R\tlowOffset\x12,\n" +
	"\x12last_stable_offset\x18\x04 \x01(\x03R\x10lastStableOffset\x12\x1f\n" +
	"\vhigh_offset\x18\x05 \x01(\x03R\n" +
	"highOffset\"k\n" +
	"\aFinding\x122\n" +
	"\bseverity\x18\x01 \x01(\x0e2\x16.changelog.v1.SeverityR\bseverity\x12\x12\n" +
	"\x04code\x18\x02 \x01(\tR\x04code\x12\x18\n" +
	"\amessage\x18\x03 \x01(\tR\amessage\"\xec\x01\n" +
	"\x06Limits\x12\"\n" +
	"\rmax_key_bytes\x18\x01 \x01(\rR\vmaxKeyBytes\x12&\n" +
	"\x0fmax_value_bytes\x18\x02 \x01(\rR\rmaxValueBytes\x12\x1f\n" +
	"\vmax_headers\x18\x03 \x01(\rR\n" +
	"maxHeaders\x12(\n" +
	"\x10max_header_bytes\x18\x04 \x01(\rR\x0emaxHeaderBytes\x12*\n" +
	"\x11max_request_bytes\x18\x05 \x01(\rR\x0fmaxRequestBytes\x12\x1f\n" +
	"\vmax_replays\x18\x06 \x01(\rR\n" +
	"maxReplays\"\xb1\x03\n" +
	"\x10DescribeResponse\x12)\n" +
	"\x05store\x18\x01 \x01(\x0e2\x13.changelog.v1.StoreR\x05store\x12\x14\n" +
	"\x05topic\x18\x02 \x01(\tR\x05topic\x12\x19\n" +
	"\btopic_id\x18\x03 \x01(\tR\atopicId\x12'\n" +
	"\x0fpartition_count\x18\x04 \x01(\x05R\x0epartitionCount\x12\x12\n" +
	"\x04hash\x18\x05 \x01(\tR\x04hash\x12;\n" +
	"\n" +
	"partitions\x18\x06 \x03(\v2\x1b.changelog.v1.PartitionInfoR\n" +
	"partitions\x121\n" +
	"\bfindings\x18\a \x03(\v2\x15.changelog.v1.FindingR\bfindings\x12,\n" +
	"\x06limits\x18\b \x01(\v2\x14.changelog.v1.LimitsR\x06limits\x12\x18\n" +
	"\aversion\x18\t \x01(\tR\aversion\x124\n" +
	"\x13workspace_partition\x18\n" +
	" \x01(\x05H\x00R\x12workspacePartition\x88\x01\x01B\x16\n" +
	"\x14_workspace_partition\"\x90\x01\n" +
	"\n" +
	"GetRequest\x12!\n" +
	"\fworkspace_id\x18\x01 \x01(\tR\vworkspaceId\x12!\n" +
	"\fchangelog_id\x18\x02 \x01(\tR\vchangelogId\x12<\n" +
	"\fvalue_format\x18\x03 \x01(\x0e2\x19.changelog.v1.ValueFormatR\vvalueFormat\"8\n" +
	"\vGetResponse\x12)\n" +
	"\x05entry\x18\x01 \x01(\v2\x13.changelog.v1.EntryR\x05entry\"D\n" +
	"\fWriteRequest\x124\n" +
	"\tmutations\x18\x01 \x03(\v2\x16.changelog.v1.MutationR\tmutations\"\n" +
	"\n" +
	"\bDeletion\"\x92\x02\n" +
	"\bMutation\x12\x0e\n" +
	"\x02id\x18\x01 \x01(\x04R\x02id\x12!\n" +
	"\fworkspace_id\x18\x02 \x01(\tR\vworkspaceId\x12!\n" +
	"\fchangelog_id\x18\x03 \x01(\tR\vchangelogId\x12\x12\n" +
	"\x03raw\x18\x04 \x01(\fH\x00R\x03raw\x12,\n" +
	"\x04json\x18\x05 \x01(\v2\x16.google.protobuf.ValueH\x00R\x04json\x124\n" +
	"\bdeletion\x18\x06 \x01(\v2\x16.changelog.v1.DeletionH\x00R\bdeletion\x12.\n" +
	"\aheaders\x18\a \x03(\v2\x14.changelog.v1.HeaderR\aheadersB\b\n" +
	"\x06change\"B\n" +
	"\rWriteResponse\x121\n" +
	"\bverdicts\x18\x01 \x03(\v2\x15.changelog.v1.VerdictR\bverdicts\"w\n" +
	"\aWritten\x122\n" +
	"\bposition\x18\x01 \x01(\v2\x16.changelog.v1.PositionR\bposition\x128\n" +
	"\ttimestamp\x18\x02 \x01(\v2\x1a.google.protobuf.TimestampR\ttimestamp\"\x84\x01\n" +
	"\aVerdict\x12\x0e\n" +
	"\x02id\x18\x01 \x01(\x04R\x02id\x121\n" +
	"\awritten\x18\x02 \x01(\v2\x15.changelog.v1.WrittenH\x00R\awritten\x12+\n" +
	"\x05error\x18\x03 \x01(\v2\x13.changelog.v1.ErrorH\x00R\x05errorB\t\n" +
	"\aoutcome\"\xb5\x01\n" +
	"\fWatchRequest\x12!\n" +
	"\fworkspace_id\x18\x01 \x01(\tR\vworkspaceId\x12!\n" +
	"\fentity_types\x18\x02 \x03(\tR\ventityTypes\x12<\n" +
	"\fvalue_format\x18\x03 \x01(\x0e2\x19.changelog.v1.ValueFormatR\vvalueFormat\x12!\n" +
	"\fresume_token\x18\x04 \x01(\fR\vresumeToken\"\xb0\x01\n" +
	"\rWatchResponse\x120\n" +
	"\x05batch\x18\x01 \x01(\v2\x18.changelog.v1.EntryBatchH\x00R\x05batch\x12.\n" +
	"\x06synced\x18\x02 \x01(\v2\x14.changelog.v1.SyncedH\x00R\x06synced\x124\n" +
	"\bbookmark\x18\x03 \x01(\v2\x16.changelog.v1.BookmarkH\x00R\bbookmarkB\a\n" +
	"\x05event*=\n" +
	"\x03Ack\x12\x13\n" +
	"\x0fACK_UNSPECIFIED\x10\x00\x12\x0f\n" +
	"\vACK_DURABLE\x10\x01\x12\x10\n" +
	"\fACK_BUFFERED\x10\x02*X\n" +
	"\vValueFormat\x12\x1c\n" +
	"\x18VALUE_FORMAT_UNSPECIFIED\x10\x00\x12\x14\n" +
	"\x10VALUE_FORMAT_RAW\x10\x01\x12\x15\n" +
	"\x11VALUE_FORMAT_JSON\x10\x02*K\n" +
	"\aContent\x12\x17\n" +
	"\x13CONTENT_UNSPECIFIED\x10\x00\x12\x13\n" +
	"\x0fCONTENT_RECORDS\x10\x01\x12\x12\n" +
	"\x0eCONTENT_LATEST\x10\x02*\x95\x03\n" +
	"\x04Code\x12\x14\n" +
	"\x10CODE_UNSPECIFIED\x10\x00\x12\x12\n" +
	"\x0eCODE_CANCELLED\x10\x01\x12\x10\n" +
	"\fCODE_UNKNOWN\x10\x02\x12\x19\n" +
	"\x15CODE_INVALID_ARGUMENT\x10\x03\x12\x1a\n" +
	"\x16CODE_DEADLINE_EXCEEDED\x10\x04\x12\x12\n" +
	"\x0eCODE_NOT_FOUND\x10\x05\x12\x17\n" +
	"\x13CODE_ALREADY_EXISTS\x10\x06\x12\x1a\n" +
	"\x16CODE_PERMISSION_DENIED\x10\a\x12\x1b\n" +
	"\x17CODE_RESOURCE_EXHAUSTED\x10\b\x12\x1c\n" +
	"\x18CODE_FAILED_PRECONDITION\x10\t\x12\x10\n" +
	"\fCODE_ABORTED\x10\n" +
	"\x12\x15\n" +
	"\x11CODE_OUT_OF_RANGE\x10\v\x12\x16\n" +
	"\x12CODE_UNIMPLEMENTED\x10\f\x12\x11\n" +
	"\rCODE_INTERNAL\x10\r\x12\x14\n" +
	"\x10CODE_UNAVAILABLE\x10\x0e\x12\x12\n" +
	"\x0eCODE_DATA_LOSS\x10\x0f\x12\x18\n" +
	"\x14CODE_UNAUTHENTICATED\x10\x10*U\n" +
	"\x05Store\x12\x15\n" +
	"\x11STORE_UNSPECIFIED\x10\x00\x12\x12\n" +
	"\x0eSTORE_EMBEDDED\x10\x01\x12\x0f\n" +
	"\vSTORE_KAFKA\x10\x02\x12\x10\n" +
	"\fSTORE_MEMORY\x10\x03*a\n" +
	"\bSeverity\x12\x18\n" +
	"\x14SEVERITY_UNSPECIFIED\x10\x00\x12\x11\n" +
	"\rSEVERITY_INFO\x10\x01\x12\x14\n" +
	"\x10SEVERITY_WARNING\x10\x02\x12\x12\n" +
	"\x0eSEVERITY_ERROR\x10\x032\x92\x05\n" +
	"\x10ChangelogService\x12:\n" +
	"\x03Set\x12\x18.changelog.v1.SetRequest\x1a\x19.changelog.v1.SetResponse\x12C\n" +
	"\x06Delete\x12\x1b.changelog.v1.DeleteRequest\x1a\x1c.changelog.v1.DeleteResponse\x12@\n" +
	"\x05Flush\x12\x1a.changelog.v1.FlushRequest\x1a\x1b.changelog.v1.FlushResponse\x12Z\n" +
	"\rLoadWorkspace\x12\".changelog.v1.LoadWorkspaceRequest\x1a#.changelog.v1.LoadWorkspaceResponse0\x01\x12N\n" +
	"\tStreamAll\x12\x1e.changelog.v1.StreamAllRequest\x1a\x1f.changelog.v1.StreamAllResponse0\x01\x12I\n" +
	"\bDescribe\x12\x1d.changelog.v1.DescribeRequest\x1a\x1e.changelog.v1.DescribeResponse\x12:\n" +
	"\x03Get\x12\x18.changelog.v1.GetRequest\x1a\x19.changelog.v1.GetResponse\x12D\n" +
	"\x05Write\x12\x1a.changelog.v1.WriteRequest\x1a\x1b.changelog.v1.WriteResponse(\x010\x01\x12B\n" +
	"\x05Watch\x12\x1a.changelog.v1.WatchRequest\x1a\x1b.changelog.v1.WatchResponse0\x01B{\n" +
	"\x11dev.changelogd.v1P\x01Z-changelogd.example/go/changelogv1;changelogv1\xa2\x02\x03CLD\xaa\x02\rChangelogd.V1\xca\x02\rChangelogd\\V1\xea\x02\x0eChangelogd::V1b\x06proto3"

var (
	file_changelogd_v1_changelog_proto_rawDescOnce sync.Once
	file_changelogd_v1_changelog_proto_rawDescData []byte
)

func file_changelogd_v1_changelog_proto_rawDescGZIP() []byte {
	file_changelogd_v1_changelog_proto_rawDescOnce.Do(func() {
		file_changelogd_v1_changelog_proto_rawDescData = protoimpl.X.CompressGZIP(unsafe.Slice(unsafe.StringData(file_changelogd_v1_changelog_proto_rawDesc), len(file_changelogd_v1_changelog_proto_rawDesc)))
	})
	return file_changelogd_v1_changelog_proto_rawDescData
}

var file_changelogd_v1_changelog_proto_enumTypes = make([]protoimpl.EnumInfo, 6)
var file_changelogd_v1_changelog_proto_msgTypes = make([]protoimpl.MessageInfo, 35)
var file_changelogd_v1_changelog_proto_goTypes = []any{
	(Ack)(0),                      // 0: changelog.v1.Ack
	(ValueFormat)(0),              // 1: changelog.v1.ValueFormat
	(Content)(0),                  // 2: changelog.v1.Content
	(Code)(0),                     // 3: changelog.v1.Code
	(Store)(0),                    // 4: changelog.v1.Store
	(Severity)(0),                 // 5: changelog.v1.Severity
	(*Header)(nil),                // 6: changelog.v1.Header
	(*Position)(nil),              // 7: changelog.v1.Position
	(*Entry)(nil),                 // 8: changelog.v1.Entry
	(*EntryBatch)(nil),            // 9: changelog.v1.EntryBatch
	(*Snapshot)(nil),              // 10: changelog.v1.Snapshot
	(*Bookmark)(nil),              // 11: changelog.v1.Bookmark
	(*Synced)(nil),                // 12: changelog.v1.Synced
	(*SetRequest)(nil),            // 13: changelog.v1.SetRequest
	(*SetResponse)(nil),           // 14: changelog.v1.SetResponse
	(*DeleteRequest)(nil),         // 15: changelog.v1.DeleteRequest
	(*DeleteResponse)(nil),        // 16: changelog.v1.DeleteResponse
	(*FlushRequest)(nil),          // 17: changelog.v1.FlushRequest
	(*Error)(nil),                 // 18: changelog.v1.Error
	(*WriteFailure)(nil),          // 19: changelog.v1.WriteFailure
	(*FlushResponse)(nil),         // 20: changelog.v1.FlushResponse
	(*LoadWorkspaceRequest)(nil),  // 21: changelog.v1.LoadWorkspaceRequest
	(*LoadWorkspaceResponse)(nil), // 22: changelog.v1.LoadWorkspaceResponse
	(*StreamAllRequest)(nil),      // 23: changelog.v1.StreamAllRequest
	(*StreamAllResponse)(nil),     // 24: changelog.v1.StreamAllResponse
	(*DescribeRequest)(nil),       // 25: changelog.v1.DescribeRequest
	(*PartitionInfo)(nil),         // 26: changelog.v1.PartitionInfo
	(*Finding)(nil),               // 27: changelog.v1.Finding
	(*Limits)(nil),                // 28: changelog.v1.Limits
	(*DescribeResponse)(nil),      // 29: changelog.v1.DescribeResponse
	(*GetRequest)(nil),            // 30: changelog.v1.GetRequest
	(*GetResponse)(nil),           // 31: changelog.v1.GetResponse
	(*WriteRequest)(nil),          // 32: changelog.v1.WriteRequest
	(*Deletion)(nil),              // 33: changelog.v1.Deletion
	(*Mutation)(nil),              // 34: changelog.v1.Mutation
	(*WriteResponse)(nil),         // 35: changelog.v1.WriteResponse
	(*Written)(nil),               // 36: changelog.v1.Written
	(*Verdict)(nil),               // 37: changelog.v1.Verdict
	(*WatchRequest)(nil),          // 38: changelog.v1.WatchRequest
	(*WatchResponse)(nil),         // 39: changelog.v1.WatchResponse
	nil,                           // 40: changelog.v1.Error.MetadataEntry
	(*structpb.Value)(nil),        // 41: google.protobuf.Value
	(*timestamppb.Timestamp)(nil), // 42: google.protobuf.Timestamp
	(*durationpb.Duration)(nil),   // 43: google.protobuf.Duration
}
var file_changelogd_v1_changelog_proto_depIdxs = []int32{
	41, // 0: changelog.v1.Entry.json:type_name -> google.protobuf.Value
	42, // 1: changelog.v1.Entry.timestamp:type_name -> google.protobuf.Timestamp
	6,  // 2: changelog.v1.Entry.headers:type_name -> changelog.v1.Header
	8,  // 3: changelog.v1.EntryBatch.entries:type_name -> changelog.v1.Entry
	10, // 4: changelog.v1.Synced.snapshot:type_name -> changelog.v1.Snapshot
	41, // 5: changelog.v1.SetRequest.json:type_name -> google.protobuf.Value
	6,  // 6: changelog.v1.SetRequest.headers:type_name -> changelog.v1.Header
	0,  // 7: changelog.v1.SetRequest.ack:type_name -> changelog.v1.Ack
	7,  // 8: changelog.v1.SetResponse.position:type_name -> changelog.v1.Position
	42, // 9: changelog.v1.SetResponse.timestamp:type_name -> google.protobuf.Timestamp
	6,  // 10: changelog.v1.DeleteRequest.headers:type_name -> changelog.v1.Header
	0,  // 11: changelog.v1.DeleteRequest.ack:type_name -> changelog.v1.Ack
	7,  // 12: changelog.v1.DeleteResponse.position:type_name -> changelog.v1.Position
	42, // 13: changelog.v1.DeleteResponse.timestamp:type_name -> google.protobuf.Timestamp
	3,  // 14: changelog.v1.Error.code:type_name -> changelog.v1.Code
	43, // 15: changelog.v1.Error.retry_after:type_name -> google.protobuf.Duration
	40, // 16: changelog.v1.Error.metadata:type_name -> changelog.v1.Error.MetadataEntry
	18, // 17: changelog.v1.WriteFailure.error:type_name -> changelog.v1.Error
	19, // 18: changelog.v1.FlushResponse.failures:type_name -> changelog.v1.WriteFailure
	1,  // 19: changelog.v1.LoadWorkspaceRequest.value_format:type_name -> changelog.v1.ValueFormat
	9,  // 20: changelog.v1.LoadWorkspaceResponse.batch:type_name -> changelog.v1.EntryBatch
	10, // 21: changelog.v1.LoadWorkspaceResponse.snapshot:type_name -> changelog.v1.Snapshot
	2,  // 22: changelog.v1.StreamAllRequest.content:type_name -> changelog.v1.Content
	1,  // 23: changelog.v1.StreamAllRequest.value_format:type_name -> changelog.v1.ValueFormat
	9,  // 24: changelog.v1.StreamAllResponse.batch:type_name -> changelog.v1.EntryBatch
	10, // 25: changelog.v1.StreamAllResponse.snapshot:type_name -> changelog.v1.Snapshot
	11, // 26: changelog.v1.StreamAllResponse.bookmark:type_name -> changelog.v1.Bookmark
	5,  // 27: changelog.v1.Finding.severity:type_name -> changelog.v1.Severity
	4,  // 28: changelog.v1.DescribeResponse.store:type_name -> changelog.v1.Store
	26, // 29: changelog.v1.DescribeResponse.partitions:type_name -> changelog.v1.PartitionInfo
	27, // 30: changelog.v1.DescribeResponse.findings:type_name -> changelog.v1.Finding
	28, // 31: changelog.v1.DescribeResponse.limits:type_name -> changelog.v1.Limits
	1,  // 32: changelog.v1.GetRequest.value_format:type_name -> changelog.v1.ValueFormat
	8,  // 33: changelog.v1.GetResponse.entry:type_name -> changelog.v1.Entry
	34, // 34: changelog.v1.WriteRequest.mutations:type_name -> changelog.v1.Mutation
	41, // 35: changelog.v1.Mutation.json:type_name -> google.protobuf.Value
	33, // 36: changelog.v1.Mutation.deletion:type_name -> changelog.v1.Deletion
	6,  // 37: changelog.v1.Mutation.headers:type_name -> changelog.v1.Header
	37, // 38: changelog.v1.WriteResponse.verdicts:type_name -> changelog.v1.Verdict
	7,  // 39: changelog.v1.Written.position:type_name -> changelog.v1.Position
	42, // 40: changelog.v1.Written.timestamp:type_name -> google.protobuf.Timestamp
	36, // 41: changelog.v1.Verdict.written:type_name -> changelog.v1.Written
	18, // 42: changelog.v1.Verdict.error:type_name -> changelog.v1.Error
	1,  // 43: changelog.v1.WatchRequest.value_format:type_name -> changelog.v1.ValueFormat
	9,  // 44: changelog.v1.WatchResponse.batch:type_name -> changelog.v1.EntryBatch
	12, // 45: changelog.v1.WatchResponse.synced:type_name -> changelog.v1.Synced
	11, // 46: changelog.v1.WatchResponse.bookmark:type_name -> changelog.v1.Bookmark
	13, // 47: changelog.v1.ChangelogService.Set:input_type -> changelog.v1.SetRequest
	15, // 48: changelog.v1.ChangelogService.Delete:input_type -> changelog.v1.DeleteRequest
	17, // 49: changelog.v1.ChangelogService.Flush:input_type -> changelog.v1.FlushRequest
	21, // 50: changelog.v1.ChangelogService.LoadWorkspace:input_type -> changelog.v1.LoadWorkspaceRequest
	23, // 51: changelog.v1.ChangelogService.StreamAll:input_type -> changelog.v1.StreamAllRequest
	25, // 52: changelog.v1.ChangelogService.Describe:input_type -> changelog.v1.DescribeRequest
	30, // 53: changelog.v1.ChangelogService.Get:input_type -> changelog.v1.GetRequest
	32, // 54: changelog.v1.ChangelogService.Write:input_type -> changelog.v1.WriteRequest
	38, // 55: changelog.v1.ChangelogService.Watch:input_type -> changelog.v1.WatchRequest
	14, // 56: changelog.v1.ChangelogService.Set:output_type -> changelog.v1.SetResponse
	16, // 57: changelog.v1.ChangelogService.Delete:output_type -> changelog.v1.DeleteResponse
	20, // 58: changelog.v1.ChangelogService.Flush:output_type -> changelog.v1.FlushResponse
	22, // 59: changelog.v1.ChangelogService.LoadWorkspace:output_type -> changelog.v1.LoadWorkspaceResponse
	24, // 60: changelog.v1.ChangelogService.StreamAll:output_type -> changelog.v1.StreamAllResponse
	29, // 61: changelog.v1.ChangelogService.Describe:output_type -> changelog.v1.DescribeResponse
	31, // 62: changelog.v1.ChangelogService.Get:output_type -> changelog.v1.GetResponse
	35, // 63: changelog.v1.ChangelogService.Write:output_type -> changelog.v1.WriteResponse
	39, // 64: changelog.v1.ChangelogService.Watch:output_type -> changelog.v1.WatchResponse
	56, // [56:65] is the sub-list for method output_type
	47, // [47:56] is the sub-list for method input_type
	47, // [47:47] is the sub-list for extension type_name
	47, // [47:47] is the sub-list for extension extendee
	0,  // [0:47] is the sub-list for field type_name
}

func init() { file_changelogd_v1_changelog_proto_init() }
func file_changelogd_v1_changelog_proto_init() {
	if File_changelogd_v1_changelog_proto != nil {
		return
	}
	file_changelogd_v1_changelog_proto_msgTypes[0].OneofWrappers = []any{}
	file_changelogd_v1_changelog_proto_msgTypes[2].OneofWrappers = []any{
		(*Entry_Raw)(nil),
		(*Entry_Json)(nil),
	}
	file_changelogd_v1_changelog_proto_msgTypes[7].OneofWrappers = []any{
		(*SetRequest_Raw)(nil),
		(*SetRequest_Json)(nil),
	}
	file_changelogd_v1_changelog_proto_msgTypes[16].OneofWrappers = []any{
		(*LoadWorkspaceResponse_Batch)(nil),
		(*LoadWorkspaceResponse_Snapshot)(nil),
	}
	file_changelogd_v1_changelog_proto_msgTypes[18].OneofWrappers = []any{
		(*StreamAllResponse_Batch)(nil),
		(*StreamAllResponse_Snapshot)(nil),
		(*StreamAllResponse_Bookmark)(nil),
	}
	file_changelogd_v1_changelog_proto_msgTypes[23].OneofWrappers = []any{}
	file_changelogd_v1_changelog_proto_msgTypes[28].OneofWrappers = []any{
		(*Mutation_Raw)(nil),
		(*Mutation_Json)(nil),
		(*Mutation_Deletion)(nil),
	}
	file_changelogd_v1_changelog_proto_msgTypes[31].OneofWrappers = []any{
		(*Verdict_Written)(nil),
		(*Verdict_Error)(nil),
	}
	file_changelogd_v1_changelog_proto_msgTypes[33].OneofWrappers = []any{
		(*WatchResponse_Batch)(nil),
		(*WatchResponse_Synced)(nil),
		(*WatchResponse_Bookmark)(nil),
	}
	type x struct{}
	out := protoimpl.TypeBuilder{
		File: protoimpl.DescBuilder{
			GoPackagePath: reflect.TypeOf(x{}).PkgPath(),
			RawDescriptor: unsafe.Slice(unsafe.StringData(file_changelogd_v1_changelog_proto_rawDesc), len(file_changelogd_v1_changelog_proto_rawDesc)),
			NumEnums:      6,
			NumMessages:   35,
			NumExtensions: 0,
			NumServices:   1,
		},
		GoTypes:           file_changelogd_v1_changelog_proto_goTypes,
		DependencyIndexes: file_changelogd_v1_changelog_proto_depIdxs,
		EnumInfos:         file_changelogd_v1_changelog_proto_enumTypes,
		MessageInfos:      file_changelogd_v1_changelog_proto_msgTypes,
	}.Build()
	File_changelogd_v1_changelog_proto = out.File
	file_changelogd_v1_changelog_proto_goTypes = nil
	file_changelogd_v1_changelog_proto_depIdxs = nil
}
