// Command natsbench is both sides of a contender with nats.go. Its protocol is that of bench/child.py: a JSON object as
// the argument, and one call per line on stdin.
package main

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
)

type spec struct {
	Side    string   `json:"side"`
	URL     string   `json:"url"`
	Subject string   `json:"subject"`
	Body    string   `json:"body"`
	Decode  bool     `json:"decode"`
	Trace   *float64 `json:"trace"`
}

type call struct {
	Do   string `json:"do"`
	With struct {
		InFlight int     `json:"in_flight"`
		Seconds  float64 `json:"seconds"`
		Rate     float64 `json:"rate"`
	} `json:"with"`
}

type line struct {
	Product  string `json:"product"`
	Quantity int    `json:"quantity"`
	Price    int    `json:"price"`
}

type quoteRequest struct {
	OrderID  string `json:"order_id"`
	Customer string `json:"customer"`
	Street   string `json:"street"`
	City     string `json:"city"`
	Lines    []line `json:"lines"`
}

type quote struct {
	OrderID string `json:"order_id"`
	Total   int    `json:"total"`
}

func main() {
	var given spec
	must(json.Unmarshal([]byte(os.Args[1]), &given))
	connection, err := nats.Connect(given.URL)
	must(err)
	if given.Side == "pricing" {
		answer(connection, given)
	}
	write(map[string]any{"ready": true})
	calls := bufio.NewScanner(os.Stdin)
	for calls.Scan() {
		var asked call
		must(json.Unmarshal(calls.Bytes(), &asked))
		switch asked.Do {
		case "quotes":
			write(map[string]any{"result": closed(connection, given, asked)})
		case "open":
			write(map[string]any{"result": open(connection, given, asked)})
		case "flush":
			write(map[string]any{"result": map[string]any{}})
		default:
			write(map[string]any{"error": "no such call: " + asked.Do})
		}
	}
}

// answer prices orders. With given.Decode it decodes and encodes JSON; otherwise every reply has the same bytes.
func answer(connection *nats.Conn, given spec) {
	fixed, _ := json.Marshal(quote{"o-10283", 7548})
	_, err := connection.QueueSubscribe(given.Subject, "q", func(message *nats.Msg) {
		if !given.Decode {
			must(message.Respond(fixed))
			return
		}
		var request quoteRequest
		must(json.Unmarshal(message.Data, &request))
		total := 0
		for _, line := range request.Lines {
			total += line.Quantity * line.Price
		}
		reply, _ := json.Marshal(quote{request.OrderID, total})
		must(message.Respond(reply))
	})
	must(err)
	must(connection.Flush())
}

// asker returns a function that sends one request and waits for its reply.
func asker(connection *nats.Conn, given spec) func() {
	body := []byte(given.Body)
	var typed quoteRequest
	must(json.Unmarshal(body, &typed))
	return func() {
		message := &nats.Msg{Subject: given.Subject, Data: body}
		if given.Decode {
			message.Data, _ = json.Marshal(typed)
		}
		if given.Trace != nil {
			flag := 0
			if rand.Float64() < *given.Trace {
				flag = 1
			}
			parent := fmt.Sprintf("00-%016x%016x-%016x-%02x", rand.Uint64(), rand.Uint64()|1, rand.Uint64()|1, flag)
			message.Header = nats.Header{"traceparent": []string{parent}}
		}
		reply, err := connection.RequestMsg(message, 5*time.Second)
		must(err)
		if code := reply.Header.Get("Nats-Service-Error-Code"); code != "" {
			must(fmt.Errorf("error %s: %s", code, reply.Data))
		}
		if given.Decode {
			var found quote
			must(json.Unmarshal(reply.Data, &found))
		}
	}
}

// closed keeps asked.With.InFlight requests in flight for asked.With.Seconds.
func closed(connection *nats.Conn, given spec, asked call) map[string]any {
	ask := asker(connection, given)
	took := make([][]uint32, asked.With.InFlight)
	begun, cpu := time.Now(), used()
	end := begun.Add(time.Duration(asked.With.Seconds * 1e9))
	var workers sync.WaitGroup
	for number := range asked.With.InFlight {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for now := time.Now(); now.Before(end); {
				ask()
				done := time.Now()
				took[number] = append(took[number], ticks(done.Sub(now)))
				now = done
			}
		}()
	}
	workers.Wait()
	return result(took, time.Since(begun), used()-cpu)
}

// open sends at a fixed rate. A latency is counted from the time the request was due (no coordinated omission).
func open(connection *nats.Conn, given spec, asked call) map[string]any {
	ask := asker(connection, given)
	total := int(asked.With.Rate * asked.With.Seconds)
	took := [][]uint32{make([]uint32, total)}
	begun, cpu := time.Now(), used()
	waiting := make(chan int, total)
	var workers sync.WaitGroup
	due := func(number int) time.Time {
		return begun.Add(time.Duration(float64(number) / asked.With.Rate * 1e9))
	}
	for range 2048 {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for number := range waiting {
				ask()
				took[0][number] = ticks(time.Since(due(number)))
			}
		}()
	}
	for number := range total {
		if wait := time.Until(due(number)); wait > 0 {
			time.Sleep(wait)
		}
		waiting <- number
	}
	close(waiting)
	workers.Wait()
	return result(took, time.Since(begun), used()-cpu)
}

// result returns a run in the form of bench/load.py.
func result(took [][]uint32, seconds time.Duration, cpu time.Duration) map[string]any {
	var bytes []byte
	for _, latencies := range took {
		for _, value := range latencies {
			bytes = binary.LittleEndian.AppendUint32(bytes, value)
		}
	}
	return map[string]any{
		"count":     len(bytes) / 4,
		"seconds":   seconds.Seconds(),
		"cpu_us":    float64(cpu.Nanoseconds()) / 1e3,
		"latencies": base64.StdEncoding.EncodeToString(bytes),
	}
}

// ticks converts a duration to tenths of a microsecond.
func ticks(duration time.Duration) uint32 { return uint32(duration.Nanoseconds() / 100) }

// used returns the CPU time of this process.
func used() time.Duration {
	var usage syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// write sends one line to the parent process.
func write(answer map[string]any) {
	text, err := json.Marshal(answer)
	must(err)
	fmt.Println(string(text))
}

// must reports an error on stdout and ends the process.
func must(err error) {
	if err != nil {
		write(map[string]any{"error": err.Error()})
		os.Exit(1)
	}
}
