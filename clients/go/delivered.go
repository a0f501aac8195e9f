package changelogd

import (
	"hash/maphash"
	"time"
)

// maxDelivered is how many entities a Watch remembers. With keys of the largest size that is about 12 MiB.
const maxDelivered = 10_000

// delivered remembers the entities that were delivered after the newest token, each with its last record. A watch that
// resumes gets them again, as far as the log still has them.
type delivered struct {
	seed    maphash.Seed
	records map[Key]deliveredRecord
	// attempt counts the streams, because what comes again must come in one of them.
	attempt int
	// overflowed says that an entity was delivered and not remembered, so the token can't be used.
	overflowed bool
}

type deliveredRecord struct {
	version version
	attempt int
}

// version tells two records of an entity apart. After an unclean election an offset may have another record.
type version struct {
	offset    int64
	timestamp time.Time
	tombstone bool
	value     uint64
}

// clear forgets what came before a new token.
func (d *delivered) clear() {
	d.records, d.overflowed = map[Key]deliveredRecord{}, false
}

// isNew remembers an entry. It reports false if the last delivered record of its entity was the same one.
func (d *delivered) isNew(entry Entry) bool {
	now := version{entry.Offset, entry.Timestamp, entry.Tombstone, maphash.Bytes(d.seed, entry.Value)}
	last, isKnown := d.records[entry.Key]
	if isKnown || len(d.records) < maxDelivered {
		d.records[entry.Key] = deliveredRecord{now, d.attempt}
	} else {
		d.overflowed = true
	}
	return !isKnown || last.version != now
}

// isWhole reports whether each remembered entity has come in this attempt.
func (d *delivered) isWhole() bool {
	for _, record := range d.records {
		if record.attempt != d.attempt {
			return false
		}
	}
	return true
}
