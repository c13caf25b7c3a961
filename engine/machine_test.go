package engine_test

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"coinop.dev/core/keys"
	"coinop.dev/engine"
	"coinop.dev/world/store/mem"
)

func machine(t *testing.T, log *slog.Logger) *engine.Machine {
	t.Helper()
	key, err := keys.NewSecret(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	db, err := mem.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	m := engine.New(t.Context(), engine.Options{Key: key, DB: db, Log: log})
	t.Cleanup(func() { m.Close() })
	return m
}

// downs tells of every time that a machine logs a link as down.
type downs chan struct{}

func (d downs) Write(line []byte) (int, error) {
	if strings.Contains(string(line), "link down") {
		select {
		case d <- struct{}{}:
		default:
		}
	}
	return len(line), nil
}

// Whoever waits for a link that could not be dialled at first is told when it
// comes up. Found by TestKill: a buyer that started while the seller was down
// waited for a minute beside a link that was up.
func TestConnectBeforeThePeerListens(t *testing.T) {
	spare, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := spare.Addr().String()
	spare.Close()
	down := make(downs, 1)
	buyer, seller := machine(t, slog.New(slog.NewTextHandler(down, nil))), machine(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	linked := make(chan error, 1)
	go func() { linked <- buyer.Connect(ctx, addr, seller.Key.Public()) }()
	<-down // the first dial has failed
	if _, err := seller.Listen(addr); err != nil {
		t.Fatal(err)
	}
	if err := <-linked; err != nil {
		t.Fatal(err)
	}
}
