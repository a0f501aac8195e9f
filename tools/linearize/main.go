// Command linearize reads a history of operations on keys, one JSON object per line. It says whether each key behaved
// as one register. That is so if its operations have an order in which every read returns the last written value.
// The order must be consistent with the times of calls and answers.
//
//	linearize [-timeout 60s] history.jsonl
//
// It prints one JSON object {operations, keys, violations, undecided, detail} and exits 0, even with violations.
// It exits 1 if the history can't be read. A key whose search does not end in time is undecided, and never counted as
// right.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"sort"
	"time"

	"github.com/anishathalye/porcupine"
)

// operation is a line of the history. Values are unique: no two sets of a key write the same.
type operation struct {
	Client int    `json:"client"`
	Kind   string `json:"kind"` // set, delete or read
	Key    string `json:"key"`
	Value  string `json:"value"`
	// Found is whether a read found the key.
	Found bool `json:"found"`
	// Outcome is ok, nothing (the write is known not to have happened) or unknown.
	Outcome string `json:"outcome"`
	Call    int64  `json:"call"`
	Return  int64  `json:"return"`
}

type verdict struct {
	Operations int      `json:"operations"`
	Keys       int      `json:"keys"`
	Violations int      `json:"violations"`
	Undecided  int      `json:"undecided"`
	Detail     []string `json:"detail"`
}

// register is the model: a value or its absence, and the number of called deletes of unknown outcome that may still
// happen. They are all alike, so the search lets one happen only where a read shows it. Searched one by one they would
// take 2^n steps.
type register struct {
	present bool
	value   string
	pending int
}

// possible is the kind of an operation that stands for the call of a delete of unknown outcome.
const possible = "possible delete"

var model = porcupine.Model{
	Init: func() interface{} { return register{} },
	Step: func(state, input, _ interface{}) (bool, interface{}) {
		op, now := input.(operation), state.(register)
		switch op.Kind {
		case "set":
			return true, register{true, op.Value, now.pending}
		case "delete":
			return true, register{pending: now.pending}
		case possible:
			now.pending++
			return true, now
		default:
			if !op.Found && now.present && now.pending > 0 {
				return true, register{pending: now.pending - 1}
			}
			return now.present == op.Found && now.value == op.Value, now
		}
	},
	DescribeOperation: func(input, _ interface{}) string { return describe(input.(operation)) },
}

func describe(op operation) string {
	switch {
	case op.Kind == "set":
		return fmt.Sprintf("client %d set %s (%s)", op.Client, op.Value, op.Outcome)
	case op.Kind == "delete" || op.Kind == possible:
		return fmt.Sprintf("client %d delete (%s)", op.Client, op.Outcome)
	case op.Found:
		return fmt.Sprintf("client %d read %s", op.Client, op.Value)
	default:
		return fmt.Sprintf("client %d read absent", op.Client)
	}
}

// seen is what the reads of a key observed.
type seen struct {
	values     map[string]int64 // the earliest return of a read of each
	lastAbsent int64            // the latest return of a read that found nothing
}

func check(history []operation, timeout time.Duration) verdict {
	byKey := map[string][]operation{}
	for _, op := range history {
		byKey[op.Key] = append(byKey[op.Key], op)
	}
	keys := make([]string, 0, len(byKey))
	for key := range byKey {
		keys = append(keys, key)
	}
	sort.Strings(keys)

	result := verdict{Operations: len(history), Keys: len(keys), Detail: []string{}}
	for _, key := range keys {
		operations, problems := prepare(byKey[key])
		for _, problem := range problems {
			result.Violations++
			result.Detail = append(result.Detail, key+": "+problem)
		}
		switch porcupine.CheckOperationsTimeout(model, operations, timeout) {
		case porcupine.Illegal:
			result.Violations++
			result.Detail = append(result.Detail, fmt.Sprintf("%s: no order of its %d operations explains what was read%s",
				key, len(operations), hint(operations, timeout)))
		case porcupine.Unknown:
			result.Undecided++
			result.Detail = append(result.Detail, fmt.Sprintf("%s: not decided in %s", key, timeout))
		}
	}
	return result
}

// prepare makes a key's operations ready for the search. A write that is known not to have happened is left out. A read
// of its value is a violation. A write of unknown outcome may happen at any time after its call, or never. If its value
// was read, it happened before the first such read's return. A write that no read can have observed is left out,
// because a history that is explained with it is also explained without it.
func prepare(history []operation) ([]porcupine.Operation, []string) {
	observed := seen{values: map[string]int64{}, lastAbsent: math.MinInt64}
	written := map[string]operation{}
	for _, op := range history {
		switch {
		case op.Kind == "read" && op.Found:
			first, before := observed.values[op.Value]
			if !before || op.Return < first {
				observed.values[op.Value] = op.Return
			}
		case op.Kind == "read":
			observed.lastAbsent = max(observed.lastAbsent, op.Return)
		case op.Kind == "set":
			written[op.Value] = op
		}
	}

	var problems []string
	for value := range observed.values {
		if set, ok := written[value]; !ok {
			problems = append(problems, "read "+value+", which no client wrote")
		} else if set.Outcome == "nothing" {
			problems = append(problems, "read "+value+", whose write was answered with: nothing was written")
		}
	}
	sort.Strings(problems)

	var operations []porcupine.Operation
	for _, op := range history {
		end := op.Return
		if op.Kind != "read" && op.Outcome != "ok" {
			first, read := observed.values[op.Value]
			switch {
			case op.Kind == "set":
				// Kept where it was read: a refused one is reported above, and must not be reported twice.
				if !read {
					continue
				}
				// One that was read before it was called is for the search to refuse.
				end = max(first, op.Call)
			case op.Outcome == "nothing" || observed.lastAbsent < op.Call:
				continue
			default:
				op.Kind, end = possible, op.Call
			}
		} else if _, ok := written[op.Value]; op.Found && !ok {
			continue // reported above
		}
		operations = append(operations, porcupine.Operation{ClientId: op.Client, Input: op, Call: op.Call, Return: end})
	}
	return operations, problems
}

// hint finds the first read that can't be explained, by leaving out what was called after it.
func hint(operations []porcupine.Operation, timeout time.Duration) string {
	sort.SliceStable(operations, func(i, j int) bool { return operations[i].Return < operations[j].Return })
	explained := func(upTo int64) bool {
		var some []porcupine.Operation
		for _, op := range operations {
			if input := op.Input.(operation); op.Return <= upTo || input.Kind != "read" && op.Call <= upTo {
				if op.Return > upTo {
					op.Return = math.MaxInt64
				}
				some = append(some, op)
			}
		}
		return porcupine.CheckOperationsTimeout(model, some, timeout/4) != porcupine.Illegal
	}
	at := sort.Search(len(operations), func(i int) bool { return !explained(operations[i].Return) })
	if at == len(operations) {
		return ""
	}
	return fmt.Sprintf("; the first that does not fit: %s, called at %d, answered at %d",
		describe(operations[at].Input.(operation)), operations[at].Call, operations[at].Return)
}

func read(from io.Reader) ([]operation, error) {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 1<<20)
	var history []operation
	type write struct{ key, value string }
	sets := map[write]int{}
	for number := 1; lines.Scan(); number++ {
		var op operation
		if err := json.Unmarshal(lines.Bytes(), &op); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		known := op.Outcome == "ok" || op.Kind != "read" && (op.Outcome == "nothing" || op.Outcome == "unknown")
		if !known || op.Kind != "set" && op.Kind != "delete" && op.Kind != "read" || op.Key == "" || op.Return < op.Call {
			return nil, fmt.Errorf("line %d: not an operation: %s", number, lines.Text())
		}
		if op.Kind == "set" {
			if before, again := sets[write{op.Key, op.Value}]; again {
				// A read of it would be explained by whichever of the two fits.
				return nil, fmt.Errorf("line %d: line %d sets %s to the same value, %s", number, before, op.Key, op.Value)
			}
			sets[write{op.Key, op.Value}] = number
		}
		history = append(history, op)
	}
	return history, lines.Err()
}

func main() {
	timeout := flag.Duration("timeout", time.Minute, "how long to search an order for one key")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: linearize [-timeout 60s] history.jsonl")
		os.Exit(64)
	}
	file, err := os.Open(flag.Arg(0))
	if err == nil {
		var history []operation
		if history, err = read(file); err == nil {
			err = json.NewEncoder(os.Stdout).Encode(check(history, *timeout))
		}
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "linearize: %s: %v\n", flag.Arg(0), err)
		os.Exit(1)
	}
}
