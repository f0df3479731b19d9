package main

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"math/rand"
	"time"

	"github.com/singchia/geminio"
	"github.com/singchia/geminio/options"
)

func stream(name string, parent *target, st geminio.Stream) reply {
	keep(name, &target{speaker: st, end: parent.end, log: newLog()})
	return reply{"stream_id": st.StreamID(), "meta": st.Meta(), "peer": st.Peer()}
}

func open(c *command) (reply, error) {
	t, err := find(c.Name)
	if err != nil {
		return nil, err
	}
	opt := options.OpenStream()
	opt.SetPeer(c.Peer)
	if c.Meta != nil {
		opt.SetMeta(c.Meta)
	}
	st, err := t.end.OpenStream(opt)
	if err != nil {
		return nil, err
	}
	return stream(c.As, t, st), nil
}

func accept(c *command) (reply, error) {
	t, err := find(c.Name)
	if err != nil {
		return nil, err
	}
	st, err := t.end.AcceptStream()
	if err != nil {
		return nil, err
	}
	return stream(c.As, t, st), nil
}

// listStreams counts the streams of an end, its default session left out.
func listStreams(c *command) (reply, error) {
	t, err := find(c.Name)
	if err != nil {
		return nil, err
	}
	n := 0
	for _, st := range t.end.ListStreams() {
		if st.StreamID() != 1 {
			n++
		}
	}
	return reply{"count": n}, nil
}

func write(c *command) (reply, error) {
	t, err := find(c.Name)
	if err != nil {
		return nil, err
	}
	n, err := t.Write(c.Data)
	return reply{"count": n}, err
}

// read takes `size` bytes; at the end of the stream what there was and `eof`.
func read(c *command) (reply, error) {
	t, err := find(c.Name)
	if err != nil {
		return nil, err
	}
	buf := make([]byte, c.Size)
	_ = t.SetReadDeadline(time.Now().Add(time.Duration(c.WaitMs) * time.Millisecond))
	n, err := io.ReadFull(t, buf)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return reply{"data": buf[:n], "eof": true}, nil
	}
	return reply{"data": buf[:n], "eof": false}, err
}

// writeBulk writes `count` blocks of `size` random bytes and gives the digest of them all.
func writeBulk(c *command) (reply, error) {
	t, err := find(c.Name)
	if err != nil {
		return nil, err
	}
	rnd := rand.New(rand.NewSource(c.Seed))
	sum := sha256.New()
	for i := 0; i < c.Count; i++ {
		block := make([]byte, c.Size)
		rnd.Read(block)
		sum.Write(block)
		if _, err := t.Write(block); err != nil {
			return nil, err
		}
	}
	return reply{"sha256": hex.EncodeToString(sum.Sum(nil))}, nil
}

// readBulk reads `count` times `size` bytes and gives their digest.
func readBulk(c *command) (reply, error) {
	t, err := find(c.Name)
	if err != nil {
		return nil, err
	}
	_ = t.SetReadDeadline(time.Now().Add(time.Duration(c.WaitMs) * time.Millisecond))
	sum := sha256.New()
	n, err := io.CopyN(sum, onlyReader{t}, int64(c.Count)*int64(c.Size))
	return reply{"sha256": hex.EncodeToString(sum.Sum(nil)), "count": n}, err
}

// onlyReader hides other methods of a stream from io.Copy and turns its empty reads into further ones.
type onlyReader struct{ r io.Reader }

func (o onlyReader) Read(b []byte) (int, error) {
	for {
		n, err := o.r.Read(b)
		if n > 0 || err != nil || len(b) == 0 {
			return n, err
		}
	}
}
