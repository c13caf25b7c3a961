package rest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/node"
	tanglenet "coinop.dev/engine/tangle"
	"coinop.dev/engine/tangle/rest"
)

// TestPeers: a node that only listens is healthy while it hears a coordinator, and
// tells its owner who its peers are.
func TestPeers(t *testing.T) {
	w := newWorld(t, rest.Options{})
	addr, err := w.machine.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	other := w.machine.Key.Public()
	m := newMachine(t)
	n, err := tanglenet.Open(t.Context(), m, tanglenet.Options{
		Config: node.Config{Network: w.net}, Peers: []string{fmt.Sprintf("%s@%s", other, addr)},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	s, err := rest.New(rest.Options{Node: n, Control: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	get := func(path string) (int, string) {
		out := httptest.NewRecorder()
		s.ServeHTTP(out, httptest.NewRequest(http.MethodGet, path, nil))
		return out.Code, out.Body.String()
	}
	healthy := func() bool { code, _ := get("/health"); return code == 200 }
	w.within("the second node follows", healthy)
	var list []struct {
		ID, Relation   string
		MultiAddresses []string
		Connected      bool
		Gossip         struct {
			Heartbeat struct{ LatestMilestoneIndex, ConnectedPeers int }
		}
	}
	_, body := get("/api/core/v2/peers")
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		t.Fatal(err)
	}
	if len(list) != 1 || list[0].ID != other.String() || !list[0].Connected || list[0].Relation != "known" || list[0].Gossip.Heartbeat.ConnectedPeers != 1 {
		t.Fatalf("peers: %s", body)
	}
	if at := list[0].MultiAddresses[0]; !strings.HasPrefix(at, "/ip4/127.0.0.1/tcp/") || !strings.HasSuffix(at, "/p2p/"+other.String()) {
		t.Errorf("address: %s", at)
	}
	if code, one := get("/api/core/v2/peers/" + other.String()); code != 200 || !strings.Contains(one, `"connected":true`) {
		t.Errorf("%d %s", code, one)
	}
	if code, _ := get("/api/core/v2/peers/nobody"); code != 404 {
		t.Errorf("nobody: %d", code)
	}
	m.Cut(other, true)
	w.within("the line is cut, and the node is unwell", func() bool { return !healthy() })
	m.Cut(other, false)
	w.within("it has recovered", healthy)
}

// BenchmarkSubmit is data of 64 bytes handed in by eight clients, each as one block
// in JSON to which the node adds parents. No work is wanted, and the store is memory.
func BenchmarkSubmit(b *testing.B) {
	w := newWorld(b, rest.Options{AnyOrigin: true})
	data := &tangle.TaggedData{Tag: []byte("bench"), Data: make([]byte, 64)}
	var count atomic.Uint64
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	b.SetParallelism(4)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			mine := &tangle.TaggedData{Tag: data.Tag, Data: append([]byte(fmt.Sprintf("%016d", count.Add(1))), data.Data[16:]...)}
			body := jsonOf(b, object{"protocolVersion": 2, "payload": mine})
			r, err := client.Post(w.http.URL+"/api/core/v2/blocks", "application/json", strings.NewReader(body))
			if err != nil {
				b.Fatal(err)
			}
			if r.StatusCode != http.StatusCreated {
				b.Fatal(r.Status)
			}
			r.Body.Close()
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "blocks/s")
}
