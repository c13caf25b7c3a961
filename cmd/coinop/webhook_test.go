//go:build !omit_gateway

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"coinop.dev"
	"coinop.dev/engine"
	"coinop.dev/gateway/api"
	"coinop.dev/gateway/hooks"
	past "coinop.dev/world/books"
)

// A shop adds itself as a receiver, is told of a test fire, asks for it again, and
// is removed.
func TestWebhooks(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	c, err := coinop.ParseConfig([]byte("version = 1\nname = \"corner\"\nstore = \"mem:\"\nrails = [\"fake:\"]\n" + sells))
	must(err)
	c.Data = dir
	m, err := coinop.Open(ctx, c, coinop.AsGateway(func(context.Context, *engine.Machine) error { return nil }, nil), coinop.Deliver("sensor", devices["sensor"]()))
	must(err)
	defer m.Close()
	b, err := past.Open(ctx, "sqlite://"+filepath.Join(dir, "books.sqlite"), "corner")
	must(err)
	defer b.Close()
	h := hooks.New(b, hooks.Options{Private: true})
	running.Go(func() { b.Follow(ctx, m.Engine.Host, nil) })
	running.Go(func() { h.Run(ctx) })
	a := api.New(api.Options{Machine: m, Books: b, Hooks: h})
	defer a.Close()
	token, err := api.Token(m.Shop, "first", api.Admin)
	must(err)
	config := counter(t, a)
	must(os.WriteFile(filepath.Join(filepath.Dir(config), tokenFile), []byte(token), 0o600))

	told := make(chan string, 16)
	shop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Header.Get("X-Signature-256") == "" {
			t.Error("it is not signed")
		}
		var e struct{ Type string }
		json.Unmarshal(body, &e)
		told <- e.Type
	}))
	defer shop.Close()
	ask := func(args ...string) (int, string) {
		var out, errs bytes.Buffer
		code := run(ctx, append(args, "-c", config), nil, &out, &errs)
		return code, out.String() + errs.String()
	}
	ok := func(want string, args ...string) {
		t.Helper()
		if code, text := ask(args...); code != exitOK || !strings.Contains(text, want) {
			t.Fatalf("%v: exit %d, %s", args, code, text)
		}
	}
	heard := func(want string) {
		t.Helper()
		select {
		case got := <-told:
			if got != want {
				t.Errorf("it was told of %s, and not of %s", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("it was not told of %s", want)
		}
	}

	if code, text := ask("webhook", "add", "ftp://shop"); code != exitUsage {
		t.Errorf("exit %d: %s", code, text)
	}
	secret := filepath.Join(dir, "secret")
	must(os.WriteFile(secret, []byte("0123456789abcdef\n"), 0o600))
	ok(`"id":"shop"`, "webhook", "add", shop.URL, "--name", "shop", "--types", "test.", "--secret-file", secret)
	ok(shop.URL, "webhook", "list")
	ok(`"status":200`, "webhook", "ping", "shop")
	heard("ping")
	ok(`"state":"settled"`, "service", "test", "t")
	heard("test.fired")

	var page struct {
		Deliveries []struct {
			Event json.Number
			State string
		}
	}
	for len(page.Deliveries) == 0 || page.Deliveries[0].State != "done" {
		_, text := ask("webhook", "deliveries", "shop")
		must(json.Unmarshal([]byte(text), &page))
	}
	ok("", "webhook", "redeliver", "shop", page.Deliveries[0].Event.String())
	heard("test.fired")
	ok("removed", "webhook", "remove", "shop")
	if code, _ := ask("webhook", "deliveries", "shop"); code != exitNotFound {
		t.Errorf("one that is removed: exit %d", code)
	}
	// One that names no secret is given one, once.
	ok(`"secret":"`, "webhook", "add", shop.URL)
	if _, text := ask("webhook", "list"); strings.Contains(text, "secret") {
		t.Error("the secret is shown again")
	}
}
