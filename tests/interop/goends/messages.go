package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/singchia/geminio"
	"github.com/singchia/geminio/options"
)

var (
	receivedMu sync.Mutex
	received   = map[string]geminio.Message{}
)

func (t *target) message(c *command, data []byte, id *uint64) geminio.Message {
	opt := options.NewMessage()
	if tagged := custom(c, id); len(tagged) > 0 {
		opt.SetCustom(tagged)
	}
	if c.Topic != "" {
		opt.SetTopic(c.Topic)
	}
	if c.Once {
		opt.SetCnss(options.CnssAtMostOnce)
	}
	return t.NewMessage(data, opt)
}

func publish(c *command) (reply, error) {
	t, err := find(c.Name)
	if err != nil {
		return nil, err
	}
	opt := options.Publish()
	if c.TimeoutMs > 0 {
		opt.SetTimeout(time.Duration(c.TimeoutMs) * time.Millisecond)
	}
	ctx, done := contextOf(c)
	defer done()
	msg := t.message(c, c.Data, c.EdgeID)
	if !c.Async {
		return nil, t.Publish(ctx, msg, opt)
	}
	ch := make(chan *geminio.Publish, 1)
	if _, err := t.PublishAsync(ctx, msg, ch, opt); err != nil {
		return nil, err
	}
	return nil, (<-ch).Error
}

// publishMany publishes 0..count-1 in this order without waiting for the acknowledgements in between, then waits for all.
func publishMany(c *command) (reply, error) {
	t, err := find(c.Name)
	if err != nil {
		return nil, err
	}
	ch := make(chan *geminio.Publish, c.Count)
	for i := 0; i < c.Count; i++ {
		id := c.EdgeID
		if len(c.EdgeIDs) > 0 {
			id = &c.EdgeIDs[i%len(c.EdgeIDs)]
		}
		msg := t.message(c, []byte(fmt.Sprint(i)), id)
		if _, err := t.PublishAsync(context.Background(), msg, ch); err != nil {
			return nil, err
		}
	}
	for i := 0; i < c.Count; i++ {
		if p := <-ch; p.Error != nil && err == nil {
			err = p.Error
		}
	}
	return nil, err
}

// stripped takes the edge ID off a message that a service got on its default session.
func (t *target) stripped(msg geminio.Message) (custom []byte, id uint64) {
	custom = msg.Custom()
	if t.onService() && len(custom) >= 8 {
		return custom[:len(custom)-8], binary.BigEndian.Uint64(custom[len(custom)-8:])
	}
	return custom, 0
}

// receive takes one message; it waits under the name `as` for its acknowledgement.
func receive(c *command) (reply, error) {
	t, err := find(c.Name)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(c.WaitMs)*time.Millisecond)
	defer cancel()
	msg, err := t.Receive(ctx)
	if err != nil {
		return nil, err
	}
	receivedMu.Lock()
	received[c.As] = msg
	receivedMu.Unlock()
	rest, id := t.stripped(msg)
	return reply{"data": msg.Data(), "topic": msg.Topic(), "custom": rest, "edge_id": id}, nil
}

func ack(c *command) (reply, error) {
	receivedMu.Lock()
	msg, ok := received[c.Name]
	delete(received, c.Name)
	receivedMu.Unlock()
	if !ok {
		return nil, errUnknown
	}
	if c.Error != "" {
		return nil, msg.Error(errors.New(c.Error))
	}
	return nil, msg.Done()
}

var (
	drainMu sync.Mutex
	drains  = map[string]chan string{}
)

// drain acknowledges every message from now on and keeps the texts in order.
func drain(c *command) (reply, error) {
	t, err := find(c.Name)
	if err != nil {
		return nil, err
	}
	texts := make(chan string, 100_000)
	drainMu.Lock()
	drains[c.Name] = texts
	drainMu.Unlock()
	go func() {
		for {
			msg, err := t.Receive(context.Background())
			if err != nil {
				return
			}
			texts <- string(msg.Data())
			_ = msg.Done()
		}
	}()
	return nil, nil
}

// waitDrained gives the next `count` texts.
func waitDrained(c *command) (reply, error) {
	drainMu.Lock()
	texts := drains[c.Name]
	drainMu.Unlock()
	if texts == nil {
		return nil, errUnknown
	}
	got := []string{}
	until := time.After(time.Duration(c.WaitMs) * time.Millisecond)
	for len(got) < c.Count {
		select {
		case text := <-texts:
			got = append(got, text)
		case <-until:
			return reply{"texts": got}, errWaited
		}
	}
	return reply{"texts": got}, nil
}
