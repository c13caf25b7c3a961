//go:build !omit_bitcoin

package main

import (
	"encoding/hex"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coinop.dev/core/keys"
)

// startTPM runs Debian's swtpm, and returns a home on it whose file is at path.
func startTPM(t *testing.T, path string) (home string) {
	if _, err := exec.LookPath("swtpm"); err != nil {
		t.Skip("swtpm is not installed, so no TPM is tested: apt-get install swtpm")
	}
	dir, err := os.MkdirTemp("", "tpm") // t.TempDir is too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--flags", "not-need-init,startup-clear",
		"--server", "type=unixio,path="+socket, "--ctrl", "type=unixio,path="+socket+".ctrl")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		os.RemoveAll(dir)
	})
	for range 500 {
		if conn, err := net.Dial("unix", socket); err == nil {
			conn.Close()
			return "tpm:swtpm?socket=" + socket + "&file=" + path
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("swtpm does not listen")
	return ""
}

// copyDir puts a copy of a folder in the place of another.
func copyDir(t *testing.T, to, from string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(to, "*"))
	for _, f := range files {
		if err := os.Chmod(f, 0o600); err != nil { // CopyFS has the umask's idea of it
			t.Fatal(err)
		}
	}
}

type shownKey struct {
	Node    keys.Public
	Home    string
	Counter string
	Start   uint64
	Guarded bool
}

// A machine whose key is in a TPM pays. An image of its whole disk, put back, is
// refused, and the newest one is not.
func TestKeyInTPM(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	data := filepath.Join(o.dir, "m")
	home := startTPM(t, filepath.Join(data, "key.tpm"))
	config := o.machine("m", "key = \""+home+"\"\n")
	o.refuse(exitNotFound, "makes one at its first start", "", "key", "show", "-c", config)
	at := o.address(config)
	o.give(at, 100_000)

	image, newest := filepath.Join(o.dir, "image"), filepath.Join(o.dir, "newest")
	copyDir(t, image, data)
	var paid sending
	o.must(&paid, "", "wallet", "send", "-c", config, at, "40000sat", "--yes")
	o.balance(config)
	var k shownKey
	o.must(&k, "", "key", "show", "-c", config)
	if !k.Guarded || k.Start != 3 || k.Home != "tpm:swtpm" {
		t.Errorf("%+v", k)
	}
	copyDir(t, newest, data)

	copyDir(t, data, image)
	o.refuse(exitFailed, "the store is an old copy", "", "wallet", "balance", "-c", config)
	o.refuse(exitFailed, "put the newest store back", "", "pay", "-c", config, "oneway://"+k.Node.String()+"@127.0.0.1:1", "--amount", "1sat")
	if _, err := os.Stat(filepath.Join(data, "generation")); err == nil {
		t.Error("a file counts too, though the TPM does")
	}
	copyDir(t, data, newest)
	o.balance(config)
}

// A key moves from its file into a TPM and back, and the machine starts each time:
// the number of the last start goes along.
func TestKeyCopy(t *testing.T) {
	o := newOwner(t)
	dir := filepath.Join(o.dir, "m")
	plain := o.machine("m", "")
	o.address(plain)
	o.address(plain)
	var was, is shownKey
	o.must(&was, "", "key", "show", "-c", plain)
	if was.Start != 2 || was.Guarded || was.Home != "file:"+dir+"/key" {
		t.Fatalf("%+v", was)
	}
	home := startTPM(t, filepath.Join(o.dir, "key.tpm"))
	o.must(&is, "", "key", "copy", "-c", plain, home)
	if is.Node != was.Node || is.Start != was.Start || !is.Guarded {
		t.Errorf("%+v, and it was %+v", is, was)
	}
	sealed := o.machine("m", "key = \""+home+"\"\n")
	for range 3 {
		o.address(sealed)
	}
	o.refuse(exitFailed, "there is a secret already", "", "key", "copy", "-c", sealed, home)
	// Back to a file; the number that the TPM had comes too.
	encrypted := "file:" + filepath.Join(o.dir, "key.age")
	o.must(&is, "", "key", "copy", "-c", sealed, encrypted)
	if is.Node != was.Node || is.Start != 5 || is.Guarded {
		t.Errorf("%+v", is)
	}
	last := o.machine("m", "key = \""+encrypted+"\"\n")
	o.address(last)
	t.Setenv("COINOP_PASSPHRASE", "")
	o.refuse(exitFailed, "set COINOP_PASSPHRASE", "", "wallet", "balance", "-c", last)
}

// Nothing of the secret is printed, not even when it stands where its name belongs.
func TestKeyStaysSecret(t *testing.T) {
	o := newOwner(t)
	config := o.machine("m", "key = \"env:COINOP_KEY\"\n")
	secret := strings.Repeat("5a", 32)
	t.Setenv("COINOP_KEY", secret)
	raw, _ := hex.DecodeString(secret)
	for _, args := range [][]string{{"key", "show"}, {"check"}, {"wallet", "receive"}, {"key", "copy", "file:" + filepath.Join(o.dir, "k")}} {
		code, out, errs := o.run("", append(args, "-c", config, "-v")...)
		if code != exitOK || strings.Contains(out+errs, secret) || strings.Contains(out+errs, string(raw)) {
			t.Errorf("%v: exit %d: %s%s", args, code, out, errs)
		}
	}
	o.refuse(exitUsage, "coinop key copy", "", "key", "copy", "-c", config)
	o.refuse(exitUsage, "scheme", "", "key", "show", "-c", config, "safe:deposit")
}
