package lnrail

import (
	"context"
	"errors"
	"io/fs"

	core "coinop.dev/core/lightning/backup"
	"coinop.dev/core/lightning/node"
	"coinop.dev/core/step"
	"coinop.dev/engine"
)

// keepBackups has each backup of the node's written to the machine's file.
func keepBackups(m *engine.Machine) {
	m.Host.Hear(func(o step.Outcome) {
		if o.Core == node.Name && o.ID == node.OutdatedID {
			m.Log.Error("the store is an old copy", "err", o.Err)
		}
	})
	if m.Backup == "" {
		return
	}
	m.Host.Outlet(core.Outlet, m.Backup.Outlet(func(err error) {
		m.Log.Error("the channel backup is not written; repair it before another channel opens", "err", err)
	}))
}

// recall shows the node the backup that was written last: if it is newer than the
// store, the store is an old copy.
func recall(ctx context.Context, m *engine.Machine) error {
	if m.Backup == "" {
		return nil
	}
	sealed, err := m.Backup.Read()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return m.Host.Tell(ctx, node.Name, node.Kept{Sealed: sealed})
}

// find keeps links up to peers from now on, and does not wait for any.
func find(m *engine.Machine, list []node.Contact) {
	now, cancel := context.WithCancel(context.Background())
	cancel() // it need not be now
	for _, c := range list {
		if c.Address != "" {
			m.Connect(now, c.Address, c.Peer)
		}
	}
}
