package tpm_test

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"coinop.dev/core/step"
	"coinop.dev/world/secret"
	"coinop.dev/world/secret/tpm"
)

// A chip is Debian's swtpm, run by the test.
type chip struct {
	t      *testing.T
	dir    string // the chip's own memory
	socket string
	cmd    *exec.Cmd
}

func newChip(t *testing.T) *chip {
	t.Helper()
	if _, err := exec.LookPath("swtpm"); err != nil {
		t.Skip("swtpm is not installed, so no TPM is tested: apt-get install swtpm")
	}
	dir, err := os.MkdirTemp("", "tpm") // t.TempDir is too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	c := &chip{t: t, dir: dir, socket: filepath.Join(dir, "s")}
	t.Cleanup(func() {
		c.off()
		os.RemoveAll(dir)
	})
	c.on()
	return c
}

// on switches the chip on; its PCRs are zero.
func (c *chip) on() {
	c.t.Helper()
	os.Remove(c.socket)
	c.run("--server", "type=unixio,path="+c.socket, "--ctrl", "type=unixio,path="+c.socket+".ctrl")
	c.wait("unix", c.socket)
}

func (c *chip) run(args ...string) {
	c.t.Helper()
	args = append([]string{"socket", "--tpm2", "--tpmstate", "dir=" + c.dir, "--flags", "not-need-init,startup-clear"}, args...)
	c.cmd = exec.Command("swtpm", args...)
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
}

func (c *chip) wait(network, address string) {
	c.t.Helper()
	for range 500 {
		if conn, err := net.Dial(network, address); err == nil {
			conn.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	c.t.Fatalf("swtpm does not listen on %s", address)
}

// off switches the chip off without a word, as a loss of power does.
func (c *chip) off() {
	if c.cmd != nil {
		c.cmd.Process.Kill()
		c.cmd.Wait()
		c.cmd = nil
	}
}

func (c *chip) tpm() transport.TPM {
	c.t.Helper()
	t, err := linuxudstpm.Open(c.socket)
	if err != nil {
		c.t.Fatal(err)
	}
	return t
}

// extend measures something into a register, as firmware and boot loaders do.
func (c *chip) extend(register uint, what byte) {
	c.t.Helper()
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(register), Auth: tpm2.PasswordAuth(nil)},
		Digests: tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{
			{HashAlg: tpm2.TPMAlgSHA256, Digest: append(make([]byte, 31), what)},
		}},
	}.Execute(c.tpm())
	if err != nil {
		c.t.Fatal(err)
	}
}

// clear is what the firmware's menu does, or a new owner.
func (c *chip) clear() {
	c.t.Helper()
	_, err := tpm2.Clear{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHLockout, Auth: tpm2.PasswordAuth(nil)}}.Execute(c.tpm())
	if err != nil {
		c.t.Fatal(err)
	}
}

// handles lists what is loaded or, for NV indices, defined from first on.
func (c *chip) handles(first tpm2.TPMHandle) []tpm2.TPMHandle {
	c.t.Helper()
	rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: uint32(first), PropertyCount: 128}.Execute(c.tpm())
	if err != nil {
		c.t.Fatal(err)
	}
	list, err := rsp.CapabilityData.Data.Handles()
	if err != nil {
		c.t.Fatal(err)
	}
	return list.Handle
}

// home is a home on the chip with its file in dir; options begin with &.
func (c *chip) home(dir, options string) (secret.Home, error) {
	u, err := url.Parse(fmt.Sprintf("tpm:swtpm?socket=%s&file=%s%s", c.socket, filepath.Join(dir, "key"), options))
	if err != nil {
		return nil, err
	}
	return tpm.OpenURL(u)
}

func (c *chip) open(dir string) (secret.Home, error) { return c.home(dir, "") }

// mustHome is home that cannot fail.
func (c *chip) mustHome(dir, options string) secret.Home {
	c.t.Helper()
	h, err := c.home(dir, options)
	if err != nil {
		c.t.Fatal(err)
	}
	return h
}

// store is a store at a start.
type store string

func (s store) Get(string) ([]byte, error) { return []byte(s), nil }

func (s store) Scan(string, func(string, []byte) bool) error { return nil }

func (s store) Commit([]step.Record) error { return nil }

func (s store) Close() error { return nil }
