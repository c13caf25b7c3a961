package tpm_test

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"coinop.dev/core/keys"
	"coinop.dev/world/generation"
	"coinop.dev/world/secret"
	"coinop.dev/world/secret/secrettest"
	"coinop.dev/world/secret/tpm"
)

func TestHome(t *testing.T) {
	c := newChip(t)
	secrettest.Test(t, c.open)
	secrettest.TestSealed(t, c.open)
	// Nothing stays loaded in a chip without a resource manager.
	for _, first := range []tpm2.TPMHandle{0x80000000, 0x02000000, 0x03000000} {
		if left := c.handles(first); len(left) > 0 {
			t.Errorf("left in the TPM: %x", left)
		}
	}
}

func TestDamagedFile(t *testing.T) { secrettest.Damage(t, newChip(t).open, 9) }

// The whole disk, sealed file included, is put back; the chip is not.
func TestOldDiskImageIsRefused(t *testing.T) { secrettest.TestRollback(t, newChip(t).open) }

func TestCounter(t *testing.T) { secrettest.Count(t, newChip(t).open) }

// The secret is there after a loss of power, and not when something else was booted:
// the error names the register. What other registers have does not matter.
func TestSealedToTheBoot(t *testing.T) {
	c, s := newChip(t), secrettest.Seed(t, 32)
	dir := t.TempDir()
	c.extend(7, 1)
	c.extend(0, 1)
	h := c.mustHome(dir, "&pcrs=0,7")
	must(t, h.Store(s))
	c.extend(8, 99)
	if got, err := h.Load(); err != nil || !got.Equal(s) {
		t.Fatalf("as it was: %v", err)
	}

	c.off()
	c.on()
	c.extend(7, 1)
	c.extend(0, 1)
	if got, err := h.Load(); err != nil || !got.Equal(s) {
		t.Fatalf("after a restart: %v", err)
	}
	n, err := h.Counter(keys.Public{}).Read()
	if n != 0 || err != nil {
		t.Errorf("the counter after a restart: %d, %v", n, err)
	}

	c.off()
	c.on()
	c.extend(7, 1)
	c.extend(0, 2) // other firmware
	_, err = h.Load()
	if !errors.Is(err, tpm.ErrBoot) || !strings.Contains(err.Error(), "PCR 0 was") || strings.Contains(err.Error(), "PCR 7 was") {
		t.Errorf("other firmware: %v", err)
	}
	// Asking for fewer registers does not help.
	for _, options := range []string{"", "&pcrs=7", "&pcrs=1,7"} {
		if _, err := c.mustHome(dir, options).Load(); err == nil || !strings.Contains(err.Error(), "write pcrs=0,7") {
			t.Errorf("with %q: %v", options, err)
		}
	}
	forged := replaceInFile(t, dir, `{"register":0,`, `{"register":1,`)
	if _, err := c.mustHome(forged, "&pcrs=1,7").Load(); !errors.Is(err, tpm.ErrBoot) {
		t.Errorf("with a forged list: %v", err)
	}
	if _, err := h.Load(); !errors.Is(err, tpm.ErrBoot) {
		t.Errorf("again: %v", err)
	}
}

// A thief of the disk has another chip; an owner that sells the board clears it.
func TestAnotherChip(t *testing.T) {
	c, other, s := newChip(t), newChip(t), secrettest.Seed(t, 32)
	dir := t.TempDir()
	h := c.mustHome(dir, "")
	must(t, h.Store(s))
	if _, err := other.mustHome(dir, "").Load(); !errors.Is(err, tpm.ErrOther) {
		t.Errorf("another chip: %v", err)
	}
	// Nor if the file says that it is that chip's; and a chip that answers with another
	// storage key than the file says is not spoken to.
	mine := primary(t, c, t.TempDir())
	forged := replaceInFile(t, dir, mine, primary(t, other, t.TempDir()))
	if _, err := c.mustHome(forged, "").Load(); !errors.Is(err, tpm.ErrOther) {
		t.Errorf("the chip with another storage key: %v", err)
	}
	if _, err := other.mustHome(forged, "").Load(); !errors.Is(err, tpm.ErrOther) {
		t.Errorf("another chip with a forged name: %v", err)
	}
	c.clear()
	if _, err := h.Load(); !errors.Is(err, tpm.ErrOther) {
		t.Errorf("a chip that was cleared: %v", err)
	}
	if _, err := h.Counter(keys.Public{}).Read(); !errors.Is(err, tpm.ErrOther) {
		t.Errorf("the counter of a chip that was cleared: %v", err)
	}
}

// Too many wrong PINs lock the chip, for the right one too, until its owner resets
// it. A home without a PIN goes on.
func TestLockout(t *testing.T) {
	c, s := newChip(t), secrettest.Seed(t, 32)
	dir, bare := t.TempDir(), t.TempDir()
	pin := func(word string) string {
		path := filepath.Join(t.TempDir(), "pin")
		must(t, os.WriteFile(path, []byte(word+"\n"), 0o600))
		return "&pin_file=" + path
	}
	right, wrong := c.mustHome(dir, pin("2580")), c.mustHome(dir, pin("1234"))
	must(t, right.Store(s))
	must(t, c.mustHome(bare, "").Store(s))
	if _, err := c.mustHome(dir, "").Load(); err == nil || !strings.Contains(err.Error(), "add pin_file=") {
		t.Errorf("without a PIN: %v", err)
	}
	if _, err := c.mustHome(bare, pin("1234")).Load(); err == nil || !strings.Contains(err.Error(), "leave out pin_file=") {
		t.Errorf("with a PIN that was never set: %v", err)
	}
	tries := 0
	for ; tries < 50; tries++ {
		if got, err := right.Load(); tries == 0 && (err != nil || !got.Equal(s)) {
			t.Fatalf("the right PIN: %v", err)
		}
		_, err := wrong.Load()
		if errors.Is(err, tpm.ErrLocked) {
			break
		}
		if err == nil || !strings.Contains(err.Error(), "the PIN is wrong") || strings.Contains(err.Error(), "1234") {
			t.Fatalf("a wrong PIN: %v", err)
		}
	}
	if tries == 50 {
		t.Fatal("50 wrong PINs do not lock the chip")
	}
	if _, err := right.Load(); !errors.Is(err, tpm.ErrLocked) {
		t.Errorf("the right PIN on a locked chip: %v", err)
	}
	if got, err := c.mustHome(bare, "").Load(); err != nil || !got.Equal(s) {
		t.Errorf("without a PIN, on a locked chip: %v", err)
	}
	t.Logf("locked after %d wrong PINs", tries)
}

// Machines that share a chip have counters of their own. One whose counter was
// deleted or made again says so; its secret can be taken to a new home, where no
// store belongs to the new counter.
func TestTheCounterIsNobodyElses(t *testing.T) {
	c, s := newChip(t), secrettest.Seed(t, 32)
	one, two := c.mustHome(t.TempDir(), ""), c.mustHome(t.TempDir(), "")
	must(t, one.Store(s))
	must(t, two.Store(s))
	must(t, one.Counter(keys.Public{}).Write(3))
	if n, err := two.Counter(keys.Public{}).Read(); n != 0 || err != nil {
		t.Errorf("the other's counter: %d, %v", n, err)
	}
	indices := c.handles(0x0180c010)
	if len(indices) != 2 {
		t.Fatalf("%d NV indices, want 2", len(indices))
	}
	c.deleteIndex(indices[0])
	if _, err := one.Counter(keys.Public{}).Read(); !errors.Is(err, tpm.ErrCounter) {
		t.Errorf("deleted: %v", err)
	}
	c.ordinaryIndex(indices[0], 3) // not a counter: it can be set to anything
	if _, err := one.Counter(keys.Public{}).Read(); !errors.Is(err, tpm.ErrCounter) {
		t.Errorf("made again as something else: %v", err)
	}
	if err := one.Counter(keys.Public{}).Write(4); !errors.Is(err, tpm.ErrCounter) {
		t.Errorf("write: %v", err)
	}
	moved := c.mustHome(t.TempDir(), "")
	must(t, secret.Copy(moved, one))
	var stale *generation.Stale
	_, err := generation.Begin(store("3"), moved.Counter(keys.Public{}))
	if !errors.As(err, &stale) {
		t.Errorf("the store of start 3 at a new counter: %v", err)
	}
}

// A leap takes a new counter. The file from before it, put back, is refused even if
// somebody raises counters until the numbers would fit.
func TestAFileFromBeforeALeap(t *testing.T) {
	c := newChip(t)
	dir, old := t.TempDir(), t.TempDir()
	h := c.mustHome(dir, "")
	must(t, h.Store(secrettest.Seed(t, 32)))
	must(t, os.CopyFS(old, os.DirFS(dir)))
	must(t, os.Chmod(filepath.Join(old, "key"), 0o600))
	must(t, h.Counter(keys.Public{}).Write(1000))
	if left := c.handles(0x0180c010); len(left) != 1 {
		t.Errorf("%d NV indices after a leap, want 1", len(left))
	}
	before := c.mustHome(old, "")
	_, err := before.Load()
	must(t, err)
	if n, err := before.Counter(keys.Public{}).Read(); !errors.Is(err, tpm.ErrCounter) {
		t.Errorf("the old file: start %d, %v", n, err)
	}
	must(t, h.Counter(keys.Public{}).Write(2000)) // takes the first index again
	if n, err := before.Counter(keys.Public{}).Read(); !errors.Is(err, tpm.ErrCounter) {
		t.Errorf("the old file at the same index: start %d, %v", n, err)
	}
}

// A store that fails leaves no counter behind.
func TestNoCounterIsLeftBehind(t *testing.T) {
	c := newChip(t)
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	if err := c.mustHome(filepath.Join(dir, "file"), "").Store(secrettest.Seed(t, 32)); err == nil {
		t.Fatal("a file took a directory's place")
	}
	if left := c.handles(0x0180c010); len(left) > 0 {
		t.Errorf("left behind: %x", left)
	}
	h := c.mustHome(t.TempDir(), "")
	if _, err := h.Counter(keys.Public{}).Read(); err == nil || !strings.Contains(err.Error(), "load that first") {
		t.Errorf("a counter before its secret: %v", err)
	}
}

// The same over TCP.
func TestTCP(t *testing.T) {
	c := newChip(t)
	c.off()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	_, port, _ := net.SplitHostPort(free.Addr().String())
	must(t, free.Close())
	c.run("--server", "type=tcp,port="+port, "--ctrl", "type=unixio,path="+c.socket+".ctrl2")
	c.wait("tcp", "127.0.0.1:"+port)
	u, err := url.Parse(fmt.Sprintf("tpm:swtpm?tcp=127.0.0.1:%s&file=%s/key", port, t.TempDir()))
	must(t, err)
	h, err := tpm.OpenURL(u)
	must(t, err)
	s := secrettest.Seed(t, secret.MaxSize)
	must(t, h.Store(s))
	if got, err := h.Load(); err != nil || !got.Equal(s) {
		t.Errorf("over TCP: %v", err)
	}
}

// What is no TPM: nothing, a file, something that answers nonsense.
func TestNoTPM(t *testing.T) {
	dir := t.TempDir()
	notOne := filepath.Join(dir, "file")
	must(t, os.WriteFile(notOne, nil, 0o600))
	s := secrettest.Seed(t, 32)
	for path, says := range map[string]string{"/dev/no-tpm": "there is no TPM at", notOne: "cut off"} {
		u, err := url.Parse("tpm:" + path + "?file=" + dir + "/key")
		must(t, err)
		h, err := tpm.OpenURL(u)
		must(t, err)
		if err := h.Store(s); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", path, err)
		}
	}
	for _, answer := range []string{
		"", "\x80\x01\x00\x00", "\x80\x01\x00\x00\x00\x0a\x00\x00\x00\x00", "\x80\x01\x00\x00\x00\x09\x00\x00\x00\x00",
		"\x80\x01\xff\xff\xff\xff\x00\x00\x00\x00", "\x80\x01\x00\x00\x10\x00\x00\x00\x00\x00", "\x80\x01\x00\x00\x00\x0e\x00\x00\x00\x00\xff\xff\xff\xff",
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				conn.Read(make([]byte, 4096))
				conn.Write([]byte(answer))
				conn.Close()
			}
		}()
		u, err := url.Parse("tpm:swtpm?tcp=" + l.Addr().String() + "&file=" + dir + "/key")
		must(t, err)
		h, err := tpm.OpenURL(u)
		must(t, err)
		if err := h.Store(s); err == nil {
			t.Errorf("%q is taken for a TPM", answer)
		}
		must(t, l.Close())
	}
}

func (c *chip) deleteIndex(index tpm2.TPMHandle) {
	c.t.Helper()
	public, err := tpm2.NVReadPublic{NVIndex: index}.Execute(c.tpm())
	must(c.t, err)
	_, err = tpm2.NVUndefineSpace{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		NVIndex:    tpm2.NamedHandle{Handle: index, Name: public.NVName},
	}.Execute(c.tpm())
	must(c.t, err)
}

// ordinaryIndex makes an index that anybody can set.
func (c *chip) ordinaryIndex(index tpm2.TPMHandle, value byte) {
	c.t.Helper()
	_, err := tpm2.NVDefineSpace{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
			NVIndex: index, NameAlg: tpm2.TPMAlgSHA256, DataSize: 8,
			Attributes: tpm2.TPMANV{AuthRead: true, AuthWrite: true, NoDA: true},
		}),
	}.Execute(c.tpm())
	must(c.t, err)
	public, err := tpm2.NVReadPublic{NVIndex: index}.Execute(c.tpm())
	must(c.t, err)
	_, err = tpm2.NVWrite{
		AuthHandle: tpm2.AuthHandle{Handle: index, Name: public.NVName, Auth: tpm2.PasswordAuth(nil)},
		NVIndex:    tpm2.NamedHandle{Handle: index, Name: public.NVName},
		Data:       tpm2.TPM2BMaxNVBuffer{Buffer: []byte{0, 0, 0, 0, 0, 0, 0, value}},
	}.Execute(c.tpm())
	must(c.t, err)
}

// primary is the name that a file sealed by c has for it.
func primary(t *testing.T, c *chip, dir string) string {
	t.Helper()
	must(t, c.mustHome(dir, "").Store(secrettest.Seed(t, 32)))
	raw, err := os.ReadFile(filepath.Join(dir, "key"))
	must(t, err)
	_, rest, _ := strings.Cut(string(raw), `"primary":"`)
	name, _, _ := strings.Cut(rest, `"`)
	return name
}

// replaceInFile makes a copy of a home's file with other words in it.
func replaceInFile(t *testing.T, dir, from, to string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "key"))
	must(t, err)
	if !strings.Contains(string(raw), from) {
		t.Fatalf("%q is not in the file", from)
	}
	forged := t.TempDir()
	must(t, os.WriteFile(filepath.Join(forged, "key"), []byte(strings.Replace(string(raw), from, to, 1)), 0o600))
	return forged
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
