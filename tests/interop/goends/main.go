// goends plays edges and services over the library that Go programs use. It reads one JSON command a line from standard
// input and answers each with one line of its own, in the order in which they finish.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
)

// command is one line of input; which fields count depends on the op.
type command struct {
	ID   uint64 `json:"id"`
	Op   string `json:"op"`
	Name string `json:"name"` // the end, stream or message that the command is about
	As   string `json:"as"`   // how to call what the command makes

	// connect
	Kind     string   `json:"kind"` // edge or service
	Address  string   `json:"address"`
	Meta     []byte   `json:"meta"`
	WantedID *uint64  `json:"wanted_id"`
	Retry    bool     `json:"retry"`
	Service  string   `json:"service"`
	Topics   []string `json:"topics"`

	// register, call, publish
	Method    string    `json:"method"`
	Behaviour behaviour `json:"behaviour"`
	Data      []byte    `json:"data"`
	Custom    []byte    `json:"custom"`
	Topic     string    `json:"topic"`
	EdgeID    *uint64   `json:"edge_id"`
	TimeoutMs int       `json:"timeout_ms"`  // the library's timeout option
	CtxMs     int       `json:"deadline_ms"` // a context with this deadline
	CancelMs  int       `json:"cancel_ms"`   // a context cancelled after it
	Async     bool      `json:"async"`
	Once      bool      `json:"at_most_once"`
	Error     string    `json:"error"`

	// streams and bulk
	Peer    string   `json:"peer"`
	Count   int      `json:"count"`
	Width   int      `json:"width"`
	Size    int      `json:"size"`
	Seed    int64    `json:"seed"`
	WaitMs  int      `json:"wait_ms"`
	EdgeIDs []uint64 `json:"edge_ids"`

	// decode
	Bodies [][]byte `json:"bodies"`
}

type reply map[string]any

var operations = map[string]func(*command) (reply, error){
	"connect": connect, "connect_many": connectMany, "close": closeTarget, "cut": cut, "offline": waitOffline,
	"reonline": waitReonline, "register": register, "seen": waitSeen, "call": call, "call_many": callMany,
	"publish": publish, "publish_many": publishMany, "receive": receive, "ack": ack, "drain": drain,
	"drained": waitDrained, "open": open, "accept": accept, "streams": listStreams, "write": write, "read": read,
	"write_bulk": writeBulk, "read_bulk": readBulk, "decode": decode,
}

var errUnknown = errors.New("goends: unknown op or name")

func run(c *command) (out reply, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	fn, ok := operations[c.Op]
	if !ok {
		return nil, errUnknown
	}
	return fn(c)
}

func main() {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		c := &command{}
		if err := json.Unmarshal(line, c); err != nil {
			fmt.Fprintln(os.Stderr, "goends: unreadable command:", err)
			os.Exit(2)
		}
		go func() {
			got, err := run(c)
			if got == nil {
				got = reply{}
			}
			got["id"] = c.ID
			if err != nil {
				got["error"] = err.Error()
			}
			mu.Lock()
			defer mu.Unlock()
			_ = out.Encode(got)
		}()
	}
}
