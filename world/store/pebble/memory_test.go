package pebble_test

import (
	"net/url"
	"path/filepath"
	"testing"

	"coinop.dev/core/step"
	"coinop.dev/world/store"
	"coinop.dev/world/store/pebble"
)

// A store that is given more memory holds the same; what it cannot be given is said.
func TestMemory(t *testing.T) {
	at := func(query string) (store.DB, error) {
		return pebble.OpenURL(&url.URL{Scheme: "pebble", Path: filepath.Join(t.TempDir(), "state"), RawQuery: query})
	}
	db, err := at("memory=64")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Commit([]step.Record{{Key: "a", Value: []byte("1")}}); err != nil {
		t.Error(err)
	}
	for _, query := range []string{"memory=7", "memory=4097", "memory=", "memory=8x", "cache=64", "memory=64&x=1"} {
		if db, err := at(query); err == nil {
			db.Close()
			t.Errorf("?%s is taken", query)
		}
	}
}
