package mem

import (
	"testing"

	"coinop.dev/core/step"
	"coinop.dev/world/store"
	"coinop.dev/world/store/storetest"
)

// disks keeps what stores in memory leave behind, by the name of a directory.
type disks map[string]*DB

func (d disks) open(dir string) (store.DB, error) {
	var from map[string][]byte
	if last := d[dir]; last != nil {
		from = last.Snapshot()
	}
	db, err := New(from)
	if err != nil {
		return nil, err
	}
	d[dir] = db
	return db, nil
}

func TestStore(t *testing.T) { storetest.Test(t, disks{}.open) }

func TestNewer(t *testing.T) {
	d := disks{}
	storetest.TestNewer(t, d.open, func(dir, key, value string) error {
		d[dir].table.values[key] = []byte(value)
		return nil
	})
}

func TestSnapshotIsOfOneMoment(t *testing.T) {
	db, err := New(nil)
	if err != nil {
		t.Fatal(err)
	}
	commit := func(value string) {
		if err := db.Commit([]step.Record{{Key: "a", Value: []byte(value)}}); err != nil {
			t.Fatal(err)
		}
	}
	commit("before the crash")
	disk := db.Snapshot()
	commit("after")
	again, err := New(disk)
	if err != nil {
		t.Fatal(err)
	}
	if v, _ := again.Get("a"); string(v) != "before the crash" {
		t.Errorf("after the crash a is %q", v)
	}
}
