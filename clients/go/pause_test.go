package changelogd

import (
	"testing"
	"time"
)

func TestAPauseHasARandomPart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		failures          int
		retryAfter, least time.Duration
	}{
		{0, 0, 100 * time.Millisecond},
		{2, 0, 400 * time.Millisecond},
		{1000, 0, 4 * time.Second},
		// The longer one counts.
		{0, 30 * time.Second, 30 * time.Second},
		{1000, time.Second, 4 * time.Second},
		{0, time.Hour, time.Minute},
	} {
		pauses := map[time.Duration]bool{}
		for range 100 {
			wait := pause(c.failures, c.retryAfter)
			if wait < c.least || wait > c.least*5/4 {
				t.Fatalf("%+v: a pause of %v", c, wait)
			}
			pauses[wait] = true
		}
		if len(pauses) < 2 {
			t.Fatalf("%+v: all pauses are %v", c, pauses)
		}
	}
}
