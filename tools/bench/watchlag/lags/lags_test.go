package lags

import (
	"slices"
	"strings"
	"testing"
	"time"
)

var start = time.Now()

func at(milliseconds float64) time.Time {
	return start.Add(time.Duration(milliseconds * float64(time.Millisecond)))
}

// Three writes, each called at 10 times its place and answered 2 ms later, and their events.
func history() ([]Write, []Event) {
	writes := []Write{
		{"w/a/0", 7, at(0), at(2)},
		{"w/a/1", 8, at(10), at(12)},
		{"w/a/2", 11, at(20), at(22)},
	}
	events := []Event{
		{"w/a/0", 7, at(5)},
		{"w/a/1", 8, at(11.5)},
		{"w/a/2", 11, at(24)},
	}
	return writes, events
}

func TestEachEventIsTimedFromTheCallAndFromTheAnswerOfItsWrite(t *testing.T) {
	writes, events := history()
	result, err := Of(writes, events, 0)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(result.FromCall.All, []float64{5, 1.5, 4}) {
		t.Errorf("from the call: %v", result.FromCall.All)
	}
	if !slices.Equal(result.FromAnswer.All, []float64{3, -0.5, 2}) {
		t.Errorf("from the answer: %v", result.FromAnswer.All)
	}
	if result.Writes != 3 || result.BeforeAnswer != 1 {
		t.Errorf("%d writes, %d events before the answer", result.Writes, result.BeforeAnswer)
	}
	if result.FromCall.P50 != 4 || result.FromCall.P99 != 5 || result.FromAnswer.P50 != 2 {
		t.Errorf("percentiles: %+v %+v", result.FromCall, result.FromAnswer)
	}
}

func TestTheFirstWritesAreNotCounted(t *testing.T) {
	writes, events := history()
	result, err := Of(writes, events, 2)
	if err != nil {
		t.Fatal(err)
	}
	if result.Writes != 1 || result.BeforeAnswer != 0 || !slices.Equal(result.FromCall.All, []float64{4}) {
		t.Errorf("%+v", result)
	}
}

func TestEventsThatAreNotThoseOfTheWritesAreAnError(t *testing.T) {
	cases := map[string]func(events []Event) []Event{
		"2 events":            func(events []Event) []Event { return events[:2] },
		"4 events":            func(events []Event) []Event { return append(events, events[2]) },
		"event 1 is 8 of w/b": func(events []Event) []Event { events[1].Key = "w/b"; return events },
		"event 2 is 9 of":     func(events []Event) []Event { events[2].Number = 9; return events },
		"event 0 is 8 of":     func(events []Event) []Event { events[0], events[1] = events[1], events[0]; return events },
	}
	for want, change := range cases {
		writes, events := history()
		// Also among the first ones, which are not counted.
		if _, err := Of(writes, change(events), 2); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, and not %q", err, want)
		}
	}
}

func TestAPercentileIsAMeasuredValue(t *testing.T) {
	var all []float64
	for i := 200; i >= 1; i-- {
		all = append(all, float64(i))
	}
	for q, want := range map[float64]float64{0: 1, 0.5: 100, 0.99: 198, 0.999: 200, 1: 200} {
		if got := percentile(all, q); got != want {
			t.Errorf("%v: %v, and not %v", q, got, want)
		}
	}
	if all[0] != 200 {
		t.Error("the measurements are in another order")
	}
	if percentile(nil, 0.5) != 0 || percentile([]float64{3}, 0.99) != 3 {
		t.Error("of none or one")
	}
}
