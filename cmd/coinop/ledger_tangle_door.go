//go:build !omit_ledger

package main

import (
	"errors"
	"log/slog"

	tanglenet "coinop.dev/engine/tangle"
	"coinop.dev/engine/tangle/rest"
)

// A tangleDoor is a node's REST.
type tangleDoor struct {
	*front
	rest *rest.Server
}

func openTangleDoor(n *tanglenet.Node, at string, log *slog.Logger) (*tangleDoor, error) {
	s, err := rest.New(rest.Options{Node: n, Log: log})
	if err != nil {
		return nil, err
	}
	f, err := openFront("the Tangle node's REST", at, s, log)
	if err != nil {
		s.Close()
		return nil, err
	}
	return &tangleDoor{f, s}, nil
}

func (d *tangleDoor) close() error {
	if d == nil {
		return nil
	}
	return errors.Join(d.front.close(), d.rest.Close())
}
