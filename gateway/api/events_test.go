package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"coinop.dev/core/earn"
	"coinop.dev/world/books"
)

// listen reads server-sent events until it has so many, or ctx ends.
func (w *town) listen(ctx context.Context, query string, most int, headers ...string) (list []books.Event, last string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(ctx, "GET", w.server.URL+"/v1/events"+query, nil)
	must(w.t, err)
	req.Header.Set("Authorization", "Bearer "+w.token)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	must(w.t, err)
	defer res.Body.Close()
	if res.StatusCode != 200 {
		w.t.Fatalf("%s", res.Status)
	}
	for lines := bufio.NewScanner(res.Body); len(list) < most && lines.Scan(); {
		if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
			last = id
		}
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			var e books.Event
			must(w.t, json.Unmarshal([]byte(data), &e))
			list = append(list, e)
		}
	}
	return list, last
}

func (w *town) fire(n int) {
	w.t.Helper()
	for range n {
		o := want[earn.Order](w, w.token, "POST", "/v1/services/coffee/test", nil)
		w.settled(o.ID)
	}
}

func seqs(list []books.Event) (s []uint64) {
	for _, e := range list {
		s = append(s, e.Seq)
	}
	return s
}

// Somebody who is cut off again and again, also by a restart, misses nothing and
// sees nothing twice.
func TestEventsAcrossReconnects(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := openIn(t, dir)
	w.fire(5)
	all := w.filed(10)
	var got []books.Event
	last := "0"
	for len(got) < 6 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		part, id := w.listen(ctx, "?cursor=0", 2, "Last-Event-ID", last) // a browser asks for the address it was given first
		cancel()
		got, last = append(got, part...), id
	}
	w.stop()
	w = openIn(t, dir)
	w.fire(2)
	all = w.filed(len(all) + 3)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	part, _ := w.listen(ctx, "", len(all)-len(got), "Last-Event-ID", last)
	if got = append(got, part...); !slices.Equal(seqs(got), seqs(all)) {
		t.Errorf("got %v of %v", seqs(got), seqs(all))
	}
}

// What comes while somebody listens comes at once, on both kinds of stream; without
// a cursor a stream begins now.
func TestEventsAsTheyHappen(t *testing.T) {
	t.Parallel()
	w := open(t)
	w.fire(1)
	before := len(w.filed(2))
	time.Sleep(100 * time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, w.server.URL+"/v1/events?types=order.settled,order.paid", &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + w.token}}})
	must(t, err)
	defer c.CloseNow()
	heard := make(chan []books.Event, 1)
	go func() {
		list, _ := w.listen(ctx, "?types=order.", 1)
		heard <- list
	}()
	time.Sleep(50 * time.Millisecond)
	w.fire(1)
	_, raw, err := c.Read(ctx)
	must(t, err)
	var e books.Event
	must(t, json.Unmarshal(raw, &e))
	if !strings.HasPrefix(e.Type, "order.") || e.Seq <= uint64(before) {
		t.Errorf("%+v after %d", e, before)
	}
	if list := <-heard; len(list) != 1 || list[0].Seq <= uint64(before) {
		t.Errorf("%+v", list)
	}
	// A stop ends both, and says so.
	w.api.Close()
	for err = nil; err == nil; {
		_, _, err = c.Read(ctx)
	}
	if websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Error(err)
	}
}

func TestEventsAreNotForEverybody(t *testing.T) {
	t.Parallel()
	w := open(t)
	for path, status := range map[string]int{
		"/v1/events?cursor=x":  400,
		"/v1/events?cursor=-1": 400,
		"/v1/events?cursor=0&types=" + strings.Repeat("a,", books.MaxTypes): 400,
	} {
		w.refused(status, w.token, "GET", path, nil)
	}
	w.refused(401, "", "GET", "/v1/events", nil)
	// A page of somewhere else cannot open a WebSocket with what a browser has.
	if r := w.do(w.token, "GET", "/v1/events", nil, "Upgrade", "websocket", "Connection", "Upgrade", "Sec-WebSocket-Version", "13",
		"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "Origin", "https://evil.example"); r.StatusCode != 403 {
		t.Errorf("%s %s", r.Status, r.text)
	}
	res := w.stream("")
	defer res.Body.Close()
	w.api.FillStreams(1) // this one has the last place
	if p := w.refused(429, w.token, "GET", "/v1/events", nil); p.Code != "RATE_LIMITED" {
		t.Errorf("%+v", p)
	}
}

// stream opens an event stream.
func (w *town) stream(query string) *http.Response {
	w.t.Helper()
	req, err := http.NewRequest("GET", w.server.URL+"/v1/events"+query, nil)
	must(w.t, err)
	req.Header.Set("Authorization", "Bearer "+w.token)
	res, err := http.DefaultClient.Do(req)
	must(w.t, err)
	return res
}

// Whoever does not take what he is sent is cut, and others do not wait for him.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	w := open(t)
	w.api.Impatient(200 * time.Millisecond)
	// 20,000 events are more than any socket's buffer takes.
	note := `{"text":"` + strings.Repeat("x", 1000) + `"}`
	w.flood(20_000, note)
	res := w.stream("?cursor=0")
	defer res.Body.Close()
	w.api.FillStreams(1) // room for none but this one
	for until := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if r := w.do(w.token, "GET", "/v1/events?cursor=x", nil); r.StatusCode == 400 {
			break
		}
		if time.Now().After(until) {
			t.Fatal("he still has his place")
		}
	}
}

// An export that is asked for as CSV and as JSON has every order in it.
func TestBooksOfTheAPI(t *testing.T) {
	t.Parallel()
	w := open(t)
	for range 3 {
		o, proof := w.buy("coffee", 1)
		want[earn.Order](w, "", "POST", "/v1/orders", proof)
		w.settled(o.Order)
	}
	var page struct {
		Orders []books.Order
		Next   string
	}
	for until := time.Now().Add(5 * time.Second); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		if page.Orders = want[struct{ Orders []books.Order }](w, w.token, "GET", "/v1/orders?state=settled", nil).Orders; len(page.Orders) == 3 {
			break
		}
	}
	if len(page.Orders) != 3 {
		t.Fatalf("%+v", page)
	}
	first := want[struct {
		Orders []books.Order
		Next   string
	}](w, w.token, "GET", "/v1/orders?limit=2", nil)
	second := want[struct{ Orders []books.Order }](w, w.token, "GET", "/v1/orders?limit=2&cursor="+first.Next, nil)
	if len(first.Orders) != 2 || len(second.Orders) != 1 || first.Orders[0].ID == second.Orders[0].ID {
		t.Errorf("%+v, %+v", first, second)
	}
	w.refused(400, w.token, "GET", "/v1/orders?cursor=nonsense", nil)
	w.refused(401, "", "GET", "/v1/orders", nil)
	totals := want[struct{ Points []books.Point }](w, w.token, "GET", "/v1/totals?by=hour", nil)
	if len(totals.Points) != 1 || totals.Points[0].Earned != 15_000 {
		t.Errorf("%+v", totals)
	}
	w.refused(400, w.token, "GET", "/v1/totals?from_ms=5&to_ms=4", nil)
	w.refused(400, w.token, "GET", "/v1/totals?by=hour&from_ms=1", nil)
	month := time.Now().UTC().Format("2006-01")
	if s := want[books.Statement](w, w.token, "GET", "/v1/statements/"+month, nil); s.Orders != 3 || s.Earned != 15_000 {
		t.Errorf("%+v", s)
	}
	w.refused(422, w.token, "GET", "/v1/statements/2026-13", nil)
	csv := w.do(w.token, "GET", "/v1/export", nil)
	if lines := strings.Count(csv.text, "\n"); lines != 4 || !strings.HasPrefix(csv.Header.Get("Content-Type"), "text/csv") || !strings.Contains(csv.Header.Get("Content-Disposition"), ".csv") {
		t.Errorf("%d lines, %v", lines, csv.Header)
	}
	if list := want[[]object](w, w.token, "GET", "/v1/export?format=json", nil); len(list) != 3 {
		t.Errorf("%+v", list)
	}
}
