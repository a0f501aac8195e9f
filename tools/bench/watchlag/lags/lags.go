// Package lags computes the times from writes to their events.
package lags

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Write is a write that was answered.
type Write struct {
	Key string
	// The number that the system gave it.
	Number           int64
	Called, Answered time.Time
}

// Event is a change that the watch delivered.
type Event struct {
	Key string
	// That of the write.
	Number int64
	At     time.Time
}

// Times are milliseconds.
type Times struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	// In the order of the writes.
	All []float64 `json:"all"`
}

// Result is what a run measured.
type Result struct {
	Writes int `json:"writes"`
	// How many events came before the answer to their write. Their time from the answer is negative.
	BeforeAnswer int   `json:"before_answer"`
	FromCall     Times `json:"from_call"`
	FromAnswer   Times `json:"from_answer"`
}

// Of pairs each write with its event. The first warmUp pairs are checked, and not counted. It is an error if the events
// are not exactly those of the writes, in their order.
func Of(writes []Write, events []Event, warmUp int) (*Result, error) {
	if len(writes) != len(events) {
		return nil, fmt.Errorf("%d writes have %d events", len(writes), len(events))
	}
	var result Result
	for i, write := range writes {
		event := events[i]
		if event.Key != write.Key || event.Number != write.Number {
			return nil, fmt.Errorf(
				"event %d is %d of %s, and the write is %d of %s", i, event.Number, event.Key, write.Number, write.Key,
			)
		}
		if i < warmUp {
			continue
		}
		result.Writes++
		if event.At.Before(write.Answered) {
			result.BeforeAnswer++
		}
		result.FromCall.All = append(result.FromCall.All, milliseconds(event.At.Sub(write.Called)))
		result.FromAnswer.All = append(result.FromAnswer.All, milliseconds(event.At.Sub(write.Answered)))
	}
	for _, times := range []*Times{&result.FromCall, &result.FromAnswer} {
		times.P50, times.P99 = percentile(times.All, 0.5), percentile(times.All, 0.99)
	}
	return &result, nil
}

func milliseconds(duration time.Duration) float64 {
	return float64(duration) / float64(time.Millisecond)
}

// percentile is by nearest rank, so it is a measured value. It is 0 if there is none.
func percentile(all []float64, q float64) float64 {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}
