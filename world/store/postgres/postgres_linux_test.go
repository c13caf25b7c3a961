package postgres_test

import (
	"fmt"
	"testing"

	"coinop.dev/world/store/postgres/pgtest"
	"coinop.dev/world/store/storetest"
)

func TestProcess(t *testing.T) { storetest.TestProcess(t, dirs(database(t))) }

func BenchmarkCommit(b *testing.B) {
	uri := pgtest.Start(b)
	for _, shape := range []struct{ records, size int }{{1, 200}, {256, 100}} {
		b.Run(fmt.Sprintf("%dx%dB", shape.records, shape.size), func(b *testing.B) {
			db, err := open(uri, fmt.Sprintf("bench%d", shape.records))
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			storetest.Bench(b, db, b.N, shape.records, shape.size)
		})
	}
}
