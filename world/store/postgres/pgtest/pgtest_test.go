package pgtest_test

import (
	"database/sql"
	"testing"

	"coinop.dev/world/store/postgres/pgtest"
)

func TestEachTestHasTablesOfItsOwn(t *testing.T) {
	a, b := pgtest.Start(t), pgtest.Start(t)
	for _, uri := range []string{a, b} {
		db, err := sql.Open("pgx", uri)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.Exec("CREATE TABLE mine (n bigint)"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestACutConnectionIsCut(t *testing.T) {
	p := pgtest.NewProxy(t, pgtest.Start(t))
	db, err := sql.Open("pgx", p.URI)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var one int
	if err := db.QueryRow("SELECT 1").Scan(&one); err != nil {
		t.Fatal(err)
	}
	p.Cut()
	if err := db.QueryRow("SELECT 1").Scan(&one); err == nil {
		t.Error("an answer came through a cut proxy")
	}
	p.Mend()
	if err := db.QueryRow("SELECT 1").Scan(&one); err != nil {
		t.Error(err)
	}
}
