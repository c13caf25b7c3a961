//go:build !omit_gateway

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// counter is a gateway's front: a config whose http address is a handler's.
func counter(t *testing.T, h http.Handler) (config string) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	dir := t.TempDir()
	config = filepath.Join(dir, "g.toml")
	for path, text := range map[string]string{
		config:                        fmt.Sprintf("version = 1\ndata = %q\nhttp = %q\n", dir, strings.TrimPrefix(s.URL, "http://")),
		filepath.Join(dir, tokenFile): "secret-token\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return config
}

// What a gateway answers becomes the exit code that a script can act on.
func TestExitCodesOfAnswers(t *testing.T) {
	for _, c := range []struct {
		status int
		code   string
		want   int
	}{
		{400, "invalid", exitUsage}, {401, "UNAUTHORIZED", exitAuth}, {403, "RESTRICTED", exitAuth}, {403, "QUOTA_EXCEEDED", exitRefused},
		{403, "refused", exitRefused}, {404, "NOT_FOUND", exitNotFound}, {409, "pending", exitUnknown}, {202, "pending", exitUnknown},
		{422, "invalid", exitUsage}, {503, "unavailable", exitFailed}, {500, "", exitFailed},
	} {
		config := counter(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer secret-token" {
				t.Error("it is asked without the token")
			}
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(c.status)
			json.NewEncoder(w).Encode(map[string]any{"detail": "so it is", "code": c.code})
		}))
		var out, errs bytes.Buffer
		if got := run(t.Context(), []string{"device", "show", "x", "-c", config}, nil, &out, &errs); got != c.want || c.status != 500 && !strings.Contains(errs.String(), "so it is") {
			t.Errorf("%d %s: exit %d, %s", c.status, c.code, got, errs.String())
		}
		if strings.Contains(errs.String(), "secret-token") {
			t.Error("the token is printed")
		}
	}
	var out, errs bytes.Buffer
	if got := run(t.Context(), []string{"device", "list", "-c", counter(t, nil) + "x"}, nil, &out, &errs); got != exitNotFound {
		t.Errorf("no config: exit %d", got)
	}
}

// The stream breaks after every second event and the gateway restarts, and each
// event is printed once, in order.
func TestEventsGoOn(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	config := counter(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 2 {
			panic(http.ErrAbortHandler) // it is being restarted
		}
		var from int
		fmt.Sscan(r.URL.Query().Get("cursor"), &from)
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, ": still here\n\n")
		for n := from + 1; n <= from+2; n++ {
			if n > 7 {
				stop()
				return
			}
			fmt.Fprintf(w, "id: %d\nevent: order.paid\ndata: {\"seq\":%d,\"type\":\"order.paid\"}\n\n", n, n)
		}
	}))
	var out, errs bytes.Buffer
	begin := time.Now()
	if code := run(ctx, []string{"events", "--follow", "--cursor", "1", "-c", config}, nil, &out, &errs); code != exitOK {
		t.Fatalf("exit %d: %s", code, errs.String())
	}
	var want strings.Builder
	for n := 2; n <= 7; n++ {
		fmt.Fprintf(&want, "{\"seq\":%d,\"type\":\"order.paid\"}\n", n)
	}
	if out.String() != want.String() {
		t.Errorf("the events are\n%s", out.String())
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("going on takes %v", took)
	}
}

// Times and amounts are as people write them, and nothing of a device's text moves
// the cursor.
func TestWritten(t *testing.T) {
	for text, want := range map[string]int64{"90s": 90_000, "24h": 86_400_000, "30d": 30 * 86_400_000} {
		if got, err := duration(text); err != nil || int64(got) != want {
			t.Errorf("%s is %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "d", "-3d", "0d", "3.5d", "99999d", "-1h", "1 day", "9999999h"} {
		if _, err := duration(text); err == nil {
			t.Errorf("%q is a time", text)
		}
	}
	if from, _ := moment("2026-11-30", false); from != 1_795_996_800_000 {
		t.Errorf("the day begins at %d", from)
	}
	if to, _ := moment("2026-11-30", true); to != 1_796_083_200_000 {
		t.Errorf("the day ends at %d", to)
	}
	var out bytes.Buffer
	columns(&out, "NAME FAULT", func(row func(...any)) { row("tap-3", "\x1b[2Jjam\nmed"); row("b", "") })
	if got := out.String(); got != "NAME   FAULT\ntap-3  ·[2Jjam·med\nb      -\n" {
		t.Errorf("%q", got)
	}
}
