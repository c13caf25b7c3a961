package data_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coinop.dev/core/sealed"
	"coinop.dev/gateway/data"
)

func text(t *testing.T, s data.Source, most int) string {
	t.Helper()
	all, err := s.Readings(t.Context(), most)
	must(t, err)
	var words []string
	for _, r := range all {
		words = append(words, string(r.Data))
	}
	return strings.Join(words, " ")
}

// A file, a folder, a function, a device.
func TestSources(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "log")
	must(t, os.WriteFile(file, []byte("one\ntwo\r\n\nthree\nhal"), 0o600))
	if got := text(t, data.Lines(file), 2); got != "two three" {
		t.Errorf("the last lines are %q", got)
	}
	must(t, os.WriteFile(file, fmt.Appendf(nil, "%s\nlast\n", strings.Repeat("x", data.MaxStock)), 0o600))
	if got := text(t, data.Lines(file), 9); got != "last" {
		t.Errorf("the end of a long file is %.40q", got)
	}
	folder := filepath.Join(dir, "readings")
	must(t, os.Mkdir(folder, 0o700))
	for _, name := range []string{"2", "1", "3", ".4"} {
		must(t, os.WriteFile(filepath.Join(folder, name), []byte("r"+name), 0o600))
	}
	if got := text(t, data.Files(folder), 2); got != "r2 r3" {
		t.Errorf("the last files are %q", got)
	}
	measured := 0
	sensor := data.Func(func(context.Context) ([]byte, error) { measured++; return fmt.Append(nil, measured), nil })
	for range 10 { // of strangers
		if got := text(t, sensor, 1); got != "1" {
			t.Errorf("it measures %q", got)
		}
	}
	if _, err := data.Func(func(context.Context) ([]byte, error) { return make([]byte, data.MaxReading+1), nil }).Readings(t.Context(), 1); err == nil {
		t.Error("a reading that is too long")
	}
	d := &meter{}
	from := data.Device(d, "meter-1")
	if got := text(t, from, 9); got != "" {
		t.Errorf("before it has said anything: %q", got)
	}
	for i := range 3 {
		d.at, d.said = time.UnixMilli(int64(i)), fmt.Append(nil, i)
		text(t, from, 1)
		text(t, from, 1)
	}
	if got := text(t, from, 9); got != "0 1 2" {
		t.Errorf("it has said %q", got)
	}
}

type meter struct {
	said []byte
	at   time.Time
}

func (m *meter) Latest(string) ([]byte, time.Time) { return m.said, m.at }

// However much a device says, the newest that fits is kept.
func TestFeedIsBounded(t *testing.T) {
	var f data.Feed
	for range 100 {
		must(t, f.Put(data.Reading{Data: make([]byte, data.MaxReading-1)}))
		must(t, f.Put(data.Reading{Data: make([]byte, data.MaxReading)}))
	}
	all, _ := f.Readings(t.Context(), 1<<20)
	if len(all) != data.MaxStock/data.MaxReading {
		t.Errorf("%d long readings are kept", len(all))
	}
	for i := range 3000 {
		must(t, f.Put(data.Reading{Data: fmt.Append(nil, i)}))
	}
	if all, _ = f.Readings(t.Context(), 1<<20); len(all) != sealed.MaxChunks || string(all[len(all)-1].Data) != "2999" {
		t.Errorf("%d short readings are kept", len(all))
	}
	if f.Put(data.Reading{Data: make([]byte, data.MaxReading+1)}) == nil {
		t.Error("one too long is kept")
	}
}

// The same at a door that is not HTTP: JSON in, JSON out.
func TestAnswer(t *testing.T) {
	t.Parallel()
	m := newMarket(t)
	ask := func(a data.Ask) (r data.Reply) {
		t.Helper()
		b, err := json.Marshal(a)
		must(t, err)
		must(t, json.Unmarshal(m.data.Answer(t.Context(), "mqtt/sensor", b), &r))
		return r
	}
	r := ask(data.Ask{Service: "temperature"})
	if b, err := data.Buy(t.Context(), m.buyer, *r.Offer, m.terms(t)); err != nil || string(b.Data) != reading(5) {
		t.Errorf("one reading: %q, %v", b.Data, err)
	}
	s := *ask(data.Ask{Service: "temperature", Chunks: 2}).Stream
	o := offerOf(t, s)
	a := data.Ask{Service: "temperature", Stream: fmt.Sprintf("%x", o.ID), I: 1}
	if msg, err := sealed.Decode(ask(a).Message); err != nil || msg.(sealed.Chunk).I != 1 {
		t.Errorf("a chunk: %v, %v", msg, err)
	}
	if a.Ticket = &s.Ticket; ask(a).Code != "unpaid" {
		t.Errorf("its key, unpaid: %+v", ask(a))
	}
	for want, a := range map[string]data.Ask{
		"gone": {Service: "temperature", Stream: strings.Repeat("00", 16), I: 1}, "invalid": {Service: "temperature", Stream: "x", I: 1}, "refused": {Service: "humidity"},
	} {
		if got := ask(a); got.Code != want || got.Detail == "" {
			t.Errorf("%+v: %+v, want %s", a, got, want)
		}
	}
	if r := m.data.Answer(t.Context(), "x", []byte("{")); !strings.Contains(string(r), "invalid") {
		t.Errorf("nonsense: %s", r)
	}
}
