package electrum_test

import (
	"bufio"
	"encoding/json"
	"net"
	"sync"
	"testing"

	"coinop.dev/world/chain/chaintest"
	"coinop.dev/world/chain/electrum"
)

// troubles are what a client said of its servers.
type troubles struct {
	mu   sync.Mutex
	errs []error
}

func (t *troubles) add(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.errs = append(t.errs, err)
}

func (t *troubles) all() []error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]error(nil), t.errs...)
}

// A say is one answer on its way through a liar.
type say struct {
	method string
	params []any
	Result any `json:"result,omitempty"`
	Error  any `json:"error,omitempty"`
}

// liar stands before an honest server and twists what it says. twist tells
// whether the answer is passed on at all. It is called by one goroutine per
// connection.
func liar(t *testing.T, honest string, twist func(s *say) bool) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", honest)
			if err != nil {
				client.Close()
				continue
			}
			go relay(client, server, twist)
		}
	}()
	return l.Addr().String()
}

func relay(client, server net.Conn, twist func(s *say) bool) {
	defer client.Close()
	defer server.Close()
	type call struct {
		ID     uint64
		Method string
		Params []any
	}
	var mu sync.Mutex
	asked := map[uint64]call{}
	go func() {
		defer server.Close()
		for in := bufio.NewReader(client); ; {
			line, err := in.ReadBytes('\n')
			if err != nil {
				return
			}
			var c call
			if json.Unmarshal(line, &c) == nil {
				mu.Lock()
				asked[c.ID] = c
				mu.Unlock()
			}
			server.Write(line)
		}
	}()
	for in := bufio.NewReader(server); ; {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var reply struct {
			ID     *uint64
			Result any
			Error  any
		}
		if json.Unmarshal(line, &reply) == nil && reply.ID != nil {
			mu.Lock()
			c := asked[*reply.ID]
			delete(asked, *reply.ID)
			mu.Unlock()
			s := &say{c.Method, c.Params, reply.Result, reply.Error}
			if !twist(s) {
				continue
			}
			answer := map[string]any{"jsonrpc": "2.0", "id": *reply.ID, "result": s.Result}
			if s.Error != nil {
				answer["error"] = s.Error
			}
			line, _ = json.Marshal(answer)
			line = append(line, '\n')
		}
		if _, err := client.Write(line); err != nil {
			return
		}
	}
}

// lies asks until the client has caught a lie of a kind: servers are compared
// when there is a question.
func (d *troubles) lies(t *testing.T, k electrum.Kind, server string, c *electrum.Client) {
	t.Helper()
	until(t, "the lie is caught", func() bool {
		c.Coins(t.Context(), chaintest.Script(1))
		for _, err := range d.all() {
			if l := lie(err); l != nil && l.Kind == k && l.Server == server {
				return true
			}
		}
		return false
	})
}
