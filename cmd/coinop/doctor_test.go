package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coinop.dev/world/store"
)

// diagnose runs the doctor over a config; DIR is a folder of its own.
func diagnose(t *testing.T, dir, config string) (found map[string]finding, code int) {
	t.Helper()
	path := filepath.Join(dir, "m.toml")
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(config, "DIR", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	begin := time.Now()
	code = run(context.Background(), []string{"doctor", "-c", path}, nil, &out, &errs)
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("the doctor takes %v", took)
	}
	var v struct{ Findings []finding }
	if err := json.Unmarshal(out.Bytes(), &v); err != nil {
		t.Fatalf("%v: %s %s", err, out.String(), errs.String())
	}
	found = map[string]finding{}
	for _, f := range v.Findings {
		if was, ok := found[f.What]; !ok || was.State == fine || f.State == bad {
			found[f.What] = f
		}
		if f.State != fine && f.Remedy == "" {
			t.Errorf("nothing is said about what to do: %+v", f)
		}
	}
	return found, code
}

// closed is an address where nobody listens.
func closed(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// pemPair writes a certificate that is good until a time.
func pemPair(t *testing.T, dir string, until time.Time) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"pump.example"}, NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"c.pem": {Type: "CERTIFICATE", Bytes: der}, "k.pem": {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

const sells = "[[sell]]\nitem = \"t\"\nunit = \"reading\"\nprice = \"1 sat\"\nfrom = \"sensor\"\n"

// Each thing that keeps a machine from being paid is named, with what to do.
func TestDoctorFinds(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	nobody := closed(t)
	for what, c := range map[string]struct {
		config   string
		sick     func(t *testing.T, dir string)
		at, want string // the finding, and what it says
	}{
		"a key that is none": {"version = 1\ndata = \"DIR/d\"\nrials = []\n", nil, "config", "is it rails?"},
		"no rails":           {"version = 1\ndata = \"DIR/d\"\n", nil, "config", "can neither pay nor be paid"},
		"no door":            {"version = 1\ndata = \"DIR/d\"\nrails = [\"fake:\"]\n" + sells, nil, "config", "no buyer can reach it"},
		"no chain":           {"version = 1\ndata = \"DIR/d\"\nrails = [\"oneway:\"]\n", nil, "chain", "oneway: settles on it"},
		"a node that is away": {"version = 1\ndata = \"DIR/d\"\nrails = [\"oneway:\"]\nchain = \"p2p://" + nobody + "\"\n", nil,
			"chain", "is not reached"},
		"a broker that is away": {"version = 1\ndata = \"DIR/d\"\nrails = [\"fake:\"]\n[mqtt]\nbroker = \"mqtt://u:hunter2@" + nobody + "\"\n", nil,
			"broker", "is not reached"},
		"a database that is away": {"version = 1\ndata = \"DIR/d\"\nrails = [\"fake:\"]\nstore = \"postgres://u:hunter2@" + nobody + "/c\"\n", nil,
			"store", "is not reached"},
		"a port that is taken": {"version = 1\ndata = \"DIR/d\"\nrails = [\"fake:\"]\nlisten = \"" + taken.Addr().String() + "\"\n", nil,
			"ports", "listen cannot be at " + taken.Addr().String()},
		"an open folder": {"version = 1\ndata = \"DIR/d\"\nrails = [\"fake:\"]\n", func(t *testing.T, dir string) {
			os.Chmod(filepath.Join(dir, "d"), 0o755)
		}, "files", "may be read by others"},
		"an open key": {"version = 1\ndata = \"DIR/d\"\nrails = [\"fake:\"]\n", func(t *testing.T, dir string) {
			os.WriteFile(filepath.Join(dir, "d", "key"), make([]byte, 32), 0o644)
		}, "files", "d/key may be read by others"},
		"a clock that went back": {"version = 1\ndata = \"DIR/d\"\nrails = [\"fake:\"]\n", func(t *testing.T, dir string) {
			path := filepath.Join(dir, "d", "generation")
			os.WriteFile(path, nil, 0o600)
			os.Chtimes(path, time.Time{}, time.Now().Add(time.Hour))
		}, "clock", "was written at"},
		"an old certificate": {"version = 1\ndata = \"DIR/d\"\nrails = [\"fake:\"]\n[tls]\ncert = \"DIR/c.pem\"\nkey = \"DIR/k.pem\"\n", func(t *testing.T, dir string) {
			pemPair(t, dir, time.Now().Add(-time.Hour))
		}, "tls", "has expired"},
		"another process": {"version = 1\ndata = \"DIR/d\"\nrails = [\"fake:\"]\n", func(t *testing.T, dir string) {
			db, err := store.Default.Open("bbolt://" + filepath.Join(dir, "d", "state"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { db.Close() })
			os.WriteFile(filepath.Join(dir, "d", "key"), make([]byte, 32), 0o600)
		}, "store", "another process has it"},
		"a store without its key": {"version = 1\ndata = \"DIR/d\"\nrails = [\"fake:\"]\n", func(t *testing.T, dir string) {
			os.Mkdir(filepath.Join(dir, "d", "state"), 0o700)
		}, "files", "the key is not"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "d"), 0o700); err != nil {
				t.Fatal(err)
			}
			if c.sick != nil {
				c.sick(t, dir)
			}
			found, code := diagnose(t, dir, c.config)
			if f := found[c.at]; f.State != bad || !strings.Contains(f.Say, c.want) || code != exitFailed {
				t.Errorf("exit %d, and %+v", code, found)
			}
			if strings.Contains(fmt.Sprint(found), "hunter2") {
				t.Errorf("a password is printed: %v", found)
			}
		})
	}
}

// A machine with which nothing is wrong is left alone, and so are its files.
func TestDoctorLeavesTheHealthyAlone(t *testing.T) {
	dir := t.TempDir()
	pemPair(t, dir, time.Now().AddDate(1, 0, 0))
	found, code := diagnose(t, dir, "version = 1\ndata = \"DIR/d\"\nrails = [\"fake:\"]\nlisten = \"127.0.0.1:0\"\n[tls]\ncert = \"DIR/c.pem\"\nkey = \"DIR/k.pem\"\n"+sells)
	if code != exitOK || found["tls"].State != fine || found["machine"].State != odd {
		t.Errorf("exit %d: %+v", code, found)
	}
	if exists(filepath.Join(dir, "d")) {
		t.Error("the doctor has made the data folder")
	}
	t.Setenv("COINOP_LIMTS_ORDER", "1 sat")
	if found, _ = diagnose(t, dir, "version = 1\ndata = \"DIR/d\"\nrails = [\"fake:\"]\n"); found["environment"].State != odd {
		t.Errorf("a variable that nobody reads: %+v", found)
	}
}
