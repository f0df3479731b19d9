package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/singchia/geminio"
	"github.com/singchia/geminio/options"
)

// behaviour is what a registered method does; without any field set it answers with nothing.
type behaviour struct {
	Echo      bool   `json:"echo"`
	Data      []byte `json:"data"`
	Error     string `json:"error"`
	Panic     string `json:"panic"`
	SleepMs   int    `json:"sleep_ms"`
	UntilDone bool   `json:"until_done"` // wait for the end of the handler's context
}

// seen is one run of a handler, as it was when it began, and how its context ended.
type seen struct {
	Method     string  `json:"method"`
	Data       []byte  `json:"data"`
	Custom     []byte  `json:"custom"`
	EdgeID     uint64  `json:"edge_id"`
	DeadlineMs float64 `json:"deadline_ms"` // from the start of the handler; 0 where there is none
	Ended      string  `json:"ended"`       // the error of the context of a handler that waited for it
}

// log keeps the handlers' runs of one end or stream.
type log struct {
	mu    sync.Mutex
	runs  []*seen
	grown chan struct{}
}

func newLog() *log { return &log{grown: make(chan struct{})} }

func (l *log) change(fn func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fn()
	close(l.grown)
	l.grown = make(chan struct{})
}

// wait gives the runs of a method once there are at least n that have ended as far as they should.
func (l *log) wait(method string, n int, ended bool, limit time.Duration) ([]seen, error) {
	until := time.After(limit)
	for {
		l.mu.Lock()
		grown := l.grown
		var out []seen
		for _, s := range l.runs {
			if s.Method == method && (!ended || s.Ended != "") {
				out = append(out, *s)
			}
		}
		l.mu.Unlock()
		if len(out) >= n {
			return out, nil
		}
		select {
		case <-grown:
		case <-until:
			return out, errWaited
		}
	}
}

func (t *target) onService() bool { return t.end.service && t.speaker == speaker(t.end.End) }

func register(c *command) (reply, error) {
	t, err := find(c.Name)
	if err != nil {
		return nil, err
	}
	b := c.Behaviour
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return nil, t.Register(ctx, c.Method, func(ctx context.Context, req geminio.Request, rsp geminio.Response) {
		s := &seen{Method: req.Method(), Data: req.Data(), Custom: req.Custom()}
		if t.onService() && len(s.Custom) >= 8 {
			s.EdgeID = binary.BigEndian.Uint64(s.Custom[len(s.Custom)-8:])
			s.Custom = s.Custom[:len(s.Custom)-8]
		}
		if d, ok := ctx.Deadline(); ok {
			s.DeadlineMs = float64(time.Until(d).Microseconds()) / 1000
		}
		t.log.change(func() { t.log.runs = append(t.log.runs, s) })
		if b.UntilDone {
			select {
			case <-ctx.Done():
				t.log.change(func() { s.Ended = ctx.Err().Error() })
			case <-time.After(20 * time.Second):
			}
		}
		time.Sleep(time.Duration(b.SleepMs) * time.Millisecond)
		switch {
		case b.Panic != "":
			panic(b.Panic)
		case b.Error != "":
			rsp.SetError(errors.New(b.Error))
		case b.Echo:
			rsp.SetData(req.Data())
		default:
			rsp.SetData(b.Data)
		}
	})
}

// waitSeen: `count` runs of a method, with `error` set only those whose context has ended.
func waitSeen(c *command) (reply, error) {
	t, err := find(c.Name)
	if err != nil {
		return nil, err
	}
	runs, err := t.log.wait(c.Method, c.Count, c.Error != "", time.Duration(c.WaitMs)*time.Millisecond)
	return reply{"runs": runs}, err
}

func custom(c *command, id *uint64) []byte {
	if id == nil {
		return c.Custom
	}
	return append(append([]byte(nil), c.Custom...), tail(*id)...)
}

func contextOf(c *command) (context.Context, func()) {
	switch {
	case c.CtxMs > 0:
		return context.WithTimeout(context.Background(), time.Duration(c.CtxMs)*time.Millisecond)
	case c.CancelMs > 0:
		ctx, cancel := context.WithCancel(context.Background())
		t := time.AfterFunc(time.Duration(c.CancelMs)*time.Millisecond, cancel)
		return ctx, func() { t.Stop(); cancel() }
	}
	return context.Background(), func() {}
}

func call(c *command) (reply, error) {
	t, err := find(c.Name)
	if err != nil {
		return nil, err
	}
	req := t.NewRequest(c.Data)
	if tagged := custom(c, c.EdgeID); len(tagged) > 0 {
		req.SetCustom(tagged)
	}
	opt := options.Call()
	if c.TimeoutMs > 0 {
		opt.SetTimeout(time.Duration(c.TimeoutMs) * time.Millisecond)
	}
	ctx, done := contextOf(c)
	defer done()
	if c.Async {
		ch := make(chan *geminio.Call, 1)
		if _, err := t.CallAsync(ctx, c.Method, req, ch, opt); err != nil {
			return nil, err
		}
		return nil, (<-ch).Error
	}
	rsp, err := t.Call(ctx, c.Method, req, opt)
	if err != nil {
		return nil, err
	}
	return reply{"data": rsp.Data()}, nil
}

// callMany makes `count` calls, `width` under way, spread over `edge_ids` where given; each answer must be what was sent.
func callMany(c *command) (reply, error) {
	t, err := find(c.Name)
	if err != nil {
		return nil, err
	}
	filler := bytes.Repeat([]byte{'x'}, c.Size)
	var most time.Duration
	var lock sync.Mutex
	err = parallel(c.Count, c.Width, func(i int) error {
		data := append([]byte(fmt.Sprintf("%d:", i)), filler...)
		req := t.NewRequest(data)
		if len(c.EdgeIDs) > 0 {
			req.SetCustom(custom(c, &c.EdgeIDs[i%len(c.EdgeIDs)]))
		}
		at := time.Now()
		rsp, err := t.Call(context.Background(), c.Method, req)
		if err != nil {
			return err
		}
		took := time.Since(at)
		lock.Lock()
		most = max(most, took)
		lock.Unlock()
		if !bytes.Equal(rsp.Data(), data) {
			return fmt.Errorf("the answer of call %d is another one's", i)
		}
		return nil
	})
	return reply{"slowest_ms": float64(most.Microseconds()) / 1000}, err
}
