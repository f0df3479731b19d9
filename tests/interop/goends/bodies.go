package main

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/singchia/geminio/packet"
)

// What the library makes of a body: its fields, and the text that it would write for them; or why it refuses it.
type reading struct {
	Refused  string `json:"refused,omitempty"`
	Key      []byte `json:"key"`
	Value    []byte `json:"value"`
	Topic    string `json:"topic"`
	Custom   []byte `json:"custom"`
	Error    string `json:"error"`
	Timeout  string `json:"timeout"`
	Deadline string `json:"deadline"` // Unix seconds, a point, nine digits
	Context  string `json:"context"`
	Meta     []byte `json:"meta"`
	Peer     string `json:"peer"`
	Written  []byte `json:"written"`
}

func instant(when time.Time) string {
	return strconv.FormatInt(when.Unix(), 10) + "." + strconv.Itoa(1_000_000_000 + when.Nanosecond())[1:]
}

func readBody(kind string, body []byte) (out reading) {
	var data any
	switch kind {
	case "conn":
		data = &packet.ConnData{}
	case "session":
		data = &packet.SessionData{}
	case "register":
		data = &packet.RegisterData{}
	default:
		data = &packet.MessageData{}
	}
	if err := json.Unmarshal(body, data); err != nil {
		out.Refused = err.Error()
		return out
	}
	out.Written, _ = json.Marshal(data)
	switch read := data.(type) {
	case *packet.ConnData:
		out.Meta, out.Error = read.Meta, read.Error
	case *packet.SessionData:
		out.Meta, out.Error, out.Peer = read.Meta, read.Error, read.Peer
	case *packet.RegisterData:
		out.Error = read.Error
	case *packet.MessageData:
		out.Key, out.Value, out.Topic, out.Custom, out.Error = read.Key, read.Value, read.Topic, read.Custom, read.Error
		out.Timeout = strconv.FormatInt(int64(read.Timeout), 10)
		out.Deadline, out.Context = instant(read.Deadline), instant(read.Context.Deadline)
	}
	return out
}

// decode reads bodies as the library does when they come in.
func decode(c *command) (reply, error) {
	readings := make([]reading, len(c.Bodies))
	for i, body := range c.Bodies {
		readings[i] = readBody(c.Kind, body)
	}
	return reply{"readings": readings}, nil
}
