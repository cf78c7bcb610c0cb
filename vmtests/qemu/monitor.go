package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// monitor is a client of the QEMU Machine Protocol (docs/interop/qmp-spec.txt of QEMU).
type monitor struct {
	conn    net.Conn
	calls   sync.Mutex    // one command at a time
	replies chan qmpReply // holds one, so that an answer nobody waits for any more blocks nothing
	closed  chan struct{} // closed when QEMU has closed the connection

	mu       sync.Mutex
	shutdown string // reason of the SHUTDOWN event, empty before it
}

type qmpReply struct {
	Return json.RawMessage `json:"return"`
	Error  *qmpError       `json:"error"`
	Event  string          `json:"event"`
	Data   struct {
		Reason string `json:"reason"`
	} `json:"data"`
}

type qmpError struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

// dialMonitor connects to the QMP socket of a QEMU that is already listening.
func dialMonitor(ctx context.Context, path string) (*monitor, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("connect to QEMU's monitor: %w", err)
	}
	m := &monitor{conn: conn, replies: make(chan qmpReply, 1), closed: make(chan struct{})}
	go m.read()
	if _, err := m.execute(ctx, "qmp_capabilities", nil); err != nil {
		conn.Close()
		return nil, err
	}
	return m, nil
}

// read hands replies to execute and keeps the events that matter, until QEMU closes the connection.
func (m *monitor) read() {
	defer close(m.closed)
	for decoder := json.NewDecoder(m.conn); ; {
		var r qmpReply
		if err := decoder.Decode(&r); err != nil {
			return
		}
		switch {
		case r.Event == "SHUTDOWN":
			m.mu.Lock()
			m.shutdown = r.Data.Reason
			m.mu.Unlock()
		case r.Return != nil || r.Error != nil:
			m.replies <- r
		}
	}
}

// execute runs one command and returns its result as JSON.
func (m *monitor) execute(ctx context.Context, command string, arguments map[string]any) (json.RawMessage, error) {
	m.calls.Lock()
	defer m.calls.Unlock()
	request, err := json.Marshal(struct {
		Execute   string         `json:"execute"`
		Arguments map[string]any `json:"arguments,omitempty"`
	}{command, arguments})
	if err != nil {
		return nil, fmt.Errorf("encode monitor command %s: %w", command, err)
	}
	deadline, _ := ctx.Deadline() // the zero time means none
	if err := m.conn.SetWriteDeadline(deadline); err != nil {
		return nil, fmt.Errorf("monitor command %s: %w", command, err)
	}
	if _, err := m.conn.Write(request); err != nil {
		return nil, fmt.Errorf("monitor command %s: %w", command, err)
	}
	select {
	case r := <-m.replies:
		if r.Error != nil {
			return nil, fmt.Errorf("monitor command %s: %s", command, r.Error.Desc)
		}
		return r.Return, nil
	case <-m.closed:
		return nil, fmt.Errorf("monitor command %s: QEMU has ended", command)
	case <-ctx.Done():
		// The late answer would be taken for that of the next command, so there must not be one.
		m.conn.Close()
		return nil, fmt.Errorf("monitor command %s: %w", command, ctx.Err())
	}
}

// reason waits until QEMU has closed the connection, and returns the reason of the guest's shutdown, empty for none.
func (m *monitor) reason(limit time.Duration) (string, error) {
	select {
	case <-m.closed:
	case <-time.After(limit):
		return "", errors.New("the monitor stays open")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.shutdown, nil
}
