// Checks with Porcupine whether recorded histories of bank accounts are linearizable.
//
// It reads a JSON document from standard input and writes one to standard output. Each chunk is the history of one account
// from a known state on, with at most 200 operations. A chunk whose check does not end in time counts as failed.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/anishathalye/porcupine"
)

// state is the version and the balance of an account.
type state struct {
	Version int64 `json:"version"`
	Balance int64 `json:"balance"`
}

// operation has the nanoseconds of its call and its return, and the state that its answer shows.
type operation struct {
	Client int    `json:"client"`
	Kind   string `json:"kind"`
	Amount int64  `json:"amount"`
	Call   int64  `json:"call"`
	Return int64  `json:"return"`
	Shown  state  `json:"shown"`
}

type chunk struct {
	Account    string      `json:"account"`
	Start      state       `json:"start"`
	Operations []operation `json:"operations"`
}

type document struct {
	Timeout float64 `json:"timeout"`
	Chunks  []chunk `json:"chunks"`
}

type report struct {
	Checked  int      `json:"checked"`
	Illegal  []string `json:"illegal"`
	TimedOut []string `json:"timedOut"`
}

// model returns an account that begins in a state.
func model(start state) porcupine.Model {
	return porcupine.Model{
		Init: func() interface{} { return start },
		Step: func(before, input, output interface{}) (bool, interface{}) {
			now, asked, shown := before.(state), input.(operation), output.(state)
			switch asked.Kind {
			case "move":
				next := state{now.Version + 1, now.Balance + asked.Amount}
				return shown == next, next
			case "reject":
				return shown == now && now.Balance < asked.Amount, now
			default:
				return shown == now, now
			}
		},
		DescribeOperation: func(input, output interface{}) string {
			return fmt.Sprintf("%s %d: %v", input.(operation).Kind, input.(operation).Amount, output)
		},
	}
}

func check(one chunk, timeout time.Duration) porcupine.CheckResult {
	history := make([]porcupine.Operation, 0, len(one.Operations))
	for _, each := range one.Operations {
		history = append(history, porcupine.Operation{
			ClientId: each.Client, Input: each, Call: each.Call, Output: each.Shown, Return: each.Return,
		})
	}
	return porcupine.CheckOperationsTimeout(model(one.Start), history, timeout)
}

func main() {
	var given document
	if err := json.NewDecoder(os.Stdin).Decode(&given); err != nil {
		fmt.Fprintln(os.Stderr, "cannot read the histories:", err)
		os.Exit(2)
	}
	found := report{Illegal: []string{}, TimedOut: []string{}}
	for number, one := range given.Chunks {
		label := fmt.Sprintf("%s, chunk %d from version %d on", one.Account, number, one.Start.Version)
		switch check(one, time.Duration(given.Timeout*float64(time.Second))) {
		case porcupine.Illegal:
			found.Illegal = append(found.Illegal, label)
		case porcupine.Unknown:
			found.TimedOut = append(found.TimedOut, label)
		}
		found.Checked += len(one.Operations)
	}
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		os.Exit(2)
	}
}
