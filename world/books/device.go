package books

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"coinop.dev/core/step"
)

// A Device is one of the fleet, as gateways share it. What Data says is the
// fleet's to know (core/fleet).
type Device struct {
	Name    string    `json:"name"`
	Version uint64    `json:"version"` // from 1; every change adds one
	Change  uint64    `json:"change"`  // numbers the changes of all devices
	Gateway string    `json:"gateway"` // whose the last change was
	At      step.Time `json:"at_ms"`
	Data    string    `json:"data"` // JSON
}

const (
	// MaxDevices bounds the devices that gateways share, MaxDeviceData what each
	// has, in bytes.
	MaxDevices    = 100_000
	MaxDeviceData = 16 << 10
)

// ErrChanged means that somebody else changed it first.
var ErrChanged = errors.New("it was changed meanwhile; read it again")

// PutDevice writes a device if version is the one in the books, 0 for a new one,
// and returns the new version. A device is never dropped: one that is revoked
// says so.
func (b *Books) PutDevice(ctx context.Context, name, data string, version uint64, at step.Time) (now uint64, err error) {
	if len(data) > MaxDeviceData {
		return 0, fmt.Errorf("device %s: %d bytes; the limit is %d", name, len(data), MaxDeviceData)
	}
	err = b.change(ctx, func(c change) error {
		var number int64 // and makes other gateways wait
		if _, err := c.one("UPDATE counters SET value = value + 1 WHERE name = 'devices' RETURNING value", nil, &number); err != nil {
			return err
		}
		if version == 0 {
			return c.newDevice(name, data, b.gateway, number, at)
		}
		n, err := c.exec("UPDATE devices SET version = version + 1, change = ?, gateway = ?, at_ms = ?, data = ? WHERE name = ? AND version = ?",
			number, b.gateway, int64(at), text(data), name, int64(version))
		if err == nil && n == 0 {
			err = ErrChanged
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("device %.80s: %w", name, err)
	}
	return version + 1, nil
}

func (c change) newDevice(name, data, gateway string, number int64, at step.Time) error {
	var devices int
	if _, err := c.one("SELECT COUNT(*) FROM devices", nil, &devices); err != nil {
		return err
	}
	if devices >= MaxDevices {
		return fmt.Errorf("%w: the limit is %d", ErrTooMany, MaxDevices)
	}
	n, err := c.exec("INSERT INTO devices (name, version, change, gateway, at_ms, data) VALUES (?, 1, ?, ?, ?, ?) ON CONFLICT (name) DO NOTHING",
		name, number, gateway, int64(at), text(data))
	if err == nil && n == 0 {
		err = ErrChanged
	}
	return err
}

// Devices returns at most MaxPage devices that were changed after change number
// after, in the order of their changes. Whoever begins at 0 and goes on from the
// last one's number has all of them, and polls for what other gateways change.
func (b *Books) Devices(ctx context.Context, after uint64) (list []Device, err error) {
	err = b.rows(ctx, "SELECT name, version, change, gateway, at_ms, data FROM devices WHERE change > ? ORDER BY change LIMIT ?", []any{int64(after), MaxPage},
		func(r *sql.Rows) error {
			var d Device
			err := r.Scan(&d.Name, &d.Version, &d.Change, &d.Gateway, &d.At, &d.Data)
			list = append(list, d)
			return err
		})
	return list, err
}
