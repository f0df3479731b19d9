package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/singchia/geminio"
	"github.com/singchia/geminio/client"
	"github.com/singchia/geminio/delegate"
	"github.com/singchia/go-timer/v2"
)

// quiet is a logger that says nothing.
type quiet struct{}

func (quiet) Trace(v ...interface{})                 {}
func (quiet) Tracef(format string, v ...interface{}) {}
func (quiet) Debug(v ...interface{})                 {}
func (quiet) Debugf(format string, v ...interface{}) {}
func (quiet) Info(v ...interface{})                  {}
func (quiet) Infof(format string, v ...interface{})  {}
func (quiet) Warn(v ...interface{})                  {}
func (quiet) Warnf(format string, v ...interface{})  {}
func (quiet) Error(v ...interface{})                 {}
func (quiet) Errorf(format string, v ...interface{}) {}
func (quiet) Fatal(v ...interface{})                 {}
func (quiet) Fatalf(format string, v ...interface{}) {}
func (quiet) Panic(v ...interface{})                 {}
func (quiet) Panicf(format string, v ...interface{}) {}

var sharedTimer = timer.NewTimer()

// speaker is what an end and a stream have in common.
type speaker interface {
	geminio.RPCer
	geminio.Messager
	Read(b []byte) (int, error)
	Write(b []byte) (int, error)
	Close() error
	SetReadDeadline(t time.Time) error
}

// target is an end or a stream under the name that commands use.
type target struct {
	speaker
	end *node // the end it belongs to; itself for an end
	log *log
}

// node is a connected edge or service.
type node struct {
	*delegate.UnimplementedDelegate
	geminio.End
	service  bool
	sock     atomic.Pointer[net.TCPConn]
	offline  chan struct{}
	gone     sync.Once
	reonline chan struct{}
}

func (n *node) ConnOffline(delegate.ConnDescriber) error {
	n.gone.Do(func() { close(n.offline) })
	return nil
}

func (n *node) EndReOnline(delegate.ClientDescriber) {
	select {
	case n.reonline <- struct{}{}:
	default:
	}
}

var (
	mu      sync.Mutex
	targets = map[string]*target{}
)

func keep(name string, t *target) {
	mu.Lock()
	defer mu.Unlock()
	targets[name] = t
}

func find(name string) (*target, error) {
	mu.Lock()
	defer mu.Unlock()
	if t, ok := targets[name]; ok {
		return t, nil
	}
	return nil, errUnknown
}

func tail(id uint64) []byte { return binary.BigEndian.AppendUint64(nil, id) }

// connected dials and shakes hands as the command says.
func connected(c *command) (*node, error) {
	n := &node{service: c.Kind == "service", offline: make(chan struct{}), reonline: make(chan struct{}, 16)}
	dial := func() (net.Conn, error) {
		sock, err := net.DialTimeout("tcp", c.Address, 5*time.Second)
		if err == nil {
			n.sock.Store(sock.(*net.TCPConn))
		}
		return sock, err
	}
	opt := client.NewEndOptions()
	opt.SetLog(quiet{})
	opt.SetTimer(sharedTimer)
	opt.SetDelegate(n)
	opt.SetMeta(c.Meta)
	if c.WantedID != nil {
		opt.SetClientID(*c.WantedID)
	}
	if n.service {
		opt.SetBufferSize(1024, 1024)
		if c.Meta == nil {
			meta, err := json.Marshal(map[string]any{"service": c.Service, "topics": c.Topics})
			if err != nil {
				return nil, err
			}
			opt.SetMeta(meta)
		}
	}
	var err error
	if c.Retry {
		n.End, err = client.NewRetryEndWithDialer(dial, opt)
	} else {
		n.End, err = client.NewEndWithDialer(dial, opt)
	}
	if err != nil {
		if sock := n.sock.Load(); sock != nil {
			sock.Close()
		}
		return nil, err
	}
	return n, nil
}

func connect(c *command) (reply, error) {
	n, err := connected(c)
	if err != nil {
		return nil, err
	}
	keep(c.As, &target{speaker: n.End, end: n, log: newLog()})
	return reply{"client_id": n.ClientID()}, nil
}

// connectMany connects `count` ends, `width` at a time, and closes them again where no name is given.
func connectMany(c *command) (reply, error) {
	ids := make([]uint64, c.Count)
	err := parallel(c.Count, c.Width, func(i int) error {
		n, err := connected(c)
		if err != nil {
			return err
		}
		ids[i] = n.ClientID()
		return n.Close()
	})
	return reply{"client_ids": ids}, err
}

func closeTarget(c *command) (reply, error) {
	t, err := find(c.Name)
	if err != nil {
		return nil, err
	}
	return nil, t.Close()
}

// cut ends the connection without a word: with a reset.
func cut(c *command) (reply, error) {
	t, err := find(c.Name)
	if err != nil {
		return nil, err
	}
	sock := t.end.sock.Load()
	_ = sock.SetLinger(0)
	return nil, sock.Close()
}

var errWaited = errors.New("goends: nothing happened in time")

func waitFor(ch <-chan struct{}, ms int) error {
	select {
	case <-ch:
		return nil
	case <-time.After(time.Duration(ms) * time.Millisecond):
		return errWaited
	}
}

func waitOffline(c *command) (reply, error) {
	t, err := find(c.Name)
	if err != nil {
		return nil, err
	}
	return nil, waitFor(t.end.offline, c.WaitMs)
}

func waitReonline(c *command) (reply, error) {
	t, err := find(c.Name)
	if err != nil {
		return nil, err
	}
	err = waitFor(t.end.reonline, c.WaitMs)
	return reply{"client_id": t.end.ClientID()}, err
}

// parallel runs fn(0..n-1), width at a time, and gives the first error.
func parallel(n, width int, fn func(i int) error) error {
	var next atomic.Int64
	errs := make(chan error, width)
	for w := 0; w < width; w++ {
		go func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					errs <- nil
					return
				}
				if err := fn(i); err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	var first error
	for w := 0; w < width; w++ {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}
