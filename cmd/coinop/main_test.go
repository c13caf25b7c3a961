package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"os"
	"os/signal"
	"testing"

	"coinop.dev"
	"github.com/rogpeppe/go-internal/testscript"

	"coinop.dev/world/store"
)

// asCoinop makes the test binary behave as coinop, so that tests can start real
// processes, and kill them, without building anything.
const asCoinop = "COINOP_TEST_AS_COINOP"

func TestMain(m *testing.M) {
	if os.Getenv(asCoinop) != "" {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		defer stop()
		os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	testscript.Main(suite{m}, map[string]func(){
		"coinop": func() { os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
	})
}

// suite is what a script's coinop, which is this binary too, does not go through.
type suite struct{ *testing.M }

func (s suite) Run() int {
	os.Setenv("COINOP_PASSPHRASE", "correct horse") // of every wallet: tests that set their own do not run beside others
	flag.Set("test.parallel", "8")                  // most wait for others: processes, blocks, deadlines
	return s.M.Run()
}

// A store that another process holds is an error, and nothing else happens.
func TestLockedStore(t *testing.T) {
	t.Parallel()
	c := Config{Config: coinop.Config{Data: t.TempDir()}}
	first, err := openStation(t.Context(), c, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if _, err := openStation(t.Context(), c, nil, slog.New(slog.DiscardHandler)); !errors.Is(err, store.ErrLocked) {
		t.Errorf("a second machine on one store: %v", err)
	}
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{Dir: "testdata/script"})
}
