// Package pgtest gives tests a real PostgreSQL: a cluster of the test process's
// own, on a free port, that ends with the process however that ends.
package pgtest

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

// startWait is how long a cluster has to answer.
const startWait = 20 * time.Second

var (
	cluster = sync.OnceValues(start)
	schemas atomic.Int64
)

// Start returns the URI of an empty schema, postgres://…, made for this test: as
// good as a database, and a hundred times quicker to make. The test is skipped if
// PostgreSQL is not installed.
func Start(t testing.TB) (uri string) {
	t.Helper()
	if binaries() == "" {
		t.Skip("skipped: PostgreSQL is not installed (Debian: postgresql)")
	}
	c, err := cluster()
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("test%d", schemas.Add(1))
	if err := execute(c.uri, "CREATE SCHEMA "+name); err != nil {
		t.Fatal(err)
	}
	return c.uri + "&search_path=" + name
}

// binaries is the folder of the newest PostgreSQL on this machine, or "".
func binaries() string {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if path, err := exec.LookPath("initdb"); err == nil {
		found = append(found, filepath.Dir(path))
	}
	if len(found) == 0 {
		return ""
	}
	return slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })
}

func version(bin string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
	return n
}

// keeper runs a cluster until its standard input ends, which is when the test
// process does, and leaves nothing behind.
const keeper = `"$@" </dev/null & server=$!
cat >/dev/null
kill -QUIT $server; wait $server; rm -rf "$DIR"`

// running is a cluster that lives as long as held is open, which nobody closes.
type running struct {
	uri  string
	held io.Closer
}

// start makes a cluster. It syncs to disk as any other: what tests say about
// durability and speed is true.
func start() (running, error) {
	dir, err := os.MkdirTemp("", "coinop-pg")
	if err != nil {
		return running{}, err
	}
	as, err := giveAway(dir)
	if err != nil {
		return running{}, err
	}
	data, bin := filepath.Join(dir, "data"), binaries()
	initdb := slices.Concat(as, []string{filepath.Join(bin, "initdb"), "-D", data, "-U", "coinop", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"})
	if version(bin) >= 15 { // sorts text as people do, which code must not rely on
		initdb = append(initdb, "--locale-provider=icu", "--icu-locale=en-US")
	}
	cmd := exec.Command(initdb[0], initdb[1:]...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return running{}, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	port, err := freePort()
	if err != nil {
		return running{}, err
	}
	server := slices.Concat(as, []string{"sh", "-c", keeper, "keeper", filepath.Join(bin, "postgres"), "-D", data, "-p", port, "-k", dir, "-h", "127.0.0.1"})
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return running{}, err
	}
	defer log.Close()
	cmd = exec.Command(server[0], server[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.Env = append(os.Environ(), "DIR="+dir)
	r := running{uri: "postgres://coinop@127.0.0.1:" + port + "/postgres?sslmode=disable"}
	if r.held, err = cmd.StdinPipe(); err != nil {
		return running{}, err
	}
	if err := cmd.Start(); err != nil {
		return running{}, err
	}
	for deadline := time.Now().Add(startWait); ; time.Sleep(20 * time.Millisecond) {
		if err = execute(r.uri, "SELECT 1"); err == nil {
			return r, nil
		}
		if time.Now().After(deadline) {
			said, _ := os.ReadFile(log.Name())
			return running{}, fmt.Errorf("PostgreSQL does not answer after %v: %w\n%s", startWait, err, said)
		}
	}
}

// giveAway gives dir to a user that PostgreSQL runs as, which is never root, and
// returns the words that run a command as that user.
func giveAway(dir string) (as []string, err error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	return []string{"runuser", "-u", "postgres", "--"}, os.Chown(dir, uid, gid)
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

func execute(uri, statement string) error {
	db, err := sql.Open("pgx", uri)
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.ExecContext(context.Background(), statement)
	return err
}

// Machine is uri with the name of a machine, as world/store/postgres reads it.
func Machine(uri, name string) string { return uri + "&machine=" + name }
