package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"
)

// TestMain lets the test's program be a child, as the program itself is.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == childFlag {
		if err := serveChild(os.Args[2], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "rescan:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestRescan has every client find the same coins, on a chain that is short, and
// measures it: run fails if one finds others.
func TestRescan(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	o, err := parse([]string{"--blocks", "400", "--matches", "20", "--json"}, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := run(ctx, o, &out); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", &out)
	d := json.NewDecoder(&out)
	for _, who := range o.who {
		var r Result
		if err := d.Decode(&r); err != nil {
			t.Fatal(err)
		}
		if r.Who != who || r.Seconds <= 0 || r.Peak < 1<<20 || r.Dials < 1 || r.In < 400*80 || r.Out < 100 {
			t.Errorf("%s has figures that cannot be: %+v", who, r)
		}
	}
	var ratio Ratio
	if err := d.Decode(&ratio); err != nil || ratio.Seconds <= 0 || ratio.Peak <= 0 || ratio.Bytes <= 0 {
		t.Errorf("ratio is %+v, error %v", ratio, err)
	}
}

// TestAClientThatFindsLessFails, or the figures of one that gave up would be the
// best of all.
func TestAClientThatFindsLessFails(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := startChild(ctx, server, Shape{Blocks: 200, Lanes: 2, Scripts: 5, Matches: 5})
	if err != nil {
		t.Fatal(err)
	}
	defer s.stop()
	made, err := s.hear()
	if err != nil {
		t.Fatal(err)
	}
	if len(made.Coins) != 3 {
		t.Errorf("%d coins were made; want the 4 that were paid less the one that was spent", len(made.Coins))
	}
	made.Scripts = made.Scripts[:1]
	if r, err := measure(ctx, "coinop", "p2p://%s", s, made); err == nil {
		t.Errorf("who looked for one script in five is measured: %+v", r)
	}
}
