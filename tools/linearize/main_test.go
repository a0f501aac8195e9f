package main

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

func set(value, outcome string, call, end int64) operation {
	return operation{Kind: "set", Key: "w/t/a", Value: value, Outcome: outcome, Call: call, Return: end}
}

func del(outcome string, call, end int64) operation {
	return operation{Kind: "delete", Key: "w/t/a", Outcome: outcome, Call: call, Return: end}
}

func found(value string, call, end int64) operation {
	return operation{Kind: "read", Key: "w/t/a", Value: value, Found: true, Outcome: "ok", Call: call, Return: end}
}

func absent(call, end int64) operation {
	return operation{Kind: "read", Key: "w/t/a", Outcome: "ok", Call: call, Return: end}
}

// Covers R38.
func TestHistoriesThatARegisterExplains(t *testing.T) {
	for name, history := range map[string][]operation{
		"nothing was written, nothing was read": {absent(1, 2)},
		"a read after a write":                  {set("1", "ok", 1, 2), found("1", 3, 4)},
		"a read that overlaps a write, before":  {set("1", "ok", 1, 9), absent(2, 3), found("1", 4, 5)},
		"a delete":                              {set("1", "ok", 1, 2), del("ok", 3, 4), absent(5, 6)},
		"overlapping writes in either order": {set("1", "ok", 1, 9), set("2", "ok", 1, 9),
			found("2", 10, 11), found("2", 12, 13)},
		"an unknown write that never lands": {set("1", "ok", 1, 2), set("2", "unknown", 3, 4), found("1", 5, 6)},
		"an unknown write that lands late": {set("1", "ok", 1, 2), set("2", "unknown", 3, 4),
			found("1", 5, 6), found("2", 7, 8)},
		"an unknown delete that lands late": {set("1", "ok", 1, 2), del("unknown", 3, 4),
			found("1", 5, 6), absent(7, 8)},
		"an unknown delete overtaken by a read": {set("1", "ok", 1, 2), absent(3, 9), del("unknown", 4, 5)},
		"an unknown write is in order with its read": {set("1", "unknown", 1, 2), set("2", "ok", 3, 4),
			found("2", 5, 6), found("1", 7, 8)},
		"two unknown deletes that land one by one": {set("1", "ok", 1, 2), del("unknown", 3, 4), del("unknown", 3, 4),
			absent(5, 6), set("2", "ok", 7, 8), found("2", 9, 10), absent(11, 12)},
		"a refused write that stays away": {set("1", "ok", 1, 2), set("2", "nothing", 3, 4), found("1", 5, 6)},
	} {
		if got := check(history, time.Second); got.Violations != 0 || got.Undecided != 0 || got.Keys != 1 {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// Covers R38.
func TestHistoriesThatNoRegisterExplains(t *testing.T) {
	for name, history := range map[string][]operation{
		"a lost write":                 {set("1", "ok", 1, 2), absent(3, 4)},
		"a stale read":                 {set("1", "ok", 1, 2), set("2", "ok", 3, 4), found("1", 5, 6)},
		"a deleted key that is read":   {set("1", "ok", 1, 2), del("ok", 3, 4), found("1", 5, 6)},
		"two reads that go back":       {set("1", "ok", 1, 2), set("2", "unknown", 3, 4), found("2", 5, 6), found("1", 7, 8)},
		"a delete that undoes itself":  {set("1", "ok", 1, 2), del("unknown", 3, 4), absent(5, 6), found("1", 7, 8)},
		"a read from before the write": {found("1", 1, 2), set("1", "ok", 3, 4)},
		"a value that was not written": {found("1", 1, 2)},
		"a refused write that is read": {set("1", "nothing", 1, 2), found("1", 3, 4)},
		"an unknown delete that lands twice": {set("1", "ok", 1, 2), del("unknown", 3, 4), absent(5, 6), set("2", "ok", 7, 8),
			found("2", 9, 10), absent(11, 12)},
		"an unknown write that is overwritten and comes back": {set("1", "unknown", 1, 2), found("1", 3, 4),
			set("2", "ok", 5, 6), found("1", 7, 8)},
		"an unknown delete not called yet": {set("1", "ok", 1, 2), absent(3, 4), del("unknown", 5, 6)},
	} {
		if got := check(history, time.Second); got.Violations != 1 || len(got.Detail) != 1 {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// Covers R38.
func TestKeysAreRegistersOfTheirOwn(t *testing.T) {
	other := set("9", "ok", 1, 2)
	other.Key = "w/t/b"
	got := check([]operation{set("1", "ok", 1, 2), other, absent(3, 4)}, time.Second)
	if got.Keys != 2 || got.Operations != 3 || got.Violations != 1 || !strings.Contains(got.Detail[0], "w/t/a") {
		t.Errorf("%+v", got)
	}
}

// As when every connection is cut all the time, under several clients.
// Covers R38.
func TestManyUnknownDeletesAreDecided(t *testing.T) {
	var history []operation
	for i := int64(0); i < 400; i++ {
		at, value := 100*i, strconv.FormatInt(i, 10)
		history = append(history, set(value, "ok", at, at+50), found(value, at+55, at+60), del("unknown", at+10, at+20))
		if i%4 == 3 {
			history = append(history, absent(at+40, at+99), absent(at+70, at+99))
		}
	}
	if got := check(history, 10*time.Second); got.Violations != 0 || got.Undecided != 0 {
		t.Errorf("%+v", got)
	}
}

// Covers R38.
func TestASearchWithoutAnEndIsUndecidedAndNotRight(t *testing.T) {
	var history []operation
	// Unknown writes that all were read, in an order that contradicts itself only at the end: a search of 2^n.
	for i := int64(0); i < 60; i++ {
		value := string(rune('A' + i))
		history = append(history, set(value, "unknown", 1, 2), found(value, 10, 1000))
	}
	history = append(history, set("x", "ok", 2000, 2001), absent(3000, 3001))
	if got := check(history, time.Millisecond); got.Undecided+got.Violations != 1 {
		t.Errorf("%+v", got)
	}
}

// Covers R38.
func TestTwoSetsOfOneValueAreRefused(t *testing.T) {
	set := func(key, value string) string {
		return `{"kind":"set","key":"` + key + `","value":"` + value + `","outcome":"ok","call":1,"return":2}` + "\n"
	}
	_, err := read(strings.NewReader(set("a", "1") + set("b", "1") + set("a", "1")))
	if err == nil || !strings.Contains(err.Error(), "line 3: line 1") {
		t.Errorf("%v", err)
	}
	if got, err := read(strings.NewReader(set("a", "1") + set("b", "1") + set("a", "2"))); err != nil || len(got) != 3 {
		t.Errorf("%v, %v", got, err)
	}
}

// Covers R38.
func TestALineThatIsNoOperationIsRefused(t *testing.T) {
	for _, line := range []string{
		`{"kind":"set","key":"a","outcome":"maybe","call":1,"return":2}`,
		`{"kind":"read","key":"a","outcome":"unknown","call":1,"return":2}`,
		`{"kind":"get","key":"a","outcome":"ok","call":1,"return":2}`,
		`{"kind":"set","key":"a","outcome":"ok","call":3,"return":2}`,
		`{`,
	} {
		if _, err := read(strings.NewReader(line)); err == nil {
			t.Errorf("%s was taken", line)
		}
	}
	got, err := read(strings.NewReader(`{"kind":"set","key":"a","outcome":"ok","call":1,"return":2}`))
	if err != nil || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
}
