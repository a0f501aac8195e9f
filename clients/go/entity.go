package changelogd

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"

	pb "changelogd.example/go/changelogv1"
)

// Key names an entity. As text it is {Workspace}/{Type}/{ID}. Only the ID may contain slashes.
type Key struct {
	Workspace, Type, ID string
}

// ParseKey splits a key. It needs three parts that are not empty. The server checks the rest of the grammar.
func ParseKey(text string) (Key, error) {
	parts := strings.SplitN(text, "/", 3)
	if len(parts) < 3 || slices.Contains(parts, "") {
		return Key{}, fmt.Errorf("changelogd: %q is no key, which is {workspace}/{type}/{id}", text)
	}
	return Key{Workspace: parts[0], Type: parts[1], ID: parts[2]}, nil
}

func (k Key) String() string {
	return k.Workspace + "/" + k.Type + "/" + k.ID
}

// changelogID is the key without its workspace. It refuses what the server could not see.
func (k Key) changelogID() (string, error) {
	var problem string
	switch {
	case strings.Contains(k.Type, "/"):
		// The server would read the type "a/b" and the ID "c" as the type "a" and the ID "b/c".
		problem = "its type contains a slash"
	case !utf8.ValidString(k.String()):
		// gRPC would not send it, and would end the whole stream of a Writer.
		problem = "it is not UTF-8"
	default:
		return "/" + k.Type + "/" + k.ID, nil
	}
	message := fmt.Sprintf("the key %q is not valid: %s", k, problem)
	return "", &Error{Code: codes.InvalidArgument, Reason: "KEY_INVALID", Message: message, Field: "changelog_id"}
}

// Entity is a value that knows its key. It is stored as JSON, by encoding/json.
type Entity interface {
	ChangelogKey() Key
}

func encode(entity Entity) (key Key, changelogID string, value []byte, err error) {
	key = entity.ChangelogKey()
	if changelogID, err = key.changelogID(); err != nil {
		return key, "", nil, err
	}
	if value, err = json.Marshal(entity); err != nil {
		err = fmt.Errorf("changelogd: encode the value of %s: %w", key, err)
	}
	return key, changelogID, value, err
}

// Position is where a record is in the log.
type Position struct {
	Partition int32
	Offset    int64
}

func positionOf(p *pb.Position) Position {
	return Position{Partition: p.GetPartition(), Offset: p.GetOffset()}
}

// Entry is a record of the log.
type Entry struct {
	Key Key
	// Value is the stored JSON document, and nil in a tombstone.
	Value json.RawMessage
	// Tombstone is true if this record deleted the entity.
	Tombstone bool
	Position
	// Timestamp is zero if the log has none.
	Timestamp time.Time
}

func entryOf(e *pb.Entry) (Entry, error) {
	key, err := ParseKey(e.GetKey())
	position := Position{Partition: e.GetPartition(), Offset: e.GetOffset()}
	entry := Entry{Key: key, Value: e.GetRaw(), Tombstone: e.GetIsTombstone(), Position: position}
	if e.GetTimestamp() != nil {
		entry.Timestamp = e.GetTimestamp().AsTime()
	}
	return entry, err
}

// Decode returns an entry's value. Its error names the key.
func Decode[T any](entry Entry) (T, error) {
	var value T
	if err := json.Unmarshal(entry.Value, &value); err != nil {
		return value, fmt.Errorf("changelogd: decode the value of %s: %w", entry.Key, err)
	}
	return value, nil
}
